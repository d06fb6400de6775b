//! All users with sockets here, awake or passive.

use std::sync::Arc;

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::{RoomId, Seq, SessionId, UserId, client::PresenceStatus};
use ractor::{ActorCell, ActorId, ActorRef, ActorRuntime, ActorStatus, MessagingErr};
use tokio::time::Instant;

use super::{Reply, User, UserMessage, state::UserState};
use crate::{PeerId, World, mesh::Mesh, presence::Presence, session::Session};

/// Messages that wait for a user's next actor while the last one goes to sleep. Past it they are dropped: a socket that
/// gets no answer tries again.
const WAITING: usize = 64;

/// User → actor, or what is left of it while it is passive.
pub(crate) struct UserMap {
    pub(crate) slots: DashMap<UserId, Slot>,
    pub(crate) supervisor: ActorCell,
    pub(crate) world: World,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) presence: Presence,
}

pub(crate) enum Slot {
    Awake { actor: ActorRef<UserMessage>, waiting: Vec<UserMessage> },
    Passive(Box<UserState>),
}

impl UserMap {
    /// A socket comes, on which `status` was chosen before.
    pub(crate) fn connect(self: &Arc<Self>, session: Session, status: Option<PresenceStatus>, reply: Reply) {
        let user = session.user;
        let mut slot = self.slots.entry(user).or_insert_with(|| Slot::Passive(fresh()));
        self.tell_slot(user, &mut slot, UserMessage::Connect { session, status, reply });
    }

    pub(crate) fn disconnect(self: &Arc<Self>, user: UserId, session: SessionId) {
        self.tell(user, UserMessage::Disconnect(session));
    }

    pub(crate) fn set_status(self: &Arc<Self>, user: UserId, session: SessionId, status: PresenceStatus) {
        self.tell(user, UserMessage::SetStatus { session, status });
    }

    /// Tells the user's other nodes what was read. Wakes nobody who sleeps.
    pub(crate) fn read(self: &Arc<Self>, user: UserId, room: RoomId, seq: Seq, from: Option<PeerId>) {
        let Some(mut slot) = self.slots.get_mut(&user) else { return };
        match &mut *slot {
            Slot::Passive(state) => self.user(user).relay_read(state, room, seq, from),
            Slot::Awake { actor, .. } => {
                let _ = actor.cast(UserMessage::Read { room, seq, from }); // it falls asleep: a mark is not missed
            }
        }
    }

    /// A node is gone, and its sockets with it.
    pub(crate) fn forget_peer(self: &Arc<Self>, peer: PeerId) {
        self.drop_lost(Some(peer), None);
    }

    /// Sockets of nodes that have not renewed them since `before` are gone.
    pub(crate) fn expire(self: &Arc<Self>, before: Instant) {
        self.drop_lost(None, Some(before));
    }

    fn drop_lost(self: &Arc<Self>, peer: Option<PeerId>, before: Option<Instant>) {
        for user in self.users() {
            let Some(mut slot) = self.slots.get_mut(&user) else { continue };
            match &mut *slot {
                Slot::Passive(state) => {
                    for session in state.lost(peer, before) {
                        self.tell_slot(user, &mut slot, UserMessage::Disconnect(session));
                    }
                }
                Slot::Awake { actor, .. } => {
                    let _ = actor.cast(UserMessage::DropLost { peer, before }); // it falls asleep: the next round finds it
                }
            }
        }
    }

    /// Lets go of users whose home is elsewhere; their sockets are registered there.
    pub(crate) fn release(self: &Arc<Self>, is_elsewhere: impl Fn(UserId) -> bool) {
        for user in self.users().into_iter().filter(|user| is_elsewhere(*user)) {
            let Entry::Occupied(mut slot) = self.slots.entry(user) else { continue };
            match slot.get_mut() {
                Slot::Passive(_) => {
                    slot.remove();
                    self.user(user).release();
                }
                Slot::Awake { actor, .. } => {
                    let _ = actor.cast(UserMessage::Release); // it falls asleep: the next round finds it
                }
            }
        }
    }

    /// A user's actor has let go of its state.
    pub(crate) fn forget(&self, user: UserId, actor: ActorId) {
        self.slots.remove_if(
            &user,
            |_, slot| matches!(slot, Slot::Awake { actor: awake, .. } if awake.get_id() == actor),
        );
    }

    fn users(&self) -> Vec<UserId> {
        self.slots.iter().map(|slot| *slot.key()).collect()
    }

    /// Whether a passive user's socket is known. An awake one's is told again.
    pub(crate) fn knows(&self, user: UserId, session: SessionId) -> bool {
        self.slots.get(&user).is_some_and(|slot| match &*slot {
            Slot::Passive(state) => state.sessions().any(|known| known.id == session),
            Slot::Awake { .. } => false,
        })
    }

    /// How many users have their home here.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
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
            *slot = Slot::Passive(fresh());
            message = unsent;
        }
        let Slot::Passive(state) = slot else { return };
        match message {
            // An actor for each of those who come back together would leave holes between what stays of them.
            UserMessage::Connect { session, status, reply } => {
                self.user(user).connect_passive(state, session, status, reply);
            }
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

fn fresh() -> Box<UserState> {
    Box::new(UserState::new())
}
