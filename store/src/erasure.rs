//! A person's words are taken out of a log; that they spoke, and when, stays. Run by the room's owner.
//!
//! A row with content becomes the same row without a body, with a checksum of its own. Membership and room entries keep
//! theirs: rosters are folded from them.
//!
//! **The condition** of such a write is the row itself: in its own partition, it has to be what the owner read. That is
//! all the log needs. The write can only do what was asked for, once; a copy of it that comes late, or one of an owner
//! that was replaced, finds the row erased or gone with its bucket, and changes nothing. The epoch would add nothing: an
//! old bucket keeps the one of its time, which no later claim raises, so it fences nobody there.
//!
//! **The epoch** matters for what owners remember. Whoever claims the room while rows are being erased may have read some
//! of them before. So a run ends by looking at the newest bucket, the one that claims change: if the epoch there is still
//! its owner's, nobody else had claimed the room up to then, and whoever does later reads erased rows. Otherwise the run
//! fails, and the next one, at the next owner, erases what is left and has that owner forget.

use protocol::{RoomId, Seq, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    RoomLog, StoreError,
    backoff::Backoff,
    log::{GROUP_ROWS, Row, bucket_of, newest_bucket},
};

/// Rows read at once.
const PAGE: usize = 1000;
/// Times that a group of rows is looked at again, because some of them had changed or an answer did not come.
const TRIES: u32 = 8;

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Erased {
    /// Rows erased.
    pub erased: u64,
    /// Rows of theirs that had no content any more.
    pub already: u64,
}

/// Why a run did not come to its end. What it did stays done; run it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EraseError {
    /// Somebody else has claimed the room, and may remember what was erased.
    #[error("another owner has the room")]
    Fenced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Erases what `user` has said in the entries above `after` up to `upto`, for the owner whose epoch is `epoch`.
///
/// # Errors
/// [`EraseError`].
pub async fn run(
    log: &dyn RoomLog,
    room: RoomId,
    epoch: u64,
    user: UserId,
    after: Seq,
    upto: Seq,
) -> Result<Erased, EraseError> {
    let mut sum = Erased::default();
    let mut at = after;
    while at < upto {
        let rows = log.rows_after(room, at, upto, PAGE).await?;
        let Some(last) = rows.last() else { break };
        at = last.seq;
        let (full, empty): (Vec<Row>, Vec<Row>) =
            rows.into_iter().filter(|row| row.is_erasable(user)).partition(|row| row.body.is_some());
        sum.already += empty.len() as u64;
        for bucket in full.chunk_by(|one, next| bucket_of(one.seq) == bucket_of(next.seq)) {
            for group in bucket.chunks(GROUP_ROWS) {
                erase(log, room, user, group.to_vec()).await?;
                sum.erased += group.len() as u64;
            }
        }
    }
    match newest_bucket(log, room).await? {
        Some((_, statics)) if statics.epoch == epoch => Ok(sum),
        _ => Err(EraseError::Fenced),
    }
}

/// Erases rows of one bucket. Some may be erased already, by an earlier try, or gone with their bucket.
async fn erase(log: &dyn RoomLog, room: RoomId, user: UserId, mut rows: Vec<Row>) -> Result<(), StoreError> {
    let mut backoff = Backoff::new(room.as_u128());
    loop {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let (first, last) = (first.seq, last.seq);
        match log.erase(room, &rows).await {
            Ok(true) => return Ok(()),
            Ok(false) if backoff.tries() < TRIES => {}
            Ok(false) => {
                return Err(StoreError::Unavailable(format!("rows {first} to {last} change all the time")));
            }
            Err(StoreError::Unknown(_)) if backoff.tries() < TRIES => {}
            Err(error) => return Err(error),
        }
        backoff.wait().await;
        rows = log.rows_after(room, first - 1, last, PAGE).await?;
        rows.retain(|row| row.is_erasable(user) && row.body.is_some());
    }
}
