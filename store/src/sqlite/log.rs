//! Room logs in SQLite.

use async_trait::async_trait;
use protocol::{Millis, RoomId, Seq, WriterId};
use rusqlite::{Connection, params};

use super::{
    SqliteStore,
    codec::{self, Columns, Fault, LOG_COLUMNS, int},
    members::put_derived,
    retention::{self, GONE},
};
use crate::{
    RoomLog, StoreError,
    log::{Append, Appended, Cas, Kept, Row, Statics, WriterMark, check_erasure},
    members::Derived,
};

#[async_trait]
impl RoomLog for SqliteStore {
    async fn bucket_hint(&self, room: RoomId) -> Result<u64, StoreError> {
        self.read(move |db| {
            let sql = "SELECT bucket FROM room_bucket WHERE room = ?1 ORDER BY bucket DESC LIMIT 1";
            let bucket =
                codec::first(db.prepare_cached(sql)?.query([room.to_bytes()])?, |row| row.number(0))?;
            Ok(bucket.unwrap_or(0))
        })
        .await
    }

    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError> {
        self.read(move |db| statics(db, room, bucket)).await
    }

    async fn create_bucket(&self, room: RoomId, bucket: u64, statics: Statics) -> Result<Cas, StoreError> {
        self.write(move |db| create_bucket(db, room, bucket, statics)).await
    }

    async fn take_over(
        &self,
        room: RoomId,
        bucket: u64,
        expected_epoch: u64,
        expected_last: Option<Seq>,
        epoch: u64,
        owner: u128,
    ) -> Result<Cas, StoreError> {
        self.write(move |db| {
            let Some(found) = statics(db, room, bucket)? else { return Ok(Cas::Refused(None)) };
            if found.epoch != expected_epoch || expected_last.is_some_and(|last| last != found.last_seq) {
                return Ok(Cas::Refused(Some(found)));
            }
            let sql = "UPDATE room_bucket SET epoch = ?3, owner = ?4 WHERE room = ?1 AND bucket = ?2";
            let mut update = db.prepare_cached(sql)?;
            update.execute(params![room.to_bytes(), int(bucket), int(epoch), owner.to_be_bytes()])?;
            Ok(Cas::Applied(()))
        })
        .await
    }

    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError> {
        append.check()?;
        let append = append.clone();
        self.write(move |db| self::append(db, &append)).await
    }

    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {LOG_COLUMNS} FROM room_log WHERE room = ?1 AND seq > max(?2, {GONE}) AND seq <= ?3
                 ORDER BY seq LIMIT ?4"
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows =
                query.query(params![room.to_bytes(), position(after), position(upto), codec::rows(limit)])?;
            codec::collect(rows, |row| codec::log_row(room, row))
        })
        .await
    }

    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {LOG_COLUMNS} FROM room_log WHERE room = ?1 AND seq < ?2 AND seq > {GONE}
                 ORDER BY seq DESC LIMIT ?3"
            );
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query(params![room.to_bytes(), position(before), codec::rows(limit)])?;
            let mut rows = codec::collect(rows, |row| codec::log_row(room, row))?;
            rows.reverse();
            Ok(rows)
        })
        .await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let rooms = rooms.to_vec();
        self.read(move |db| rooms.into_iter().map(|room| head(db, room)).collect()).await
    }

    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError> {
        self.read(move |db| {
            let mut query =
                db.prepare_cached("SELECT n, seq FROM writer_mark WHERE room = ?1 AND writer = ?2")?;
            let rows = query.query([room.to_bytes(), writer.to_bytes()])?;
            codec::first(rows, |row| Ok(WriterMark { writer, n: row.number(0)?, seq: row.number(1)? }))
        })
        .await
    }

    async fn writer_marks(
        &self,
        room: RoomId,
        after: Option<WriterId>,
        limit: usize,
    ) -> Result<Vec<WriterMark>, StoreError> {
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT writer, n, seq FROM writer_mark WHERE room = ?1 AND writer > ?2 ORDER BY writer LIMIT ?3",
            )?;
            let after = after.map_or_else(Vec::new, |writer| writer.to_bytes().to_vec());
            let rows = query.query(params![room.to_bytes(), after, codec::rows(limit)])?;
            codec::collect(rows, |row| {
                let writer = WriterId::from_u128(row.bits(0)?);
                Ok(WriterMark { writer, n: row.number(1)?, seq: row.number(2)? })
            })
        })
        .await
    }

    async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError> {
        let derived = derived.clone();
        self.write(move |db| put_derived(db, room, &derived)).await
    }

    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError> {
        check_erasure(rows)?;
        let change = |row: &Row| (row.seq, row.checksum(), row.erased().checksum());
        let changes: Vec<(Seq, u32, u32)> = rows.iter().map(change).collect();
        self.write(move |db| erase(db, room, &changes)).await
    }

    async fn kept(&self, room: RoomId) -> Result<Kept, StoreError> {
        self.read(move |db| retention::kept(db, room)).await
    }

    async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError> {
        self.write(move |db| retention::keep_from(db, room, oldest)).await
    }

    async fn empty_bucket(&self, room: RoomId, bucket: u64, _now: Millis) -> Result<(), StoreError> {
        // In parts, so that no append waits for a whole bucket.
        while !self.write(move |db| retention::empty_some(db, room, bucket)).await? {}
        Ok(())
    }
}

/// A sequence number in a comparison, where callers say "beyond everything" with very large ones.
fn position(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn statics(db: &Connection, room: RoomId, bucket: u64) -> Result<Option<Statics>, Fault> {
    let mut query = db.prepare_cached(
        "SELECT epoch, last_seq, owner, write_id, dev_upto, member_seq FROM room_bucket
         WHERE room = ?1 AND bucket = ?2",
    )?;
    codec::first(query.query(params![room.to_bytes(), int(bucket)])?, |row| {
        Ok(Statics {
            epoch: row.number(0)?,
            last_seq: row.number(1)?,
            owner: row.bits(2)?,
            write_id: row.bits(3)?,
            dev_upto: row.number(4)?,
            member_seq: row.number(5)?,
        })
    })
}

fn create_bucket(db: &Connection, room: RoomId, bucket: u64, new: Statics) -> Result<Cas, Fault> {
    if let Some(found) = statics(db, room, bucket)? {
        return Ok(Cas::Refused(Some(found)));
    }
    let mut insert = db.prepare_cached("INSERT INTO room_bucket VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    insert.execute(params![
        room.to_bytes(),
        int(bucket),
        int(new.epoch),
        int(new.last_seq),
        new.owner.to_be_bytes(),
        new.write_id.to_be_bytes(),
        int(new.dev_upto),
        int(new.member_seq),
    ])?;
    Ok(Cas::Applied(()))
}

fn append(db: &Connection, append: &Append) -> Result<Cas<Appended>, Fault> {
    let Some(found) = statics(db, append.room, append.bucket())? else { return Ok(Cas::Refused(None)) };
    if found.epoch != append.epoch || found.last_seq != append.expected_last {
        return Ok(Cas::Refused(Some(found)));
    }
    insert_rows(db, append)?;
    let mut update = db.prepare_cached(
        "UPDATE room_bucket SET last_seq = ?3, write_id = ?4, dev_upto = ?5, member_seq = ?6
         WHERE room = ?1 AND bucket = ?2",
    )?;
    update.execute(params![
        append.room.to_bytes(),
        int(append.bucket()),
        int(append.last()),
        append.write_id.to_be_bytes(),
        int(append.dev_upto),
        int(append.member_seq),
    ])?;
    put_derived(db, append.room, &append.derived)?;
    Ok(Cas::Applied(Appended { derived_upto: append.last() }))
}

/// `changes` are rows with their checksums before and after.
fn erase(db: &Connection, room: RoomId, changes: &[(Seq, u32, u32)]) -> Result<bool, Fault> {
    let mut query = db.prepare_cached("SELECT 1 FROM room_log WHERE room = ?1 AND seq = ?2 AND crc = ?3")?;
    for (seq, before, _) in changes {
        if !query.exists(params![room.to_bytes(), int(*seq), before])? {
            return Ok(false);
        }
    }
    let mut update =
        db.prepare_cached("UPDATE room_log SET body = NULL, crc = ?3 WHERE room = ?1 AND seq = ?2")?;
    for (seq, _, after) in changes {
        update.execute(params![room.to_bytes(), int(*seq), after])?;
    }
    Ok(true)
}

fn insert_rows(db: &Connection, append: &Append) -> Result<(), Fault> {
    // Never a replacement: a row that is there already is a broken log, and the constraint says so.
    let sql = format!(
        "INSERT INTO room_log (room, {LOG_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    let mut insert = db.prepare_cached(&sql)?;
    let room = append.room.to_bytes();
    for row in &append.rows {
        insert.execute(params![
            room,
            int(row.seq),
            int(row.epoch),
            row.writer.to_bytes(),
            int(row.n),
            row.from.to_bytes(),
            int(row.at),
            row.kind.as_str(),
            row.target.map(int),
            row.body.as_ref().map(protocol::Body::as_json),
            row.checksum(),
        ])?;
    }
    Ok(())
}

/// The newest row of a room, 0 without any.
pub(super) fn head(db: &Connection, room: RoomId) -> Result<Seq, Fault> {
    let sql = "SELECT last_seq FROM room_bucket WHERE room = ?1 ORDER BY bucket DESC LIMIT 1";
    let head = codec::first(db.prepare_cached(sql)?.query([room.to_bytes()])?, |row| row.number(0))?;
    Ok(head.unwrap_or(0))
}

pub(super) fn put_marks(db: &Connection, room: RoomId, marks: &[WriterMark]) -> Result<(), Fault> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO writer_mark (room, writer, n, seq) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET n = excluded.n, seq = excluded.seq WHERE excluded.seq > seq",
    )?;
    for mark in marks {
        upsert.execute(params![room.to_bytes(), mark.writer.to_bytes(), int(mark.n), int(mark.seq)])?;
    }
    Ok(())
}
