//! Which nodes there are, and what each says of itself, by gossip.
//!
//! ```text
//!  Gossip (handle) ── put, set_state, set_load ──▶ own_keys ─┐
//!                                                            ▼
//!  View, Event ◀── members ◀── sightings ◀── thread: chitchat, one life after the other
//!                                                            │
//!                              codec ◀── transport ◀─────────┘
//!                                 seal ──▶ UDP
//! ```
//!
//! In reading order:
//!
//! * [`says`]: what a node says of itself;
//! * [`members`]: who is a member: pure;
//! * [`secrets`] and [`seal`]: what strangers can't do: pure;
//! * [`codec`] and [`transport`]: from chitchat to the network;
//! * [`own_keys`]: what this node may write: pure;
//! * [`thread`] and [`life`]: where it runs, and how it begins anew;
//! * [`metrics`]: what is counted.
//!
//! Gossip has a thread and a runtime of its own: a busy runtime would look like a dead node to all others. Nothing here is
//! called on the path of a request.

mod codec;
mod life;
#[cfg(test)]
mod live_tests;
pub mod members;
pub mod metrics;
pub mod own_keys;
pub mod says;
pub(crate) mod seal;
pub mod secrets;
mod seeds;
mod thread;
mod transport;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actors::{Chance, Clock};
use tokio::sync::{mpsc, watch};

pub use self::{
    members::{Change, Member, View, Why},
    metrics::Metrics,
    own_keys::BadEntry,
    says::{Load, Meta, PROTOCOL, Role, State},
    seal::Rejected,
    secrets::{Secret, Secrets, ShortSecret},
};
use self::{
    secrets::Keys,
    thread::{Shared, Start},
};
use crate::NodeName;

/// A good size for the queue of [`Event`]s: 25 s of one ring of presence from each of 30 nodes. What doesn't fit is dropped
/// and counted: a dropped value shows as a gap in its owner's sequence, a dropped change is in the view.
pub const EVENTS: usize = 4_096;

/// The interval that the times of this crate are made for.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// What an interval may be: shorter ones cost more than they tell, longer ones take a pause for death.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// Prefix of the keys whose values are told as [`Event::Value`].
pub(crate) const PUBLISHED: &str = "p/";

/// What gossip needs to know at its start.
pub struct Settings {
    /// This node. Its generation is higher than that of any earlier life: the time of the start in microseconds.
    pub name: NodeName,
    /// The address to bind; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The address that others send to, and from which they see this node send: a datagram is sealed for the address it is
    /// sent to, and translated addresses don't fit. Port 0 means that of `listen`.
    pub advertise: SocketAddr,
    /// Other nodes to begin with, as `address:port` or `name:port`. This node may be among them. Names are asked for again:
    /// every 2 s as long as nobody was found, then every 30 s.
    pub seeds: Vec<String>,
    /// The cluster's own id: nodes of other clusters are strangers, whatever their secret.
    pub cluster_id: String,
    /// The secrets of the cluster.
    pub secrets: Secrets,
    /// Time between two rounds, 20 ms to 1 s; [`INTERVAL`] up to 50 nodes, 500 ms above.
    pub interval: Duration,
    /// What this node is.
    pub meta: Meta,
    /// The wall clock. Those of two nodes may differ by 30 s.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
}

/// What gossip tells the rest of the node. Values and changes may overtake one another: a value may come from a node whose
/// joining is told after it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The membership changed. The view has it already.
    Members(Change),
    /// Another node wrote a key under `p/`. Those of one node come in the order in which it wrote them, except that a value
    /// which was overwritten before it got here is left out.
    Value {
        /// Who wrote it, in which life.
        node: NodeName,
        /// The key, `p/` included.
        key: Box<str>,
        /// The value, as long as 16 KiB.
        value: Box<str>,
    },
    /// Gossip of this node ended and began anew. For all peers `was` is dead and `now` has joined, with the same keys; their
    /// values are told again from the first.
    Reborn {
        /// What this node was called.
        was: NodeName,
        /// What it is called now.
        now: NodeName,
    },
}

/// Gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The interval is shorter than 20 ms or longer than 1 s.
    #[error("a gossip interval of {0:?} is not from 20 ms to 1 s")]
    Interval(Duration),
    /// The address can't be bound.
    #[error("can't listen for gossip on {0}")]
    Bind(SocketAddr, #[source] io::Error),
    /// No thread or runtime for it.
    #[error("no thread for gossip")]
    Thread(#[source] io::Error),
    /// What the node says of itself doesn't fit into a value.
    #[error("the description of this node is unfit for gossip")]
    Meta(#[source] BadEntry),
}

/// Gossip of this node. Cheap to clone; the last clone that is dropped ends it at once, without a word to the others.
#[derive(Clone)]
pub struct Gossip {
    shared: Arc<Shared>,
    view: watch::Receiver<Arc<View>>,
    secrets: Arc<watch::Sender<Arc<Keys>>>,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    interval: Duration,
    cluster_id: Arc<str>,
    _end: Arc<tokio_util::sync::DropGuard>,
}

impl Gossip {
    /// Starts gossip on a thread of its own, in the state [`State::Joining`]. `events` should hold about [`EVENTS`].
    ///
    /// # Errors
    /// When the interval is out of range, the address can't be bound, there is no thread, or `meta` is longer than 16 KiB.
    pub fn start(settings: Settings, events: mpsc::Sender<Event>) -> Result<Self, StartError> {
        if !INTERVALS.contains(&settings.interval) {
            return Err(StartError::Interval(settings.interval));
        }
        let socket =
            transport::bind(settings.listen).map_err(|error| StartError::Bind(settings.listen, error))?;
        let address = socket.local_addr().map_err(|error| StartError::Bind(settings.listen, error))?;
        let keys = Arc::new(Keys::new(&settings.cluster_id, &settings.secrets));
        let (secrets, keys) = watch::channel(keys);
        let metrics = Arc::new(Metrics::default());
        let interval = settings.interval;
        let cluster_id = settings.cluster_id.as_str().into();
        let start = Start { settings, socket, address, keys, events, metrics: metrics.clone() };
        let (shared, view) = thread::start(start)?;
        let end = Arc::new(shared.stop.clone().drop_guard());
        let secrets = Arc::new(secrets);
        Ok(Self { shared, view, secrets, metrics, address, interval, cluster_id, _end: end })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The latest view.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// The views from now on.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Says what this node is doing.
    pub fn set_state(&self, state: State) {
        self.shared.put_own(says::STATE, state.word().to_owned());
    }

    /// Says how much this node has to do. Each change costs a little on every node: worth saying every 5 s, if it differs by
    /// more than a twentieth.
    pub fn set_load(&self, load: Load) {
        self.shared.put_own(says::LOAD, says::text(&load));
    }

    /// Writes keys under `p/`, in this order and in one round. Keys are never deleted; a value that is overwritten before
    /// the round is not sent.
    ///
    /// # Errors
    /// At the first entry that gossip can't take: what comes before it is written.
    pub fn put(&self, entries: impl IntoIterator<Item = (String, String)>) -> Result<(), BadEntry> {
        self.shared.put(entries)
    }

    /// Takes other secrets, at once and for every datagram from now on.
    pub fn set_secrets(&self, secrets: &Secrets) {
        self.secrets.send_replace(Arc::new(Keys::new(&self.cluster_id, secrets)));
    }

    /// What gossip counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Tells the others that this node leaves, gives that three intervals to get around, and ends gossip.
    pub async fn stop(&self) {
        self.set_state(State::Leaving);
        tokio::time::sleep(3 * self.interval).await;
        self.shared.stop.cancel();
        self.shared.ended.cancelled().await;
    }

    /// Ends the gossip task as a failure would.
    #[cfg(test)]
    fn kill_task(&self) {
        self.shared.kill.notify_one();
    }

    /// Keeps the thread of gossip from running for two detection times, as a stopped process would.
    #[cfg(test)]
    fn freeze(&self) {
        self.shared.freeze.notify_one();
    }
}
