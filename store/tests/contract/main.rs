//! What every store has to do: one suite of functions over `dyn Store`, run for each implementation.
//!
//! * [`world`]: how a store is made for a test, and what tests are made of;
//! * [`check`]: the invariants of a log, from the stored rows alone;
//! * [`log`], [`owner`], [`retention`], [`erasure`], [`reader`], [`members`], [`accounts`], [`marks`]: the cases;
//! * [`rivals`]: two owners over a log with [`faults`].
//!
//! Another database joins with a function like [`world::memory`] and one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod accounts;
mod check;
mod copying;
mod erasure;
mod faults;
#[path = "../keyspaces/mod.rs"]
mod keyspaces;
mod lagging;
mod log;
mod marks;
mod members;
mod owner;
mod reader;
mod retention;
mod rivals;
mod world;

/// Makes tests of the cases, each with a store of its own. Where time does not matter to the store it is not waited for.
macro_rules! cases {
    ($open:path, $paused:tt; $($area:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $area {
            $(#[tokio::test(start_paused = $paused)]
            async fn $case() {
                let home = $open().await;
                crate::$area::$case(home.store()).await;
            })+
        })+
    };
}

/// All cases for one kind of store.
macro_rules! suite {
    ($open:path, start_paused = $paused:tt) => {
        cases! { $open, $paused;
            log {
                a_bucket_is_made_once,
                a_take_over_needs_the_epoch_and_where_given_the_last_row,
                an_append_needs_the_epoch_and_the_last_row,
                a_refused_append_leaves_nothing_derived,
                late_copies_of_old_requests_change_nothing,
                ranges_are_bounded_on_both_sides,
                rows_come_back_as_they_were_written,
                heads_come_in_the_order_of_the_rooms,
                marks_only_move_forward,
                the_newest_bucket_is_found_from_any_hint,
            }
            owner {
                the_first_claim_makes_the_room,
                a_later_claim_fences_the_earlier_owner,
                a_claim_recovers_the_newest_rows_and_marks,
                a_full_bucket_rolls_over,
                a_claim_on_a_full_bucket_makes_the_next,
                member_seq_follows_membership_and_room_entries,
                a_batch_that_does_not_fit_is_broken_and_writes_nothing,
                sending_an_append_again_changes_nothing,
                a_room_is_handed_over_in_one_step,
                a_room_that_moved_on_is_not_handed_over,
            }
            retention {
                rows_below_the_oldest_are_not_read,
                an_emptied_bucket_keeps_its_statics,
                a_room_with_empty_buckets_is_claimed_and_goes_on,
                whole_buckets_go_by_age_or_number,
                a_room_may_have_a_policy_of_its_own,
                a_run_that_was_cut_short_is_resumed,
                nothing_goes_that_the_members_table_does_not_reflect,
                nothing_goes_that_the_writers_marks_do_not_reflect,
            }
            erasure {
                rows_are_erased_together_if_they_are_what_they_were,
                what_may_not_be_erased_is_refused,
                a_row_that_is_gone_does_not_come_back_by_its_erasure,
                a_run_erases_all_that_somebody_has_said_and_no_more,
                a_run_of_an_owner_that_was_replaced_fails,
                appends_and_erasures_do_not_hinder_each_other,
                a_run_over_a_faulty_log_is_repeated_until_it_is_through,
                all_rooms_of_somebody_are_found,
            }
            rivals {
                two_owners_over_a_faulty_log_never_lie,
            }
            reader {
                a_page_lies_where_it_was_asked_for,
                who_may_read_what,
                since_joined_begins_at_the_last_joining,
                an_ephemeral_or_unknown_room_is_not_found,
                a_deleted_room_is_not_found,
                deleted_bodies_are_masked,
                deletions_above_the_masks_are_folded,
                memberships_above_the_tables_are_folded,
                a_roster_folds_what_the_log_has_above_the_tables,
                an_owner_brings_the_tables_up_to_the_log,
                the_writer_is_shown_to_its_own_user_alone,
            }
            members {
                derived_rows_only_move_forward,
                rooms_are_found_by_a_part_of_their_name,
                listings_go_on_where_they_ended,
                cursors_of_nobody_are_refused,
                rooms_of_somebody_are_those_joined_or_invited_to,
                sharing_a_room_needs_both_to_be_in_it,
                masks_come_by_range,
                invitations_are_kept_counted_and_withdrawn,
            }
            accounts {
                names_and_addresses_are_unique_ignoring_case,
                making_an_account_twice_is_making_it_once,
                accounts_are_found_by_id_name_and_prefix,
                profiles_passwords_and_states_change,
                an_erased_profile_is_shut_and_its_address_free,
                blocks_come_and_go,
                tokens_rotate_from_the_current_one_only,
                sign_ins_end_alone_or_all_but_one,
                a_ticket_is_taken_once_and_in_time,
                signing_keys_go_but_never_the_newest,
            }
            copying {
                there_and_back_everything_is_the_same,
                a_copy_goes_on_where_it_ended,
                what_is_something_else_is_left_alone,
            }
            marks {
                read_marks_only_move_forward,
                last_seen_only_moves_forward,
                the_audit_log_comes_newest_first_in_parts,
            }
        }
    };
}

mod memory {
    suite!(crate::world::memory, start_paused = true);
}

mod sqlite {
    suite!(crate::world::sqlite, start_paused = true);
}

mod scylla {
    suite!(crate::world::scylla, start_paused = false);
}
