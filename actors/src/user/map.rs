//! All users with sockets here, awake or passive.

use std::sync::Arc;

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::UserId;
use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime, ActorStatus, MessagingErr};

use super::{Reply, User, UserMessage, state::UserState};
use crate::{World, presence::Presence, session::Session, users::Allowance};

/// Messages that wait for a user's next actor while the last one goes to sleep. Past it they are dropped: a socket that
/// gets no answer tries again.
const WAITING: usize = 64;

/// User → actor, or what is left of it while it is passive.
pub(crate) struct UserMap {
    pub(crate) slots: DashMap<UserId, Slot>,
    pub(crate) supervisor: ActorCell,
    pub(crate) world: World,
    pub(crate) presence: Presence,
}

pub(crate) enum Slot {
    Awake { actor: ActorRef<UserMessage>, waiting: Vec<UserMessage> },
    Passive(Box<UserState>),
}

impl UserMap {
    /// A socket comes.
    pub(crate) fn connect(self: &Arc<Self>, session: Session, reply: Reply) {
        let user = session.user;
        let mut slot = self.slots.entry(user).or_insert_with(|| Slot::Passive(self.fresh()));
        self.tell_slot(user, &mut slot, UserMessage::Connect { session, reply });
    }

    /// Tells a user something if they have sockets here; wakes their actor for it.
    pub(crate) fn tell(self: &Arc<Self>, user: UserId, message: UserMessage) {
        if let Some(mut slot) = self.slots.get_mut(&user) {
            self.tell_slot(user, &mut slot, message);
        }
    }

    pub(crate) fn passive(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.value(), Slot::Passive(_))).count()
    }

    fn tell_slot(self: &Arc<Self>, user: UserId, slot: &mut Slot, mut message: UserMessage) {
        if let Slot::Awake { actor, waiting } = slot {
            let Err(MessagingErr::SendErr(unsent)) = actor.send_message(message) else { return };
            // An actor that stopped and did not put its state away has failed; its sockets register again.
            if actor.get_status() != ActorStatus::Stopped {
                if waiting.len() < WAITING {
                    waiting.push(unsent);
                }
                return;
            }
            *slot = Slot::Passive(self.fresh());
            message = unsent;
        }
        let Slot::Passive(state) = slot else { return };
        match message {
            // An actor for each of those who come back together would leave holes between what stays of them.
            UserMessage::Connect { session, reply } => self.user(user).connect_passive(state, session, reply),
            message => {
                if let Some(awake) = self.wake(user, Box::new(state.take()), vec![message]) {
                    *slot = awake;
                }
            }
        }
    }

    fn user(self: &Arc<Self>, id: UserId) -> User {
        User { id, world: self.world.clone(), presence: self.presence.clone(), map: Arc::clone(self) }
    }

    fn fresh(&self) -> Box<UserState> {
        let settings = &self.world.settings;
        let allowance = Allowance::new(settings.user_sends_per_s, settings.user_sends_burst);
        Box::new(UserState::new(Arc::new(allowance)))
    }

    fn wake(self: &Arc<Self>, id: UserId, state: Box<UserState>, messages: Vec<UserMessage>) -> Option<Slot> {
        let user = self.user(id);
        let spawned = ActorRuntime::<User>::spawn_linked_instant(None, user, state, self.supervisor.clone());
        let (actor, _) =
            spawned.inspect_err(|error| tracing::error!(%error, "a user's actor did not start")).ok()?;
        for message in messages {
            let _ = actor.cast(message); // it has just begun
        }
        Some(Slot::Awake { actor, waiting: Vec::new() })
    }

    /// A user's actor ends: its state is kept, unless the user has left. What came meanwhile wakes the next one.
    pub(crate) fn put_away(self: &Arc<Self>, user: UserId, actor: ActorId, state: Box<UserState>) {
        let Entry::Occupied(mut entry) = self.slots.entry(user) else { return };
        let Slot::Awake { actor: awake, waiting } = entry.get_mut() else { return };
        if awake.get_id() != actor {
            return;
        }
        let waiting = std::mem::take(waiting);
        // Whoever has just gone is still awaited, and the pause is timed by an actor.
        if !waiting.is_empty() || state.is_awaited() {
            if let Some(slot) = self.wake(user, state, waiting) {
                entry.insert(slot);
            }
        } else if state.has_left() {
            entry.remove();
        } else {
            entry.insert(Slot::Passive(state));
        }
    }
}
