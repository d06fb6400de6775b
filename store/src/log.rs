//! A room's log: the primitives that a database has to give.
//!
//! Rows live in buckets of [`BUCKET_ROWS`]; bucket `b` holds the sequence numbers `b·4096 + 1 ..= (b + 1)·4096`. Each
//! bucket has [`Statics`] beside its rows, and every write is conditional on them: the epoch fences an owner that was
//! replaced, the last sequence number makes an append idempotent. One conditional single-partition write is all that
//! is asked of a database.

use async_trait::async_trait;
use protocol::{Body, Incarnation, Kind, Millis, RoomId, Seq, UserId, WriterId};

use crate::{StoreError, members::Derived};

/// Rows a bucket.
pub const BUCKET_ROWS: u64 = 4096;
/// Most rows of one append.
pub const GROUP_ROWS: usize = 256;
/// Most bytes of bodies of one append; a single larger row is appended alone.
pub const GROUP_BYTES: usize = 64 * 1024;
/// Most rows that may not yet be reflected in the writers' marks; so recovery reads at most this many.
pub const MARK_LAG: u64 = 1024;
/// Rows that a claim reads at least, where there are so many: the newest, for the room's ring.
pub const RING_ROWS: usize = 100;

/// The life of every durable room, until a restore from backup begins another.
pub const DURABLE_INCARNATION: Incarnation = Incarnation(1);

/// The bucket of a sequence number (1 or more).
pub const fn bucket_of(seq: Seq) -> u64 {
    (seq - 1) / BUCKET_ROWS
}

/// One line of a log as it is stored. Never changes, except that erasure empties its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Position, from 1 without holes.
    pub seq: Seq,
    /// The epoch of the owner that wrote it; never falls along the log.
    pub epoch: u64,
    /// Whose counter.
    pub writer: WriterId,
    /// Which send of that writer's; from 1 without holes. Entries made by the server have the nil writer and `n` 0.
    pub n: u64,
    /// Whose act.
    pub from: UserId,
    /// When the owner ordered it. Informative only: order is by `seq`.
    pub at: Millis,
    /// What it is.
    pub kind: Kind,
    /// Of which earlier entry it speaks.
    pub target: Option<Seq>,
    /// The content; `None` once erased.
    pub body: Option<Body>,
}

impl Row {
    /// CRC-32 (IEEE) over every field, as stored beside the row and compared at each read.
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        for number in [self.seq, self.epoch, self.n, self.at, self.target.unwrap_or(0)] {
            crc.update(&number.to_be_bytes());
        }
        crc.update(&self.writer.to_bytes());
        crc.update(&self.from.to_bytes());
        crc.update(self.kind.as_str().as_bytes());
        crc.update(&[u8::from(self.body.is_some())]);
        crc.update(self.body.as_ref().map_or("", Body::as_json).as_bytes());
        crc.finalize()
    }
}

/// What a bucket knows beside its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statics {
    /// The owner's epoch.
    pub epoch: u64,
    /// The newest row; `bucket · 4096` while the bucket is empty.
    pub last_seq: Seq,
    /// The owner's nonce, to recognise an own claim whose answer was lost.
    pub owner: u128,
    /// The last append's id, to recognise an own append whose answer was lost.
    pub write_id: u128,
    /// Every row up to here is reflected in the writers' marks.
    pub dev_upto: Seq,
    /// The newest membership or room entry; carried over from bucket to bucket.
    pub member_seq: Seq,
}

/// One conditional append: all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// Where.
    pub room: RoomId,
    /// Applied only if this is the bucket's epoch, …
    pub epoch: u64,
    /// … and this its `last_seq`.
    pub expected_last: Seq,
    /// Random; the same in every repeat of this append.
    pub write_id: u128,
    /// New value of [`Statics::dev_upto`].
    pub dev_upto: Seq,
    /// New value of [`Statics::member_seq`].
    pub member_seq: Seq,
    /// `expected_last + 1 ..`, all in one bucket; at least one.
    pub rows: Vec<Row>,
    /// What follows from the rows for the derived tables. Written with the rows or after them, by the store's choice:
    /// see [`Appended::derived_upto`].
    pub derived: Derived,
}

/// The outcome of a conditional write that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cas<T = ()> {
    /// The condition held.
    Applied(T),
    /// It did not; what is there instead, `None` if the bucket does not exist.
    Refused(Option<Statics>),
}

/// What the store says of an applied append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Every row up to here is reflected in the derived tables.
    pub derived_upto: Seq,
}

/// A writer's high-water mark in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterMark {
    /// Whose.
    pub writer: WriterId,
    /// Its newest `n` in the log.
    pub n: u64,
    /// Where that is.
    pub seq: Seq,
}

/// The primitives. All calls end by themselves in bounded time; after [`StoreError::Unknown`], or when the future is
/// dropped, the write may take effect at any later moment, even after newer writes were answered.
#[async_trait]
pub trait RoomLog: Send + Sync {
    /// A bucket near the room's newest; a hint that may be stale in both directions. 0 for an unknown room.
    async fn bucket_hint(&self, room: RoomId) -> Result<u64, StoreError>;

    /// What a bucket knows, in the order of conditional writes (a serial read).
    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError>;

    /// Makes a bucket if it does not exist.
    async fn create_bucket(&self, room: RoomId, bucket: u64, statics: Statics) -> Result<Cas, StoreError>;

    /// Sets epoch and owner if the epoch is `expected_epoch` and, where given, `last_seq` is `expected_last`.
    async fn take_over(
        &self,
        room: RoomId,
        bucket: u64,
        expected_epoch: u64,
        expected_last: Option<Seq>,
        epoch: u64,
        owner: u128,
    ) -> Result<Cas, StoreError>;

    /// Appends if epoch and last sequence number are as expected.
    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError>;

    /// Rows above `after` and up to `upto`, the lowest `limit` in rising order. Crosses buckets. Rows below the
    /// oldest kept one are simply absent.
    async fn rows_after(&self, room: RoomId, after: Seq, upto: Seq, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Rows below `before`, the highest `limit`, in rising order.
    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// The newest sequence number of each room, 0 where there is none; in the order of `rooms`. For lists: may lag
    /// behind [`Self::statics`] by what is in flight.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// A writer's mark; may lag behind the log by what lies above [`Statics::dev_upto`].
    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError>;
}
