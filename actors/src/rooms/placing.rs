//! Where rooms live, and what follows when that changes.

use std::sync::Arc;

use protocol::RoomId;
use tokio::time::Instant;

use super::{OPEN_BYTES, Rooms};
use crate::{
    PeerId,
    mesh::{
        Place,
        wire::{Bits, PeerMessage},
    },
    room::{RoomMessage, Unanswered, state::Opening},
    rooms::Open,
};

impl Rooms {
    /// Where a room's requests go. A room that is held here stays here until it is handed over.
    pub(crate) fn place(&self, room: RoomId) -> Place {
        let mesh = &self.context.mesh;
        if mesh.peers().is_none() || self.context.rooms.get(room).is_some() {
            return Place::Here;
        }
        mesh.place_of_room(room)
    }

    /// Asks for a room that is not here.
    pub(super) fn open_at(&self, at: Option<PeerId>, asked: (Open, Unanswered)) {
        let mesh = &self.context.mesh;
        let listening = self.context.audiences.epoch(asked.0.room);
        mesh.ports.open(mesh, at, asked, listening, Instant::now());
    }

    /// Asks again for a room that went while it was asked.
    pub(crate) fn open_again(&self, opening: Opening) {
        let Opening { open, mut unanswered, permit, epoch, .. } = opening;
        let mesh = &self.context.mesh;
        if let Some(peer) = open.session.outbox.peer() {
            unanswered.answered(); // its own node asks again
            let _ = mesh.tell(peer, &PeerMessage::Moved { room: Bits(open.room) }); // lost: so it does
            return;
        }
        match self.place(open.room) {
            Place::At(peer) => self.open_at(Some(peer), (open, unanswered)),
            Place::Unknown => self.open_at(None, (open, unanswered)),
            Place::Here => {
                drop(permit); // of the actor that went
                let room = open.room;
                let opening =
                    |permit| RoomMessage::Open(Box::new(Opening::with(open, permit, unanswered, epoch)));
                // Refused: the opening is dropped, and its session told to ask again.
                let _ = self.tell(room, OPEN_BYTES, opening);
            }
        }
    }

    /// Whether sessions of this node hear a room, or lately did.
    pub(crate) fn is_heard(&self, room: RoomId) -> bool {
        self.context.audiences.existing(room).is_some()
    }

    /// Sends rooms away that are placed elsewhere now, some at a time.
    pub(crate) fn yield_misplaced(&self) {
        let mesh = &self.context.mesh;
        let misplaced: Vec<RoomId> = self.context.rooms.all().into_iter().map(|(room, _)| room).collect();
        let misplaced =
            misplaced.into_iter().filter(|room| matches!(mesh.place_of_room(*room), Place::At(_)));
        let misplaced: Vec<RoomId> = misplaced.collect();
        if misplaced.is_empty() {
            return;
        }
        tracing::info!(rooms = misplaced.len(), "rooms move to other nodes");
        let rooms = self.clone();
        tokio::spawn(async move {
            for room in misplaced {
                let Ok(permit) = Arc::clone(&rooms.moving).acquire_owned().await else { return };
                if let Some(child) = rooms.context.rooms.get(room) {
                    let _ = child.actor.cast(RoomMessage::Yield { permit: Some(permit) }); // it ended
                }
            }
        });
    }
}
