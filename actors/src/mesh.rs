//! Rooms and users on other nodes: what this node asks of them, and what they ask of it.
//!
//! In reading order:
//!
//! * [`wire`]: what nodes tell each other;
//! * [`sockets`]: the sockets of this node, by session and user;
//! * [`proxy`]: a socket of another node, as rooms and users here hold it;
//! * [`ports`]: what sessions here have asked of rooms elsewhere, until it is answered or asked again;
//! * [`calls`]: requests that somebody waits for;
//! * [`interest`]: which nodes hear which rooms that are placed here;
//! * [`inbound`]: what comes from other nodes, and what time brings.
//!
//! ```text
//!   session ─▶ Rooms ─┬─ here ──────▶ room ─▶ audience ─▶ outbox
//!                     └─ elsewhere ─▶ port ─▶ link ┈┈▶ inbound ─▶ room
//!              outbox ◀─ audience ◀─ inbound ◀┈┈ link ◀────────────┘   once a node that listens
//! ```
//!
//! A message between nodes comes at most once and may be lost with its link. So everything that is asked is asked again:
//! sends by the session that waits for their answers, openings by ports, listening and registrations as leases. A room's
//! stream heals by its sequence numbers.

pub(crate) mod calls;
pub(crate) mod inbound;
pub(crate) mod interest;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::sync::Arc;

use bytes::Bytes;
use protocol::{RoomId, UserId};
use telemetry::TraceContext;

use self::{calls::Calls, interest::Interest, ports::Ports, sockets::Sockets, wire::PeerMessage};
use crate::{
    PeerId, Peers,
    peers::{Unsent, Worth},
};

/// Where something is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this node.
    Here,
    /// On another.
    At(PeerId),
    /// This node can't know now.
    Unknown,
}

/// What the actors of a node know of the others. Of a node alone: nothing.
pub(crate) struct Mesh {
    peers: Option<Arc<dyn Peers>>,
    pub(crate) sockets: Sockets,
    pub(crate) ports: Ports,
    pub(crate) calls: Calls,
    pub(crate) interest: Interest,
}

impl Mesh {
    pub(crate) fn new(peers: Option<Arc<dyn Peers>>, sockets: Sockets) -> Arc<Self> {
        let (ports, calls, interest) = (Ports::default(), Calls::default(), Interest::default());
        Arc::new(Self { peers, sockets, ports, calls, interest })
    }

    /// The cluster, if there is one.
    pub(crate) fn peers(&self) -> Option<&Arc<dyn Peers>> {
        self.peers.as_ref()
    }

    /// Where a room is placed. (One that is held here stays here until it is handed over.)
    pub(crate) fn place_of_room(&self, room: RoomId) -> Place {
        self.place(room.as_u128())
    }

    /// Where a user's sockets are known together.
    pub(crate) fn home_of(&self, user: UserId) -> Place {
        self.place(user.as_u128())
    }

    fn place(&self, key: u128) -> Place {
        let Some(peers) = &self.peers else { return Place::Here };
        match peers.home(key) {
            Some(peer) if peer == peers.me() => Place::Here,
            Some(peer) => Place::At(peer),
            None => Place::Unknown,
        }
    }

    /// Tells a peer something that it must not be left without.
    pub(crate) fn tell(&self, peer: PeerId, message: &PeerMessage<'_>) -> Result<(), Unsent> {
        self.send(peer, Worth::Needed, message.encode().into(), TraceContext::NONE)
    }

    /// Tells a peer something that is not missed.
    pub(crate) fn hint(&self, peer: PeerId, message: &PeerMessage<'_>) {
        // A lease, a later message or nobody makes up for it.
        let _ = self.send(peer, Worth::Droppable, message.encode().into(), TraceContext::NONE);
    }

    /// Tells every peer something.
    pub(crate) fn tell_all(&self, worth: Worth, message: &PeerMessage<'_>) {
        let Some(peers) = &self.peers else { return };
        let others = peers.others();
        if others.is_empty() {
            return;
        }
        let bytes = Bytes::from(message.encode());
        for peer in others.iter() {
            // Whoever is not reached asks the store when it is back.
            let _ = peers.send(*peer, worth, bytes.clone(), TraceContext::NONE);
        }
    }

    pub(crate) fn send(
        &self,
        peer: PeerId,
        worth: Worth,
        bytes: Bytes,
        trace: TraceContext,
    ) -> Result<(), Unsent> {
        self.peers.as_ref().ok_or(Unsent)?.send(peer, worth, bytes, trace)
    }
}
