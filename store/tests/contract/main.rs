//! What every store has to do: one suite of functions over `dyn Store`, run for each implementation.
//!
//! * [`world`]: how a store is made for a test, and what tests are made of;
//! * [`check`]: the invariants of a log, from the stored rows alone;
//! * [`owner`]: the cases.
//!
//! Another database joins with a function like [`world::memory`] and one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod check;
mod owner;
mod world;

/// Makes tests of the cases, each with a store of its own.
macro_rules! cases {
    ($open:path; $($area:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $area {
            $(#[tokio::test]
            async fn $case() {
                let home = $open();
                crate::$area::$case(home.store()).await;
            })+
        })+
    };
}

/// All cases for one kind of store.
macro_rules! suite {
    ($open:path) => {
        cases! { $open;
            owner {
                the_first_claim_makes_the_room,
                a_later_claim_fences_the_earlier_owner,
                a_claim_recovers_the_newest_rows_and_marks,
                a_full_bucket_rolls_over,
                a_claim_on_a_full_bucket_makes_the_next,
                member_seq_follows_membership_and_room_entries,
                a_batch_that_does_not_fit_is_broken_and_writes_nothing,
                sending_an_append_again_changes_nothing,
            }
        }
    };
}

mod memory {
    suite!(crate::world::memory);
}

mod sqlite {
    suite!(crate::world::sqlite);
}
