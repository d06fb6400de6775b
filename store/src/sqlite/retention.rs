//! Which rows are kept, in SQLite.

use protocol::RoomId;
use rusqlite::{Connection, params};

use super::codec::{self, Columns, Fault, int};
use crate::{
    log::{BUCKET_ROWS, Kept},
    retention::Policy,
};

/// Rows removed in one piece of work: some milliseconds of the one writer, even with large bodies.
const PART: u64 = 256;

/// The newest row of the room `?1` that is not read any more, as an expression.
pub(super) const GONE: &str = "coalesce((SELECT oldest * 4096 FROM room_kept WHERE room = ?1), 0)";
const _: () = assert!(BUCKET_ROWS == 4096, "the expression above has it in its text");

pub(super) fn kept(db: &Connection, room: RoomId) -> Result<Kept, Fault> {
    let mut query = db.prepare_cached("SELECT oldest, emptied FROM room_kept WHERE room = ?1")?;
    let kept = codec::first(query.query([room.to_bytes()])?, |row| {
        Ok(Kept { oldest: row.number(0)?, emptied: row.number(1)? })
    })?;
    Ok(kept.unwrap_or_default())
}

pub(super) fn keep_from(db: &Connection, room: RoomId, oldest: u64) -> Result<(), Fault> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO room_kept (room, oldest, emptied) VALUES (?1, ?2, 0)
         ON CONFLICT DO UPDATE SET oldest = excluded.oldest WHERE excluded.oldest > oldest",
    )?;
    upsert.execute(params![room.to_bytes(), int(oldest)])?;
    Ok(())
}

/// Removes the lowest rows of a bucket; `true` with the last of them, and then the bucket counts as emptied.
pub(super) fn empty_some(db: &Connection, room: RoomId, bucket: u64) -> Result<bool, Fault> {
    kept(db, room)?.check_emptying(bucket)?;
    let last = (bucket + 1) * BUCKET_ROWS;
    let mut lowest = db.prepare_cached("SELECT min(seq) FROM room_log WHERE room = ?1")?;
    let lowest = codec::first(lowest.query([room.to_bytes()])?, |row| row.number_if_any(0))?.flatten();
    let upto = last.min(lowest.unwrap_or(last).saturating_add(PART - 1));
    let mut delete = db.prepare_cached("DELETE FROM room_log WHERE room = ?1 AND seq <= ?2")?;
    delete.execute(params![room.to_bytes(), int(upto)])?;
    if upto < last {
        return Ok(false);
    }
    let mut update = db.prepare_cached("UPDATE room_kept SET emptied = ?2 WHERE room = ?1")?;
    update.execute(params![room.to_bytes(), int(bucket + 1)])?;
    Ok(true)
}

pub(super) fn policy(db: &Connection, room: RoomId) -> Result<Option<Policy>, Fault> {
    let sql = "SELECT max_age_days, max_entries FROM room_retention WHERE room = ?1";
    codec::first(db.prepare_cached(sql)?.query([room.to_bytes()])?, |row| {
        Ok(Policy { max_age_days: row.value(0)?, max_entries: row.number_if_any(1)? })
    })
}

pub(super) fn set_policy(db: &Connection, room: RoomId, policy: Option<Policy>) -> Result<(), Fault> {
    let Some(Policy { max_age_days, max_entries }) = policy else {
        db.prepare_cached("DELETE FROM room_retention WHERE room = ?1")?.execute([room.to_bytes()])?;
        return Ok(());
    };
    let mut upsert = db.prepare_cached("INSERT OR REPLACE INTO room_retention VALUES (?1, ?2, ?3)")?;
    upsert.execute(params![room.to_bytes(), max_age_days, max_entries.map(int)])?;
    Ok(())
}
