//! Taking a room over: raise the epoch, then read what the new owner must know.

use protocol::{RoomId, Seq};

use super::{ClaimError, Ownership, Recovered, from_rows};
use crate::{
    RoomLog, StoreError,
    backoff::Backoff,
    log::{BUCKET_ROWS, Cas, RING_ROWS, Row, Statics, newest_bucket},
    members::Derived,
};

/// Times that a claim may lose before its caller is told to ask who should own the room.
const LOSSES: u32 = 3;
/// Times that a claim looks at the room at all, whatever the reason for another look.
const ROUNDS: u32 = 12;

/// Claims a room and recovers what its owner must know. `nonces` gives random numbers.
///
/// # Errors
/// When somebody else wins three times, or the store fails. A claim that failed with an unknown outcome may still raise
/// the epoch later: that costs an owner its room, never an entry.
pub async fn claim(
    log: &dyn RoomLog,
    room: RoomId,
    nonces: &mut (dyn FnMut() -> u128 + Send),
) -> Result<Recovered, ClaimError> {
    let mut claimant = Claimant { log, room, nonces: Vec::new(), losses: 0, exact: true, unknown: None };
    let (bucket, statics) = claimant.win(nonces).await?;
    recover(log, room, bucket, statics).await
}

/// One claim of one room, over several tries.
struct Claimant<'a> {
    log: &'a dyn RoomLog,
    room: RoomId,
    /// What was written as owner in the tries so far. A bucket that names one of them is ours.
    nonces: Vec<u128>,
    losses: u32,
    /// Whether to claim only if `last_seq` has not moved either, which spares a read.
    exact: bool,
    /// The last try whose outcome is unknown.
    unknown: Option<StoreError>,
}

/// What a try came to.
enum Try {
    Won(u64, Statics),
    Again,
    Lost,
}

impl Claimant<'_> {
    /// The bucket that is ours, with a `last_seq` that no older owner can move any more.
    async fn win(&mut self, fresh: &mut (dyn FnMut() -> u128 + Send)) -> Result<(u64, Statics), ClaimError> {
        let mut backoff = Backoff::new(fresh());
        for _ in 0..ROUNDS {
            match self.attempt(fresh()).await {
                Ok(Try::Won(bucket, statics)) => return Ok((bucket, statics)),
                Ok(Try::Again) => {}
                Ok(Try::Lost) => {
                    self.losses += 1;
                    if self.losses == LOSSES {
                        return Err(ClaimError::Contended);
                    }
                    backoff.wait().await;
                }
                Err(error @ StoreError::Unknown(_)) => {
                    self.unknown = Some(error);
                    backoff.wait().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.unknown.take().map_or(ClaimError::Contended, ClaimError::Store))
    }

    async fn attempt(&mut self, nonce: u128) -> Result<Try, StoreError> {
        match newest_bucket(self.log, self.room).await? {
            None => self.create(0, first_statics(nonce)).await,
            Some((bucket, found)) if found.is_full(bucket) => {
                let epoch = found.epoch + 1;
                self.create(bucket + 1, Statics { epoch, owner: nonce, write_id: nonce, ..found }).await
            }
            Some((bucket, found)) if self.nonces.contains(&found.owner) => Ok(Try::Won(bucket, found)),
            Some((bucket, found)) => self.take_over(bucket, found, nonce).await,
        }
    }

    async fn create(&mut self, bucket: u64, statics: Statics) -> Result<Try, StoreError> {
        self.nonces.push(statics.owner);
        match self.log.create_bucket(self.room, bucket, statics).await? {
            Cas::Applied(()) => Ok(Try::Won(bucket, statics)),
            Cas::Refused(_) => Ok(Try::Lost),
        }
    }

    async fn take_over(&mut self, bucket: u64, found: Statics, nonce: u128) -> Result<Try, StoreError> {
        self.nonces.push(nonce);
        let expected_last = self.exact.then_some(found.last_seq);
        let epoch = found.epoch + 1;
        match self.log.take_over(self.room, bucket, found.epoch, expected_last, epoch, nonce).await? {
            Cas::Applied(()) if self.exact => Ok(Try::Won(bucket, Statics { epoch, owner: nonce, ..found })),
            // The last sequence number moved before the epoch did. Another look finds it, or finds the bucket full.
            Cas::Applied(()) => Ok(Try::Again),
            Cas::Refused(Some(now)) if self.exact && now.epoch == found.epoch => {
                // An owner that still appends must not win for ever: from now on the epoch alone is the condition.
                self.exact = false;
                Ok(Try::Again)
            }
            Cas::Refused(_) => Ok(Try::Lost),
        }
    }
}

const fn first_statics(nonce: u128) -> Statics {
    Statics { epoch: 1, last_seq: 0, owner: nonce, write_id: nonce, dev_upto: 0, member_seq: 0 }
}

/// Reads the newest rows and all that the writers' marks do not reflect, and brings the marks up to date.
async fn recover(
    log: &dyn RoomLog,
    room: RoomId,
    bucket: u64,
    statics: Statics,
) -> Result<Recovered, ClaimError> {
    let Statics { epoch, last_seq, dev_upto, member_seq, .. } = statics;
    let after = dev_upto.min(last_seq.saturating_sub(RING_ROWS as u64));
    let limit = usize::try_from(last_seq.saturating_sub(after)).unwrap_or(usize::MAX);
    let rows = if limit == 0 { Vec::new() } else { log.rows_after(room, after, last_seq, limit).await? };
    check(&rows, after, bucket, &statics)
        .map_err(|what| StoreError::Corrupt(format!("room {room}: {what}")))?;

    let unreflected = rows.iter().position(|row| row.seq > dev_upto).map_or(&[][..], |first| &rows[first..]);
    let unreflected = from_rows(unreflected);
    if unreflected != Derived::default() {
        log.put_derived(room, &unreflected).await?;
    }
    let unreflected = Derived::default();
    let ownership =
        Ownership { room, bucket, epoch, last_seq, member_seq, marks_upto: last_seq, unreflected };
    let marks = from_rows(&rows).marks;
    Ok(Recovered { ownership, rows, marks })
}

/// What recovery read has to be the end of a log: dense up to `last_seq`, epochs never falling and below the new one,
/// and without anything missing but what retention may have taken: old buckets whose marks are kept.
fn check(rows: &[Row], after: Seq, bucket: u64, statics: &Statics) -> Result<(), String> {
    let Statics { epoch, last_seq, dev_upto, .. } = *statics;
    let first_kept = after.max(dev_upto.min(bucket * BUCKET_ROWS)) + 1;
    let oldest = rows.first().map_or(last_seq + 1, |row| row.seq);
    if oldest > first_kept {
        return Err(format!("rows {first_kept} to {} are missing", oldest - 1));
    }
    if let Some(row) = rows.last().filter(|row| row.seq != last_seq) {
        return Err(format!("the newest row is {}, not {last_seq}", row.seq));
    }
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].seq + 1 != pair[1].seq) {
        return Err(format!("a hole between the rows {} and {}", pair[0].seq, pair[1].seq));
    }
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].epoch > pair[1].epoch) {
        return Err(format!("the epoch falls at row {}", pair[1].seq));
    }
    if let Some(row) = rows.last().filter(|row| row.epoch >= epoch) {
        return Err(format!("row {} is of epoch {}, the room's is {epoch}", row.seq, row.epoch));
    }
    Ok(())
}
