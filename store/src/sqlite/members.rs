//! Rooms, members and invitations in SQLite.

use async_trait::async_trait;
use protocol::{InviteId, Millis, RoomId, Seq, UserId};
use rusqlite::{Connection, Row, params};

use super::{
    SqliteStore,
    codec::{self, Columns, Fault, int},
    log, retention,
};
use crate::{
    Listing, Members, StoreError, listing,
    members::{Derived, InviteRecord, MaskRecord, Masks, MemberRecord, MemberState, RoomRecord, UserRoom},
    retention::Policy,
    words::Named,
};

const ROOM: &str = "room.room, visibility, durability, history, name, topic, slow_mode_s, created_at, created_by, \
                    joined, deleted, applied_seq";
const MEMBER: &str =
    "member.user, member.state, role, muted_until, blocked, joined_seq, changed_seq, member.invite";
const INVITE: &str = "room, invite, secret_hash, created_by, created_at, expires_at, max_uses, uses, revoked";
/// Columns of [`ROOM`], where those of [`MEMBER`] follow.
const ROOM_COLUMNS: usize = 12;

#[async_trait]
impl Members for SqliteStore {
    async fn room(&self, room: RoomId) -> Result<Option<RoomRecord>, StoreError> {
        self.read(move |db| self::room(db, room)).await
    }

    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<RoomRecord>, StoreError> {
        let rooms = rooms.to_vec();
        self.read(move |db| rooms.into_iter().filter_map(|room| self::room(db, room).transpose()).collect())
            .await
    }

    async fn search_rooms(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomRecord>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let (text, limit) = (listing::key(text), listing::clamp(limit));
        self.read(move |db| {
            let (name, room) = match after {
                None => (String::new(), RoomId::from_u128(0)),
                Some(room) => {
                    let last = self::room(db, room)?.ok_or_else(listing::bad_cursor)?;
                    (listing::key(&last.name), room)
                }
            };
            let sql = format!(
                "SELECT {ROOM} FROM room WHERE visibility = 'public' AND deleted = 0
                 AND instr(name_key, ?1) > 0 AND (name_key, room) > (?2, ?3) ORDER BY name_key, room LIMIT ?4"
            );
            let mut query = db.prepare_cached(&sql)?;
            let found = query.query(params![text, name, room.to_bytes(), codec::rows(limit + 1)])?;
            let items = codec::collect(found, room_record)?;
            Ok(listing::cut(items, limit, |room| room.room.to_string()))
        })
        .await
    }

    async fn all_rooms(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<RoomRecord>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let sql = format!("SELECT {ROOM} FROM room WHERE room > ?1 ORDER BY room LIMIT ?2");
            let mut query = db.prepare_cached(&sql)?;
            let found =
                query.query(params![after_id(after.map(RoomId::to_bytes)), codec::rows(limit + 1)])?;
            let items = codec::collect(found, room_record)?;
            Ok(listing::cut(items, limit, |room| room.room.to_string()))
        })
        .await
    }

    async fn retention(&self, room: RoomId) -> Result<Option<Policy>, StoreError> {
        self.read(move |db| retention::policy(db, room)).await
    }

    async fn set_retention(&self, room: RoomId, policy: Option<Policy>) -> Result<(), StoreError> {
        self.write(move |db| retention::set_policy(db, room, policy)).await
    }

    async fn member(&self, room: RoomId, user: UserId) -> Result<Option<MemberRecord>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {MEMBER} FROM member WHERE room = ?1 AND user = ?2");
            let mut query = db.prepare_cached(&sql)?;
            codec::first(query.query([room.to_bytes(), user.to_bytes()])?, |row| member_record(row, 0))
        })
        .await
    }

    async fn members(
        &self,
        room: RoomId,
        state: Option<MemberState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<MemberRecord>, StoreError> {
        let after: Option<UserId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let sql = format!(
                "SELECT {MEMBER} FROM member WHERE room = ?1 AND user > ?2 AND (?3 IS NULL OR state = ?3)
                 ORDER BY user LIMIT ?4"
            );
            let after = after_id(after.map(UserId::to_bytes));
            let mut query = db.prepare_cached(&sql)?;
            let state = state.map(MemberState::word);
            let found = query.query(params![room.to_bytes(), after, state, codec::rows(limit + 1)])?;
            let items = codec::collect(found, |row| member_record(row, 0))?;
            Ok(listing::cut(items, limit, |member| member.user.to_string()))
        })
        .await
    }

    async fn rooms_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRoom>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let sql = format!(
                "SELECT {ROOM}, {MEMBER} FROM member JOIN room ON room.room = member.room
                 WHERE member.user = ?1 AND member.room > ?2 AND member.state IN ('joined', 'invited')
                 AND room.deleted = 0 ORDER BY member.room LIMIT ?3"
            );
            let after = after_id(after.map(RoomId::to_bytes));
            let mut query = db.prepare_cached(&sql)?;
            let found = query.query(params![user.to_bytes(), after, codec::rows(limit + 1)])?;
            let items = codec::collect(found, |row| {
                Ok(UserRoom { room: room_record(row)?, member: member_record(row, ROOM_COLUMNS)? })
            })?;
            Ok(listing::cut(items, limit, |room| room.room.room.to_string()))
        })
        .await
    }

    async fn rooms_ever_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomId>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT room FROM member WHERE user = ?1 AND room > ?2 ORDER BY room LIMIT ?3",
            )?;
            let after = after_id(after.map(RoomId::to_bytes));
            let found = query.query(params![user.to_bytes(), after, codec::rows(limit + 1)])?;
            let items = codec::collect(found, |row| codec::room_id(row, 0))?;
            Ok(listing::cut(items, limit, RoomId::to_string))
        })
        .await
    }

    async fn sharing_a_room(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let others = others.to_vec();
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT 1 FROM member AS theirs
                 JOIN member AS own ON own.room = theirs.room AND own.user = ?1 AND own.state = 'joined'
                 JOIN room ON room.room = theirs.room AND room.deleted = 0
                 WHERE theirs.user = ?2 AND theirs.state = 'joined' LIMIT 1",
            )?;
            let mut sharing = Vec::new();
            for other in others {
                if query.exists([user.to_bytes(), other.to_bytes()])? {
                    sharing.push(other);
                }
            }
            Ok(sharing)
        })
        .await
    }

    async fn masks(&self, room: RoomId, from: Seq, upto: Seq) -> Result<Masks, StoreError> {
        self.read(move |db| {
            // Masks are written together with the rows that make them, so they are complete up to the head. It is
            // read first: what is appended in between can only add masks.
            let applied_seq = log::head(db, room)?;
            let mut query = db.prepare_cached(
                "SELECT target, by_seq FROM mask WHERE room = ?1 AND target BETWEEN ?2 AND ?3 ORDER BY target",
            )?;
            let found = query.query(params![room.to_bytes(), int(from), int(upto)])?;
            let masks =
                codec::collect(found, |row| Ok(MaskRecord { target: row.number(0)?, by: row.number(1)? }))?;
            Ok(Masks { masks, applied_seq })
        })
        .await
    }

    async fn create_invite(&self, invite: &InviteRecord) -> Result<(), StoreError> {
        let invite = invite.clone();
        self.write(move |db| {
            let sql = format!(
                "INSERT INTO invite ({INVITE}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING"
            );
            db.prepare_cached(&sql)?.execute(params![
                invite.room.to_bytes(),
                invite.invite.to_bytes(),
                invite.secret_hash,
                invite.created_by.to_bytes(),
                int(invite.created_at),
                int(invite.expires_at),
                invite.max_uses,
                invite.uses,
                invite.revoked,
            ])?;
            Ok(())
        })
        .await
    }

    async fn invite(&self, room: RoomId, invite: InviteId) -> Result<Option<InviteRecord>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {INVITE} FROM invite WHERE room = ?1 AND invite = ?2");
            codec::first(db.prepare_cached(&sql)?.query([room.to_bytes(), invite.to_bytes()])?, |row| {
                invite_record(row)
            })
        })
        .await
    }

    async fn invite_by_secret(
        &self,
        room: RoomId,
        secret_hash: [u8; 32],
    ) -> Result<Option<InviteRecord>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {INVITE} FROM invite WHERE room = ?1 AND secret_hash = ?2");
            codec::first(db.prepare_cached(&sql)?.query(params![room.to_bytes(), secret_hash])?, |row| {
                invite_record(row)
            })
        })
        .await
    }

    async fn invites(&self, room: RoomId, now: Millis) -> Result<Vec<InviteRecord>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {INVITE} FROM invite WHERE room = ?1 AND revoked = 0 AND expires_at > ?2
                 ORDER BY created_at DESC, invite LIMIT 1000"
            );
            codec::collect(db.prepare_cached(&sql)?.query(params![room.to_bytes(), int(now)])?, |row| {
                invite_record(row)
            })
        })
        .await
    }

    async fn revoke_invite(&self, room: RoomId, invite: InviteId) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut update =
                db.prepare_cached("UPDATE invite SET revoked = 1 WHERE room = ?1 AND invite = ?2")?;
            Ok(update.execute([room.to_bytes(), invite.to_bytes()])? > 0)
        })
        .await
    }
}

/// The id after which a listing begins. Less than every id: the empty one.
fn after_id(id: Option<[u8; 16]>) -> Vec<u8> {
    id.map_or_else(Vec::new, Vec::from)
}

fn room(db: &Connection, room: RoomId) -> Result<Option<RoomRecord>, Fault> {
    let sql = format!("SELECT {ROOM} FROM room WHERE room = ?1");
    codec::first(db.prepare_cached(&sql)?.query([room.to_bytes()])?, room_record)
}

fn room_record(row: &Row<'_>) -> Result<RoomRecord, Fault> {
    Ok(RoomRecord {
        room: codec::room_id(row, 0)?,
        visibility: row.named(1)?,
        durability: row.named(2)?,
        history: row.named(3)?,
        name: row.value(4)?,
        topic: row.value(5)?,
        slow_mode_s: row.value(6)?,
        created_at: row.number(7)?,
        created_by: codec::user_id(row, 8)?,
        joined: row.number(9)?,
        deleted: row.value(10)?,
        applied_seq: row.number(11)?,
    })
}

/// A member from the columns that begin at `at`.
fn member_record(row: &Row<'_>, at: usize) -> Result<MemberRecord, Fault> {
    let invite: Option<[u8; 16]> = row.value(at + 7)?;
    Ok(MemberRecord {
        user: codec::user_id(row, at)?,
        state: row.named(at + 1)?,
        role: row.named(at + 2)?,
        muted_until: row.number_if_any(at + 3)?,
        blocked: row.value(at + 4)?,
        joined_seq: row.number(at + 5)?,
        changed_seq: row.number(at + 6)?,
        invite: invite.map(InviteId::from_bytes),
    })
}

fn invite_record(row: &Row<'_>) -> Result<InviteRecord, Fault> {
    Ok(InviteRecord {
        room: codec::room_id(row, 0)?,
        invite: codec::invite_id(row, 1)?,
        secret_hash: row.value(2)?,
        created_by: codec::user_id(row, 3)?,
        created_at: row.number(4)?,
        expires_at: row.number(5)?,
        max_uses: row.value(6)?,
        uses: row.value(7)?,
        revoked: row.value(8)?,
    })
}

/// Upserts that an older state never wins.
pub(super) fn put_derived(db: &Connection, room: RoomId, derived: &Derived) -> Result<(), Fault> {
    if let Some(record) = &derived.room {
        put_room(db, room, record)?;
    }
    for member in &derived.members {
        put_member(db, room, member)?;
    }
    for mask in &derived.masks {
        let mut upsert = db.prepare_cached(
            "INSERT INTO mask (room, target, by_seq) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET by_seq = excluded.by_seq WHERE excluded.by_seq > by_seq",
        )?;
        upsert.execute(params![room.to_bytes(), int(mask.target), int(mask.by)])?;
    }
    for (invite, uses) in &derived.invites {
        let sql = "UPDATE invite SET uses = max(uses, ?3) WHERE room = ?1 AND invite = ?2";
        db.prepare_cached(sql)?.execute(params![room.to_bytes(), invite.to_bytes(), uses])?;
    }
    log::put_marks(db, room, &derived.marks)
}

fn put_room(db: &Connection, room: RoomId, record: &RoomRecord) -> Result<(), Fault> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO room (room, visibility, durability, history, name, name_key, topic, slow_mode_s, created_at,
             created_by, joined, deleted, applied_seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT DO UPDATE SET visibility = excluded.visibility, durability = excluded.durability,
             history = excluded.history, name = excluded.name, name_key = excluded.name_key, topic = excluded.topic,
             slow_mode_s = excluded.slow_mode_s, created_at = excluded.created_at, created_by = excluded.created_by,
             joined = excluded.joined, deleted = excluded.deleted, applied_seq = excluded.applied_seq
         WHERE excluded.applied_seq >= applied_seq",
    )?;
    upsert.execute(params![
        room.to_bytes(),
        record.visibility.word(),
        record.durability.word(),
        record.history.word(),
        record.name,
        listing::key(&record.name),
        record.topic,
        record.slow_mode_s,
        int(record.created_at),
        record.created_by.to_bytes(),
        int(record.joined),
        record.deleted,
        int(record.applied_seq),
    ])?;
    Ok(())
}

fn put_member(db: &Connection, room: RoomId, member: &MemberRecord) -> Result<(), Fault> {
    let mut upsert = db.prepare_cached(
        "INSERT INTO member (room, user, state, role, muted_until, blocked, joined_seq, changed_seq, invite)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET state = excluded.state, role = excluded.role,
             muted_until = excluded.muted_until, blocked = excluded.blocked, joined_seq = excluded.joined_seq,
             changed_seq = excluded.changed_seq, invite = excluded.invite
         WHERE excluded.changed_seq >= changed_seq",
    )?;
    upsert.execute(params![
        room.to_bytes(),
        member.user.to_bytes(),
        member.state.word(),
        member.role.word(),
        member.muted_until.map(int),
        member.blocked,
        int(member.joined_seq),
        int(member.changed_seq),
        member.invite.map(InviteId::to_bytes),
    ])?;
    Ok(())
}
