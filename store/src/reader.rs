//! Pages of a log for somebody: authorised at the head that was read, bounded by it, masked.

use protocol::{Entry, RoomId, Seq, UserId, client::HistoryFrom, server::Page};

use crate::{
    Store, StoreError,
    log::Row,
    members::{MemberRecord, RoomRecord},
};

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
/// # Errors
/// When the store fails.
#[expect(clippy::unused_async, unused_variables, reason = "on its way")]
pub async fn roster(store: &dyn Store, room: RoomId, member_seq: Seq) -> Result<Option<Roster>, StoreError> {
    Ok(None)
}

/// One page for `user`, as `history` frames and REST give it. `limit` is taken into `1 ..= PAGE_ENTRIES`.
///
/// # Errors
/// When the user may not read the room, or the store fails.
#[expect(clippy::unused_async, unused_variables, reason = "on its way")]
pub async fn page(
    store: &dyn Store,
    user: UserId,
    room: RoomId,
    from: Option<HistoryFrom>,
    limit: usize,
) -> Result<Page, ReadError> {
    Err(ReadError::NotFound)
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
        masked: row.body.is_none().then_some(protocol::entry::Mask::Erased),
        writer: own.then_some(row.writer),
        n: own.then_some(row.n),
    }
}
