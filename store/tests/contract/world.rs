//! Stores for tests, and what rows are made of.

use std::sync::Arc;

use protocol::{
    Body, Kind, RoomId, Seq, UserId, WriterId,
    entry::{Durability, HistoryAccess, Visibility},
};
use rookery_store::{
    RoomLog, Store,
    log::Row,
    members::{Derived, RoomRecord},
    memory::MemoryStore,
    owner::{AppendEnd, Batch, Ownership, Recovered, claim},
    scylla::ScyllaStore,
    sqlite::{SqliteOptions, SqliteStore},
};

use crate::keyspaces::Keyspace;

/// A store with what has to live as long as it.
pub(crate) struct Home {
    store: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
    _keyspace: Option<Keyspace>,
}

impl Home {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
}

pub(crate) async fn memory() -> Home {
    Home { store: Arc::new(MemoryStore::new()), _folder: None, _keyspace: None }
}

#[expect(clippy::unused_async, reason = "called as the one that is reached over a network")]
pub(crate) async fn sqlite() -> Home {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        SqliteStore::open(&folder.path().join("data"), SqliteOptions::default()).expect("a new store");
    Home { store: Arc::new(store), _folder: Some(folder), _keyspace: None }
}

pub(crate) async fn scylla() -> Home {
    let keyspace = Keyspace::take().await;
    let store = ScyllaStore::open(keyspace.options()).await.expect("a store");
    Home { store: Arc::new(store), _folder: None, _keyspace: Some(keyspace) }
}

pub(crate) const ROOM: RoomId = RoomId::from_u128(0xb0);
pub(crate) const ALICE: UserId = UserId::from_u128(0xa1);
pub(crate) const BOB: UserId = UserId::from_u128(0xb2);
pub(crate) const TAB: WriterId = WriterId::from_u128(0x7ab);

/// SplitMix64: the same numbers in every run.
#[derive(Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    pub(crate) fn nonce(&mut self) -> u128 {
        (u128::from(self.number()) << 64) | u128::from(self.number())
    }
}

pub(crate) async fn claimed(log: &dyn RoomLog, room: RoomId, chance: &mut Chance) -> Recovered {
    claim(log, room, &mut || chance.nonce()).await.expect("nobody else claims")
}

/// A message of Alice's.
pub(crate) fn message(seq: Seq, epoch: u64, n: u64) -> Row {
    Row {
        seq,
        epoch,
        writer: TAB,
        n,
        from: ALICE,
        at: 1_000 + seq,
        kind: Kind::Message,
        target: None,
        body: Some(Body::text(&format!("message {n}")).expect("short")),
    }
}

/// The next `count` messages of Alice's, who has sent `sent` so far.
pub(crate) fn messages(owner: &Ownership, sent: u64, count: u64) -> Vec<Row> {
    (1..=count).map(|i| message(owner.head() + i, owner.epoch(), sent + i)).collect()
}

pub(crate) fn batch(rows: Vec<Row>, chance: &mut Chance) -> Batch {
    Batch { rows, write_id: chance.nonce(), derived: Derived::default() }
}

pub(crate) fn committed(end: AppendEnd) -> Ownership {
    match end {
        AppendEnd::Committed(owner) => owner,
        other => panic!("expected a commit, got {other:?}"),
    }
}

/// Appends `count` messages in groups as large as they may be.
pub(crate) async fn fill(
    store: &dyn Store,
    mut owner: Ownership,
    count: u64,
    chance: &mut Chance,
) -> Ownership {
    let target = owner.head() + count;
    while owner.head() < target {
        let rows = messages(&owner, owner.head(), owner.free_rows().min(target - owner.head()));
        owner = committed(owner.append(store, batch(rows, chance)).await);
    }
    owner
}

/// A public room whose whole history is read.
pub(crate) fn record(room: RoomId, name: &str) -> RoomRecord {
    RoomRecord {
        room,
        visibility: Visibility::Public,
        durability: Durability::Durable,
        history: HistoryAccess::All,
        name: name.to_owned(),
        topic: String::new(),
        slow_mode_s: 0,
        created_at: 1_000,
        created_by: ALICE,
        joined: 0,
        deleted: false,
        applied_seq: 1,
    }
}
