//! The other nodes, as rooms and users need them: who lives where, and a way to tell another node something.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use protocol::{Millis, UserId, client::PresenceStatus};
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;

/// One life of a node: a node that starts again is another peer. A hash of its name and generation, so that all nodes call
/// it the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(u64);

impl PeerId {
    /// The life of the node `name` that began with `generation`.
    pub fn of(name: &str, generation: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("rookery 2026-11 peer id");
        hasher.update(&generation.to_le_bytes());
        hasher.update(name.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(id))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a message to a peer is worth when the link to it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Taken or told to be refused, never dropped.
    Needed,
    /// Typing, presence, news: the first to be dropped.
    Droppable,
}

/// The link to a peer is down or full: the message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link to the peer takes nothing now")]
pub struct Unsent;

/// The cluster, as this node sees it. Never blocks, never waits.
pub trait Peers: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> PeerId;

    /// Which node the key is placed on; `None` while this node can't know.
    fn home(&self, key: u128) -> Option<PeerId>;

    /// The nodes that are reachable now, without this one.
    fn others(&self) -> Arc<[PeerId]>;

    /// Hands a message to the link to a peer: whole, in order with all others to that peer, at most once.
    ///
    /// # Errors
    /// When it was not taken.
    fn send(&self, to: PeerId, worth: Worth, message: Bytes, trace: TraceContext) -> Result<(), Unsent>;

    /// Every node is to show this status of a user whose home is here.
    fn show(&self, user: UserId, status: PresenceStatus, at: Millis);
}
