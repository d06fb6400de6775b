//! Claim, recover, append, roll over, when all answers arrive.

use std::sync::Arc;

use protocol::{Body, Kind, WriterId};
use rookery_store::{
    Store, StoreError,
    log::{Append, BUCKET_ROWS, Cas, GROUP_ROWS, RING_ROWS, Row, WriterMark, newest_bucket},
    members::Derived,
    owner::{AppendEnd, ClaimError, take_over},
};

use crate::{
    check::checked_rows,
    world::{ALICE, Chance, ROOM, TAB, batch, claimed, committed, fill, message, messages},
};

pub(crate) async fn the_first_claim_makes_the_room(store: Arc<dyn Store>) {
    let found = claimed(&*store, ROOM, &mut Chance(1)).await;
    assert_eq!((found.ownership.epoch(), found.ownership.head(), found.rows.len()), (1, 0, 0));
    let (bucket, statics) = newest_bucket(&*store, ROOM).await.unwrap().expect("made");
    assert_eq!((bucket, statics.epoch, statics.last_seq), (0, 1, 0));
}

pub(crate) async fn a_later_claim_fences_the_earlier_owner(store: Arc<dyn Store>) {
    let mut chance = Chance(2);
    let old = claimed(&*store, ROOM, &mut chance).await.ownership;
    let old = committed(old.append(&*store, batch(vec![message(1, 1, 1)], &mut chance)).await);
    let new = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!((new.ownership.epoch(), new.ownership.head()), (2, 1));
    let end = old.append(&*store, batch(vec![message(2, 1, 2)], &mut chance)).await;
    assert!(matches!(end, AppendEnd::Fenced { committed: false }), "{end:?}");
    committed(new.ownership.append(&*store, batch(vec![message(2, 2, 2)], &mut chance)).await);
    assert_eq!(checked_rows(&*store, ROOM).await.len(), 2);
}

pub(crate) async fn a_claim_recovers_the_newest_rows_and_marks(store: Arc<dyn Store>) {
    let mut chance = Chance(3);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    fill(&*store, owner, 700, &mut chance).await;
    let found = claimed(&*store, ROOM, &mut chance).await;
    assert!(found.rows.len() >= RING_ROWS);
    assert_eq!(found.rows.last().map(|row| row.seq), Some(700));
    let mark = WriterMark { writer: TAB, n: 700, seq: 700 };
    assert_eq!(found.marks, [mark]);
    assert_eq!(
        store.writer_mark(ROOM, TAB).await.unwrap(),
        Some(mark),
        "a claim brings the marks up to date"
    );
    assert_eq!(store.writer_mark(ROOM, WriterId::from_u128(9)).await.unwrap(), None);
}

pub(crate) async fn a_full_bucket_rolls_over(store: Arc<dyn Store>) {
    let mut chance = Chance(4);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let owner = fill(&*store, owner, BUCKET_ROWS - 10, &mut chance).await;
    assert_eq!(owner.free_rows(), 10, "an append stays within a bucket");
    let owner = fill(&*store, owner, 30, &mut chance).await;
    assert_eq!(owner.epoch(), 1, "rolling over keeps the epoch");
    let (bucket, statics) = newest_bucket(&*store, ROOM).await.unwrap().unwrap();
    assert_eq!((bucket, statics.last_seq), (1, BUCKET_ROWS + 20));
    let across = store.rows_after(ROOM, BUCKET_ROWS - 2, BUCKET_ROWS + 2, 100).await.unwrap();
    assert_eq!(across.len(), 4, "ranges cross buckets");
    checked_rows(&*store, ROOM).await;
}

pub(crate) async fn a_claim_on_a_full_bucket_makes_the_next(store: Arc<dyn Store>) {
    let mut chance = Chance(5);
    let old = claimed(&*store, ROOM, &mut chance).await.ownership;
    let old = fill(&*store, old, BUCKET_ROWS, &mut chance).await;
    let new = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!((new.ownership.epoch(), new.ownership.head()), (2, BUCKET_ROWS));
    let end =
        old.append(&*store, batch(vec![message(BUCKET_ROWS + 1, 1, BUCKET_ROWS + 1)], &mut chance)).await;
    assert!(matches!(end, AppendEnd::Fenced { committed: false }), "an old owner can't roll over: {end:?}");
    fill(&*store, new.ownership, 5, &mut chance).await;
    let again = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!((again.ownership.epoch(), again.ownership.head()), (3, BUCKET_ROWS + 5));
    checked_rows(&*store, ROOM).await;
}

pub(crate) async fn member_seq_follows_membership_and_room_entries(store: Arc<dyn Store>) {
    let mut chance = Chance(6);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let server = |seq, kind| Row { writer: WriterId::from_u128(0), n: 0, kind, ..message(seq, 1, 0) };
    let rows = vec![server(1, Kind::Room), server(2, Kind::Membership), message(3, 1, 1)];
    let owner = committed(owner.append(&*store, batch(rows, &mut chance)).await);
    assert_eq!(owner.member_seq(), 2);
    let owner = fill(&*store, owner, 1, &mut chance).await;
    assert_eq!(owner.member_seq(), 2, "messages carry it over");
    let found = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!(found.ownership.member_seq(), 2, "a claim finds it");
    assert_eq!(found.marks.len(), 1, "the server's own entries leave no mark");
}

pub(crate) async fn a_batch_that_does_not_fit_is_broken_and_writes_nothing(store: Arc<dyn Store>) {
    let long = Some(Body::text(&"x".repeat(16_000)).unwrap());
    let hole = |_: u64| vec![message(1, 1, 1), message(3, 1, 2)];
    let foreign = |epoch: u64| vec![message(1, epoch + 1, 1)];
    let large = |epoch: u64| (1..=5).map(|n| Row { body: long.clone(), ..message(n, epoch, n) }).collect();
    let many = |epoch: u64| (1..=GROUP_ROWS as u64 + 1).map(|n| message(n, epoch, n)).collect();
    let empty = |_: u64| Vec::new();
    let wrong: [&dyn Fn(u64) -> Vec<Row>; 5] = [&hole, &foreign, &large, &many, &empty];
    let mut chance = Chance(7);
    for rows in wrong {
        let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
        let rows = rows(owner.epoch());
        let end = owner.append(&*store, batch(rows, &mut chance)).await;
        assert!(matches!(end, AppendEnd::Broken(_)), "{end:?}");
    }
    assert!(checked_rows(&*store, ROOM).await.is_empty());
}

pub(crate) async fn sending_an_append_again_changes_nothing(store: Arc<dyn Store>) {
    let mut chance = Chance(8);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let append = Append {
        room: ROOM,
        epoch: owner.epoch(),
        expected_last: 0,
        write_id: 77,
        dev_upto: 0,
        member_seq: 0,
        rows: messages(&owner, 0, 3),
        derived: Derived::default(),
    };
    assert!(matches!(store.append(&append).await, Ok(Cas::Applied(_))));
    for _ in 0..3 {
        let Ok(Cas::Refused(Some(found))) = store.append(&append).await else { panic!("applied twice") };
        assert_eq!((found.last_seq, found.write_id), (3, 77), "the refusal shows that it is in the log");
    }
    assert_eq!(checked_rows(&*store, ROOM).await.len(), 3);
    let wrong = Append { rows: vec![Row { from: ALICE, ..message(9, 1, 1) }], ..append };
    assert!(matches!(store.append(&wrong).await, Err(StoreError::Invalid(_))), "holes are nobody's append");
}

pub(crate) async fn a_room_is_handed_over_in_one_step(store: Arc<dyn Store>) {
    let mut chance = Chance(21);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let owner = fill(&*store, owner, 300, &mut chance).await;
    let handed = owner.hand_over(&*store).await.unwrap();
    let mark = store.writer_mark(ROOM, TAB).await.unwrap();
    assert_eq!(mark, Some(WriterMark { writer: TAB, n: 300, seq: 300 }), "nothing is left to be written");
    let next = take_over(&*store, handed, 77).await.unwrap();
    assert_eq!((next.epoch(), next.head()), (2, 300));
    fill(&*store, next, 10, &mut chance).await;
    assert_eq!(checked_rows(&*store, ROOM).await.len(), 310);
    assert!(matches!(take_over(&*store, handed, 78).await, Err(ClaimError::Contended)), "once only");
}

pub(crate) async fn a_room_that_moved_on_is_not_handed_over(store: Arc<dyn Store>) {
    let mut chance = Chance(22);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    let handed = fill(&*store, owner, 5, &mut chance).await.hand_over(&*store).await.unwrap();
    let other = claimed(&*store, ROOM, &mut chance).await.ownership;
    assert!(matches!(take_over(&*store, handed, 77).await, Err(ClaimError::Contended)));
    fill(&*store, other, 5, &mut chance).await;
    assert_eq!(checked_rows(&*store, ROOM).await.len(), 10);
}
