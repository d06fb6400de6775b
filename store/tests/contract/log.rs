//! The primitives: conditions, ranges, marks.

use std::sync::Arc;

use protocol::{Kind, RoomId, Seq, WriterId};
use rookery_store::{
    RoomLog, Store,
    log::{Append, Appended, BUCKET_ROWS, Cas, Row, Statics, WriterMark, newest_bucket},
    members::{Derived, MaskRecord},
};

use crate::{
    check::all_rows,
    faults::Faulty,
    world::{ROOM, TAB, message},
};

const OTHER: RoomId = RoomId::from_u128(0xb1);

fn statics(epoch: u64, last_seq: Seq) -> Statics {
    Statics { epoch, last_seq, owner: 1, write_id: 2, dev_upto: last_seq, member_seq: 0 }
}

fn append(epoch: u64, expected_last: Seq, count: u64) -> Append {
    Append {
        room: ROOM,
        epoch,
        expected_last,
        write_id: u128::from(expected_last) + 100,
        dev_upto: expected_last,
        member_seq: 3,
        rows: (1..=count).map(|i| message(expected_last + i, epoch, expected_last + i)).collect(),
        derived: Derived::default(),
    }
}

pub(crate) async fn a_bucket_is_made_once(store: Arc<dyn Store>) {
    assert_eq!(store.statics(ROOM, 0).await.unwrap(), None);
    assert_eq!(store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap(), Cas::Applied(()));
    let refused = store.create_bucket(ROOM, 0, statics(9, 0)).await.unwrap();
    assert_eq!(refused, Cas::Refused(Some(statics(1, 0))), "the refusal shows what is there");
    assert_eq!(store.statics(ROOM, 0).await.unwrap(), Some(statics(1, 0)));
    assert_eq!(store.statics(OTHER, 0).await.unwrap(), None, "rooms are apart");
}

pub(crate) async fn a_take_over_needs_the_epoch_and_where_given_the_last_row(store: Arc<dyn Store>) {
    assert_eq!(store.take_over(ROOM, 0, 1, None, 2, 9).await.unwrap(), Cas::Refused(None));
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    store.append(&append(1, 0, 2)).await.unwrap();
    let there = store.statics(ROOM, 0).await.unwrap();
    assert_eq!(store.take_over(ROOM, 0, 7, None, 8, 9).await.unwrap(), Cas::Refused(there), "another epoch");
    assert_eq!(
        store.take_over(ROOM, 0, 1, Some(1), 2, 9).await.unwrap(),
        Cas::Refused(there),
        "another last row"
    );
    assert_eq!(store.take_over(ROOM, 0, 1, Some(2), 2, 9).await.unwrap(), Cas::Applied(()));
    let taken = Statics { epoch: 2, owner: 9, ..there.unwrap() };
    assert_eq!(store.statics(ROOM, 0).await.unwrap(), Some(taken), "nothing else changes");
    assert_eq!(store.take_over(ROOM, 0, 2, None, 3, 10).await.unwrap(), Cas::Applied(()));
}

pub(crate) async fn an_append_needs_the_epoch_and_the_last_row(store: Arc<dyn Store>) {
    assert_eq!(store.append(&append(1, 0, 1)).await.unwrap(), Cas::Refused(None), "no bucket yet");
    store.create_bucket(ROOM, 0, statics(5, 0)).await.unwrap();
    for wrong in [append(4, 0, 1), append(6, 0, 1), append(5, 1, 1)] {
        assert_eq!(store.append(&wrong).await.unwrap(), Cas::Refused(Some(statics(5, 0))));
    }
    assert!(all_rows(&*store, ROOM).await.is_empty(), "a refused append leaves nothing");
    assert!(matches!(store.append(&append(5, 0, 3)).await.unwrap(), Cas::Applied(_)));
    let expected = Statics { epoch: 5, last_seq: 3, owner: 1, write_id: 100, dev_upto: 0, member_seq: 3 };
    assert_eq!(store.statics(ROOM, 0).await.unwrap(), Some(expected));
    assert_eq!(all_rows(&*store, ROOM).await, append(5, 0, 3).rows);
}

pub(crate) async fn a_refused_append_leaves_nothing_derived(store: Arc<dyn Store>) {
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    let mark = WriterMark { writer: TAB, n: 1, seq: 1 };
    let derived =
        Derived { marks: vec![mark], masks: vec![MaskRecord { target: 1, by: 1 }], ..Derived::default() };
    let refused = Append { derived: derived.clone(), ..append(9, 0, 1) };
    assert!(matches!(store.append(&refused).await.unwrap(), Cas::Refused(_)));
    assert_eq!(store.writer_mark(ROOM, TAB).await.unwrap(), None);
    assert!(store.masks(ROOM, 0, 9).await.unwrap().masks.is_empty());
    let applied = Append { derived, ..append(1, 0, 1) };
    let Cas::Applied(Appended { derived_upto }) = store.append(&applied).await.unwrap() else {
        panic!("refused")
    };
    if derived_upto == 1 {
        assert_eq!(store.writer_mark(ROOM, TAB).await.unwrap(), Some(mark));
        assert_eq!(store.masks(ROOM, 0, 9).await.unwrap().masks, [MaskRecord { target: 1, by: 1 }]);
    }
}

pub(crate) async fn late_copies_of_old_requests_change_nothing(store: Arc<dyn Store>) {
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    store.append(&append(1, 0, 2)).await.unwrap();
    store.append(&append(1, 2, 2)).await.unwrap();
    store.take_over(ROOM, 0, 1, Some(4), 2, 7).await.unwrap();
    store.append(&append(2, 4, 1)).await.unwrap();
    let (before, rows) = (store.statics(ROOM, 0).await.unwrap(), all_rows(&*store, ROOM).await);
    for late in [append(1, 0, 2), append(1, 2, 2), append(1, 4, 2), append(2, 4, 1)] {
        assert_eq!(store.append(&late).await.unwrap(), Cas::Refused(before));
    }
    assert_eq!(store.take_over(ROOM, 0, 1, Some(4), 2, 7).await.unwrap(), Cas::Refused(before));
    assert_eq!(store.take_over(ROOM, 0, 1, None, 2, 7).await.unwrap(), Cas::Refused(before));
    assert_eq!(store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap(), Cas::Refused(before));
    assert_eq!((store.statics(ROOM, 0).await.unwrap(), all_rows(&*store, ROOM).await), (before, rows));
}

pub(crate) async fn ranges_are_bounded_on_both_sides(store: Arc<dyn Store>) {
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    store.append(&append(1, 0, 10)).await.unwrap();
    let seqs = |rows: Vec<Row>| rows.into_iter().map(|row| row.seq).collect::<Vec<_>>();
    let after = async |after, upto, limit| seqs(store.rows_after(ROOM, after, upto, limit).await.unwrap());
    assert_eq!(after(0, u64::MAX, 3).await, [1, 2, 3], "the lowest");
    assert_eq!(after(7, 9, 10).await, [8, 9]);
    assert!(after(10, u64::MAX, 5).await.is_empty());
    assert!(after(9, 3, 5).await.is_empty());
    assert!(after(u64::MAX, u64::MAX, 5).await.is_empty());
    assert!(after(0, 10, 0).await.is_empty());
    let before = async |before, limit| seqs(store.rows_before(ROOM, before, limit).await.unwrap());
    assert_eq!(before(u64::MAX, 3).await, [8, 9, 10], "the highest, in rising order");
    assert_eq!(before(3, 10).await, [1, 2]);
    assert!(before(1, 5).await.is_empty());
    assert!(before(0, 5).await.is_empty());
    assert!(store.rows_before(OTHER, 9, 9).await.unwrap().is_empty());
}

pub(crate) async fn rows_come_back_as_they_were_written(store: Arc<dyn Store>) {
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    let kinds = ["message", "reply", "edit", "deletion", "reaction", "membership", "room", "poll"];
    let mut append = append(1, 0, kinds.len() as u64 + 1);
    for (row, kind) in append.rows.iter_mut().zip(kinds) {
        row.kind = Kind::from_name(kind);
        row.target = row.seq.checked_sub(3).filter(|target| *target > 0);
        row.at = u64::MAX - row.seq;
        row.writer = WriterId::from_u128(u128::MAX - u128::from(row.seq));
    }
    append.rows.last_mut().unwrap().body = None;
    store.append(&append).await.unwrap();
    assert_eq!(all_rows(&*store, ROOM).await, append.rows);
}

pub(crate) async fn heads_come_in_the_order_of_the_rooms(store: Arc<dyn Store>) {
    store.create_bucket(ROOM, 0, statics(1, 0)).await.unwrap();
    store.append(&append(1, 0, 4)).await.unwrap();
    assert_eq!(store.heads(&[OTHER, ROOM, OTHER]).await.unwrap(), [0, 4, 0]);
    assert!(store.heads(&[]).await.unwrap().is_empty());
    assert_eq!(store.bucket_hint(OTHER).await.unwrap(), 0);
}

pub(crate) async fn marks_only_move_forward(store: Arc<dyn Store>) {
    let mark = |n, seq| WriterMark { writer: TAB, n, seq };
    let put = async |mark: WriterMark| {
        let derived = Derived { marks: vec![mark], ..Derived::default() };
        store.put_derived(ROOM, &derived).await.unwrap();
    };
    put(mark(5, 50)).await;
    put(mark(4, 40)).await;
    assert_eq!(store.writer_mark(ROOM, TAB).await.unwrap(), Some(mark(5, 50)));
    put(mark(6, 60)).await;
    assert_eq!(store.writer_mark(ROOM, TAB).await.unwrap(), Some(mark(6, 60)));
    assert_eq!(store.writer_mark(OTHER, TAB).await.unwrap(), None);
}

pub(crate) async fn the_newest_bucket_is_found_from_any_hint(store: Arc<dyn Store>) {
    let log = Faulty::new(store.clone(), 3);
    log.heal().await;
    for newest in 0..14 {
        let last = newest * BUCKET_ROWS + 5;
        if newest > 0 {
            // The bucket below fills up as it would by appends.
            let full = Append { rows: Vec::new(), ..append(1, 0, 1) };
            fill_up(&*store, newest - 1, full).await;
        }
        store.create_bucket(ROOM, newest, statics(1, last)).await.unwrap();
        for _ in 0..12 {
            let found = newest_bucket(&log as &dyn RoomLog, ROOM).await.unwrap().unwrap();
            assert_eq!((found.0, found.1.last_seq), (newest, last));
        }
    }
    assert_eq!(newest_bucket(&log, OTHER).await.unwrap(), None);
}

async fn fill_up(store: &dyn Store, bucket: u64, like: Append) {
    let mut last = bucket * BUCKET_ROWS + 5;
    while last < (bucket + 1) * BUCKET_ROWS {
        let count = 256.min((bucket + 1) * BUCKET_ROWS - last);
        let rows = (1..=count).map(|i| message(last + i, 1, last + i)).collect();
        let append = Append { rows, expected_last: last, ..like.clone() };
        assert!(matches!(store.append(&append).await.unwrap(), Cas::Applied(_)));
        last += count;
    }
}
