//! What rooms and users ask of the cluster, answered from what is known at the moment: no waiting, no gossip.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use actors::{
    PeerId, Peers,
    peers::{Unsent, Worth},
};
use bytes::Bytes;
use protocol::{Millis, UserId, client::PresenceStatus};
use telemetry::TraceContext;

use crate::{
    NodeName,
    gossip::{Role, View},
    link::Links,
    placement::{Candidate, Placement},
    presence::Ring,
};

/// The cluster in the eyes of this node's actors. It is there before the cluster runs, and then says that it knows nothing.
pub struct Peering {
    known: RwLock<Known>,
    links: RwLock<Option<Links>>,
    ring: Mutex<Ring>,
    /// Whether this node may not say where anything lives.
    is_isolated: AtomicBool,
}

/// What the latest view says.
struct Known {
    me: PeerId,
    placement: Arc<Placement>,
    others: Arc<[PeerId]>,
    members: Arc<[NodeName]>,
}

impl Peering {
    /// Of the node `me`, before it has seen anybody.
    pub fn new(me: &NodeName) -> Arc<Self> {
        let known =
            Known { me: me.peer(), placement: Arc::default(), others: Arc::new([]), members: Arc::new([]) };
        Arc::new(Self {
            known: RwLock::new(known),
            links: RwLock::new(None),
            ring: Mutex::new(Ring::new(me)),
            is_isolated: AtomicBool::new(true),
        })
    }

    /// Takes what this node sees now; tells whether anything may live elsewhere than before.
    pub(crate) fn see(&self, view: &View) -> bool {
        let placement =
            Placement::new(view.placeable(Role::Rooms).map(|member| Candidate::new(member.name.clone())));
        let members: Vec<NodeName> = view.members.iter().map(|member| member.name.clone()).collect();
        let others = members.iter().filter(|name| **name != view.me).map(NodeName::peer).collect();
        let was_isolated = self.is_isolated.swap(view.isolated, Ordering::Relaxed);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = *known.placement != placement || known.me != view.me.peer();
        *known =
            Known { me: view.me.peer(), placement: Arc::new(placement), others, members: members.into() };
        has_changed || was_isolated != view.isolated
    }

    /// Messages go this way from now on.
    pub(crate) fn set_links(&self, links: Option<Links>) {
        *self.links.write().unwrap_or_else(PoisonError::into_inner) = links;
    }

    pub(crate) fn links(&self) -> Option<Links> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name of a peer that is a member.
    pub(crate) fn name(&self, peer: PeerId) -> Option<NodeName> {
        let members = Arc::clone(&self.known().members);
        members.iter().find(|name| name.peer() == peer).cloned()
    }

    /// Reads or changes what this node tells of its users.
    pub(crate) fn ring<T>(&self, with: impl FnOnce(&mut Ring) -> T) -> T {
        with(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers for Peering {
    fn me(&self) -> PeerId {
        self.known().me
    }

    fn home(&self, key: u128) -> Option<PeerId> {
        if self.is_isolated.load(Ordering::Relaxed) {
            return None;
        }
        let placement = Arc::clone(&self.known().placement);
        placement.home(key)
    }

    fn others(&self) -> Arc<[PeerId]> {
        Arc::clone(&self.known().others)
    }

    fn send(&self, to: PeerId, worth: Worth, message: Bytes, trace: TraceContext) -> Result<(), Unsent> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.as_ref().ok_or(Unsent)?.send(to, worth, message, trace)
    }

    fn show(&self, user: UserId, status: PresenceStatus, at: Millis) {
        self.ring(|ring| ring.change(user, status, at));
    }
}
