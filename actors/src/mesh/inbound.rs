//! What comes from other nodes, and what time brings. Quick: nothing here waits.

use std::{sync::Arc, time::Duration};

use protocol::{
    Body, CloseCode, Incarnation, Kind, Millis, RoomId, UserId, client::PresenceStatus, server::Ack,
};
use telemetry::TraceContext;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Mesh, Place,
    calls::{Called, Request},
    interest::RENEW,
    ports::send_again,
    proxy,
    wire::{self, AckTold, Admitted, Batch, Bits, Greeting, HandedOver, OpenAsked, PeerMessage, SendAsked},
};
use crate::{
    Notice, PeerId,
    audience::Hello,
    presence::PresenceMessage,
    room::{
        ReplyTo, RoomMessage,
        state::{Admit, Delivery, Opening, Send},
    },
    rooms::{Draft, OPEN_BYTES, Open, Rooms},
    session::Refusal,
    users::{SignedOut, Users},
};

/// Between two looks at what waits for a room to be found.
const LOOK: Duration = Duration::from_millis(25);

/// The ear of this node for the others. Cheap to clone.
#[derive(Clone)]
pub struct Inbound {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
}

/// Runs what time brings; ends when dropped.
pub(crate) struct Ticking(JoinHandle<()>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// From the cluster.
impl Inbound {
    /// A peer says something. In the order in which it was sent; must not be called at once for one peer.
    pub fn received(&self, peer: PeerId, message: &[u8], trace: TraceContext) {
        match PeerMessage::decode(message) {
            Ok(message) => self.understood(peer, message, trace),
            Err(error) => {
                tracing::error!(%peer, %error, bytes = message.len(), "a peer says what nobody understands")
            }
        }
    }

    /// There is a link to a peer.
    pub fn up(&self, peer: PeerId) {
        self.listen(|_, owner| owner == peer);
        self.users.register_at(|home| home == peer);
    }

    /// The link to a peer is lost, and with it what was on its way.
    pub fn down(&self, peer: PeerId) {
        let mesh = self.mesh();
        mesh.ports.lost(peer, Instant::now());
        mesh.calls.lost(peer);
        for room in mesh.interest.forget(peer) {
            self.tell_room(room, RoomMessage::Unlisten(peer));
        }
    }

    /// A peer is dead, or has another life by now: its sockets are gone.
    pub fn gone(&self, peer: PeerId) {
        self.down(peer);
        self.users.map.forget_peer(peer);
    }

    /// This node was cut off from most of the others and hears them again: what was told to all meanwhile is looked up.
    pub fn rejoined(&self) {
        self.users.look_up_sign_ins();
        self.placement_changed();
    }

    /// Rooms and users may live elsewhere now.
    pub fn placement_changed(&self) {
        self.look(Instant::now(), true);
        self.rooms.yield_misplaced();
        self.listen(|_, _| true);
        self.users.placement_changed();
    }

    /// What others see of a user from now on.
    pub fn shown(&self, user: UserId, status: PresenceStatus, at: Millis) {
        self.users.presence.tell(PresenceMessage::Shown { user, status, at });
    }
}

/// What time brings.
impl Inbound {
    /// Starts looking after ports and leases, if there is a cluster.
    pub(crate) fn start(&self) -> Option<Ticking> {
        self.mesh().peers()?;
        let inbound = self.clone();
        Some(Ticking(tokio::spawn(async move {
            let mut renewed_at = Instant::now();
            loop {
                tokio::time::sleep(LOOK).await;
                let now = Instant::now();
                inbound.look(now, false);
                if now >= renewed_at + RENEW {
                    renewed_at = now;
                    inbound.renew(now);
                }
            }
        })))
    }

    /// Looks for rooms that were not found.
    fn look(&self, now: Instant, has_changed: bool) {
        let mesh = self.mesh();
        let place = |room| match self.rooms.place(room) {
            Place::At(peer) => Some(peer),
            Place::Here | Place::Unknown => None,
        };
        for room in mesh.ports.due(now, has_changed, place) {
            self.turn(room, now);
        }
    }

    /// What waits for a room is asked where it is placed now.
    fn turn(&self, room: RoomId, now: Instant) {
        let mesh = self.mesh();
        match self.rooms.place(room) {
            Place::At(peer) => {
                let listening = self.rooms.context.audiences.epoch(room);
                mesh.ports.turn(mesh, room, peer, listening, now);
            }
            Place::Unknown => mesh.ports.wait(room, now),
            Place::Here => self.turn_here(room),
        }
    }

    /// A peer says that a room is not there. If we know better by now, we ask there at once.
    fn moved(&self, peer: PeerId, room: RoomId) {
        let now = Instant::now();
        self.mesh().ports.moved(room, peer, now);
        if self.rooms.place(room) != Place::At(peer) {
            self.turn(room, now);
        }
    }

    /// A room that was elsewhere is placed here now.
    fn turn_here(&self, room: RoomId) {
        let mesh = self.mesh();
        let Some(left) = mesh.ports.close(room) else { return };
        let epoch = self.rooms.context.audiences.epoch(room).unwrap_or_default();
        for (open, unanswered) in left.opens {
            let opening =
                |permit| RoomMessage::Open(Box::new(Opening::with(open, permit, unanswered, epoch)));
            // Refused: the message is dropped, and with it what waits is told to ask again.
            let _ = self.rooms.tell(room, OPEN_BYTES, opening);
        }
        send_again(mesh, room, &left.senders);
    }

    fn renew(&self, now: Instant) {
        let mesh = self.mesh();
        mesh.ports.sweep(now, |session| mesh.sockets.session(session).is_some());
        for (room, peer) in mesh.interest.expire(now) {
            self.tell_room(room, RoomMessage::Unlisten(peer));
        }
        self.listen(|_, _| true);
        self.users.renew();
    }

    /// Tells owners which rooms are heard here.
    fn listen(&self, which: impl Fn(RoomId, PeerId) -> bool) {
        let mesh = self.mesh();
        let mut by_owner: std::collections::HashMap<PeerId, Vec<_>> = std::collections::HashMap::new();
        for (room, head, epoch) in self.rooms.context.audiences.heads() {
            if let Place::At(owner) = self.rooms.place(room)
                && which(room, owner)
            {
                by_owner.entry(owner).or_default().push((Bits(room), head, epoch));
            }
        }
        for (owner, rooms) in by_owner {
            for rooms in rooms.chunks(LISTEN_ROOMS) {
                // Lost: told again.
                let _ = mesh.tell(owner, &PeerMessage::Listen { rooms: rooms.to_vec() });
            }
        }
    }
}

/// Rooms in one message about listening: some 40 KB.
const LISTEN_ROOMS: usize = 2_000;

impl Inbound {
    fn mesh(&self) -> &Arc<Mesh> {
        &self.rooms.context.mesh
    }

    fn understood(&self, peer: PeerId, message: PeerMessage<'_>, trace: TraceContext) {
        let mesh = self.mesh();
        match message {
            PeerMessage::Open(asked) => self.opens(peer, asked, trace),
            PeerMessage::Send(asked) => self.sends(peer, asked, trace),
            PeerMessage::Typing { room, user } => {
                self.tell_room(room.0, RoomMessage::Typing { user: user.0 });
            }
            PeerMessage::Call { call, room, request } => self.called(peer, call, room.0, request),
            PeerMessage::Listen { rooms } => {
                rooms.into_iter().for_each(|(room, head, epoch)| self.listens(peer, room.0, (head, epoch)));
            }
            PeerMessage::Unlisten { room } => {
                mesh.interest.unlisten(room.0, peer);
                self.tell_room(room.0, RoomMessage::Unlisten(peer));
            }
            PeerMessage::HandOver(handed) => self.handed_over(peer, handed),
            PeerMessage::Moved { room } => self.moved(peer, room.0),
            PeerMessage::Reply { call, answer } => self.replied(peer, call, answer),
            PeerMessage::Ended { room } => {
                self.rooms.context.audiences.room_ended(room.0);
                self.moved(peer, room.0);
            }
            PeerMessage::Shut { room, session, id, code } => {
                self.shut(session.0, Notice::Shut { room: room.0, id, code });
            }
            PeerMessage::Refused(told) => self.refused(told),
            PeerMessage::Acks { room, acks } => {
                mesh.ports.heard(room.0, peer);
                let answers = self.answers(room.0, &acks);
                answers.for_each(|(to, ack)| self.rooms.context.audiences.answer(to, ack));
            }
            message => self.for_listeners(peer, message, trace),
        }
    }

    fn for_listeners(&self, peer: PeerId, message: PeerMessage<'_>, trace: TraceContext) {
        let audiences = &self.rooms.context.audiences;
        match message {
            PeerMessage::Hello(greeting) => self.greeted(greeting),
            PeerMessage::Admit(admitted) => self.admitted(peer, &admitted),
            PeerMessage::Batch(batch) => self.delivered(peer, batch, trace),
            PeerMessage::Heard { room, epoch, head } => match audiences.existing(room.0) {
                Some(link) => link.heard(epoch, head),
                None => self.mesh().hint(peer, &PeerMessage::Unlisten { room }),
            },
            PeerMessage::Types { room, user } => {
                audiences.existing(room.0).iter().for_each(|link| link.typing(user.0));
            }
            PeerMessage::Forget { room, below } => {
                audiences.existing(room.0).iter().for_each(|link| link.forget(below));
            }
            PeerMessage::ForgetWords { room, user } => {
                audiences.existing(room.0).iter().for_each(|link| link.forget_words(user.0));
            }
            message => self.for_users(peer, message),
        }
    }

    fn for_users(&self, peer: PeerId, message: PeerMessage<'_>) {
        let users = &self.users;
        match message {
            PeerMessage::Register(registration) => users.registers(peer, &registration),
            PeerMessage::StillHere { sockets } => {
                sockets.iter().for_each(|registration| users.registers(peer, registration));
            }
            PeerMessage::Unregister { user, session } => users.map.disconnect(user.0, session.0),
            PeerMessage::SetStatus { user, session, status } => {
                users.map.set_status(user.0, session.0, status);
            }
            PeerMessage::Read { user, room, seq, from_home } => {
                users.read_elsewhere(peer, user.0, room.0, seq, from_home);
            }
            PeerMessage::Registered { user, session, refusal } => {
                users.registered(user.0, session.0, refusal.map(Refusal::from));
            }
            PeerMessage::Home { user, nodes, status } => users.home_says(user.0, nodes, status),
            PeerMessage::Heads { rooms } => {
                rooms.into_iter().for_each(|(room, head)| users.heads.moved_elsewhere(room.0, head));
            }
            PeerMessage::Member { room, user, state, head } => {
                self.rooms.context.member_moved(room.0, user.0, state.into(), head);
            }
            PeerMessage::SignOut { user, device, all_but, code } => {
                let device = device.map(|device| device.0);
                let which = match (all_but, device) {
                    (false, Some(device)) => SignedOut::Device(device),
                    (_, device) => SignedOut::AllExcept(device),
                };
                let code = CloseCode::from_code(code).unwrap_or(CloseCode::SignedOut);
                self.mesh().sockets.sign_out(user.0, which, code);
            }
            _ => debug_assert!(false, "every message has its place above"),
        }
    }

    /// Tells a room that is held here.
    fn tell_room(&self, room: RoomId, message: RoomMessage) {
        if let Some(child) = self.rooms.context.rooms.get(room) {
            let _ = child.actor.cast(message); // it ended: it holds nothing
        }
    }

    /// Whether a room is ours; otherwise the peer is told that it is not.
    fn is_here(&self, peer: PeerId, room: RoomId) -> bool {
        let is_here = self.rooms.place(room) == Place::Here;
        if !is_here {
            // Lost: the peer asks again by itself.
            let _ = self.mesh().tell(peer, &PeerMessage::Moved { room: Bits(room) });
        }
        is_here
    }
}

/// As a room's owner.
impl Inbound {
    fn opens(&self, peer: PeerId, asked: OpenAsked, trace: TraceContext) {
        let OpenAsked { room, session, user, device, id, after, incarnation, listening } = asked;
        let room = room.0;
        if !self.is_here(peer, room) {
            return;
        }
        let session = proxy::session(self.mesh(), peer, session.0, user.0, device.0);
        if listening.is_none() {
            self.mesh().interest.unlisten(room, peer);
            self.tell_room(room, RoomMessage::Unlisten(peer));
        }
        let incarnation = incarnation.map(Incarnation);
        let open = Open { session, id, room, after, incarnation, trace };
        let (session, id) = (open.session.clone(), open.id);
        let epoch = listening.unwrap_or_default();
        let opening = |permit| RoomMessage::Open(Box::new(Opening::new(open, Some(permit), epoch)));
        if let Err(refusal) = self.rooms.tell(room, OPEN_BYTES, opening) {
            session.outbox.notify(Notice::Shut { room, id, code: refusal.code });
        }
    }

    fn sends(&self, peer: PeerId, asked: SendAsked<'_>, trace: TraceContext) {
        let SendAsked { room, session, user, device, attempt, writer, n, kind, target, body } = asked;
        let room = room.0;
        if !self.is_here(peer, room) {
            return;
        }
        let Ok(body) = Body::from_stored(body.to_owned()) else {
            return tracing::error!(%peer, room.id = %room, "a peer's send has a body that is no JSON");
        };
        let session = proxy::session(self.mesh(), peer, session.0, user.0, device.0);
        let (user, writer, kind) = (user.0, writer.0, Kind::from_name(kind));
        let draft = Draft { user, writer, n, kind, target, body, trace };
        let bytes = draft.body.as_json().len();
        let reply = ReplyTo::Session { session: session.clone(), attempt };
        let told = self.rooms.tell(room, bytes, |permit| {
            RoomMessage::Send(Box::new(Send { draft, reply, permit: Some(permit) }))
        });
        if let Err(refusal) = told {
            session.outbox.notify(Notice::Refused { room, writer, n, attempt, refusal });
        }
    }

    fn listens(&self, peer: PeerId, room: RoomId, heard: (protocol::Seq, u64)) {
        if !self.is_here(peer, room) {
            return;
        }
        self.mesh().interest.listen(room, peer, Instant::now());
        // What nobody owns is claimed: its last owner may have gone before all heard what it had committed.
        let listen = |_| RoomMessage::Listen { peer, heard };
        let _ = self.rooms.tell(room, OPEN_BYTES, listen); // refused: the lease is told again
    }

    fn called(&self, peer: PeerId, call: u64, room: RoomId, request: &[u8]) {
        let request: Request = match serde_json::from_slice(request) {
            Ok(request) => request,
            Err(error) => return tracing::error!(%peer, %error, "a peer asks what nobody understands"),
        };
        if self.rooms.place(room) != Place::Here {
            return self.reply(peer, call, &Called::Moved);
        }
        let this = self.clone();
        tokio::spawn(async move {
            let called = Called::Answered(this.rooms.ask_here(room, request).await);
            this.reply(peer, call, &called);
        });
    }

    fn reply(&self, peer: PeerId, call: u64, called: &Called) {
        let answer = serde_json::to_vec(called).expect("an answer has a JSON form");
        // Lost with its link, or larger than a message may be: whoever asked has a deadline.
        let _ = self.mesh().tell(peer, &PeerMessage::Reply { call, answer: &answer });
    }

    fn handed_over(&self, peer: PeerId, handed: HandedOver) {
        let room = handed.room.0;
        tracing::debug!(%peer, room.id = %room, epoch = handed.epoch, "a room is handed over");
        let now = Instant::now();
        for listener in handed.listeners {
            if self.mesh().peers().is_some_and(|peers| peers.me() != listener) {
                self.mesh().interest.listen(room, listener, now);
            }
        }
        let from = store::owner::HandOver {
            room,
            bucket: handed.bucket,
            epoch: handed.epoch,
            last_seq: handed.last_seq,
            member_seq: handed.member_seq,
        };
        // Refused or lost: the room is claimed when somebody uses it.
        let _ = self.rooms.tell(room, OPEN_BYTES, |_| RoomMessage::TakeOver(from));
        self.turn_here(room);
    }
}

/// As one who asks, and hears.
impl Inbound {
    fn replied(&self, peer: PeerId, call: u64, answer: &[u8]) {
        match serde_json::from_slice(answer) {
            Ok(called) => self.mesh().calls.answered(peer, call, called),
            Err(error) => tracing::error!(%peer, %error, "a peer answers what nobody understands"),
        }
    }

    /// A door stays shut, unless it may open later.
    fn shut(&self, session: protocol::SessionId, notice: Notice) {
        let Notice::Shut { room, code, .. } = notice else { return };
        let mesh = self.mesh();
        if code.is_transient() && mesh.ports.ask_later(room, session, Instant::now()) {
            return;
        }
        if let Some((open, mut unanswered)) = mesh.ports.take_open(room, session) {
            unanswered.answered();
            open.session.outbox.notify(Notice::Shut { room, id: open.id, code });
        }
    }

    fn refused(&self, told: wire::RefusedTold) {
        let wire::RefusedTold { room, session, writer, n, attempt, refusal } = told;
        if let Some(session) = self.mesh().sockets.session(session.0) {
            let (room, writer, refusal) = (room.0, writer.0, refusal.into());
            session.outbox.notify(Notice::Refused { room, writer, n, attempt, refusal });
        }
    }

    fn answers(&self, room: RoomId, acks: &[AckTold]) -> impl Iterator<Item = (ReplyTo, Ack)> {
        let sockets = &self.mesh().sockets;
        acks.iter().filter_map(move |told| {
            let session = sockets.session(told.session.0)?;
            Some((ReplyTo::Session { session, attempt: told.attempt }, told.ack(room)))
        })
    }

    fn greeted(&self, greeting: Greeting<'_>) {
        let Greeting { room, epoch, incarnation, head, recent } = greeting;
        let Ok(recent) = wire::entries(&recent) else {
            return tracing::error!(room.id = %room.0, "a peer's entry has a body that is no JSON");
        };
        let hello = Hello { epoch, incarnation: Incarnation(incarnation), head, recent };
        let audiences = &self.rooms.context.audiences;
        match audiences.existing(room.0) {
            Some(link) => link.hello(hello),
            // The greeting comes before the first admission.
            None => _ = audiences.start(room.0, hello),
        }
    }

    fn admitted(&self, peer: PeerId, admitted: &Admitted) {
        let (room, mesh) = (admitted.room.0, self.mesh());
        mesh.ports.heard(room, peer);
        let Some((open, unanswered)) = mesh.ports.take_open(room, admitted.session.0) else { return };
        let Some(link) = self.rooms.context.audiences.existing(room) else {
            // It ended meanwhile: asked again, it is greeted first.
            let now = Instant::now();
            return mesh.ports.open(mesh, Some(peer), (open, unanswered), None, now);
        };
        let (reset, opened, gap) = admitted.frames();
        let start = admitted.start;
        let admit = Admit { session: open.session, reset, opened, gap, start, unanswered };
        drop(link.admit(admitted.epoch, Box::new(admit))); // ended: the session is told to ask again
    }

    fn delivered(&self, peer: PeerId, batch: Batch<'_>, trace: TraceContext) {
        let Batch { room, epoch, entries, ends, deleted, acks } = batch;
        let room = room.0;
        let mesh = self.mesh();
        mesh.ports.heard(room, peer);
        let audiences = &self.rooms.context.audiences;
        let Ok(entries) = wire::entries(&entries) else {
            return tracing::error!(room.id = %room, "a peer's entry has a body that is no JSON");
        };
        let ends = ends.map(|(user, code)| (user.0, code));
        let acks: Vec<_> = self.answers(room, &acks).collect();
        let left = match audiences.existing(room) {
            Some(link) => {
                let delivery = Delivery { entries, acks, ends, deleted, trace };
                link.deliver(epoch, delivery).err().map(|delivery| delivery.acks)
            }
            None => Some(acks),
        };
        if let Some(acks) = left {
            acks.into_iter().for_each(|(to, ack)| audiences.answer(to, ack));
            mesh.hint(peer, &PeerMessage::Unlisten { room: Bits(room) });
        }
    }
}
