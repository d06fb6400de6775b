//! The invariants of a log, looked up in its rows by other code than that which wrote them.

use std::collections::{HashMap, HashSet};

use protocol::{RoomId, WriterId};
use rookery_store::{Store, log::Row};

/// All rows of a room, read from the end of the log in pages.
pub(crate) async fn all_rows(store: &dyn Store, room: RoomId) -> Vec<Row> {
    let mut pages = Vec::new();
    let mut before = u64::MAX >> 1;
    loop {
        let page = store.rows_before(room, before, 777).await.expect("the log is readable");
        let Some(first) = page.first() else { break };
        before = first.seq;
        pages.push(page);
    }
    pages.into_iter().rev().flatten().collect()
}

/// Dense from 1 to the head, epochs never falling, each writer's sends once and in order.
pub(crate) fn assert_log(rows: &[Row]) {
    let mut sends: HashSet<(WriterId, u64)> = HashSet::new();
    let mut last: HashMap<WriterId, u64> = HashMap::new();
    let mut epoch = 0;
    for (row, seq) in rows.iter().zip(1..) {
        assert_eq!(row.seq, seq, "the log has no holes");
        assert!(row.epoch >= epoch, "the epoch falls at {seq}");
        epoch = row.epoch;
        if row.n == 0 {
            continue;
        }
        assert!(sends.insert((row.writer, row.n)), "send {} is stored twice, again at {seq}", row.n);
        let previous = last.insert(row.writer, row.n).unwrap_or(0);
        assert_eq!(row.n, previous + 1, "a writer's sends are in order at {seq}");
    }
}

/// The log as it is, after all of that was found to hold and the head to be its end.
pub(crate) async fn checked_rows(store: &dyn Store, room: RoomId) -> Vec<Row> {
    let rows = all_rows(store, room).await;
    assert_log(&rows);
    let head = store.heads(&[room]).await.expect("heads")[0];
    assert_eq!(rows.len() as u64, head, "the head is the newest row");
    rows
}
