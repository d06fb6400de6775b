//! Nodes and the links between them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{Millis, RoomId, UserId, client::PresenceStatus};
use store::{RoomLog, memory::MemoryStore};
use telemetry::TraceContext;
use tokio::sync::mpsc;

use crate::{
    Actors, Chance, Clock, Inbound, PeerId, Peers, World,
    peers::{Unsent, Worth},
    simulation::client::PlainJson,
    world::Settings,
};

/// Messages on one link. More are refused, as by a full link.
const LINK: usize = 4_096;

/// What becomes of messages on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The link is known to be down.
    Down,
    /// It loses what it takes.
    Loses,
}

/// One direction between two nodes.
type Way = mpsc::Sender<(Bytes, TraceContext)>;

/// All nodes.
pub(super) struct Net {
    pub(super) store: Arc<MemoryStore>,
    counter: Arc<Counter>,
    ears: RwLock<HashMap<PeerId, Inbound>>,
    links: Mutex<HashMap<(PeerId, PeerId), Way>>,
    cuts: Mutex<HashSet<(PeerId, PeerId, bool)>>,
    /// What each node believes of where keys live; the first of all nodes if it says nothing.
    views: RwLock<HashMap<PeerId, Vec<PeerId>>>,
    pub(super) shown: Mutex<HashMap<(PeerId, UserId), PresenceStatus>>,
}

/// Time that passes with tokio's, and chance that never repeats.
struct Counter {
    began: tokio::time::Instant,
    bits: AtomicU64,
}

impl Clock for Counter {
    fn now(&self) -> Millis {
        1_000_000 + u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }
}

impl Chance for Counter {
    fn bits(&self) -> u128 {
        u128::from(self.bits.fetch_add(1, Ordering::Relaxed)) << 64 | 1
    }
}

/// One node's eyes and mouth.
struct Eyes {
    me: PeerId,
    net: Arc<Net>,
}

impl Net {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(MemoryStore::new()),
            counter: Arc::new(Counter { began: tokio::time::Instant::now(), bits: AtomicU64::new(1) }),
            ears: RwLock::default(),
            links: Mutex::default(),
            cuts: Mutex::default(),
            views: RwLock::default(),
            shown: Mutex::default(),
        })
    }

    /// Starts a node that sees the others, and is not yet seen by their placement.
    pub(super) async fn node(self: &Arc<Self>, me: PeerId, settings: Settings) -> Actors {
        let world = World {
            clock: Arc::clone(&self.counter) as _,
            chance: Arc::clone(&self.counter) as _,
            store: Arc::clone(&self.store) as _,
            encode: Arc::new(PlainJson),
            peers: Some(Arc::new(Eyes { me, net: Arc::clone(self) })),
            settings: Arc::new(settings),
        };
        let actors = Actors::start(world).await.unwrap();
        self.ears.write().unwrap().insert(me, actors.inbound.clone());
        actors
    }

    /// From now on `me` places keys on these nodes.
    pub(super) fn see(&self, me: PeerId, nodes: &[PeerId]) {
        self.views.write().unwrap().insert(me, nodes.to_vec());
        if let Some(ear) = self.ear(me) {
            ear.placement_changed();
        }
    }

    /// The node is gone, without a word.
    pub(super) fn kill(&self, peer: PeerId) {
        self.ears.write().unwrap().remove(&peer);
        for ear in self.ears.read().unwrap().values() {
            ear.gone(peer);
        }
    }

    pub(super) fn cut(&self, one: PeerId, other: PeerId, how: Cut) {
        let loses = how == Cut::Loses;
        self.cuts.lock().unwrap().extend([(one, other, loses), (other, one, loses)]);
        if !loses {
            for (me, peer) in [(one, other), (other, one)] {
                self.ear(me).iter().for_each(|ear| ear.down(peer));
            }
        }
    }

    pub(super) fn heal(&self, one: PeerId, other: PeerId) {
        self.heal_silently(one, other);
        for (me, peer) in [(one, other), (other, one)] {
            self.ear(me).iter().for_each(|ear| ear.up(peer));
        }
    }

    /// As [`Self::heal`], but nobody is told.
    pub(super) fn heal_silently(&self, one: PeerId, other: PeerId) {
        self.cuts
            .lock()
            .unwrap()
            .retain(|(from, to, _)| !([*from, *to] == [one, other] || [*from, *to] == [other, one]));
    }

    fn ear(&self, peer: PeerId) -> Option<Inbound> {
        self.ears.read().unwrap().get(&peer).cloned()
    }

    fn fate(&self, from: PeerId, to: PeerId) -> Option<Cut> {
        let cuts = self.cuts.lock().unwrap();
        if cuts.contains(&(from, to, false)) {
            return Some(Cut::Down);
        }
        cuts.contains(&(from, to, true)).then_some(Cut::Loses)
    }

    fn link(self: &Arc<Self>, from: PeerId, to: PeerId) -> Way {
        let mut links = self.links.lock().unwrap();
        let link = links.entry((from, to)).or_insert_with(|| {
            let (sender, mut messages) = mpsc::channel::<(Bytes, TraceContext)>(LINK);
            let net = Arc::downgrade(self);
            tokio::spawn(async move {
                while let Some((bytes, trace)) = messages.recv().await {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    let Some(net) = net.upgrade() else { return };
                    if net.fate(from, to).is_none()
                        && let Some(ear) = net.ear(to)
                    {
                        ear.received(from, &bytes, trace);
                    }
                }
            });
            sender
        });
        link.clone()
    }

    /// How often a room was claimed.
    pub(super) async fn epoch(&self, room: RoomId) -> u64 {
        self.store.statics(room, 0).await.unwrap().unwrap().epoch
    }

    /// The log of a room as the store has it: who counted what.
    pub(super) async fn log(&self, room: RoomId) -> Vec<store::log::Row> {
        self.store.rows_after(room, 0, u64::MAX >> 1, 1_000_000).await.unwrap()
    }
}

impl Peers for Eyes {
    fn me(&self) -> PeerId {
        self.me
    }

    fn home(&self, key: u128) -> Option<PeerId> {
        let views = self.net.views.read().unwrap();
        let nodes = views.get(&self.me)?;
        let weight = |peer: &PeerId| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(format!("{peer}{key}").as_bytes());
            *hasher.finalize().as_bytes()
        };
        nodes.iter().copied().max_by_key(weight)
    }

    fn others(&self) -> Arc<[PeerId]> {
        let ears = self.net.ears.read().unwrap();
        ears.keys().copied().filter(|peer| *peer != self.me).collect()
    }

    fn send(&self, to: PeerId, _: Worth, message: Bytes, trace: TraceContext) -> Result<(), Unsent> {
        let is_gone = self.net.ear(to).is_none() || self.net.ear(self.me).is_none();
        match self.net.fate(self.me, to) {
            Some(Cut::Down) => Err(Unsent),
            Some(Cut::Loses) => Ok(()),
            None if is_gone => Err(Unsent),
            None => self.net.link(self.me, to).try_send((message, trace)).map_err(|_| Unsent),
        }
    }

    fn show(&self, user: UserId, status: PresenceStatus, at: Millis) {
        let ears: Vec<Inbound> = {
            let mut shown = self.net.shown.lock().unwrap();
            shown.insert((self.me, user), status);
            let anywhere =
                shown.iter().any(|((_, other), status)| *other == user && *status != PresenceStatus::Offline);
            // A record of another home outlives the end of this one's.
            if anywhere && status == PresenceStatus::Offline {
                return;
            }
            self.net.ears.read().unwrap().values().cloned().collect()
        };
        ears.iter().for_each(|ear| ear.shown(user, status, at));
    }
}
