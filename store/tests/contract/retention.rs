//! Old buckets go, in whole and in order; everything above them stays, and so does what a claim needs.

use std::sync::Arc;

use protocol::{
    Kind, Seq,
    client::HistoryFrom,
    entry::{Membership, MembershipChange},
};
use rookery_store::{
    Store, StoreError,
    log::{Append, BUCKET_ROWS, Cas, Kept, Statics},
    members::{Derived, MemberRecord, RoomRecord},
    owner::Batch,
    reader,
    retention::{Policy, Removed, run},
};

use crate::{
    check::all_rows,
    world::{ALICE, Chance, ROOM, batch, claimed, committed, fill, message, messages, record},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const EVERYTHING: Policy = Policy { max_age_days: None, max_entries: None };

fn newest(entries: u64) -> Policy {
    Policy { max_entries: Some(entries), ..EVERYTHING }
}

fn days(days: u32) -> Policy {
    Policy { max_age_days: Some(days), ..EVERYTHING }
}

/// A log of so many messages of Alice's, of which the writers' marks reflect all but the last.
async fn filled(store: &dyn Store, rows: u64) {
    let mut chance = Chance(31);
    let owner = claimed(store, ROOM, &mut chance).await.ownership;
    fill(store, owner, rows - 1, &mut chance).await;
    // A claim brings them up to date, and the next append says so.
    let owner = claimed(store, ROOM, &mut chance).await.ownership;
    fill(store, owner, 1, &mut chance).await;
}

async fn first_row(store: &dyn Store) -> Seq {
    store.rows_after(ROOM, 0, Seq::MAX >> 1, 1).await.unwrap().first().map_or(0, |row| row.seq)
}

fn removed(first: Seq, buckets: u64) -> Removed {
    Removed { first, buckets, more: false }
}

pub(crate) async fn rows_below_the_oldest_are_not_read(store: Arc<dyn Store>) {
    filled(&*store, BUCKET_ROWS + 300).await;
    assert_eq!(store.kept(ROOM).await.unwrap(), Kept::default());
    store.keep_from(ROOM, 1).await.unwrap();
    store.keep_from(ROOM, 0).await.unwrap();
    assert_eq!(store.kept(ROOM).await.unwrap(), Kept { oldest: 1, emptied: 0 }, "never moves back");
    let seqs = |rows: Vec<rookery_store::log::Row>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    let first = BUCKET_ROWS + 1;
    assert_eq!(seqs(store.rows_after(ROOM, 0, Seq::MAX >> 1, 2).await.unwrap()), [first, first + 1]);
    assert_eq!(seqs(store.rows_after(ROOM, 7, first, 9).await.unwrap()), [first]);
    assert!(store.rows_after(ROOM, 7, BUCKET_ROWS, 9).await.unwrap().is_empty());
    assert_eq!(seqs(store.rows_before(ROOM, first + 2, 9).await.unwrap()), [first, first + 1]);
    assert!(store.rows_before(ROOM, first, 9).await.unwrap().is_empty());
    assert_eq!(all_rows(&*store, ROOM).await.len(), 300);
}

pub(crate) async fn an_emptied_bucket_keeps_its_statics(store: Arc<dyn Store>) {
    filled(&*store, 2 * BUCKET_ROWS + 10).await;
    let statics = store.statics(ROOM, 0).await.unwrap();
    let out_of_turn = async |bucket| store.empty_bucket(ROOM, bucket, 9_000).await;
    assert!(matches!(out_of_turn(0).await, Err(StoreError::Invalid(_))), "nothing was given up yet");
    store.keep_from(ROOM, 1).await.unwrap();
    assert!(matches!(out_of_turn(1).await, Err(StoreError::Invalid(_))), "it is kept");
    store.empty_bucket(ROOM, 0, 9_000).await.unwrap();
    assert_eq!(store.kept(ROOM).await.unwrap(), Kept { oldest: 1, emptied: 1 });
    assert!(matches!(out_of_turn(0).await, Err(StoreError::Invalid(_))), "it is empty");
    assert!(statics.is_some() && store.statics(ROOM, 0).await.unwrap() == statics);
    assert_eq!(all_rows(&*store, ROOM).await.len() as u64, BUCKET_ROWS + 10);
}

pub(crate) async fn a_room_with_empty_buckets_is_claimed_and_goes_on(store: Arc<dyn Store>) {
    let mut chance = Chance(32);
    filled(&*store, 2 * BUCKET_ROWS).await;
    // The owner has made the third bucket, and ends before it appends to it.
    let full = store.statics(ROOM, 1).await.unwrap().unwrap();
    let next = Statics { dev_upto: full.last_seq, ..full };
    assert_eq!(store.create_bucket(ROOM, 2, next).await, Ok(Cas::Applied(())));
    let now = 2 * DAY_MS;
    assert_eq!(run(&*store, ROOM, days(1), now, 9).await, Ok(removed(2 * BUCKET_ROWS + 1, 2)));
    assert_eq!(first_row(&*store).await, 0);
    let found = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!((found.ownership.head(), found.rows.len()), (2 * BUCKET_ROWS, 0));
    let rows = messages(&found.ownership, 2 * BUCKET_ROWS, 3);
    committed(found.ownership.append(&*store, batch(rows, &mut chance)).await);
    assert_eq!(first_row(&*store).await, 2 * BUCKET_ROWS + 1);
    assert_eq!(store.heads(&[ROOM]).await.unwrap(), [2 * BUCKET_ROWS + 3]);
}

pub(crate) async fn whole_buckets_go_by_age_or_number(store: Arc<dyn Store>) {
    filled(&*store, 3 * BUCKET_ROWS + 10).await;
    // The newest row of bucket b is of the time 1,000 + (b + 1) · 4,096, in milliseconds.
    let old = |bucket: u64| 1_000 + (bucket + 1) * BUCKET_ROWS + DAY_MS;
    let go = async |policy, now| run(&*store, ROOM, policy, now, 9).await.unwrap();
    assert_eq!(go(EVERYTHING, Seq::MAX >> 1).await, removed(1, 0));
    assert_eq!(go(newest(3 * BUCKET_ROWS), old(0)).await, removed(1, 0), "as many are kept at least");
    assert_eq!(go(days(1), old(0)).await, removed(1, 0), "its newest entry is just young enough");
    assert_eq!(go(days(1), old(0) + 1).await, removed(BUCKET_ROWS + 1, 1));
    assert_eq!(go(newest(BUCKET_ROWS + 10), old(0)).await, removed(2 * BUCKET_ROWS + 1, 1));
    assert_eq!(go(newest(1), old(9)).await, removed(3 * BUCKET_ROWS + 1, 1));
    assert_eq!(go(Policy { ..days(1) }, old(99)).await, removed(3 * BUCKET_ROWS + 1, 0), "never the newest");
    assert_eq!(all_rows(&*store, ROOM).await.len(), 10);
}

pub(crate) async fn a_room_may_have_a_policy_of_its_own(store: Arc<dyn Store>) {
    filled(&*store, 2 * BUCKET_ROWS + 10).await;
    assert_eq!(store.retention(ROOM).await.unwrap(), None);
    store.set_retention(ROOM, Some(EVERYTHING)).await.unwrap();
    assert_eq!(store.retention(ROOM).await.unwrap(), Some(EVERYTHING));
    assert_eq!(run(&*store, ROOM, newest(1), 0, 9).await, Ok(removed(1, 0)));
    let own = Policy { max_age_days: Some(30), max_entries: Some(BUCKET_ROWS) };
    store.set_retention(ROOM, Some(own)).await.unwrap();
    assert_eq!(store.retention(ROOM).await.unwrap(), Some(own));
    assert_eq!(run(&*store, ROOM, EVERYTHING, 0, 9).await, Ok(removed(BUCKET_ROWS + 1, 1)));
    store.set_retention(ROOM, None).await.unwrap();
    assert_eq!(store.retention(ROOM).await.unwrap(), None);
}

pub(crate) async fn a_run_that_was_cut_short_is_resumed(store: Arc<dyn Store>) {
    filled(&*store, 3 * BUCKET_ROWS + 10).await;
    let part = run(&*store, ROOM, newest(1), 0, 1).await.unwrap();
    assert_eq!(part, Removed { first: BUCKET_ROWS + 1, buckets: 1, more: true });
    // The server dies after it has given up two more buckets and emptied none.
    store.keep_from(ROOM, 3).await.unwrap();
    let part = run(&*store, ROOM, EVERYTHING, 0, 1).await.unwrap();
    assert_eq!(
        part,
        Removed { first: 3 * BUCKET_ROWS + 1, buckets: 1, more: true },
        "whatever the policy is"
    );
    assert_eq!(run(&*store, ROOM, EVERYTHING, 0, 9).await, Ok(removed(3 * BUCKET_ROWS + 1, 1)));
    assert_eq!(store.kept(ROOM).await.unwrap(), Kept { oldest: 3, emptied: 3 });
    let rows = all_rows(&*store, ROOM).await;
    assert_eq!((rows[0].seq, rows.len()), (3 * BUCKET_ROWS + 1, 10), "what is above is all there");
}

pub(crate) async fn nothing_goes_that_the_members_table_does_not_reflect(store: Arc<dyn Store>) {
    let mut chance = Chance(33);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let change =
        MembershipChange { user: ALICE, change: Membership::Joined, role: None, until: None, invite: None };
    let body = Some(protocol::Body::new(&serde_json::to_value(&change).unwrap()).unwrap());
    let joined =
        rookery_store::log::Row { kind: Kind::Membership, body, n: 0, ..message(1, owner.epoch(), 0) };
    let first = Batch { rows: vec![joined], write_id: 1, derived: Derived::default() };
    let owner = committed(owner.append(&*store, first).await);
    fill(&*store, owner, BUCKET_ROWS + 300, &mut chance).await;
    assert_eq!(
        run(&*store, ROOM, newest(1), 0, 9).await,
        Ok(removed(1, 0)),
        "nobody else knows of the joining"
    );

    let mut alice = MemberRecord::stranger(ALICE);
    alice.apply(&change, 1);
    let room = RoomRecord { applied_seq: 1, ..record(ROOM, "here") };
    let derived = Derived { room: Some(room), members: vec![alice], ..Derived::default() };
    store.put_derived(ROOM, &derived).await.unwrap();
    assert_eq!(run(&*store, ROOM, newest(1), 0, 9).await, Ok(removed(BUCKET_ROWS + 1, 1)));
    let page = reader::page(&*store, ALICE, ROOM, Some(HistoryFrom::After(0)), 2).await.unwrap();
    let seqs: Vec<Seq> = page.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!((page.first, seqs), (BUCKET_ROWS + 1, vec![BUCKET_ROWS + 1, BUCKET_ROWS + 2]));
    let page = reader::page(&*store, ALICE, ROOM, Some(HistoryFrom::Before(9)), 2).await.unwrap();
    assert_eq!((page.first, page.entries.len()), (BUCKET_ROWS + 1, 0), "what is gone is named");
}

pub(crate) async fn nothing_goes_that_the_writers_marks_do_not_reflect(store: Arc<dyn Store>) {
    let statics =
        |last_seq, dev_upto| Statics { epoch: 1, last_seq, owner: 1, write_id: 2, dev_upto, member_seq: 0 };
    let append = async |expected_last: Seq, count: u64, dev_upto: Seq| {
        let rows = (1..=count).map(|i| message(expected_last + i, 1, expected_last + i)).collect();
        let (write_id, member_seq) = (u128::from(expected_last) + 100, 0);
        let derived = Derived::default();
        let append =
            Append { room: ROOM, epoch: 1, expected_last, write_id, dev_upto, member_seq, rows, derived };
        assert!(matches!(store.append(&append).await.unwrap(), Cas::Applied(_)));
    };
    store.create_bucket(ROOM, 0, statics(0, 0)).await.unwrap();
    for group in 0..BUCKET_ROWS / 256 {
        append(group * 256, 256, BUCKET_ROWS - 1).await;
    }
    store.create_bucket(ROOM, 1, statics(BUCKET_ROWS, BUCKET_ROWS - 1)).await.unwrap();
    append(BUCKET_ROWS, 1, BUCKET_ROWS - 1).await;
    assert_eq!(run(&*store, ROOM, newest(1), 0, 9).await, Ok(removed(1, 0)));
    append(BUCKET_ROWS + 1, 1, BUCKET_ROWS).await;
    assert_eq!(run(&*store, ROOM, newest(1), 0, 9).await, Ok(removed(BUCKET_ROWS + 1, 1)));
}
