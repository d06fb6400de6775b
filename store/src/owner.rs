//! The protocol of a room's single writer: claim, recover, append, resolve what is unknown, roll over.
//!
//! Safe with any number of owners that all believe in themselves: the store's conditions decide. A claim raises the
//! epoch, so every append of an older owner is refused from then on; an append is conditional on the last sequence
//! number, so sending it again does no harm. After an unknown outcome the *identical* append is sent again until the
//! answer is definite.
//!
//! ```text
//!   claim ─▶ Recovered ─▶ Ownership ─ append ─▶ Committed ─┐
//!     ▲                       ▲                 Refused ───┤ with the ownership
//!     │                       └────────────────────────────┘
//!     └── with a new epoch, if at all ──────── Fenced, Broken: without
//! ```
//!
//! `tests/model.rs` checks the protocol exhaustively within bounds; `tests/contract` runs it over every store.

mod claim;
mod handing;

use protocol::{RoomId, Seq, WriterId};

use crate::{
    RoomLog, StoreError,
    backoff::Backoff,
    log::{Append, Appended, BUCKET_ROWS, Cas, GROUP_ROWS, MARK_LAG, Row, Statics, WriterMark},
    members::Derived,
};

pub use claim::claim;
pub use handing::{HandOver, succeed, take_over};

/// The right to append to a room, until the store says otherwise. Lost with its value: a restarted owner claims anew.
#[derive(Debug)]
pub struct Ownership {
    room: RoomId,
    bucket: u64,
    epoch: u64,
    last_seq: Seq,
    member_seq: Seq,
    /// Every row up to here is reflected in the writers' marks.
    marks_upto: Seq,
    /// What followed from own appends of which the store has not yet said that it is in the derived tables.
    unreflected: Derived,
}

/// What a claim found.
#[derive(Debug)]
pub struct Recovered {
    /// The right to append.
    pub ownership: Ownership,
    /// The newest [`crate::log::RING_ROWS`] rows and all that the writers' marks did not reflect, rising.
    pub rows: Vec<Row>,
    /// The newest mark of every writer in `rows`.
    pub marks: Vec<WriterMark>,
}

/// Why a room was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else claims it at the same time and wins: ask again who should own it.
    #[error("lost the room to another owner")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to append.
#[derive(Debug)]
pub struct Batch {
    /// `head + 1 ..`, at most [`Ownership::free_rows`] of them, with the ownership's epoch.
    pub rows: Vec<Row>,
    /// Random.
    pub write_id: u128,
    /// What follows for the derived tables: room, members and invitations. Marks and masks follow from the rows alone
    /// and are added by [`Ownership::append`].
    pub derived: Derived,
}

/// How an append ended. Only `Committed` and `Refused` leave the caller an owner.
#[derive(Debug)]
pub enum AppendEnd {
    /// It is in the log.
    Committed(Ownership),
    /// It is not in the log and never will be.
    Refused(Ownership, StoreError),
    /// Somebody else owns the room. `committed` says whether this batch is in the log as a whole.
    Fenced {
        /// Whether the batch is in the log.
        committed: bool,
    },
    /// The log contradicts what this owner knows of it, or the batch is one that no caller may make: stop the room and
    /// alarm.
    Broken(String),
}

/// Why a step of an append was the last.
enum Stop {
    Refused(StoreError),
    Fenced { committed: bool },
    Broken(String),
}

impl Ownership {
    /// The room.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// The epoch that every row of this owner carries.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest row.
    pub fn head(&self) -> Seq {
        self.last_seq
    }

    /// The newest membership or room entry.
    pub fn member_seq(&self) -> Seq {
        self.member_seq
    }

    /// Every row up to here is reflected in the writers' marks: whoever has not sent since may be forgotten by the room
    /// and looked up again with [`RoomLog::writer_mark`].
    pub fn marks_upto(&self) -> Seq {
        self.marks_upto
    }

    /// How many rows the next append may have: at least 1, at most [`GROUP_ROWS`].
    pub fn free_rows(&self) -> u64 {
        (BUCKET_ROWS - self.last_seq % BUCKET_ROWS).min(GROUP_ROWS as u64)
    }

    /// Appends; comes back only with a definite answer, however long that takes. A dropped future leaves the outcome
    /// unknown and nobody an owner.
    pub async fn append(mut self, log: &dyn RoomLog, batch: Batch) -> AppendEnd {
        match self.try_append(log, batch).await {
            Ok(()) => AppendEnd::Committed(self),
            Err(Stop::Refused(error)) => AppendEnd::Refused(self, error),
            Err(Stop::Fenced { committed }) => AppendEnd::Fenced { committed },
            Err(Stop::Broken(reason)) => AppendEnd::Broken(format!("room {}: {reason}", self.room)),
        }
    }

    async fn try_append(&mut self, log: &dyn RoomLog, batch: Batch) -> Result<(), Stop> {
        let append = self.freeze(batch)?;
        if append.bucket() > self.bucket {
            self.roll_over(log, append.write_id).await?;
        }
        let append = self.catch_up_marks(log, append).await?;
        let mut retry = Retry::new(&append);
        let outcome = loop {
            match log.append(&append).await {
                Ok(outcome) => break outcome,
                Err(error) => retry.after(error).await?,
            }
        };
        match outcome {
            Cas::Applied(Appended { derived_upto }) => self.committed(&append, derived_upto),
            Cas::Refused(found) => self.refused(log, &append, found).await?,
        }
        Ok(())
    }

    /// From here on the append never changes.
    fn freeze(&self, batch: Batch) -> Result<Append, Stop> {
        let Batch { rows, write_id, derived: own } = batch;
        let mut derived = self.unreflected.clone();
        derived.absorb(&own);
        derived.absorb(&from_rows(&rows));
        let roster = rows.iter().rev().find(|row| row.changes_roster());
        let append = Append {
            room: self.room,
            epoch: self.epoch,
            expected_last: self.last_seq,
            write_id,
            dev_upto: self.marks_upto,
            member_seq: roster.map_or(self.member_seq, |row| row.seq),
            rows,
            derived,
        };
        append.check().map_err(|error| Stop::Broken(error.to_string()))?;
        Ok(append)
    }

    /// Goes on to the next bucket, which only an owner can do who has filled the one below.
    async fn roll_over(&mut self, log: &dyn RoomLog, nonce: u128) -> Result<(), Stop> {
        let next = self.bucket + 1;
        let statics = Statics {
            epoch: self.epoch,
            last_seq: self.last_seq,
            owner: nonce,
            write_id: nonce,
            dev_upto: self.marks_upto,
            member_seq: self.member_seq,
        };
        let mut retry = Retry { room: self.room, backoff: Backoff::new(nonce), unknown: false };
        let outcome = loop {
            match log.create_bucket(self.room, next, statics).await {
                Ok(outcome) => break outcome,
                Err(error) => retry.after(error).await?,
            }
        };
        match outcome {
            Cas::Applied(()) => self.bucket = next,
            Cas::Refused(Some(found)) if found.owner == nonce && found.epoch == self.epoch => {
                self.bucket = next
            }
            Cas::Refused(Some(_)) => return Err(Stop::Fenced { committed: false }),
            Cas::Refused(None) => return Err(Stop::Broken(format!("bucket {next} is there and is not"))),
        }
        Ok(())
    }

    /// Keeps what a later owner has to read within one page: no append while more than [`MARK_LAG`] rows would not be
    /// reflected in the writers' marks.
    async fn catch_up_marks(&mut self, log: &dyn RoomLog, mut append: Append) -> Result<Append, Stop> {
        if append.last() - self.marks_upto > MARK_LAG {
            let reason = "the derived tables lag too far behind and could not be brought up to date";
            log.put_derived(self.room, &self.unreflected)
                .await
                .map_err(|error| Stop::Refused(StoreError::Unavailable(format!("{reason}: {error}"))))?;
            self.marks_upto = self.last_seq;
            self.unreflected = Derived::default();
            append.dev_upto = self.marks_upto;
            append.derived.forget(self.marks_upto);
        }
        Ok(append)
    }

    fn committed(&mut self, append: &Append, derived_upto: Seq) {
        self.last_seq = append.last();
        self.member_seq = append.member_seq;
        self.marks_upto = self.marks_upto.max(derived_upto.min(self.last_seq));
        self.unreflected =
            if self.marks_upto == self.last_seq { Derived::default() } else { append.derived.clone() };
        self.unreflected.forget(self.marks_upto);
    }

    /// Finds out what the refusal of a write means of which earlier tries may have been applied.
    async fn refused(
        &mut self,
        log: &dyn RoomLog,
        append: &Append,
        found: Option<Statics>,
    ) -> Result<(), Stop> {
        let Some(found) = found else {
            return Err(Stop::Broken(format!("bucket {} is gone", self.bucket)));
        };
        if found.epoch > self.epoch {
            let committed = self.is_in_log(log, append, found).await?;
            return Err(Stop::Fenced { committed });
        }
        let is_own = found.epoch == self.epoch && found.write_id == append.write_id;
        if is_own && found.last_seq == append.last() {
            self.committed(append, append.dev_upto);
            return Ok(());
        }
        Err(Stop::Broken(format!(
            "appending {} to {} in epoch {}, found {} in epoch {}",
            append.expected_last + 1,
            append.last(),
            self.epoch,
            found.last_seq,
            found.epoch
        )))
    }

    /// Whether an append that is refused from now on was applied before. One row tells: an append is applied as a
    /// whole, and this owner had no other in flight.
    async fn is_in_log(&self, log: &dyn RoomLog, append: &Append, found: Statics) -> Result<bool, Stop> {
        let Some(first) = append.rows.first().filter(|_| found.last_seq > append.expected_last) else {
            return Ok(false);
        };
        let mut backoff = Backoff::new(append.write_id);
        let rows = loop {
            match log.rows_after(self.room, append.expected_last, first.seq, 1).await {
                Ok(rows) => break rows,
                Err(StoreError::Corrupt(reason)) => return Err(Stop::Broken(reason)),
                Err(_) => backoff.wait().await,
            }
        };
        match rows.first() {
            None => Err(Stop::Broken(format!("row {} is gone", first.seq))),
            Some(row) if row.epoch != self.epoch => Ok(false),
            Some(row) if (row.writer, row.n, row.at) == (first.writer, first.n, first.at) => Ok(true),
            Some(row) => Err(Stop::Broken(format!("row {} is not what epoch {} wrote", row.seq, self.epoch))),
        }
    }
}

/// What follows from rows alone: each writer's newest mark, and what is deleted.
fn from_rows(rows: &[Row]) -> Derived {
    let mut marks: Vec<WriterMark> = Vec::new();
    let mut seen: std::collections::HashSet<WriterId> = std::collections::HashSet::new();
    marks.extend(rows.iter().rev().filter_map(Row::mark).filter(|mark| seen.insert(mark.writer)));
    let masks = rows.iter().filter_map(Row::mask).collect();
    Derived { marks, masks, ..Derived::default() }
}

/// Whether a conditional write is sent again. Once a try has an unknown outcome, only an answer of the condition ends
/// it: a later try that definitely did not happen says nothing of the earlier one.
struct Retry {
    room: RoomId,
    backoff: Backoff,
    unknown: bool,
}

impl Retry {
    fn new(append: &Append) -> Self {
        Self { room: append.room, backoff: Backoff::new(append.write_id), unknown: false }
    }

    async fn after(&mut self, error: StoreError) -> Result<(), Stop> {
        match error {
            StoreError::Corrupt(reason) => return Err(Stop::Broken(reason)),
            error if error.is_definite() && !self.unknown => return Err(Stop::Refused(error)),
            error => {
                if self.backoff.tries() == 0 {
                    tracing::warn!(room = %self.room, %error, "outcome of a write unknown, sending it again");
                }
                self.unknown = true;
            }
        }
        self.backoff.wait().await;
        Ok(())
    }
}
