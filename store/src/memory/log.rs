//! Room logs in memory.

use std::collections::{BTreeMap, HashMap, btree_map};

use async_trait::async_trait;
use protocol::{Millis, RoomId, Seq, WriterId};

use super::{MemoryStore, State};
use crate::{
    RoomLog, StoreError,
    log::{Append, Appended, BUCKET_ROWS, Cas, Kept, Row, Statics, WriterMark, check_erasure},
    members::Derived,
};

/// One room's.
#[derive(Default)]
pub(super) struct Log {
    rows: BTreeMap<Seq, Row>,
    buckets: BTreeMap<u64, Statics>,
    marks: HashMap<WriterId, WriterMark>,
    kept: Kept,
}

impl Log {
    pub(super) fn head(&self) -> Seq {
        self.buckets.last_key_value().map_or(0, |(_, statics)| statics.last_seq)
    }

    pub(super) fn put_marks(&mut self, marks: &[WriterMark]) {
        for mark in marks {
            let kept = self.marks.entry(mark.writer).or_insert(*mark);
            if kept.seq < mark.seq {
                *kept = *mark;
            }
        }
    }

    fn append(&mut self, append: &Append) -> Result<Cas<Appended>, StoreError> {
        let Some(statics) = self.buckets.get_mut(&append.bucket()) else { return Ok(Cas::Refused(None)) };
        if statics.epoch != append.epoch || statics.last_seq != append.expected_last {
            return Ok(Cas::Refused(Some(*statics)));
        }
        if self.rows.range(append.expected_last + 1..).next().is_some() {
            return Err(StoreError::Corrupt(format!("rows above {}, the last", append.expected_last)));
        }
        statics.last_seq = append.last();
        statics.write_id = append.write_id;
        statics.dev_upto = append.dev_upto;
        statics.member_seq = append.member_seq;
        self.rows.extend(append.rows.iter().map(|row| (row.seq, row.clone())));
        Ok(Cas::Applied(Appended { derived_upto: append.last() }))
    }
}

impl State {
    fn log(&self, room: RoomId) -> Option<&Log> {
        self.logs.get(&room)
    }
}

#[async_trait]
impl RoomLog for MemoryStore {
    async fn bucket_hint(&self, room: RoomId) -> Result<u64, StoreError> {
        let state = self.state();
        Ok(state.log(room).and_then(|log| log.buckets.last_key_value()).map_or(0, |(bucket, _)| *bucket))
    }

    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError> {
        Ok(self.state().log(room).and_then(|log| log.buckets.get(&bucket)).copied())
    }

    async fn create_bucket(&self, room: RoomId, bucket: u64, statics: Statics) -> Result<Cas, StoreError> {
        let mut state = self.state();
        match state.logs.entry(room).or_default().buckets.entry(bucket) {
            btree_map::Entry::Occupied(found) => Ok(Cas::Refused(Some(*found.get()))),
            btree_map::Entry::Vacant(place) => {
                place.insert(statics);
                Ok(Cas::Applied(()))
            }
        }
    }

    async fn take_over(
        &self,
        room: RoomId,
        bucket: u64,
        expected_epoch: u64,
        expected_last: Option<Seq>,
        epoch: u64,
        owner: u128,
    ) -> Result<Cas, StoreError> {
        let mut state = self.state();
        let Some(statics) = state.logs.get_mut(&room).and_then(|log| log.buckets.get_mut(&bucket)) else {
            return Ok(Cas::Refused(None));
        };
        if statics.epoch != expected_epoch || expected_last.is_some_and(|last| last != statics.last_seq) {
            return Ok(Cas::Refused(Some(*statics)));
        }
        statics.epoch = epoch;
        statics.owner = owner;
        Ok(Cas::Applied(()))
    }

    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError> {
        append.check()?;
        let mut state = self.state();
        let outcome = state.logs.entry(append.room).or_default().append(append)?;
        if matches!(outcome, Cas::Applied(_)) {
            state.put_derived(append.room, &append.derived);
        }
        Ok(outcome)
    }

    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let state = self.state();
        let Some(log) = state.log(room) else { return Ok(Vec::new()) };
        let first = log.kept.first().max(after.saturating_add(1));
        if first > upto {
            return Ok(Vec::new());
        }
        Ok(log.rows.range(first..=upto).take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        let state = self.state();
        let Some(log) = state.log(room) else { return Ok(Vec::new()) };
        let first = log.kept.first();
        if first >= before {
            return Ok(Vec::new());
        }
        let mut rows: Vec<_> =
            log.rows.range(first..before).rev().take(limit).map(|(_, row)| row.clone()).collect();
        rows.reverse();
        Ok(rows)
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let state = self.state();
        Ok(rooms.iter().map(|room| state.log(*room).map_or(0, Log::head)).collect())
    }

    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError> {
        Ok(self.state().log(room).and_then(|log| log.marks.get(&writer)).copied())
    }

    async fn writer_marks(
        &self,
        room: RoomId,
        after: Option<WriterId>,
        limit: usize,
    ) -> Result<Vec<WriterMark>, StoreError> {
        let state = self.state();
        let marks = state.log(room).into_iter().flat_map(|log| log.marks.values());
        let mut marks: Vec<_> = marks.filter(|mark| Some(mark.writer) > after).copied().collect();
        marks.sort_by_key(|mark| mark.writer);
        marks.truncate(limit);
        Ok(marks)
    }

    async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError> {
        self.state().put_derived(room, derived);
        Ok(())
    }

    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError> {
        check_erasure(rows)?;
        let mut state = self.state();
        let Some(log) = state.logs.get_mut(&room) else { return Ok(false) };
        if rows.iter().any(|row| log.rows.get(&row.seq) != Some(row)) {
            return Ok(false);
        }
        log.rows.extend(rows.iter().map(|row| (row.seq, row.erased())));
        Ok(true)
    }

    async fn kept(&self, room: RoomId) -> Result<Kept, StoreError> {
        Ok(self.state().log(room).map_or_else(Kept::default, |log| log.kept))
    }

    async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        let kept = &mut state.logs.entry(room).or_default().kept;
        kept.oldest = oldest.max(kept.oldest);
        Ok(())
    }

    async fn empty_bucket(&self, room: RoomId, bucket: u64, _now: Millis) -> Result<(), StoreError> {
        let mut state = self.state();
        let log = state.logs.entry(room).or_default();
        log.kept.check_emptying(bucket)?;
        log.kept.emptied = bucket + 1;
        log.rows = log.rows.split_off(&((bucket + 1) * BUCKET_ROWS + 1));
        Ok(())
    }
}
