//! The owner's protocol as a model, explored state by state: two owners, buckets of two rows, sends submitted several
//! times to either owner, requests carried out none, one or two times at any later moment, answers lost, crashes,
//! rollover and concurrent claims.
//!
//! * `protocol`: states and what can happen in them, with what is broken on purpose in each [`Variant`];
//! * `owner` and `store`: what that leads to;
//! * `explore`: all states breadth first up to a bound, then seeded random walks beyond it.
//!
//! The protocol has to come through; each broken variant has to be caught, since a check that can't fail proves nothing.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

#[path = "model/explore.rs"]
mod explore;
#[path = "model/protocol.rs"]
mod protocol;

use explore::{breadth_first, walks};
use protocol::{Invariant, Variant};

#[test]
fn the_protocol_keeps_every_invariant() {
    let searched = breadth_first(Variant::Protocol, 40_000).unwrap();
    assert!(searched.states >= 40_000, "{searched:?}");
    let walked = walks(Variant::Protocol, 0x5eed, 2_500).unwrap();
    let seen = &walked.seen;
    assert!(
        seen.fenced > 0 && seen.resolved > 0 && seen.rolled_over > 0 && seen.lost_claims > 0,
        "{walked:?}"
    );
    assert!(seen.duplicates > 0 && seen.refused > 0, "{walked:?}");
    assert!(walked.all_acknowledged * 4 > walked.walks, "many walks come to a good end: {walked:?}");
}

/// The violation that a broken variant shows within the bounds.
fn caught(variant: Variant) -> Invariant {
    let found = breadth_first(variant, 20_000).err().or_else(|| walks(variant, 0xbad, 40_000).err());
    found.unwrap_or_else(|| panic!("{variant:?} was not caught")).invariant
}

#[test]
fn without_the_last_row_as_a_condition_a_send_is_stored_twice() {
    assert_eq!(caught(Variant::NoLastSeqCondition), Invariant::StoredOnce);
}

#[test]
fn without_recovering_counters_a_send_is_stored_twice() {
    assert_eq!(caught(Variant::NoDedupRecovery), Invariant::StoredOnce);
}

#[test]
fn a_batch_that_changes_between_tries_is_acknowledged_without_being_stored() {
    assert_eq!(caught(Variant::ChangedBatch), Invariant::AcknowledgedIsStored);
}

#[test]
fn taking_a_lost_answer_for_a_yes_acknowledges_what_is_not_stored() {
    assert_eq!(caught(Variant::AckOnTimeout), Invariant::AcknowledgedIsStored);
}

#[test]
fn reading_before_an_unconditional_write_overwrites_rows() {
    assert_eq!(caught(Variant::PlainWrite), Invariant::RowsNeverChange);
}

#[test]
fn a_claim_without_a_condition_gives_two_owners_one_epoch() {
    assert_eq!(caught(Variant::PlainClaim), Invariant::OneOwnerAnEpoch);
}

#[test]
fn a_writer_that_may_start_anywhere_stores_out_of_order() {
    assert_eq!(caught(Variant::StartsAnywhere), Invariant::InOrder);
}

#[test]
fn a_refusal_that_consumes_the_counter_calls_a_repeat_stored() {
    assert_eq!(caught(Variant::RefusalConsumes), Invariant::AcknowledgedIsStored);
}
