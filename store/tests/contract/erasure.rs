//! Somebody's words go, once and for good; nothing else does.

use std::sync::Arc;

use protocol::{Body, Kind, Seq, entry::Mask};
use rookery_store::{
    Store, StoreError,
    erasure::{EraseError, Erased, run},
    log::{BUCKET_ROWS, Row},
    members::{Derived, MemberRecord, RoomRecord},
    owner::Ownership,
    reader,
};

use crate::{
    check::{all_rows, checked_rows},
    faults::Faulty,
    world::{ALICE, BOB, Chance, ROOM, batch, claimed, committed, fill, message, record},
};

/// Two messages of Bob's, and between them one of Alice's and her joining.
async fn said(store: &dyn Store) -> (Ownership, Vec<Row>) {
    let mut chance = Chance(41);
    let owner = claimed(store, ROOM, &mut chance).await.ownership;
    let of = |seq, n| message(seq, owner.epoch(), n);
    let rows = vec![
        Row { from: BOB, ..of(1, 1) },
        of(2, 2),
        Row { kind: Kind::Membership, ..of(3, 3) },
        Row { from: BOB, ..of(4, 4) },
    ];
    let owner = committed(owner.append(store, batch(rows.clone(), &mut chance)).await);
    (owner, rows)
}

async fn rows(store: &dyn Store) -> Vec<Row> {
    store.rows_after(ROOM, 0, 99, 99).await.unwrap()
}

pub(crate) async fn rows_are_erased_together_if_they_are_what_they_were(store: Arc<dyn Store>) {
    let (_, before) = said(&*store).await;
    let statics = store.statics(ROOM, 0).await.unwrap();
    let other = Row { body: Some(Body::text("never said").unwrap()), ..before[3].clone() };
    assert_eq!(store.erase(ROOM, &[before[0].clone(), other]).await, Ok(false), "one is another");
    assert_eq!(rows(&*store).await, before, "so none was erased");

    let both = [before[0].clone(), before[3].clone()];
    assert_eq!(store.erase(ROOM, &both).await, Ok(true));
    let after = rows(&*store).await;
    assert_eq!(after, [before[0].erased(), before[1].clone(), before[2].clone(), before[3].erased()]);
    assert!(after[0].checksum() != before[0].checksum(), "an erased row has a checksum of its own");
    assert_eq!(store.erase(ROOM, &both).await, Ok(false), "once");
    assert_eq!(store.statics(ROOM, 0).await.unwrap(), statics, "the bucket knows nothing of it");
    assert_eq!(reader::entry(&after[0], None).masked, Some(Mask::Erased));
}

pub(crate) async fn what_may_not_be_erased_is_refused(store: Arc<dyn Store>) {
    let (owner, before) = said(&*store).await;
    let refused =
        async |rows: Vec<Row>| matches!(store.erase(ROOM, &rows).await, Err(StoreError::Invalid(_)));
    assert!(refused(Vec::new()).await);
    assert!(refused(vec![before[2].clone()]).await, "rosters are folded from it");
    assert!(refused(vec![before[0].erased()]).await);
    assert!(refused(vec![before[3].clone(), before[0].clone()]).await, "out of order");
    assert!(
        refused(vec![before[3].clone(), message(BUCKET_ROWS + 1, owner.epoch(), 5)]).await,
        "two buckets"
    );
    assert_eq!(rows(&*store).await, before);
}

pub(crate) async fn a_row_that_is_gone_does_not_come_back_by_its_erasure(store: Arc<dyn Store>) {
    let mut chance = Chance(42);
    let owner = claimed(&*store, ROOM, &mut chance).await.ownership;
    fill(&*store, owner, BUCKET_ROWS + 5, &mut chance).await;
    let old = store.rows_after(ROOM, 9, 11, 2).await.unwrap();
    store.keep_from(ROOM, 1).await.unwrap();
    // Now as a clock tells it: what is removed must be gone in a database that goes by clocks too.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    store.empty_bucket(ROOM, 0, u64::try_from(now).unwrap()).await.unwrap();
    assert_eq!(store.erase(ROOM, &old).await, Ok(false));
    assert_eq!(all_rows(&*store, ROOM).await.len(), 5);
}

pub(crate) async fn a_run_erases_all_that_somebody_has_said_and_no_more(store: Arc<dyn Store>) {
    let mut chance = Chance(43);
    let (owner, _) = said(&*store).await;
    // Alice goes on into the next bucket.
    let owner = fill(&*store, owner, BUCKET_ROWS + 300, &mut chance).await;
    let (head, epoch) = (owner.head(), owner.epoch());
    let count = head - 3;
    assert_eq!(run(&*store, ROOM, epoch, ALICE, 0, head).await, Ok(Erased { erased: count, already: 0 }));
    assert_eq!(run(&*store, ROOM, epoch, ALICE, 0, head).await, Ok(Erased { erased: 0, already: count }));
    let rows = checked_rows(&*store, ROOM).await;
    let full: Vec<Seq> = rows.iter().filter(|row| row.body.is_some()).map(|row| row.seq).collect();
    assert_eq!(full, [1, 3, 4], "Bob's, and what rosters are folded from");
    let after = run(&*store, ROOM, epoch, BOB, 1, 3).await;
    assert_eq!(after, Ok(Erased::default()), "outside of the range");
    fill(&*store, owner, 3, &mut chance).await;
    let found = claimed(&*store, ROOM, &mut chance).await;
    assert_eq!(found.rows.iter().filter(|row| row.body.is_some()).count(), 3, "a claim reads erased rows");
}

pub(crate) async fn a_run_of_an_owner_that_was_replaced_fails(store: Arc<dyn Store>) {
    let (owner, before) = said(&*store).await;
    let new = claimed(&*store, ROOM, &mut Chance(44)).await.ownership;
    assert_eq!(run(&*store, ROOM, owner.epoch(), BOB, 0, 4).await, Err(EraseError::Fenced));
    assert_eq!(rows(&*store).await[0], before[0].erased(), "what it did is what was asked for");
    let again = run(&*store, ROOM, new.epoch(), BOB, 0, 4).await;
    assert_eq!(again, Ok(Erased { erased: 0, already: 2 }));
}

pub(crate) async fn appends_and_erasures_do_not_hinder_each_other(store: Arc<dyn Store>) {
    let mut chance = Chance(45);
    let (owner, _) = said(&*store).await;
    let epoch = owner.epoch();
    let (owner, erased) =
        tokio::join!(fill(&*store, owner, 600, &mut chance), run(&*store, ROOM, epoch, BOB, 0, 4));
    assert_eq!((owner.head(), erased), (604, Ok(Erased { erased: 2, already: 0 })));
    assert_eq!(checked_rows(&*store, ROOM).await.iter().filter(|row| row.body.is_none()).count(), 2);
}

/// Answers are lost before and after the effect; a run that fails is asked for again, as an operator does.
pub(crate) async fn a_run_over_a_faulty_log_is_repeated_until_it_is_through(store: Arc<dyn Store>) {
    let mut chance = Chance(46);
    let (owner, _) = said(&*store).await;
    let owner = fill(&*store, owner, 700, &mut chance).await;
    let faulty = Faulty::new(store.clone(), 47);
    let mut tries = 0;
    while run(&faulty, ROOM, owner.epoch(), ALICE, 0, owner.head()).await.is_err() {
        tries += 1;
        assert!(tries < 50, "it comes through");
    }
    let rows = checked_rows(&*store, ROOM).await;
    assert!(rows.iter().all(|row| row.body.is_none() == row.is_erasable(ALICE)));
}

pub(crate) async fn all_rooms_of_somebody_are_found(store: Arc<dyn Store>) {
    use protocol::RoomId;
    use rookery_store::members::MemberState::{Banned, Invited, Joined, Kicked, Left};
    let rooms: Vec<RoomId> = (1..=5).map(RoomId::from_u128).collect();
    for (room, state) in rooms.iter().zip([Joined, Left, Kicked, Banned, Invited]) {
        let member = MemberRecord { state, changed_seq: 2, ..MemberRecord::stranger(BOB) };
        let room = RoomRecord { deleted: state == Joined, applied_seq: 2, ..record(*room, "somewhere") };
        let derived = Derived { members: vec![member], room: Some(room.clone()), ..Derived::default() };
        store.put_derived(room.room, &derived).await.unwrap();
    }
    let first = store.rooms_ever_of(BOB, None, 3).await.unwrap();
    let rest = store.rooms_ever_of(BOB, first.next.as_deref(), 3).await.unwrap();
    assert_eq!(([first.items, rest.items].concat(), rest.next), (rooms, None));
    assert!(store.rooms_ever_of(ALICE, None, 3).await.unwrap().items.is_empty());
}
