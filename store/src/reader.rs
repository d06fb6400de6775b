//! Pages of a log for somebody: authorised at the head that was read, bounded by it, masked.
//!
//! A reader may be on any node, and the derived tables may lag behind the log. So it reads the head serially first,
//! then the tables, then folds what the log has above them: memberships up to the head before it answers at all,
//! deletions before it shows a body.

use std::collections::{BTreeMap, HashSet};

use protocol::{
    Entry, InviteId, Kind, RoomId, Seq, UserId,
    client::HistoryFrom,
    entry::{Durability, HistoryAccess, Mask, MembershipChange, RoomChange, Visibility},
    limits::PAGE_ENTRIES,
    server::Page,
};

use crate::{
    Store, StoreError,
    log::{DURABLE_INCARNATION, Row, newest_bucket},
    members::{Derived, MemberRecord, MemberState, RoomRecord},
};

/// Rows or members that one query of a fold asks for.
const FOLD_ROWS: usize = 1000;

/// Why somebody reads nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such room, or it is deleted, or ephemeral and so without a log of what is said.
    #[error("no such room")]
    NotFound,
    /// Only for members.
    #[error("not a member")]
    NotAMember,
    /// Banned.
    #[error("banned")]
    Banned,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A room and all its memberships as of an entry of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The room.
    pub room: RoomRecord,
    /// Everybody of whom the log says something, by user id.
    pub members: Vec<MemberRecord>,
}

/// Room and members, folded up to `member_seq` from the tables and what the log has above them. `None` when the log
/// has no room entry.
///
/// The tables are read in several queries: whoever is not the room's owner may see single members at a later entry.
///
/// # Errors
/// When the store fails.
pub async fn roster(store: &dyn Store, room: RoomId, member_seq: Seq) -> Result<Option<Roster>, StoreError> {
    let record = store.room(room).await?;
    let mut fold = Fold { room, record, members: BTreeMap::new() };
    let mut cursor = None;
    loop {
        let part = store.members(room, None, cursor.as_deref(), FOLD_ROWS).await?;
        fold.members.extend(part.items.into_iter().map(|member| (member.user, member)));
        cursor = part.next;
        if cursor.is_none() {
            break;
        }
    }
    fold.catch_up(store, member_seq).await?;
    let members: Vec<_> = fold.members.into_values().collect();
    let joined = members.iter().filter(|member| member.is_joined()).count() as u64;
    Ok(fold.record.map(|room| Roster { room: RoomRecord { joined, ..room }, members }))
}

/// As [`roster`], for the room's owner, who also brings the tables up to it: whoever owned the room before may have
/// written the log and not the tables.
///
/// A use of an invitation that the tables may or may not count is counted: rather one use too few than one too many.
///
/// # Errors
/// When the store fails.
pub async fn owners_roster(
    store: &dyn Store,
    room: RoomId,
    member_seq: Seq,
) -> Result<Option<Roster>, StoreError> {
    let before = store.room(room).await?.map_or(0, |record| record.applied_seq);
    let found = roster(store, room, member_seq).await?;
    if let Some(roster) = found.as_ref().filter(|roster| roster.room.applied_seq > before) {
        let members: Vec<_> =
            roster.members.iter().filter(|member| member.changed_seq > before).copied().collect();
        let mut joins: BTreeMap<InviteId, u32> = BTreeMap::new();
        for invite in members.iter().filter(|member| member.joined_seq > before).filter_map(|one| one.invite)
        {
            *joins.entry(invite).or_default() += 1;
        }
        let mut invites = Vec::new();
        for (invite, joined) in joins {
            let kept = store.invite(room, invite).await?;
            invites.extend(kept.map(|kept| (invite, kept.uses.saturating_add(joined))));
        }
        let derived = Derived { room: Some(roster.room.clone()), members, invites, ..Derived::default() };
        store.put_derived(room, &derived).await?;
    }
    Ok(found)
}

/// A room and some of its members on the way up the log.
struct Fold {
    room: RoomId,
    record: Option<RoomRecord>,
    members: BTreeMap<UserId, MemberRecord>,
}

impl Fold {
    /// Folds what the log has between the tables and `member_seq`.
    async fn catch_up(&mut self, store: &dyn Store, member_seq: Seq) -> Result<(), StoreError> {
        let mut after = self.record.as_ref().map_or(0, |room| room.applied_seq);
        while after < member_seq {
            let rows = store.rows_after(self.room, after, member_seq, FOLD_ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            for row in rows.iter().filter(|row| row.changes_roster()) {
                self.apply(row).map_err(|error| {
                    StoreError::Corrupt(format!(
                        "room {}: entry {} is no {}: {error}",
                        self.room, row.seq, row.kind
                    ))
                })?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, row: &Row) -> Result<(), serde_json::Error> {
        // Memberships and rooms are never erased: an empty body reads as a change of nothing.
        let Some(body) = &row.body else { return Ok(()) };
        if row.kind == Kind::Room {
            let change: RoomChange = body.parse()?;
            let record = self.record.get_or_insert_with(|| created(self.room, row, &change));
            record.apply(&change);
        } else {
            let change: MembershipChange = body.parse()?;
            let member =
                self.members.entry(change.user).or_insert_with(|| MemberRecord::stranger(change.user));
            if member.changed_seq < row.seq {
                member.apply(&change, row.seq);
            }
        }
        if let Some(record) = &mut self.record {
            record.applied_seq = record.applied_seq.max(row.seq);
        }
        Ok(())
    }
}

/// The room that its first entry makes.
fn created(room: RoomId, row: &Row, change: &RoomChange) -> RoomRecord {
    RoomRecord {
        room,
        visibility: change.visibility.unwrap_or(Visibility::Private),
        durability: change.durability.unwrap_or(Durability::Durable),
        history: change.history.unwrap_or(HistoryAccess::SinceJoined),
        name: String::new(),
        topic: String::new(),
        slow_mode_s: 0,
        created_at: row.at,
        created_by: row.from,
        joined: 0,
        deleted: false,
        applied_seq: row.seq,
    }
}

/// One page for `user`, as `history` frames and REST give it. `limit` is taken into `1 ..= PAGE_ENTRIES`; without
/// `from` it is the newest.
///
/// # Errors
/// When the user may not read the room, or the store fails.
pub async fn page(
    store: &dyn Store,
    user: UserId,
    room: RoomId,
    from: Option<HistoryFrom>,
    limit: usize,
) -> Result<Page, ReadError> {
    let (_, statics) = newest_bucket(store, room).await?.ok_or(ReadError::NotFound)?;
    let lowest = lowest_readable(store, user, room, statics.member_seq).await?;
    let window = Window { room, lowest, head: statics.last_seq };
    let rows = window.rows(store, from, limit.clamp(1, PAGE_ENTRIES)).await?;
    let deleted = deleted(store, room, &rows, window.head).await?;
    Ok(Page {
        id: None,
        room,
        incarnation: DURABLE_INCARNATION,
        head: window.head,
        first: window.first(store).await?,
        entries: rows.iter().map(|row| masked(entry(row, Some(user)), &deleted)).collect(),
    })
}

/// The lowest entry that `user` may read, going by memberships up to `member_seq`.
async fn lowest_readable(
    store: &dyn Store,
    user: UserId,
    room: RoomId,
    member_seq: Seq,
) -> Result<Seq, ReadError> {
    // The room's record tells how far the members' rows are complete, so it is read before them.
    let record = store.room(room).await?;
    let member = store.member(room, user).await?;
    let members = member.map(|member| (user, member)).into_iter().collect();
    let mut fold = Fold { room, record, members };
    fold.catch_up(store, member_seq).await?;
    let record = fold.record.ok_or(ReadError::NotFound)?;
    let member = fold.members.remove(&user).unwrap_or_else(|| MemberRecord::stranger(user));
    if record.deleted || record.durability == Durability::Ephemeral {
        return Err(ReadError::NotFound);
    }
    match (member.state, record.history, record.visibility) {
        (MemberState::Banned, _, _) => Err(ReadError::Banned),
        (MemberState::Joined, HistoryAccess::SinceJoined, _) => Ok(member.joined_seq),
        (MemberState::Joined, HistoryAccess::All, _) | (_, HistoryAccess::All, Visibility::Public) => Ok(1),
        (MemberState::Invited | MemberState::Left | MemberState::Kicked, _, _) => Err(ReadError::NotAMember),
    }
}

/// The part of a log that somebody may read.
struct Window {
    room: RoomId,
    lowest: Seq,
    head: Seq,
}

impl Window {
    async fn rows(
        &self,
        store: &dyn Store,
        from: Option<HistoryFrom>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = match from {
            None => self.below(store, self.head + 1, limit).await?,
            Some(HistoryFrom::Before(seq)) => self.below(store, seq, limit).await?,
            Some(HistoryFrom::After(seq)) => self.above(store, seq, limit).await?,
            Some(HistoryFrom::Around(seq)) => {
                let mut rows = if limit > 1 { self.below(store, seq, limit / 2).await? } else { Vec::new() };
                let rest = limit - rows.len();
                rows.extend(self.above(store, seq.saturating_sub(1), rest).await?);
                rows
            }
        };
        match rows.windows(2).find(|pair| pair[0].seq + 1 != pair[1].seq) {
            Some(pair) => {
                Err(StoreError::Corrupt(format!("room {}: a hole after the row {}", self.room, pair[0].seq)))
            }
            None => Ok(rows),
        }
    }

    async fn below(&self, store: &dyn Store, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = store.known_rows_before(self.room, before.min(self.head + 1), limit).await?;
        Ok(rows.iter().filter(|row| row.seq >= self.lowest).cloned().collect())
    }

    async fn above(&self, store: &dyn Store, after: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        let after = after.max(self.lowest.saturating_sub(1));
        Ok(store.known_rows_after(self.room, after, self.head, limit).await?.to_vec())
    }

    /// The oldest entry that is there to be read; the next one where all are gone.
    async fn first(&self, store: &dyn Store) -> Result<Seq, StoreError> {
        let oldest = self.above(store, 0, 1).await?;
        Ok(oldest.first().map_or(self.head + 1, |row| row.seq))
    }
}

/// Which of `rows` (consecutive ones) are withheld because entries up to `head` delete them, by the table of masks and
/// the log above it. An edit goes with the entry that it edits: it is another content of it.
///
/// # Errors
/// When the store fails.
pub async fn deleted(
    store: &dyn Store,
    room: RoomId,
    rows: &[Row],
    head: Seq,
) -> Result<HashSet<Seq>, StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(HashSet::new()) };
    let masks = store.masks(room, first.seq, last.seq).await?;
    let mut after = masks.applied_seq;
    let mut deleted: HashSet<Seq> = masks.masks.iter().map(|mask| mask.target).collect();
    let edits =
        || rows.iter().filter(|row| row.kind == Kind::Edit).filter_map(|row| Some((row.seq, row.target?)));
    for (_, target) in edits().filter(|(_, target)| *target < first.seq) {
        let masks = store.masks(room, target, target).await?;
        after = after.min(masks.applied_seq);
        deleted.extend(masks.masks.iter().map(|mask| mask.target));
    }
    while after < head {
        let above = store.rows_after(room, after, head, FOLD_ROWS).await?;
        let Some(last) = above.last() else { break };
        after = last.seq;
        deleted.extend(above.iter().filter_map(Row::mask).map(|mask| mask.target));
    }
    let of_deleted: Vec<Seq> =
        edits().filter(|(_, target)| deleted.contains(target)).map(|(edit, _)| edit).collect();
    deleted.extend(of_deleted);
    Ok(deleted)
}

/// The entry without its body if it is deleted.
fn masked(entry: Entry, deleted: &HashSet<Seq>) -> Entry {
    if deleted.contains(&entry.seq) && entry.masked.is_none() {
        return Entry { body: None, masked: Some(Mask::Deleted), ..entry };
    }
    entry
}

/// A row as a client sees it. The writer and its counter are shown to their own user (`reader`) only.
pub fn entry(row: &Row, reader: Option<UserId>) -> Entry {
    let own = reader == Some(row.from) && row.n > 0;
    Entry {
        seq: row.seq,
        at: row.at,
        from: row.from,
        kind: row.kind.clone(),
        target: row.target,
        body: row.body.clone(),
        masked: row.body.is_none().then_some(Mask::Erased),
        writer: own.then_some(row.writer),
        n: own.then_some(row.n),
    }
}
