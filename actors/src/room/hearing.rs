//! Who hears a room: the audience of this node, and other nodes, each of which is told once.

use std::collections::HashMap;

use bytes::Bytes;
use protocol::{Seq, UserId, server::Ack};
use ractor::ActorRef;
use store::members::MemberState;
use tokio::time::Instant;

use super::{
    Phase, ReplyTo, Room, RoomActor, RoomMessage,
    abroad::Abroad,
    claiming::Claim,
    state::{Admit, Delivery, RoomState},
};
use crate::{
    PeerId,
    audience::Hello,
    mesh::wire::{AckTold, Admitted, Batch, Bits, EntryTold, Greeting, PeerMessage},
    peers::Worth,
};

impl Room {
    fn hello(&self, state: &RoomState) -> Hello {
        Hello {
            epoch: state.epoch(),
            incarnation: state.incarnation(),
            head: state.head(),
            recent: state.recent().cloned().collect(),
        }
    }

    /// The room is ours: whoever hears it is told how it stands.
    pub(super) fn greet_all(&self, actor: &mut RoomActor, state: &RoomState) {
        let context = &self.rooms.context;
        if let Some(link) = context.audiences.existing(self.id) {
            link.hello(self.hello(state));
            actor.audience = Some(link);
        }
        for peer in context.mesh.interest.of(self.id) {
            self.greet(&mut actor.abroad, state, peer);
        }
    }

    /// Tells a node how the room stands; from then on it is told everything.
    fn greet(&self, abroad: &mut Abroad, state: &RoomState, peer: PeerId) {
        let greeting = PeerMessage::Hello(Greeting {
            room: Bits(self.id),
            epoch: state.epoch(),
            incarnation: state.incarnation().0,
            head: state.head(),
            recent: state.recent().map(EntryTold::new).collect(),
        });
        if self.rooms.context.mesh.tell(peer, &greeting).is_ok() {
            abroad.listen(peer);
        }
    }

    /// A node hears the room, and has heard it up to an entry, and of an epoch.
    pub(super) fn listens(
        &self,
        myself: &ActorRef<RoomMessage>,
        actor: &mut RoomActor,
        peer: PeerId,
        (head, epoch): (Seq, u64),
    ) {
        let RoomActor { phase, abroad, .. } = actor;
        match phase {
            Phase::Asleep => {
                self.claim(myself, Claim::new(false));
                *phase = Phase::Claiming(Vec::new());
            }
            Phase::Serving { state, .. } if epoch > state.epoch() => self.verify(myself, None),
            Phase::Serving { state, .. } if !abroad.hears(peer) => self.greet(abroad, state, peer),
            Phase::Serving { state, .. } if state.head() != head => {
                let (room, epoch, head) = (Bits(self.id), state.epoch(), state.head());
                self.rooms.context.mesh.hint(peer, &PeerMessage::Heard { room, epoch, head });
            }
            // Once it is ours, everybody who listens is greeted.
            Phase::Serving { .. } | Phase::Claiming(_) | Phase::Leaving | Phase::Ended => {}
        }
    }

    pub(super) fn deliver(&self, actor: &mut RoomActor, mut delivery: Delivery) {
        let Phase::Serving { state, .. } = &actor.phase else { return };
        let (epoch, head) = (state.epoch(), state.head());
        self.rooms.context.heads.moved(self.id, head);
        let abroad = acks_abroad(&mut delivery.acks);
        if actor.abroad.is_heard() || !abroad.is_empty() {
            self.deliver_abroad(actor, epoch, &delivery, abroad);
        }
        let undelivered = match &actor.audience {
            Some(link) => link.deliver(epoch, delivery).err(),
            None => Some(Box::new(delivery)),
        };
        if let Some(delivery) = undelivered {
            actor.audience = None; // it ended, or nobody listens: only those who wait for an answer are told
            delivery.acks.into_iter().for_each(|(to, ack)| self.rooms.context.audiences.answer(to, ack));
        }
    }

    /// The same bytes to every node that listens, with the answers to its own sessions behind them.
    fn deliver_abroad(
        &self,
        actor: &mut RoomActor,
        epoch: u64,
        delivery: &Delivery,
        mut acks: HashMap<PeerId, Vec<AckTold>>,
    ) {
        let (mesh, room) = (&self.rooms.context.mesh, Bits(self.id));
        if actor.abroad.is_heard() {
            let batch = Shared::new(Batch {
                room,
                epoch,
                entries: delivery.entries.iter().map(EntryTold::new).collect(),
                ends: delivery.ends.map(|(user, code)| (Bits(user), code)),
                deleted: delivery.deleted,
                acks: Vec::new(),
            });
            for peer in actor.abroad.listeners().to_vec() {
                let bytes = batch.with(acks.get(&peer));
                if mesh.send(peer, Worth::Needed, bytes, delivery.trace).is_ok() {
                    acks.remove(&peer);
                } else {
                    // What it misses it reads in the log, once it listens again.
                    actor.abroad.unlisten(peer);
                }
            }
        }
        for (peer, acks) in acks {
            // Lost: the session asks again, and the room knows the repeat.
            let _ = mesh.tell(peer, &PeerMessage::Acks { room, acks });
        }
    }

    pub(super) fn admit(&self, actor: &mut RoomActor, admit: Admit) {
        let Phase::Serving { state, .. } = &actor.phase else { return };
        if let Some(peer) = admit.session.outbox.peer() {
            return self.admit_abroad(actor, peer, admit);
        }
        let mut admit = Box::new(admit);
        if let Some(link) = &actor.audience {
            match link.admit(state.epoch(), admit) {
                Ok(()) => return,
                Err(back) => admit = back,
            }
        }
        let hello = self.hello(state);
        actor.audience = self.rooms.context.audiences.start(self.id, hello);
        let left = match &actor.audience {
            Some(link) => link.admit(state.epoch(), admit).err(),
            None => Some(admit),
        };
        drop(left); // unanswered: the session is told to ask again
    }

    fn admit_abroad(&self, actor: &mut RoomActor, peer: PeerId, admit: Admit) {
        let Admit { session, reset, opened, gap, start, mut unanswered } = admit;
        let RoomActor { phase: Phase::Serving { state, .. }, abroad, .. } = actor else { return };
        self.rooms.context.mesh.interest.listen(self.id, peer, Instant::now());
        if !abroad.hears(peer) {
            // A node keeps what the greeting holds for whoever comes later.
            self.greet(abroad, state, peer);
        }
        let (epoch, head) = (state.epoch(), state.head());
        let told = PeerMessage::Admit(Admitted {
            room: Bits(self.id),
            epoch,
            session: Bits(session.id),
            id: opened.id,
            incarnation: opened.incarnation.0,
            durability: opened.durability,
            head,
            after: opened.after,
            role: opened.role,
            reset: reset.map(|reset| reset.head),
            gap: gap.map(|gap| (gap.after, gap.upto)),
            start,
        });
        if self.rooms.context.mesh.tell(peer, &told).is_ok() {
            unanswered.answered();
        }
    }

    pub(super) fn typing(&self, actor: &RoomActor, user: UserId) {
        let Phase::Serving { state, .. } = &actor.phase else { return };
        if state.may_read(user).is_err() {
            return;
        }
        if let Some(link) = &actor.audience {
            link.typing(user);
        }
        for peer in actor.abroad.listeners() {
            let types = PeerMessage::Types { room: Bits(self.id), user: Bits(user) };
            self.rooms.context.mesh.hint(*peer, &types);
        }
    }

    /// Whoever hears the room is not given this user's words from memory any more.
    pub(super) fn forget_words(&self, actor: &mut RoomActor, user: UserId) {
        if let Some(link) = self.rooms.context.audiences.existing(self.id) {
            link.forget_words(user);
        }
        self.tell_listeners(actor, &PeerMessage::ForgetWords { room: Bits(self.id), user: Bits(user) });
    }

    /// The room and who hears it hold nothing below this entry any more.
    pub(super) fn forget(&self, actor: &mut RoomActor, below: Seq) {
        if let Some(link) = &actor.audience {
            link.forget(below);
        }
        self.tell_listeners(actor, &PeerMessage::Forget { room: Bits(self.id), below });
    }

    /// Who is not reached is greeted anew when it listens again, and forgets everything then.
    fn tell_listeners(&self, actor: &mut RoomActor, message: &PeerMessage<'_>) {
        for peer in actor.abroad.listeners().to_vec() {
            if self.rooms.context.mesh.tell(peer, message).is_err() {
                actor.abroad.unlisten(peer);
            }
        }
    }

    /// Somebody's place in the room changed: so does their list of rooms, wherever they are.
    pub(super) fn member_moved(&self, user: UserId, state: MemberState, head: Seq) {
        let context = &self.rooms.context;
        context.member_moved(self.id, user, state, head);
        let (room, user, state) = (Bits(self.id), Bits(user), state.into());
        context.mesh.tell_all(Worth::Needed, &PeerMessage::Member { room, user, state, head });
    }
}

/// Takes out the answers that go to other nodes.
fn acks_abroad(acks: &mut Vec<(ReplyTo, Ack)>) -> HashMap<PeerId, Vec<AckTold>> {
    let mut abroad: HashMap<PeerId, Vec<AckTold>> = HashMap::new();
    acks.retain(|(to, ack)| {
        let ReplyTo::Session { session, attempt } = to else { return true };
        let Some(peer) = session.outbox.peer() else { return true };
        abroad.entry(peer).or_default().push(AckTold::new(session.id, *attempt, ack));
        false
    });
    abroad
}

/// A batch as bytes. Its acknowledgements, which differ from node to node, are the last of them.
struct Shared(Bytes);

impl Shared {
    /// Without acknowledgements: their number, 0, is the last byte.
    fn new(batch: Batch<'_>) -> Self {
        debug_assert!(batch.acks.is_empty(), "they are added for each node");
        Self(PeerMessage::Batch(batch).encode().into())
    }

    fn with(&self, acks: Option<&Vec<AckTold>>) -> Bytes {
        let Some(acks) = acks else { return self.0.clone() };
        let mut bytes = self.0[..self.0.len() - 1].to_vec();
        bytes.extend(postcard::to_stdvec(acks).expect("acknowledgements have a known length"));
        bytes.into()
    }
}
