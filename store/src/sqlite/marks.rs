//! Read marks, last seen and the audit log in SQLite.

use async_trait::async_trait;
use protocol::{Millis, RoomId, Seq, UserId};
use rusqlite::params;

use super::{
    SqliteStore,
    codec::{self, Columns, int},
};
use crate::{Audit, Listing, Marks, StoreError, audit::AuditRecord, listing};

#[async_trait]
impl Marks for SqliteStore {
    async fn put_read_mark(&self, user: UserId, room: RoomId, seq: Seq) -> Result<Seq, StoreError> {
        self.write(move |db| {
            let mut upsert = db.prepare_cached(
                "INSERT INTO read_mark (user, room, seq) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq) RETURNING seq",
            )?;
            let now = upsert.query(params![user.to_bytes(), room.to_bytes(), int(seq)])?;
            Ok(codec::first(now, |row| row.number(0))?.unwrap_or(seq))
        })
        .await
    }

    async fn read_marks(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let rooms = rooms.to_vec();
        self.read(move |db| {
            let mut query = db.prepare_cached("SELECT seq FROM read_mark WHERE user = ?1 AND room = ?2")?;
            let mark = |room: RoomId| {
                let found =
                    codec::first(query.query([user.to_bytes(), room.to_bytes()])?, |row| row.number(0))?;
                Ok(found.unwrap_or(0))
            };
            rooms.into_iter().map(mark).collect()
        })
        .await
    }

    async fn put_last_seen(&self, user: UserId, at: Millis) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut upsert = db.prepare_cached(
                "INSERT INTO last_seen (user, at) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > at",
            )?;
            upsert.execute(params![user.to_bytes(), int(at)])?;
            Ok(())
        })
        .await
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<Option<Millis>>, StoreError> {
        let users = users.to_vec();
        self.read(move |db| {
            let mut query = db.prepare_cached("SELECT at FROM last_seen WHERE user = ?1")?;
            let seen = |user: UserId| codec::first(query.query([user.to_bytes()])?, |row| row.number(0));
            users.into_iter().map(seen).collect()
        })
        .await
    }
}

#[async_trait]
impl Audit for SqliteStore {
    async fn record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.write(move |db| {
            let mut insert = db.prepare_cached(
                "INSERT INTO audit (at, actor, action, subject, address, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let actor = record.actor.map(UserId::to_bytes);
            let AuditRecord { at, action, subject, address, detail, .. } = record;
            insert.execute(params![int(at), actor, action, subject, address, detail])?;
            Ok(())
        })
        .await
    }

    async fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<AuditRecord>, StoreError> {
        let before: Option<i64> = listing::parse(cursor)?;
        let before = before.unwrap_or(i64::MAX);
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT id, at, actor, action, subject, address, detail FROM audit
                 WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let found = codec::collect(query.query(params![before, codec::rows(limit + 1)])?, |row| {
                let actor: Option<[u8; 16]> = row.value(2)?;
                let record = AuditRecord {
                    at: row.number(1)?,
                    actor: actor.map(UserId::from_bytes),
                    action: row.value(3)?,
                    subject: row.value(4)?,
                    address: row.value(5)?,
                    detail: row.value(6)?,
                };
                Ok((row.number(0)?, record))
            })?;
            let Listing { items, next } = listing::cut(found, limit, |(id, _): &(u64, _)| id.to_string());
            Ok(Listing { items: items.into_iter().map(|(_, record)| record).collect(), next })
        })
        .await
    }
}
