//! All users with sockets here, awake or passive.

use std::sync::Arc;

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::UserId;
use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime, ActorStatus, MessagingErr};

use super::{User, UserMessage, state::UserState};
use crate::{World, presence::Presence, users::Allowance};

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
    /// Tells a user something; wakes or starts their actor for it.
    pub(crate) fn tell(self: &Arc<Self>, user: UserId, message: UserMessage) {
        match self.slots.entry(user) {
            Entry::Occupied(mut entry) => self.tell_slot(user, entry.get_mut(), message),
            Entry::Vacant(entry) => {
                if let Some(slot) = self.wake(user, self.fresh(), vec![message]) {
                    entry.insert(slot);
                }
            }
        }
    }

    /// The same, if the user has sockets here.
    pub(crate) fn tell_if_known(self: &Arc<Self>, user: UserId, message: UserMessage) {
        if let Some(mut slot) = self.slots.get_mut(&user) {
            self.tell_slot(user, &mut slot, message);
        }
    }

    pub(crate) fn passive(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.value(), Slot::Passive(_))).count()
    }

    fn tell_slot(self: &Arc<Self>, user: UserId, slot: &mut Slot, message: UserMessage) {
        let woken = match slot {
            Slot::Passive(state) => self.wake(user, Box::new(state.take()), vec![message]),
            Slot::Awake { actor, waiting } => {
                let Err(MessagingErr::SendErr(message)) = actor.send_message(message) else { return };
                // An actor that stopped and did not put its state away has failed; its sockets register again.
                if actor.get_status() != ActorStatus::Stopped {
                    if waiting.len() < WAITING {
                        waiting.push(message);
                    }
                    return;
                }
                self.wake(user, self.fresh(), vec![message])
            }
        };
        if let Some(woken) = woken {
            *slot = woken;
        }
    }

    fn fresh(&self) -> Box<UserState> {
        let settings = &self.world.settings;
        let allowance = Allowance::new(settings.user_sends_per_s, settings.user_sends_burst);
        Box::new(UserState::new(Arc::new(allowance)))
    }

    fn wake(self: &Arc<Self>, id: UserId, state: Box<UserState>, messages: Vec<UserMessage>) -> Option<Slot> {
        let map = Arc::clone(self);
        let user = User { id, world: self.world.clone(), presence: self.presence.clone(), map };
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
