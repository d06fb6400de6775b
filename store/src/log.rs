//! A room's log: the primitives that a database has to give.
//!
//! Rows live in buckets of [`BUCKET_ROWS`]; bucket `b` holds the sequence numbers `b·4096 + 1 ..= (b + 1)·4096`. Each
//! bucket has [`Statics`] beside its rows, and every write is conditional on them: the epoch fences an owner that was
//! replaced, the last sequence number makes an append idempotent. One conditional single-partition write is all that
//! is asked of a database.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::{Body, Incarnation, Kind, Millis, RoomId, Seq, UserId, WriterId};

use crate::{
    StoreError,
    members::{Derived, MaskRecord},
};

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

    /// Whether it changes the room or its members: whether [`Statics::member_seq`] has to know of it.
    pub fn changes_roster(&self) -> bool {
        matches!(self.kind, Kind::Membership | Kind::Room)
    }

    /// Whether it is something of this user's that erasure takes the content of: anything but what rosters are folded
    /// from.
    pub fn is_erasable(&self, user: UserId) -> bool {
        self.from == user && !self.changes_roster()
    }

    /// The row after erasure.
    pub fn erased(&self) -> Self {
        Self { body: None, ..self.clone() }
    }

    /// The mark that it leaves; none for what the server wrote itself.
    pub fn mark(&self) -> Option<WriterMark> {
        (self.n > 0).then_some(WriterMark { writer: self.writer, n: self.n, seq: self.seq })
    }

    /// The entry that it deletes, if it is a deletion.
    pub fn mask(&self) -> Option<MaskRecord> {
        let target = self.target.filter(|_| self.kind == Kind::Deletion)?;
        Some(MaskRecord { target, by: self.seq })
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

impl Statics {
    /// Whether `bucket`, whose statics these are, has no place left.
    pub const fn is_full(&self, bucket: u64) -> bool {
        self.last_seq >= (bucket + 1) * BUCKET_ROWS
    }
}

/// How far retention has come in a room. Both numbers only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// The oldest bucket that is kept; those below are not read any more.
    pub oldest: u64,
    /// Buckets below this one have no rows; those from here to `oldest` are still to be emptied.
    pub emptied: u64,
}

impl Kept {
    /// The oldest row that is kept, if it was ever written.
    pub const fn first(&self) -> Seq {
        self.oldest * BUCKET_ROWS + 1
    }

    /// Whether a bucket is next to be emptied. Every store asks this first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a bucket that is kept, or out of turn.
    pub fn check_emptying(&self, bucket: u64) -> Result<(), StoreError> {
        if bucket < self.oldest && bucket == self.emptied {
            return Ok(());
        }
        let Self { oldest, emptied } = self;
        Err(StoreError::Invalid(format!(
            "emptying bucket {bucket}, where {emptied} is next and {oldest} is kept"
        )))
    }
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
    /// What follows from these rows, and from earlier ones above `dev_upto`, for the derived tables. Written with the
    /// rows or after them, by the store's choice: see [`Appended::derived_upto`].
    pub derived: Derived,
}

impl Append {
    /// The bucket that it goes to.
    pub const fn bucket(&self) -> u64 {
        self.expected_last / BUCKET_ROWS
    }

    /// Its newest row.
    pub fn last(&self) -> Seq {
        self.expected_last + self.rows.len() as u64
    }

    /// Whether it is one that a store carries out: rows without holes, in one bucket, of its epoch, within the limits
    /// of a group. Every store asks this first, so that nothing else ever depends on its caller.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with what is wrong.
    pub fn check(&self) -> Result<(), StoreError> {
        let first = self.expected_last + 1;
        let invalid =
            |what: String| Err(StoreError::Invalid(format!("append after {}: {what}", self.expected_last)));
        if self.rows.is_empty() || self.rows.len() > GROUP_ROWS {
            return invalid(format!("{} rows, 1 to {GROUP_ROWS} are allowed", self.rows.len()));
        }
        if bucket_of(self.last()) != self.bucket() {
            return invalid(format!("row {} is beyond the bucket", self.last()));
        }
        if self.last() > protocol::limits::MAX_COUNTER {
            return invalid("the log is at its end".to_owned());
        }
        if let Some((row, seq)) = self.rows.iter().zip(first..).find(|(row, seq)| row.seq != *seq) {
            return invalid(format!("row {} where {seq} belongs", row.seq));
        }
        if let Some(row) = self.rows.iter().find(|row| row.epoch != self.epoch) {
            return invalid(format!("row {} is of epoch {}, not {}", row.seq, row.epoch, self.epoch));
        }
        let bytes: usize =
            self.rows.iter().filter_map(|row| row.body.as_ref()).map(|body| body.as_json().len()).sum();
        if self.rows.len() > 1 && bytes > GROUP_BYTES {
            return invalid(format!("{bytes} bytes of bodies, at most {GROUP_BYTES} are allowed"));
        }
        Ok(())
    }
}

/// Whether these are rows that [`RoomLog::erase`] takes: some, in rising order, all of one bucket and with content, none of
/// them one from which rosters are folded. Every store asks this first.
///
/// # Errors
/// [`StoreError::Invalid`] with what is wrong.
pub fn check_erasure(rows: &[Row]) -> Result<(), StoreError> {
    let invalid = |what: &str| Err(StoreError::Invalid(format!("erasing {} rows: {what}", rows.len())));
    let Some(first) = rows.first().filter(|_| rows.len() <= GROUP_ROWS) else {
        return invalid("1 to 256 are allowed");
    };
    if rows.iter().any(|row| bucket_of(row.seq) != bucket_of(first.seq)) {
        return invalid("they are of several buckets");
    }
    if !rows.is_sorted_by(|one, next| one.seq < next.seq) {
        return invalid("they are not in order");
    }
    if rows.iter().any(|row| row.body.is_none() || row.changes_roster()) {
        return invalid("some have no content, or one that stays");
    }
    Ok(())
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
    /// Every row up to here is reflected in the derived tables: the append's last row if [`Append::derived`] was
    /// written too, otherwise its `dev_upto`.
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

/// The right to one append, as long as it is held. Stores that suffer from many at once give out few.
#[derive(Debug, Default)]
pub struct Turn {
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Turn {
    pub(crate) fn new(permit: tokio::sync::OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit) }
    }
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

    /// The right to begin an append now, if nothing speaks for waiting: what arrives meanwhile shares the append.
    fn turn_now(&self) -> Option<Turn> {
        Some(Turn::default())
    }

    /// The same, once it is one's turn: first come, first served.
    async fn turn(&self) -> Turn {
        Turn::default()
    }

    /// Appends if epoch and last sequence number are as expected.
    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError>;

    /// Rows above `after` and up to `upto`, the lowest `limit` in rising order. Crosses buckets. Rows below the
    /// oldest kept one ([`Self::kept`]) are absent, whether they were removed already or not.
    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Rows below `before`, the highest `limit`, in rising order; none below the oldest kept one.
    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// As [`Self::rows_after`], for who knows that `upto` was in the log before: may be answered together with others who
    /// ask for the same rows.
    async fn known_rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Arc<Vec<Row>>, StoreError> {
        self.rows_after(room, after, upto, limit).await.map(Arc::new)
    }

    /// As [`Self::rows_before`], for who knows that `before - 1` was in the log before: may be answered together with
    /// others who ask for the same rows.
    async fn known_rows_before(
        &self,
        room: RoomId,
        before: Seq,
        limit: usize,
    ) -> Result<Arc<Vec<Row>>, StoreError> {
        self.rows_before(room, before, limit).await.map(Arc::new)
    }

    /// The newest sequence number of each room, 0 where there is none; in the order of `rooms`. For lists: may lag
    /// behind [`Self::statics`] by what is in flight.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError>;

    /// A writer's mark; may lag behind the log by what lies above [`Statics::dev_upto`].
    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError>;

    /// The marks of a room's writers after `after`, by writer, at most `limit`; they may lag as single ones may.
    async fn writer_marks(
        &self,
        room: RoomId,
        after: Option<WriterId>,
        limit: usize,
    ) -> Result<Vec<WriterMark>, StoreError>;

    /// Brings the derived tables up to date; older states than the tables' are ignored.
    async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError>;

    /// Empties the bodies of these rows of one bucket, if every one of them is still as it is given here: all or none.
    /// `false` when one was not. To be called by [`crate::erasure`] alone, which says why that condition is enough.
    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError>;

    /// How far retention has come.
    async fn kept(&self, room: RoomId) -> Result<Kept, StoreError>;

    /// From now on no row below bucket `oldest` is read; ignored where retention is further already. To be called by
    /// [`crate::retention`] alone, which knows what may go.
    async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError>;

    /// Removes the rows of the bucket at [`Kept::emptied`], which has to be below [`Kept::oldest`], and moves on to the
    /// next. Its statics stay for good, so that a claim never finds a once-used bucket absent. The one write to a log
    /// that has no condition: such a bucket is never written again. `now` is the wall clock.
    async fn empty_bucket(&self, room: RoomId, bucket: u64, now: Millis) -> Result<(), StoreError>;
}

/// The newest bucket of a room with what it knows, found from the hint in a few serial reads; `None` if the room has no
/// log. Its `last_seq` is the room's head.
///
/// Buckets are made one after the other, each when the one below is full, and are never taken away; so one that is not
/// full is the newest, and a stale hint costs a logarithm.
///
/// # Errors
/// When the store fails.
pub async fn newest_bucket(log: &dyn RoomLog, room: RoomId) -> Result<Option<(u64, Statics)>, StoreError> {
    let mut probe = log.bucket_hint(room).await?;
    let mut stride = 1;
    let mut full: Option<(u64, Statics)> = None;
    let mut absent: Option<u64> = None;
    loop {
        match log.statics(room, probe).await? {
            Some(statics) if !statics.is_full(probe) => return Ok(Some((probe, statics))),
            Some(statics) => full = Some((probe, statics)),
            None => absent = Some(probe),
        }
        probe = match (full, absent) {
            (Some((below, _)), Some(above)) if below + 1 >= above => return Ok(full),
            (Some((below, _)), Some(above)) => below + (above - below) / 2,
            (Some((below, _)), None) => below + stride,
            (None, Some(0)) => return Ok(None),
            (None, above) => above.unwrap_or(probe).saturating_sub(stride),
        };
        stride *= 2;
    }
}
