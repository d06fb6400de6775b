//! Moves everything from one store into another, of whatever kinds: while no server runs on either.
//!
//! Resumable: what is there already is not written again. A log is copied by the primitives that owners use, group by
//! group under the epochs of its rows, so a room that somebody else has begun to serve in the new store is refused. At
//! the end both are read once more and compared.

mod people;

use async_trait::async_trait;
use protocol::{RoomId, Seq};

use crate::{
    Listing, Store, StoreError,
    log::{Append, BUCKET_ROWS, Cas, GROUP_BYTES, GROUP_ROWS, Row, Statics, newest_bucket},
    members::Derived,
    reader::owners_roster,
};

/// Items of one query.
const PART: usize = 500;

/// What was copied, or found to be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Accounts.
    pub accounts: u64,
    /// Sign-ins that have not ended.
    pub sign_ins: u64,
    /// Rooms.
    pub rooms: u64,
    /// Entries of their logs.
    pub entries: u64,
    /// Memberships, past ones included.
    pub members: u64,
    /// Entries of the audit log.
    pub acts: u64,
    /// CRC-32 over the checksums of all entries, room by room in the order of their ids; the same in both stores.
    pub checksum: u32,
}

/// Who is told how far a copy is.
#[async_trait]
pub trait Progress: Send {
    /// A room was copied and found to be the same.
    async fn room(&mut self, room: RoomId, entries: u64);
}

/// Copies everything. Tickets, which live for a minute, are left behind.
///
/// # Errors
/// * [`StoreError::Invalid`]: the other store holds something else under the same id or name;
/// * [`StoreError::Corrupt`]: what was read back is not what was written, or the source contradicts itself;
/// * those of the stores. A copy that failed can be begun again.
pub async fn copy(
    from: &dyn Store,
    to: &dyn Store,
    progress: &mut dyn Progress,
) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    people::copy(from, to, &mut copied).await?;
    let mut checksum = crc32fast::Hasher::new();
    let mut cursor = None;
    loop {
        let Listing { items, next } = from.all_rooms(cursor.as_deref(), PART).await?;
        for room in items.iter().map(|record| record.room) {
            let one = Room { from, to, room };
            one.copy_log().await?;
            copied.members += one.copy_derived().await?;
            let entries = one.compare(&mut checksum).await?;
            copied.rooms += 1;
            copied.entries += entries;
            progress.room(room, entries).await;
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    people::copy_marks(from, to).await?;
    copied.checksum = checksum.finalize();
    Ok(copied)
}

fn differs(what: impl std::fmt::Display) -> StoreError {
    StoreError::Invalid(format!("{what}: the other store holds something else"))
}

/// One room on its way.
struct Room<'a> {
    from: &'a dyn Store,
    to: &'a dyn Store,
    room: RoomId,
}

impl Room<'_> {
    async fn copy_log(&self) -> Result<(), StoreError> {
        let Self { from, to, room } = *self;
        let Some((newest, statics)) = newest_bucket(from, room).await? else { return Ok(()) };
        // A server that was killed may have left the tables behind.
        owners_roster(from, room, statics.member_seq).await?;
        let kept = from.kept(room).await?;
        for bucket in 0..=newest {
            let source = from.statics(room, bucket).await?;
            let source = source
                .ok_or_else(|| StoreError::Corrupt(format!("room {room}: bucket {bucket} is not there")))?;
            self.copy_bucket(bucket, &source, bucket >= kept.oldest).await?;
        }
        if kept.oldest > 0 {
            to.keep_from(room, kept.oldest).await?;
        }
        Ok(())
    }

    async fn copy_bucket(&self, bucket: u64, source: &Statics, has_rows: bool) -> Result<(), StoreError> {
        let begin = bucket * BUCKET_ROWS;
        let empty = Statics {
            last_seq: begin,
            dev_upto: source.dev_upto.min(begin),
            member_seq: source.member_seq.min(begin),
            ..*source
        };
        let made = if has_rows { empty } else { *source };
        let mut now = match self.to.create_bucket(self.room, bucket, made).await? {
            Cas::Applied(()) => made,
            Cas::Refused(found) => found.ok_or_else(|| differs(format!("room {}", self.room)))?,
        };
        while now.last_seq < source.last_seq {
            let rows = self.from.rows_after(self.room, now.last_seq, source.last_seq, GROUP_ROWS).await?;
            let rows = group(rows);
            let epoch = rows.first().map(|row| row.epoch).ok_or_else(|| {
                StoreError::Corrupt(format!("room {}: no row after {}", self.room, now.last_seq))
            })?;
            now = self.become_owner(bucket, now, epoch, source.owner).await?;
            now = self.append(now, rows).await?;
        }
        if now.last_seq == source.last_seq {
            self.become_owner(bucket, now, source.epoch, source.owner).await?;
        }
        Ok(())
    }

    async fn become_owner(
        &self,
        bucket: u64,
        now: Statics,
        epoch: u64,
        owner: u128,
    ) -> Result<Statics, StoreError> {
        if now.epoch == epoch {
            return Ok(now);
        }
        let last = Some(now.last_seq);
        match self.to.take_over(self.room, bucket, now.epoch, last, epoch, owner).await? {
            Cas::Applied(()) => Ok(Statics { epoch, owner, ..now }),
            Cas::Refused(_) => Err(differs(format!("room {}", self.room))),
        }
    }

    async fn append(&self, now: Statics, rows: Vec<Row>) -> Result<Statics, StoreError> {
        let roster = rows.iter().rev().find(|row| row.changes_roster()).map(|row| row.seq);
        // Of the rows themselves, whatever the tables of the source have come to.
        let (marks, masks) =
            (rows.iter().filter_map(Row::mark).collect(), rows.iter().filter_map(Row::mask).collect());
        let append = Append {
            room: self.room,
            epoch: now.epoch,
            expected_last: now.last_seq,
            write_id: u128::from(now.last_seq) + 1,
            // The marks of the rows below were written after them.
            dev_upto: now.last_seq,
            member_seq: roster.unwrap_or(now.member_seq),
            rows,
            derived: Derived::default(),
        };
        match self.to.append(&append).await? {
            Cas::Applied(_) => {}
            Cas::Refused(_) => return Err(differs(format!("room {}", self.room))),
        }
        let derived = Derived { marks, masks, ..Derived::default() };
        self.to.put_derived(self.room, &derived).await?;
        Ok(Statics {
            last_seq: append.last(),
            dev_upto: append.dev_upto,
            member_seq: append.member_seq,
            ..now
        })
    }

    /// Members, marks of writers, deletions, invitations, what is to be kept; the room's record last. Gives the members.
    async fn copy_derived(&self) -> Result<u64, StoreError> {
        let Self { from, to, room } = *self;
        let mut count = 0;
        let mut cursor = None;
        loop {
            let Listing { items, next } = from.members(room, None, cursor.as_deref(), PART).await?;
            count += items.len() as u64;
            to.put_derived(room, &Derived { members: items, ..Derived::default() }).await?;
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let mut after = None;
        loop {
            let marks = from.writer_marks(room, after, PART).await?;
            after = marks.last().map(|mark| mark.writer);
            if after.is_none() {
                break;
            }
            to.put_derived(room, &Derived { marks, ..Derived::default() }).await?;
        }
        let head = from.heads(&[room]).await?.first().copied().unwrap_or(0);
        let masks = if head > 0 { from.masks(room, 1, head).await?.masks } else { Vec::new() };
        for masks in masks.chunks(PART) {
            to.put_derived(room, &Derived { masks: masks.to_vec(), ..Derived::default() }).await?;
        }
        for invite in from.invites(room, 0).await? {
            to.create_invite(&invite).await?;
        }
        if let Some(policy) = from.retention(room).await? {
            to.set_retention(room, Some(policy)).await?;
        }
        let record = from.room(room).await?;
        to.put_derived(room, &Derived { room: record, ..Derived::default() }).await?;
        Ok(count)
    }

    /// Whether both stores say the same of the room. Gives its entries.
    async fn compare(&self, checksum: &mut crc32fast::Hasher) -> Result<u64, StoreError> {
        let Self { from, to, room } = *self;
        let unequal = |what: &str| StoreError::Corrupt(format!("room {room}: {what} differ after the copy"));
        let tops = (newest_bucket(from, room).await?, newest_bucket(to, room).await?);
        let head = |top: Option<(u64, Statics)>| {
            top.map_or((0, 0, 0), |(_, statics)| (statics.last_seq, statics.epoch, statics.member_seq))
        };
        if head(tops.0) != head(tops.1) {
            return Err(unequal("the ends of the logs"));
        }
        let (last, ..) = head(tops.0);
        let (mut at, mut count): (Seq, u64) = (0, 0);
        loop {
            let ours = from.rows_after(room, at, last, PART).await?;
            if ours != to.rows_after(room, at, last, PART).await? {
                return Err(unequal("the entries"));
            }
            let Some(newest) = ours.last() else { break };
            at = newest.seq;
            count += ours.len() as u64;
            ours.iter().for_each(|row| checksum.update(&row.checksum().to_be_bytes()));
        }
        if from.room(room).await? != to.room(room).await? {
            return Err(unequal("the records"));
        }
        let mut cursor = None;
        loop {
            let ours = from.members(room, None, cursor.as_deref(), PART).await?;
            if ours.items != to.members(room, None, cursor.as_deref(), PART).await?.items {
                return Err(unequal("the members"));
            }
            cursor = ours.next;
            if cursor.is_none() {
                return Ok(count);
            }
        }
    }
}

/// The first rows of one epoch that fit into one append.
fn group(mut rows: Vec<Row>) -> Vec<Row> {
    let epoch = rows.first().map(|row| row.epoch);
    let mut bytes = 0;
    let fits = rows.iter().enumerate().take_while(|(place, row)| {
        bytes += row.body.as_ref().map_or(0, |body| body.as_json().len());
        Some(row.epoch) == epoch && (*place == 0 || bytes <= GROUP_BYTES)
    });
    let count = fits.count();
    rows.truncate(count);
    rows
}
