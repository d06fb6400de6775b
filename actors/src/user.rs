//! A user's actor: awake while there is something to decide, passive otherwise. A socket that comes wakes nobody.

mod map;
pub(crate) mod state;

use std::{sync::Arc, time::Duration};

use protocol::{CloseCode, ServerFrame, SessionId, UserId, client::PresenceStatus, server::OwnStatus};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::{
    World,
    presence::{Presence, PresenceMessage},
    session::{Class, Refusal, Session},
    users::{Allowance, SignedOut},
};
pub(crate) use map::UserMap;
use state::{Output, UserState};

/// Whether a socket may stay, and what it shares with the user's others.
pub(crate) type Reply = oneshot::Sender<Result<Arc<Allowance>, Refusal>>;

/// What a user's actor is told.
pub(crate) enum UserMessage {
    /// A socket was identified.
    Connect { session: Session, reply: Reply },
    /// It is gone.
    Disconnect(SessionId),
    /// The user chose a status on it.
    SetStatus { session: SessionId, status: PresenceStatus },
    /// End sockets.
    SignOut { which: SignedOut, code: CloseCode },
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
            UserMessage::Connect { session, reply } => self.connect(state, session, reply, &mut outputs),
            UserMessage::Disconnect(session) => state.disconnect(session, &mut outputs),
            UserMessage::SetStatus { session, status } => state.set_status(session, status, &mut outputs),
            UserMessage::SignOut { which, code } => state.sign_out(which, code),
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
    pub(crate) fn connect_passive(&self, state: &mut UserState, session: Session, reply: Reply) {
        let mut outputs = Vec::new();
        self.connect(state, session, reply, &mut outputs);
        self.tell(state, &outputs);
    }

    fn connect(&self, state: &mut UserState, session: Session, reply: Reply, out: &mut Vec<Output>) {
        let id = session.id;
        let result = state.connect(session, self.world.settings.user_sessions, out);
        let is_in = result.is_ok();
        if reply.send(result).is_err() && is_in {
            state.disconnect(id, out); // it went before it was in
        }
    }

    /// Tells others and the user's own sockets. The pause is the actor's to time.
    fn tell(&self, state: &UserState, outputs: &[Output]) {
        for output in outputs {
            match *output {
                Output::Show(status) => self.show(status),
                Output::TellOwn(status) => self.tell_own(state, status),
                Output::AwaitReturn => {}
            }
        }
    }

    fn tell_own(&self, state: &UserState, status: PresenceStatus) {
        let frame = ServerFrame::Status(OwnStatus { status });
        for session in state.sessions() {
            let bytes = self.world.encode.encode(&frame, session.outbox.encoding());
            let _ = session.outbox.push(&[bytes], Class::Answer); // full: the outbox ends the connection
        }
    }

    fn show(&self, status: PresenceStatus) {
        let (user, at) = (self.id, self.world.clock.now());
        self.presence.tell(PresenceMessage::Shown { user, status, at });
        if status == PresenceStatus::Offline {
            let store = Arc::clone(&self.world.store);
            tokio::spawn(async move {
                if let Err(error) = store.put_last_seen(user, at).await {
                    tracing::warn!(user.id = %user, %error, "last seen not kept");
                }
            });
        }
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
