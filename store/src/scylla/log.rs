//! Room logs over CQL: every write conditional, every append one batch in one partition.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use protocol::{Millis, RoomId, Seq, WriterId};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};

use super::{
    Core, FAN_OUT, ScyllaStore,
    codec::{AppendValues, LogRow, StaticsRow, bits, int, limit, position},
    shared::Range,
};
use crate::{
    RoomLog, StoreError,
    log::{
        Append, Appended, BUCKET_ROWS, Cas, Kept, Row, Statics, Turn, WriterMark, bucket_of, check_erasure,
    },
    members::Derived,
};

impl Core {
    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError> {
        let key = (room.to_bytes(), int(bucket));
        let found: Option<StaticsRow> = self.first(&self.statements.log_statics, key).await?;
        found.map_or(Ok(None), StaticsRow::statics)
    }

    /// What is there instead of what a write expected.
    async fn refused<T>(&self, room: RoomId, bucket: u64) -> Result<Cas<T>, StoreError> {
        // The write was answered, so it will have no effect; but who can't be told what is there can conclude nothing.
        let found = self.statics(room, bucket).await;
        found.map(Cas::Refused).map_err(|error| StoreError::Unknown(error.to_string()))
    }

    async fn append(&self, append: &Append) -> Result<bool, StoreError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch
            .set_execution_profile_handle(self.statements.log_append.get_execution_profile_handle().cloned());
        // The first statement decides the route.
        batch.append_statement(BatchStatement::PreparedStatement(self.statements.log_append.clone()));
        let mut values = vec![AppendValues::Condition(append)];
        for row in &append.rows {
            batch.append_statement(BatchStatement::PreparedStatement(self.statements.log_row.clone()));
            values.push(AppendValues::Row(append.room, append.bucket(), row));
        }
        self.judged(self.session.batch(&batch, values).await)
    }

    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError> {
        let erase = &self.statements.log_erase;
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_execution_profile_handle(erase.get_execution_profile_handle().cloned());
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            batch.append_statement(BatchStatement::PreparedStatement(erase.clone()));
            let (before, after) = (i64::from(row.checksum()), i64::from(row.erased().checksum()));
            values.push((after, room.to_bytes(), int(bucket_of(row.seq)), int(row.seq), before));
        }
        self.judged(self.session.batch(&batch, values).await)
    }

    async fn rows_of_bucket(
        &self,
        room: RoomId,
        bucket: u64,
        after: Seq,
        upto: Seq,
        most: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let values = (room.to_bytes(), int(bucket), position(after), position(upto), limit(most));
        let found: Vec<LogRow> = self.rows(&self.statements.log_after, values).await?;
        found.into_iter().map(|row| row.row(room)).collect()
    }

    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if after >= upto || limit == 0 {
            return Ok(Vec::new());
        }
        let rows = self.rows_of_bucket(room, bucket_of(after + 1), after, upto, limit);
        let (head, mut rows) = tokio::try_join!(self.head(room), rows)?;
        let mut at = rows.last().map_or(after, |row| row.seq);
        let gone = head.kept.first() - 1;
        if gone > after {
            // What was read may be removed at any moment.
            rows.clear();
            at = gone;
        } else if rows.is_empty() {
            return Ok(rows);
        }
        while rows.len() < limit && at < upto && at.is_multiple_of(BUCKET_ROWS) {
            let most = limit - rows.len();
            let more = self.rows_of_bucket(room, bucket_of(at + 1), at, upto, most).await?;
            let Some(last) = more.last() else { break };
            at = last.seq;
            rows.extend(more);
        }
        Ok(rows)
    }

    async fn rows_before(&self, room: RoomId, before: Seq, most: usize) -> Result<Vec<Row>, StoreError> {
        let newest = match before {
            0 | 1 => return Ok(Vec::new()),
            // Beyond what a caller can have seen: the end has to be looked for.
            before if before > protocol::limits::MAX_COUNTER => self.head_soon(room).await?,
            before => before - 1,
        };
        if newest == 0 || most == 0 {
            return Ok(Vec::new());
        }
        let rows = self.rows_below(room, newest + 1, most);
        let (head, mut rows) = tokio::try_join!(self.head(room), rows)?;
        let first = head.kept.first();
        rows.retain(|row| row.seq >= first);
        while let Some(lowest) = rows.last().map(|row| row.seq) {
            // Only a bucket that was read down to its first row is followed by the one below.
            if rows.len() >= most || lowest <= first || !(lowest - 1).is_multiple_of(BUCKET_ROWS) {
                break;
            }
            let more = self.rows_below(room, lowest, most - rows.len()).await?;
            if more.is_empty() {
                break;
            }
            rows.extend(more);
        }
        rows.reverse();
        Ok(rows)
    }

    /// The highest rows below `before` of the bucket that ends there, falling.
    async fn rows_below(&self, room: RoomId, before: Seq, most: usize) -> Result<Vec<Row>, StoreError> {
        let values = (room.to_bytes(), int(bucket_of(before - 1)), position(before), limit(most));
        let found: Vec<LogRow> = self.rows(&self.statements.log_before, values).await?;
        found.into_iter().map(|row| row.row(room)).collect()
    }

    /// The newest row as far as a quorum knows it.
    async fn head_soon(&self, room: RoomId) -> Result<Seq, StoreError> {
        let mut bucket = self.head(room).await?.bucket;
        let mut last = 0;
        loop {
            let key = (room.to_bytes(), int(bucket));
            let found: Option<StaticsRow> = self.first(&self.statements.log_statics_soon, key).await?;
            let Some(statics) = found.map_or(Ok(None), StaticsRow::statics)? else { return Ok(last) };
            last = statics.last_seq;
            if !statics.is_full(bucket) {
                return Ok(last);
            }
            bucket += 1;
        }
    }
}

#[async_trait]
impl RoomLog for ScyllaStore {
    async fn bucket_hint(&self, room: RoomId) -> Result<u64, StoreError> {
        Ok(self.core.head(room).await?.bucket)
    }

    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError> {
        self.core.statics(room, bucket).await
    }

    async fn create_bucket(&self, room: RoomId, bucket: u64, statics: Statics) -> Result<Cas, StoreError> {
        let core = &self.core;
        let values = (
            room.to_bytes(),
            int(bucket),
            int(statics.epoch),
            int(statics.last_seq),
            statics.owner.to_be_bytes(),
            statics.write_id.to_be_bytes(),
            int(statics.dev_upto),
            int(statics.member_seq),
        );
        let _claim = self.gate.claim().await;
        if !core.cas(&core.statements.log_create, values).await? {
            return core.refused(room, bucket).await;
        }
        if bucket > 0
            && let Err(error) =
                core.upsert(&core.statements.put_head, (int(bucket), int(bucket), room.to_bytes())).await
        {
            // A hint: whoever looks there finds the bucket above it.
            tracing::debug!(%room, bucket, %error, "the hint of the newest bucket was not kept");
        }
        Ok(Cas::Applied(()))
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
        let core = &self.core;
        let _claim = self.gate.claim().await;
        let (new, key) = ((int(epoch), owner.to_be_bytes()), (room.to_bytes(), int(bucket)));
        let applied = match expected_last {
            None => {
                let values = (new.0, new.1, key.0, key.1, int(expected_epoch));
                core.cas(&core.statements.log_take_over, values).await?
            }
            Some(last) => {
                let values = (new.0, new.1, key.0, key.1, int(expected_epoch), int(last));
                core.cas(&core.statements.log_take_over_exact, values).await?
            }
        };
        if applied { Ok(Cas::Applied(())) } else { core.refused(room, bucket).await }
    }

    fn turn_now(&self) -> Option<Turn> {
        self.gate.turn_now()
    }

    async fn turn(&self) -> Turn {
        self.gate.turn().await
    }

    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError> {
        append.check()?;
        let begun = Instant::now();
        let applied = self.core.append(append).await;
        self.gate.answered(begun.elapsed());
        if !applied? {
            return self.core.refused(append.room, append.bucket()).await;
        }
        let derived_upto = if append.derived.room.is_some() {
            // Who changed the room or its members looks at the tables next.
            self.behind.lead(append.room, append.last(), &append.derived).await
        } else {
            self.behind.follow(append.room, append.last(), &append.derived)
        };
        Ok(Cas::Applied(Appended { derived_upto: derived_upto.max(append.dev_upto) }))
    }

    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.core.rows_after(room, after, upto, limit).await
    }

    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.core.rows_before(room, before, limit).await
    }

    async fn known_rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Arc<Vec<Row>>, StoreError> {
        let core = self.core.clone();
        let ask = || async move { core.rows_after(room, after, upto, limit).await }.boxed();
        self.queries.clone().share(Range::After { room, after, upto, limit }, ask).await
    }

    async fn known_rows_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Arc<Vec<Row>>, StoreError> {
        let core = self.core.clone();
        let ask = || async move { core.rows_before(room, before, limit).await }.boxed();
        self.queries.clone().share(Range::Before { room, before, limit }, ask).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        stream::iter(rooms.to_vec())
            .map(|room| self.core.head_soon(room))
            .buffered(FAN_OUT)
            .try_collect()
            .await
    }

    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError> {
        let core = &self.core;
        let found: Option<(i64, i64)> =
            core.first(&core.statements.mark, (room.to_bytes(), writer.to_bytes())).await?;
        Ok(found.map(|(n, seq)| WriterMark { writer, n: n.cast_unsigned(), seq: seq.cast_unsigned() }))
    }

    async fn writer_marks(
        &self,
        room: RoomId,
        after: Option<WriterId>,
        most: usize,
    ) -> Result<Vec<WriterMark>, StoreError> {
        let core = &self.core;
        let after = after.map_or_else(Vec::new, |writer| writer.to_bytes().to_vec());
        let found: Vec<(Vec<u8>, i64, i64)> =
            core.rows(&core.statements.marks, (room.to_bytes(), after, limit(most))).await?;
        let mark = |(writer, n, seq): (Vec<u8>, i64, i64)| {
            let writer = WriterId::from_u128(bits(&writer)?);
            Ok(WriterMark { writer, n: n.cast_unsigned(), seq: seq.cast_unsigned() })
        };
        found.into_iter().map(mark).collect()
    }

    async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError> {
        self.core.put_derived(room, derived).await
    }

    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError> {
        check_erasure(rows)?;
        self.core.erase(room, rows).await
    }

    async fn kept(&self, room: RoomId) -> Result<Kept, StoreError> {
        Ok(self.core.head(room).await?.kept)
    }

    async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError> {
        self.core.keep_from(room, oldest).await
    }

    async fn empty_bucket(&self, room: RoomId, bucket: u64, now: Millis) -> Result<(), StoreError> {
        self.core.empty_bucket(room, bucket, now).await
    }
}
