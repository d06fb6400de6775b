//! Handing a room over to the node on which it is placed now: finish what was accepted, tell the new owner, and send
//! those who ask for more there.

use std::sync::Arc;

use protocol::ErrorCode;
use ractor::ActorRef;
use store::{StoreError, owner::HandOver};
use tokio::sync::OwnedSemaphorePermit;

use super::{Phase, ReplyTo, Room, RoomActor, RoomMessage, claiming::Claim, refuse_send, state::Input};
use crate::{
    Notice, PeerId,
    mesh::{
        Place,
        wire::{Bits, HandedOver, PeerMessage},
    },
    session::Refusal,
};

/// A room on its way to another node.
pub(super) struct Moving {
    /// What was asked meanwhile, to be asked there. Bounded by the room's admission.
    pub(super) held: Vec<Input>,
    /// Only so many rooms move at once.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// The room's last owner gives it to us.
    pub(super) fn take_over(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor, from: HandOver) {
        if matches!(actor.phase, Phase::Asleep) {
            self.claim(myself, Claim::handed_over(from));
            actor.phase = Phase::Claiming(Vec::new());
        }
    }

    /// The room may be placed elsewhere.
    pub(super) fn yield_room(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let Place::At(_) = self.rooms.context.mesh.place_of_room(self.id) else { return };
        match actor.phase {
            Phase::Asleep => self.retire(myself, actor),
            Phase::Claiming(_) | Phase::Serving { .. } if actor.moving.is_none() => {
                actor.moving = Some(Moving { held: Vec::new(), _permit: permit });
                self.go_if_idle(myself, actor);
            }
            Phase::Claiming(_) | Phase::Serving { .. } | Phase::Leaving | Phase::Ended => {}
        }
    }

    /// Hands the room over once nothing of it is under way.
    pub(super) fn go_if_idle(&self, myself: &ActorRef<RoomMessage>, actor: &mut RoomActor) {
        let Phase::Serving { state, ownership } = &mut actor.phase else { return };
        if !state.is_idle() {
            return;
        }
        let Some(ownership) = ownership.take() else { return };
        actor.phase = Phase::Leaving;
        let (store, myself) = (Arc::clone(&self.rooms.context.world.store), myself.clone());
        tokio::spawn(async move {
            let result = ownership.hand_over(&*store).await;
            let _ = myself.cast(RoomMessage::HandedOver(result)); // the node stops
        });
    }

    pub(super) fn handed_over(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        result: Result<HandOver, StoreError>,
    ) {
        let mesh = &self.rooms.context.mesh;
        match (result, mesh.place_of_room(self.id)) {
            (Ok(from), Place::At(peer)) => {
                let handed = PeerMessage::HandOver(HandedOver {
                    room: Bits(self.id),
                    bucket: from.bucket,
                    epoch: from.epoch,
                    last_seq: from.last_seq,
                    member_seq: from.member_seq,
                    listeners: self.listeners(actor),
                });
                // Lost: the next owner claims the room as if this one had died.
                let _ = mesh.tell(peer, &handed);
            }
            (Err(error), _) => {
                tracing::warn!(room.id = %self.id, %error, "a room goes without being handed over");
            }
            (Ok(_), Place::Here | Place::Unknown) => {}
        }
        self.retire(myself, actor);
        self.tell_ended(actor);
        let held = actor.moving.take().map(|moving| moving.held).unwrap_or_default();
        self.ask_elsewhere(held);
    }

    /// The nodes that hear the room, with this one if it does.
    fn listeners(&self, actor: &RoomActor) -> Vec<PeerId> {
        let here = self.rooms.context.mesh.peers().filter(|_| self.rooms.is_heard(self.id));
        actor.abroad.listeners().iter().copied().chain(here.map(|peers| peers.me())).collect()
    }

    /// Whoever waits for an answer of this room asks who has it now.
    pub(super) fn tell_ended(&self, actor: &RoomActor) {
        self.rooms.context.audiences.room_ended(self.id);
        for peer in actor.abroad.all() {
            // Lost: sessions ask again after a while.
            let ended = PeerMessage::Ended { room: Bits(self.id) };
            let _ = self.rooms.context.mesh.tell(peer, &ended);
        }
    }

    /// What was asked of this room is asked of its next owner: by this node, or by the one that asked.
    pub(super) fn ask_elsewhere(&self, inputs: Vec<Input>) {
        for input in inputs {
            match input {
                Input::Open(opening) => self.rooms.open_again(opening),
                Input::Send(send) => match &send.reply {
                    ReplyTo::Session { session, .. } => {
                        session.outbox.notify(Notice::RoomEnded { room: self.id });
                    }
                    ReplyTo::Once(_) => {
                        refuse_send(self.id, send.reply, send.draft.writer, send.draft.n, moved());
                    }
                },
                other => self.refuse(other, &moved()),
            }
        }
    }
}

/// Definite: whoever calls looks for the room again.
fn moved() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the room moves").retry_after(50)
}
