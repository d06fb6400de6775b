//! Read marks, last seen and the audit log.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{Millis, RoomId, Seq, UserId};

use super::{
    Core, FAN_OUT, ScyllaStore,
    codec::{Id, bits, int, limit, position},
};
use crate::{Audit, Listing, Marks, StoreError, audit::AuditRecord, listing};

const DAY: Millis = 24 * 60 * 60 * 1000;

/// Days of one query for those on which there was something.
const DAYS: i32 = 32;

impl Core {
    async fn read_mark(&self, user: UserId, room: RoomId) -> Result<Seq, StoreError> {
        let found: Option<(i64,)> =
            self.first(&self.statements.read_mark, (user.to_bytes(), room.to_bytes())).await?;
        Ok(found.map_or(0, |(seq,)| seq.cast_unsigned()))
    }

    async fn last_seen(&self, user: UserId) -> Result<Option<Millis>, StoreError> {
        let found: Option<(i64,)> = self.first(&self.statements.last_seen, (user.to_bytes(),)).await?;
        Ok(found.map(|(at,)| at.cast_unsigned()))
    }

    async fn audit_of_day(
        &self,
        day: i64,
        before: &Place,
        most: usize,
    ) -> Result<Vec<(Place, AuditRecord)>, StoreError> {
        let values = (day, before.at, &before.id[..], limit(most));
        type Columns = (i64, Vec<u8>, Vec<u8>, String, String, String, String);
        let found: Vec<Columns> = self.rows(&self.statements.audit, values).await?;
        let record = |(at, id, actor, action, subject, address, detail): Columns| {
            let actor = if actor.is_empty() { None } else { Some(UserId::from_u128(bits(&actor)?)) };
            let address = Some(address).filter(|address| !address.is_empty());
            let record = AuditRecord { at: at.cast_unsigned(), actor, action, subject, address, detail };
            Ok((Place { at, id }, record))
        };
        found.into_iter().map(record).collect()
    }
}

#[async_trait]
impl Marks for ScyllaStore {
    async fn put_read_mark(&self, user: UserId, room: RoomId, seq: Seq) -> Result<Seq, StoreError> {
        let core = &self.core;
        let seq = seq.min(position(seq).cast_unsigned());
        let values = (int(seq), int(seq), user.to_bytes(), room.to_bytes());
        core.upsert(&core.statements.put_read_mark, values).await?;
        Ok(core.read_mark(user, room).await?.max(seq))
    }

    async fn read_marks(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        stream::iter(rooms.to_vec())
            .map(|room| self.core.read_mark(user, room))
            .buffered(FAN_OUT)
            .try_collect()
            .await
    }

    async fn put_last_seen(&self, user: UserId, at: Millis) -> Result<(), StoreError> {
        let at = position(at);
        self.core.upsert(&self.core.statements.put_last_seen, (at, at, user.to_bytes())).await
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<Option<Millis>>, StoreError> {
        stream::iter(users.to_vec())
            .map(|user| self.core.last_seen(user))
            .buffered(FAN_OUT)
            .try_collect()
            .await
    }
}

/// Where an act is: acts of one moment lie in the order in which a node noted them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    at: i64,
    id: Vec<u8>,
}

impl Place {
    fn day(&self) -> i64 {
        self.at / int(DAY)
    }

    fn cursor(&self) -> String {
        let id: String = self.id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{id}", self.at)
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (at, id) = cursor.split_once('.')?;
        let id = u128::from_str_radix(id, 16).ok().filter(|_| id.len() == 32)?;
        Some(Self { at: at.parse().ok()?, id: id.to_be_bytes().to_vec() })
    }
}

#[async_trait]
impl Audit for ScyllaStore {
    async fn record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let core = &self.core;
        let place = Place { at: position(record.at), id: self.next_act().to_vec() };
        core.upsert(&core.statements.put_audit_day, (place.day(),)).await?;
        let values = (
            place.day(),
            place.at,
            &place.id[..],
            record.actor.map_or_else(Vec::new, |actor| actor.to_bytes().to_vec()),
            &record.action,
            &record.subject,
            record.address.as_deref().unwrap_or_default(),
            &record.detail,
        );
        core.upsert(&core.statements.put_audit, values).await
    }

    async fn audit(&self, cursor: Option<&str>, most: usize) -> Result<Listing<AuditRecord>, StoreError> {
        let most = listing::clamp(most);
        let newest = Place { at: i64::MAX, id: vec![0xff; 16] };
        let before = match cursor {
            None => newest,
            Some(cursor) => Place::parse(cursor).ok_or_else(listing::bad_cursor)?,
        };
        let mut found = Vec::new();
        let mut day = before.day();
        'walk: loop {
            let values = (day, DAYS);
            let days: Vec<(i64,)> = self.core.rows(&self.core.statements.audit_days, values).await?;
            for (day,) in &days {
                found.extend(self.core.audit_of_day(*day, &before, most + 1 - found.len()).await?);
                if found.len() > most {
                    break 'walk;
                }
            }
            match days.last() {
                Some((last,)) if days.len() == DAYS as usize => day = last - 1,
                _ => break,
            }
        }
        let Listing { items, next } = listing::cut(found, most, |(place, _)| place.cursor());
        Ok(Listing { items: items.into_iter().map(|(_, record)| record).collect(), next })
    }
}

impl ScyllaStore {
    /// An id that is larger than those before it of this process, and no other process's.
    fn next_act(&self) -> Id {
        let count = self.acts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut id: Id = [0; 16];
        id[..8].copy_from_slice(&count.to_be_bytes());
        // The driver gives each session a random id.
        id[8..].copy_from_slice(&self.core.session.session_id().as_bytes()[8..]);
        id
    }
}
