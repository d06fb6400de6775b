//! What the actors take from outside: time, chance, the store, and how a frame becomes bytes.

use std::sync::Arc;

use protocol::Millis;
use store::{Store, retention::Policy};

use crate::{Encode, Peers};

/// The wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Millis;
}

/// Random numbers that nobody can guess.
pub trait Chance: Send + Sync + 'static {
    /// 128 fresh bits.
    fn bits(&self) -> u128;
}

/// Everything that an actor may need from outside. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Frame → bytes.
    pub encode: Arc<dyn Encode>,
    /// The other nodes, if there are any.
    pub peers: Option<Arc<dyn Peers>>,
    /// Bounds and times.
    pub settings: Arc<Settings>,
}

/// Bounds and times of the actors, from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A room without work for this long retires, in milliseconds. Default 60,000.
    pub room_idle_ms: u64,
    /// A user's actor without work for this long becomes passive, in milliseconds. Default 30,000.
    pub user_idle_ms: u64,
    /// Others see a user offline this long after the last socket closed, in milliseconds. Default 8,000.
    pub offline_after_ms: u64,
    /// Sends that wait in one room before it refuses with `overloaded`. Default 4,096.
    pub room_waiting: usize,
    /// Bytes of bodies that wait in one room before it refuses with `overloaded`. Default 8 MiB.
    pub room_waiting_bytes: usize,
    /// Sockets that one user may have open. Default 20.
    pub user_sessions: usize,
    /// Sends a second that one user may make over all sockets, sustained. Default 30.
    pub user_sends_per_s: u32,
    /// Sends that one user may make at once. Default 60.
    pub user_sends_burst: u32,
    /// What is kept of a room for which the operator has chosen nothing else. Default: everything.
    pub retention: Policy,
    /// Rooms that are claimed from the store at once. Default 64.
    pub claims: usize,
    /// Audiences that find more waiting rest for this many times their last fan-out; 0 switches pacing off. Default 8.
    pub pacing: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            room_idle_ms: 60_000,
            user_idle_ms: 30_000,
            offline_after_ms: 8_000,
            room_waiting: 4_096,
            room_waiting_bytes: 8 * 1024 * 1024,
            user_sessions: 20,
            user_sends_per_s: 30,
            user_sends_burst: 60,
            retention: Policy::default(),
            claims: 64,
            pacing: 8,
        }
    }
}
