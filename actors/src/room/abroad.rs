//! The nodes besides this one that hear a room or speak in it.

use super::ReplyTo;
use crate::PeerId;

/// Other nodes, as one room's actor knows them. At most as many as there are nodes.
#[derive(Debug, Default)]
pub(super) struct Abroad {
    /// Nodes that were greeted, and are told everything from then on.
    listeners: Vec<PeerId>,
    /// Nodes whose sessions have sent something.
    speakers: Vec<PeerId>,
}

impl Abroad {
    pub(super) fn listeners(&self) -> &[PeerId] {
        &self.listeners
    }

    pub(super) fn hears(&self, peer: PeerId) -> bool {
        self.listeners.contains(&peer)
    }

    pub(super) fn is_heard(&self) -> bool {
        !self.listeners.is_empty()
    }

    pub(super) fn listen(&mut self, peer: PeerId) {
        if !self.hears(peer) {
            self.listeners.push(peer);
        }
    }

    pub(super) fn unlisten(&mut self, peer: PeerId) {
        self.listeners.retain(|listener| *listener != peer);
    }

    pub(super) fn speaks(&mut self, reply: &ReplyTo) {
        let peer = match reply {
            ReplyTo::Session { session, .. } => session.outbox.peer(),
            ReplyTo::Once(_) => None,
        };
        if let Some(peer) = peer.filter(|peer| !self.speakers.contains(peer)) {
            self.speakers.push(peer);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<PeerId> {
        let speakers = self.speakers.iter().filter(|peer| !self.hears(**peer));
        self.listeners.iter().chain(speakers).copied().collect()
    }
}
