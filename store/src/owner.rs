//! The protocol of a room's single writer: claim, recover, append, resolve what is unknown, roll over.
//!
//! Safe with any number of owners that all believe in themselves: the store's conditions decide. A claim raises the
//! epoch, so every append of an older owner is refused from then on; an append is conditional on the last sequence
//! number, so sending it again does no harm. After an unknown outcome the *identical* append is sent again until the
//! answer is definite.

use protocol::{RoomId, Seq};

use crate::{
    RoomLog, StoreError,
    log::{Row, WriterMark},
    members::Derived,
};

/// The right to append to a room, until the store says otherwise. Lost with its value: a restarted owner claims anew.
#[derive(Debug)]
#[expect(dead_code, reason = "the protocol is on its way")]
pub struct Ownership {
    room: RoomId,
    bucket: u64,
    epoch: u64,
    last_seq: Seq,
    dev_upto: Seq,
    derived_upto: Seq,
    member_seq: Seq,
}

/// What a claim found.
#[derive(Debug)]
pub struct Recovered {
    /// The right to append.
    pub ownership: Ownership,
    /// The newest [`crate::log::RING_ROWS`] rows and all that the writers' marks do not reflect, rising.
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
    /// What follows for the derived tables.
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
    /// The log contradicts what this owner knows of it: stop the room and alarm.
    Broken(String),
}

/// Claims a room and recovers what its owner must know. `nonces` gives random numbers.
///
/// # Errors
/// When somebody else wins three times, or the store fails.
#[expect(clippy::unused_async, unused_variables, reason = "the protocol is on its way")]
pub async fn claim(
    log: &dyn RoomLog,
    room: RoomId,
    nonces: &mut (dyn FnMut() -> u128 + Send),
) -> Result<Recovered, ClaimError> {
    Err(ClaimError::Contended)
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

    /// How many rows the next append may have.
    pub fn free_rows(&self) -> u64 {
        0
    }

    /// Appends; comes back only with a definite answer, however long that takes.
    #[expect(clippy::unused_async, unused_variables, reason = "the protocol is on its way")]
    pub async fn append(self, log: &dyn RoomLog, batch: Batch) -> AppendEnd {
        AppendEnd::Broken(String::new())
    }
}
