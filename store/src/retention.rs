//! Which old buckets of a log go, and in which order. Run by the room's owner; resumable at every step.
//!
//! Whole buckets only, from the oldest on, and never
//!
//! * the newest bucket, in which a claim looks for the room's head;
//! * a bucket with a membership or room entry that the derived tables do not reflect: rosters are folded from there;
//! * a bucket with a row that the writers' marks do not reflect: a claim reads those.
//!
//! ```text
//!   which may go? ─▶ keep_from(oldest) ─▶ empty_bucket(emptied), …
//!                    readers stop here    until emptied = oldest, in this run or a later one
//! ```
//!
//! What may go stays so: buckets are written once, tables and marks only move forward. So an owner that was replaced and
//! does not know it does no harm either.

use protocol::{Millis, RoomId, Seq};

use crate::{
    Store, StoreError,
    log::{BUCKET_ROWS, Kept, Statics, bucket_of, newest_bucket},
};

const DAY_MS: Millis = 24 * 60 * 60 * 1000;

/// What is kept of a room. What exceeds one of the limits goes; without any, everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Entries older than this go: a bucket is as old as its newest entry.
    pub max_age_days: Option<u32>,
    /// At least this many of the newest entries are kept, and less than a bucket more.
    pub max_entries: Option<u64>,
}

impl Policy {
    fn is_unlimited(&self) -> bool {
        self.max_age_days.is_none() && self.max_entries.is_none()
    }

    fn is_too_many(&self, above: u64) -> bool {
        self.max_entries.is_some_and(|most| above >= most)
    }

    fn is_too_old(&self, at: Millis, now: Millis) -> bool {
        self.max_age_days.is_some_and(|days| at.saturating_add(Millis::from(days) * DAY_MS) < now)
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// The oldest row that is kept now.
    pub first: Seq,
    /// Buckets emptied.
    pub buckets: u64,
    /// There is more to do: run it again.
    pub more: bool,
}

impl Removed {
    /// Entries removed.
    pub fn entries(&self) -> u64 {
        self.buckets * BUCKET_ROWS
    }
}

/// Removes what a room's policy, or else `default`, does not keep: at most `most` buckets, which also bounds how many
/// are looked at. What an earlier run had begun is finished first, whatever the policy is now.
///
/// # Errors
/// When the store fails; what was done stays done.
pub async fn run(
    store: &dyn Store,
    room: RoomId,
    default: Policy,
    now: Millis,
    most: u64,
) -> Result<Removed, StoreError> {
    let policy = store.retention(room).await?.unwrap_or(default);
    let mut kept = store.kept(room).await?;
    let mut looked = 0;
    if !policy.is_unlimited()
        && let Some((newest, statics)) = newest_bucket(store, room).await?
    {
        let bounds =
            Bounds { policy, newest, statics, reflected: reflected(store, room, &statics).await?, now };
        let before = kept.oldest;
        while looked < most && bounds.may_go(store, room, kept.oldest).await? {
            kept.oldest += 1;
            looked += 1;
        }
        if kept.oldest > before {
            store.keep_from(room, kept.oldest).await?;
        }
    }
    let upto = kept.oldest.min(kept.emptied.saturating_add(most));
    let buckets = upto.saturating_sub(kept.emptied);
    for bucket in kept.emptied..upto {
        store.empty_bucket(room, bucket, now).await?;
    }
    Ok(Removed { first: kept.first(), buckets, more: upto < kept.oldest || (most > 0 && looked == most) })
}

/// Every membership and room entry up to here is in the derived tables.
async fn reflected(store: &dyn Store, room: RoomId, statics: &Statics) -> Result<Seq, StoreError> {
    let applied = store.room(room).await?.map_or(0, |record| record.applied_seq);
    // Above the newest such entry there is none.
    Ok(if applied >= statics.member_seq { statics.last_seq } else { applied })
}

/// What decides whether a bucket may go.
struct Bounds {
    policy: Policy,
    newest: u64,
    statics: Statics,
    reflected: Seq,
    now: Millis,
}

impl Bounds {
    async fn may_go(&self, store: &dyn Store, room: RoomId, bucket: u64) -> Result<bool, StoreError> {
        let last = (bucket + 1) * BUCKET_ROWS;
        if bucket >= self.newest || last > self.statics.dev_upto || last > self.reflected {
            return Ok(false);
        }
        if self.policy.is_too_many(self.statics.last_seq - last) {
            return Ok(true);
        }
        if self.policy.max_age_days.is_none() {
            return Ok(false);
        }
        let rows = store.rows_after(room, last - 1, last, 1).await?;
        let newest = rows.first().filter(|row| bucket_of(row.seq) == bucket);
        let newest = newest.ok_or_else(|| {
            StoreError::Corrupt(format!("room {room}: row {last} of a kept bucket is missing"))
        })?;
        Ok(self.policy.is_too_old(newest.at, self.now))
    }
}

/// How far retention has come in rooms of so many entries; none has begun in one whose first bucket is not full.
///
/// # Errors
/// When the store fails.
pub async fn first_kept(store: &dyn Store, room: RoomId, head: Seq) -> Result<Seq, StoreError> {
    if head <= BUCKET_ROWS {
        return Ok(Kept::default().first());
    }
    Ok(store.kept(room).await?.first())
}
