//! Handing a room over: the next owner is told what a claim would find, and claims it with one conditional write.

use protocol::{RoomId, Seq};

use super::{ClaimError, Ownership, Recovered, from_rows};
use crate::{
    RoomLog, StoreError,
    log::{Cas, RING_ROWS},
    members::Derived,
};

/// What an owner knows of a room that it gives away. Says nothing any more once somebody else has claimed the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOver {
    /// The room.
    pub room: RoomId,
    /// Its newest bucket.
    pub bucket: u64,
    /// The epoch that ends.
    pub epoch: u64,
    /// The newest row.
    pub last_seq: Seq,
    /// The newest membership or room entry.
    pub member_seq: Seq,
}

impl Ownership {
    /// Gives the room away, after the derived tables have caught up with it.
    ///
    /// # Errors
    /// When the tables can't be written: then the next owner claims the room as if this one had died.
    pub async fn hand_over(self, log: &dyn RoomLog) -> Result<HandOver, StoreError> {
        if self.unreflected != Derived::default() {
            log.put_derived(self.room, &self.unreflected).await?;
        }
        let Self { room, bucket, epoch, last_seq, member_seq, .. } = self;
        Ok(HandOver { room, bucket, epoch, last_seq, member_seq })
    }
}

/// Claims a room that was handed over, in one write and without reading anything. `nonce` is random.
///
/// # Errors
/// [`ClaimError::Contended`] when the room is not any more as it was handed over, and the store's errors. In each case
/// [`super::claim()`] is the way on.
pub async fn take_over(log: &dyn RoomLog, from: HandOver, nonce: u128) -> Result<Ownership, ClaimError> {
    let HandOver { room, bucket, epoch: old, last_seq, member_seq } = from;
    let epoch = old + 1;
    match log.take_over(room, bucket, old, Some(last_seq), epoch, nonce).await? {
        Cas::Applied(()) => Ok(Ownership {
            room,
            bucket,
            epoch,
            last_seq,
            member_seq,
            marks_upto: last_seq,
            unreflected: Derived::default(),
        }),
        Cas::Refused(_) => Err(ClaimError::Contended),
    }
}

/// [`take_over`], with what an owner begins with.
///
/// # Errors
/// As [`take_over`].
pub async fn succeed(log: &dyn RoomLog, from: HandOver, nonce: u128) -> Result<Recovered, ClaimError> {
    let ownership = take_over(log, from, nonce).await?;
    let after = from.last_seq.saturating_sub(RING_ROWS as u64);
    let rows = match from.last_seq {
        0 => Vec::new(),
        last => log.rows_after(from.room, after, last, RING_ROWS).await?,
    };
    let marks = from_rows(&rows).marks;
    Ok(Recovered { ownership, rows, marks })
}
