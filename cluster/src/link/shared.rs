//! What the link actor, the senders and the tasks of the links share.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actors::PeerId;
use dashmap::DashMap;
use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{LinkHandler, LinkSettings, actor::LinkMessage, peer::Peer, state::ConnectionId, stream::Wire};
use crate::NodeName;

/// Who lives, and where it listens for links.
pub(crate) type Live = Vec<(NodeName, SocketAddr)>;

pub(crate) struct Shared {
    pub(crate) settings: LinkSettings,
    pub(crate) handler: Arc<dyn LinkHandler>,
    started: Instant,
    /// The nodes that live.
    pub(crate) peers: DashMap<PeerId, Arc<Peer>>,
    /// The connections that are open.
    pub(crate) wires: DashMap<ConnectionId, Arc<Wire>>,
    /// Who lives, until the link actor has taken note.
    live: Mutex<Option<Live>>,
    /// Whether the link actor has been asked to look, and has not yet.
    pub(crate) look_asked: AtomicBool,
    /// Whether the pump has been woken.
    pub(crate) pump_asked: AtomicBool,
    pub(crate) pump: Notify,
    pub(crate) actors: OnceLock<Actors>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// The root of the links has ended, for whatever reason.
    pub(crate) ended: CancellationToken,
    pub(crate) totals: Totals,
}

/// Known once all are started.
pub(crate) struct Actors {
    pub(crate) link: ActorRef<LinkMessage>,
    pub(crate) server: ActorRef<NodeServerMessage>,
}

/// Counted over all peers.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) unreadable: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) other_version: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) dials_failed: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) oversized: AtomicU64,
}

impl Shared {
    pub(crate) fn new(settings: LinkSettings, handler: Arc<dyn LinkHandler>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            handler,
            started: Instant::now(),
            peers: DashMap::new(),
            wires: DashMap::new(),
            live: Mutex::default(),
            look_asked: AtomicBool::new(false),
            pump_asked: AtomicBool::new(false),
            pump: Notify::new(),
            actors: OnceLock::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            totals: Totals::default(),
        })
    }

    /// The clock of the links: since they were started.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn tell(&self, message: LinkMessage) {
        if let Some(actors) = self.actors.get() {
            let _ = actors.link.cast(message);
        }
    }

    /// Asks the link actor to look at the time and at who lives. One question at a time: it may be slow.
    pub(crate) fn ask_to_look(&self) {
        if !self.look_asked.swap(true, Ordering::AcqRel) {
            self.tell(LinkMessage::Look);
        }
    }

    pub(crate) fn ask_to_pump(&self) {
        if !self.pump_asked.swap(true, Ordering::AcqRel) {
            self.pump.notify_one();
        }
    }

    pub(crate) fn set_live(&self, live: Live) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
        self.ask_to_look();
    }

    pub(crate) fn take_live(&self) -> Option<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (name, _) in live.iter().flatten().filter(|(name, _)| name.id() != self.settings.name.id()) {
            self.peers.entry(name.peer()).or_insert_with(|| Arc::new(Peer::new(name.clone())));
        }
        live
    }

    /// Forgets those who don't live.
    pub(crate) fn keep_peers(&self, live: &Live) {
        self.peers.retain(|_, peer| live.iter().any(|(name, _)| *name == peer.name));
    }
}

/// Sends small batches when their time has come.
pub(crate) async fn pump(shared: Arc<Shared>) {
    while shared.stop.run_until_cancelled(shared.pump.notified()).await.is_some() {
        tokio::time::sleep(super::outbox::PAUSE).await;
        shared.pump_asked.store(false, Ordering::Release);
        let now = shared.now();
        if shared.peers.iter().filter_map(|peer| peer.pump(now)).count() > 0 {
            shared.ask_to_pump();
        }
    }
}

/// Sends heartbeats, and has the link actor look at the time. Apart from the actor, so that a slow handler does not make
/// this node look dead.
pub(crate) async fn beat(shared: Arc<Shared>) {
    let times = shared.settings.times;
    let mut ticks = tokio::time::interval(times.tick());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = Duration::ZERO;
    while shared.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        shared.ask_to_look();
        let now = shared.now();
        if now >= next {
            next = now + times.heartbeat;
            for peer in &shared.peers {
                peer.pulse(now, false);
            }
        }
    }
}
