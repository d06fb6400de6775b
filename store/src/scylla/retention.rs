//! Which rows are kept, over CQL.

use protocol::{Millis, RoomId};

use super::{
    Core,
    codec::{int, position},
};
use crate::{
    StoreError,
    log::{BUCKET_ROWS, Kept},
    retention::Policy,
};

/// How far a removal reaches into the future, in milliseconds: further than any two clocks are apart. Rows carry the
/// times of conditional writes, by whichever node led them. Databases refuse times more than three days ahead.
const AHEAD: Millis = 24 * 60 * 60 * 1000;

/// Where a room's log begins and about where it ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    pub(super) bucket: u64,
    pub(super) kept: Kept,
}

impl Core {
    pub(super) async fn head(&self, room: RoomId) -> Result<Head, StoreError> {
        let found: Option<(Option<i64>, Option<i64>, Option<i64>)> =
            self.first(&self.statements.head, (room.to_bytes(),)).await?;
        let (bucket, oldest, emptied) = found.unwrap_or_default();
        let number = |column: Option<i64>| column.map_or(0, i64::cast_unsigned);
        let kept = Kept { oldest: number(oldest), emptied: number(emptied) };
        Ok(Head { bucket: number(bucket), kept })
    }

    pub(super) async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError> {
        self.upsert(&self.statements.put_oldest, (int(oldest), int(oldest), room.to_bytes())).await
    }

    pub(super) async fn empty_bucket(
        &self,
        room: RoomId,
        bucket: u64,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.head(room).await?.kept.check_emptying(bucket)?;
        let micros = position(now.saturating_add(AHEAD).saturating_mul(1000));
        let (before, last) = (int(bucket * BUCKET_ROWS), int((bucket + 1) * BUCKET_ROWS));
        let values = (micros, room.to_bytes(), int(bucket), before, last);
        self.upsert(&self.statements.log_empty, values).await?;
        let next = int(bucket + 1);
        self.upsert(&self.statements.put_emptied, (next, next, room.to_bytes())).await
    }

    pub(super) async fn retention(&self, room: RoomId) -> Result<Option<Policy>, StoreError> {
        let found: Option<(bool, i64, i64)> =
            self.first(&self.statements.retention, (room.to_bytes(),)).await?;
        let limit = |number: i64| Some(number.cast_unsigned()).filter(|number| *number > 0);
        let chosen = found.filter(|(chosen, ..)| *chosen);
        Ok(chosen.map(|(_, days, entries)| Policy {
            max_age_days: limit(days).and_then(|days| u32::try_from(days).ok()),
            max_entries: limit(entries),
        }))
    }

    pub(super) async fn set_retention(&self, room: RoomId, policy: Option<Policy>) -> Result<(), StoreError> {
        let Policy { max_age_days, max_entries } = policy.unwrap_or_default();
        let (days, entries) = (max_age_days.map_or(0, i64::from), max_entries.map_or(0, int));
        self.upsert(&self.statements.put_retention, (room.to_bytes(), policy.is_some(), days, entries)).await
    }
}
