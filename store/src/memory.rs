//! A store in memory, for tests: all traits behind one mutex. Gone with its value, and otherwise the meaning that the
//! contract suite checks against: each call happens at one moment.

mod accounts;
mod log;
mod members;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use protocol::{DeviceId, InviteId, Millis, RoomId, Seq, UserId};

use crate::{
    Audit, Listing, Marks, StoreError,
    accounts::{SignIn, SigningKey, Ticket, UserRecord},
    audit::AuditRecord,
    listing,
    members::{InviteRecord, MemberRecord, RoomRecord},
    retention::Policy,
};

/// The store.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    logs: HashMap<RoomId, log::Log>,
    rooms: BTreeMap<RoomId, RoomRecord>,
    members: BTreeMap<(RoomId, UserId), MemberRecord>,
    retention: HashMap<RoomId, Policy>,
    rooms_of: BTreeSet<(UserId, RoomId)>,
    masks: BTreeMap<(RoomId, Seq), Seq>,
    invites: BTreeMap<(RoomId, InviteId), InviteRecord>,
    users: BTreeMap<UserId, UserRecord>,
    names: BTreeMap<String, UserId>,
    emails: BTreeMap<String, UserId>,
    blocks: BTreeSet<(UserId, UserId)>,
    sign_ins: BTreeMap<DeviceId, SignIn>,
    tickets: HashMap<[u8; 32], Ticket>,
    keys: Vec<SigningKey>,
    read: HashMap<(UserId, RoomId), Seq>,
    seen: HashMap<UserId, Millis>,
    audit: Vec<AuditRecord>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Marks for MemoryStore {
    async fn put_read_mark(&self, user: UserId, room: RoomId, seq: Seq) -> Result<Seq, StoreError> {
        let mut state = self.state();
        let mark = state.read.entry((user, room)).or_default();
        *mark = seq.max(*mark);
        Ok(*mark)
    }

    async fn read_marks(&self, user: UserId, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        let state = self.state();
        Ok(rooms.iter().map(|room| state.read.get(&(user, *room)).copied().unwrap_or(0)).collect())
    }

    async fn put_last_seen(&self, user: UserId, at: Millis) -> Result<(), StoreError> {
        let mut state = self.state();
        let seen = state.seen.entry(user).or_insert(at);
        *seen = at.max(*seen);
        Ok(())
    }

    async fn last_seen(&self, users: &[UserId]) -> Result<Vec<Option<Millis>>, StoreError> {
        let state = self.state();
        Ok(users.iter().map(|user| state.seen.get(user).copied()).collect())
    }
}

#[async_trait]
impl Audit for MemoryStore {
    async fn record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.state().audit.push(record.clone());
        Ok(())
    }

    async fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<AuditRecord>, StoreError> {
        let before: Option<usize> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        let state = self.state();
        let newest = before.unwrap_or(usize::MAX).min(state.audit.len());
        let items = state.audit[..newest].iter().enumerate().rev().take(limit + 1);
        let items = items.map(|(place, record)| (place, record.clone())).collect();
        let Listing { items, next } = listing::cut(items, limit, |(place, _): &(usize, _)| place.to_string());
        Ok(Listing { items: items.into_iter().map(|(_, record)| record).collect(), next })
    }
}
