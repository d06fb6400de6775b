//! A user's actor: awake while there is something to decide, passive otherwise. A socket that comes wakes nobody.

mod map;
pub(crate) mod state;

use std::{sync::Arc, time::Duration};

use protocol::{
    CloseCode, RoomId, Seq, ServerFrame, SessionId, UserId, client::PresenceStatus, server::OwnStatus,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Notice, PeerId, World,
    mesh::{
        Mesh,
        wire::{Bits, PeerMessage, Refused},
    },
    presence::{Presence, PresenceMessage},
    session::{Class, Refusal, Session},
};
pub(crate) use map::UserMap;
use state::{Output, UserState};

/// Who is told whether a socket may stay.
pub(crate) enum Reply {
    /// A socket of this node.
    Here(oneshot::Sender<Result<(), Refusal>>),
    /// Another node.
    At(PeerId),
    /// Nobody: it was told when it came. It ends if it may not stay.
    Nobody,
}

/// What a user's actor is told.
pub(crate) enum UserMessage {
    /// A socket was identified; `status` was chosen on it before.
    Connect { session: Session, status: Option<PresenceStatus>, reply: Reply },
    /// It is gone.
    Disconnect(SessionId),
    /// The user chose a status on it.
    SetStatus { session: SessionId, status: PresenceStatus },
    /// The user has read this far, on another node or this one.
    Read { room: RoomId, seq: Seq, from: Option<PeerId> },
    /// A node is gone, or has not renewed its sockets for long.
    DropLost { peer: Option<PeerId>, before: Option<Instant> },
    /// The user's home is elsewhere now.
    Release,
    /// The pause after the last socket is over.
    ReturnedOrLeft,
    /// Nothing happened for a while, if `turn` is still the latest.
    Idle { turn: u64 },
    /// Fail, to see what happens then.
    #[cfg(test)]
    Panic,
}

/// Stays in this process.
impl ractor::Message for UserMessage {}

/// The actor.
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) world: World,
    pub(crate) presence: Presence,
    pub(crate) map: Arc<UserMap>,
}

/// What the actor keeps between messages.
pub(crate) struct UserActor {
    /// `None` once it was put away.
    state: Option<Box<UserState>>,
    turn: u64,
}

impl Actor for User {
    type Msg = UserMessage;
    type State = UserActor;
    type Arguments = Box<UserState>;

    async fn pre_start(
        &self,
        myself: ActorRef<UserMessage>,
        state: Box<UserState>,
    ) -> Result<UserActor, ActorProcessingErr> {
        self.await_idleness(&myself, 0);
        if state.is_awaited() {
            self.await_return(&myself);
        }
        Ok(UserActor { state: Some(state), turn: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<UserMessage>,
        message: UserMessage,
        actor: &mut UserActor,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut actor.state else { return Ok(()) };
        let mut outputs = Vec::new();
        match message {
            UserMessage::Connect { session, status, reply } => {
                self.connect(state, session, status, reply, &mut outputs);
            }
            UserMessage::Disconnect(session) => state.disconnect(session, &mut outputs),
            UserMessage::SetStatus { session, status } => state.set_status(session, status, &mut outputs),
            UserMessage::Read { room, seq, from } => {
                self.relay_read(state, room, seq, from);
                return Ok(());
            }
            UserMessage::DropLost { peer, before } => {
                for session in state.lost(peer, before) {
                    state.disconnect(session, &mut outputs);
                }
                if outputs.is_empty() {
                    return Ok(());
                }
            }
            UserMessage::Release => {
                self.release();
                actor.state = None;
                self.map.forget(self.id, myself.get_id());
                myself.stop(None);
                return Ok(());
            }
            UserMessage::ReturnedOrLeft => state.returned_or_left(&mut outputs),
            UserMessage::Idle { turn } if turn == actor.turn && !state.is_awaited() => {
                let _ = myself.drain(); // what arrives meanwhile wakes the next actor
                return Ok(());
            }
            UserMessage::Idle { .. } => {
                self.await_idleness(&myself, actor.turn);
                return Ok(());
            }
            #[cfg(test)]
            UserMessage::Panic => panic!("asked to fail"),
        }
        actor.turn += 1;
        if outputs.contains(&Output::AwaitReturn) {
            self.await_return(&myself);
        }
        self.tell(state, &outputs);
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<UserMessage>,
        actor: &mut UserActor,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(state) = actor.state.take() {
            self.map.put_away(self.id, myself.get_id(), state);
        }
        Ok(())
    }
}

impl User {
    /// A socket comes to a user whose actor is not needed for it: what follows is told at once.
    pub(crate) fn connect_passive(
        &self,
        state: &mut UserState,
        session: Session,
        status: Option<PresenceStatus>,
        reply: Reply,
    ) {
        let mut outputs = Vec::new();
        self.connect(state, session, status, reply, &mut outputs);
        self.tell(state, &outputs);
    }

    fn connect(
        &self,
        state: &mut UserState,
        session: Session,
        status: Option<PresenceStatus>,
        reply: Reply,
        out: &mut Vec<Output>,
    ) {
        let id = session.id;
        if matches!(reply, Reply::At(_)) && state.renew(id) {
            return; // it is known, and told so long ago
        }
        let outbox = Arc::clone(&session.outbox);
        let result = state.connect(session, status, self.world.settings.user_sessions, out);
        let is_in = result.is_ok();
        match reply {
            Reply::Here(reply) => {
                if reply.send(result).is_err() && is_in {
                    state.disconnect(id, out); // it went before it was in
                }
            }
            Reply::Nobody if !is_in => outbox.notify(Notice::End(CloseCode::TooManyConnections)),
            Reply::Nobody => {}
            Reply::At(peer) => {
                let (user, session) = (Bits(self.id), Bits(id));
                let refusal = result.err().map(Refused::from);
                // Lost: the node goes on without it, and registers again before long.
                let _ = self.mesh().tell(peer, &PeerMessage::Registered { user, session, refusal });
            }
        }
    }

    /// Tells others and the user's own sockets. The pause is the actor's to time.
    fn tell(&self, state: &UserState, outputs: &[Output]) {
        for output in outputs {
            match *output {
                Output::Show(status) => self.show(status),
                Output::TellOwn(status) => self.tell_own(state, Some(status)),
                Output::Share => self.tell_own(state, None),
                Output::AwaitReturn => {}
            }
        }
    }

    /// Tells the user's sockets their status, and their nodes in how many parts the allowance is.
    fn tell_own(&self, state: &UserState, status: Option<PresenceStatus>) {
        let nodes = state.nodes();
        self.mesh().sockets.share(self.id, nodes);
        for peer in state.peers() {
            // Lost: told again with the next change.
            let _ = self.mesh().tell(peer, &PeerMessage::Home { user: Bits(self.id), nodes, status });
        }
        let Some(status) = status else { return };
        let frame = ServerFrame::Status(OwnStatus { status });
        for session in state.sessions().filter(|session| session.outbox.peer().is_none()) {
            let bytes = self.world.encode.encode(&frame, session.outbox.encoding());
            let _ = session.outbox.push(&[bytes], Class::Answer); // full: the outbox ends the connection
        }
    }

    /// The user's sockets on other nodes show the mark, too.
    pub(crate) fn relay_read(&self, state: &UserState, room: RoomId, seq: Seq, from: Option<PeerId>) {
        for peer in state.peers().into_iter().filter(|peer| Some(*peer) != from) {
            let (user, room) = (Bits(self.id), Bits(room));
            self.mesh().hint(peer, &PeerMessage::Read { user, room, seq, from_home: true });
        }
    }

    /// Others hear of this user from another node by now.
    pub(crate) fn release(&self) {
        if let Some(peers) = self.mesh().peers() {
            peers.show(self.id, PresenceStatus::Offline, self.world.clock.now());
        }
    }

    fn show(&self, status: PresenceStatus) {
        let (user, at) = (self.id, self.world.clock.now());
        match self.mesh().peers() {
            Some(peers) => peers.show(user, status, at),
            None => self.presence.tell(PresenceMessage::Shown { user, status, at }),
        }
        if status == PresenceStatus::Offline {
            let store = Arc::clone(&self.world.store);
            tokio::spawn(async move {
                if let Err(error) = store.put_last_seen(user, at).await {
                    tracing::warn!(user.id = %user, %error, "last seen not kept");
                }
            });
        }
    }

    fn mesh(&self) -> &Mesh {
        &self.map.mesh
    }

    fn await_return(&self, myself: &ActorRef<UserMessage>) {
        let pause = Duration::from_millis(self.world.settings.offline_after_ms);
        myself.send_after(pause, || UserMessage::ReturnedOrLeft);
    }

    fn await_idleness(&self, myself: &ActorRef<UserMessage>, turn: u64) {
        let idle = Duration::from_millis(self.world.settings.user_idle_ms);
        myself.send_after(idle, move || UserMessage::Idle { turn });
    }
}
