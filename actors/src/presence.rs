//! Who is there, and who wants to know. One actor a node; changes are told in rounds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use protocol::{
    Millis, ServerFrame, SessionId, UserId,
    client::PresenceStatus,
    limits,
    server::{Presence as PresenceFrame, UserPresence},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::{
    World,
    session::{Class, Session},
};

/// Time between two rounds of changes.
const ROUND: std::time::Duration = std::time::Duration::from_millis(250);

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Presence(pub(crate) ActorRef<PresenceMessage>);

/// What the actor is told.
pub(crate) enum PresenceMessage {
    /// What others see of this user from now on.
    Shown { user: UserId, status: PresenceStatus, at: Millis },
    /// A session wants to know about these users; those who share no room with it are already shown as offline.
    Watch { session: Session, users: Vec<(UserId, Visible)> },
    /// It wants to know no more about these.
    Unwatch { session: SessionId, users: Vec<UserId> },
    /// It is gone.
    Forget(SessionId),
    /// A user went from a room: those with whom they share no other room see each other no more.
    Left(UserId),
    /// These share no room any more.
    Part { user: UserId, others: Vec<UserId> },
    /// Time for news.
    Round,
}

/// Stays in this process.
impl ractor::Message for PresenceMessage {}

/// What a watcher may see of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visible {
    /// Nothing: they share no room.
    No,
    /// Status, and when they were last there.
    Yes { last_seen: Option<Millis> },
}

impl Presence {
    pub(crate) fn tell(&self, message: PresenceMessage) {
        let _ = self.0.cast(message); // the node stops
    }
}

/// Statuses and watchers.
#[derive(Default)]
pub(crate) struct PresenceState {
    /// Those who are not offline.
    shown: HashMap<UserId, PresenceStatus>,
    watchers: HashMap<UserId, Vec<SessionId>>,
    sessions: HashMap<SessionId, Watching>,
    changed: HashMap<UserId, Millis>,
}

struct Watching {
    session: Session,
    users: HashSet<UserId>,
}

impl PresenceState {
    fn show(&mut self, user: UserId, status: PresenceStatus, at: Millis) {
        let before = match status {
            PresenceStatus::Offline | PresenceStatus::Invisible => self.shown.remove(&user),
            PresenceStatus::Online | PresenceStatus::Away | PresenceStatus::Dnd => {
                self.shown.insert(user, status)
            }
        };
        if before.unwrap_or(PresenceStatus::Offline) != self.status(user) {
            self.changed.insert(user, at);
        }
    }

    fn status(&self, user: UserId) -> PresenceStatus {
        self.shown.get(&user).copied().unwrap_or(PresenceStatus::Offline)
    }

    /// Takes the watch; gives how they stand now. Beyond the limit of one session, users are left out.
    fn watch(&mut self, session: Session, users: Vec<(UserId, Visible)>) -> Vec<UserPresence> {
        let id = session.id;
        let watching = self.sessions.entry(id).or_insert(Watching { session, users: HashSet::new() });
        let mut now = Vec::with_capacity(users.len());
        for (user, visible) in users {
            let Visible::Yes { last_seen } = visible else {
                now.push(UserPresence { user, status: PresenceStatus::Offline, last_seen: None });
                continue;
            };
            if watching.users.len() >= limits::WATCHED_USERS && !watching.users.contains(&user) {
                continue;
            }
            if watching.users.insert(user) {
                self.watchers.entry(user).or_default().push(id);
            }
            let status = self.shown.get(&user).copied().unwrap_or(PresenceStatus::Offline);
            let last_seen = last_seen.filter(|_| status == PresenceStatus::Offline);
            now.push(UserPresence { user, status, last_seen });
        }
        now
    }

    fn unwatch(&mut self, session: SessionId, users: &[UserId]) {
        for user in users {
            let watched = self.sessions.get_mut(&session).is_some_and(|watching| watching.users.remove(user));
            if watched {
                self.forget_watcher(*user, session);
            }
        }
    }

    fn forget(&mut self, session: SessionId) {
        let Some(watching) = self.sessions.remove(&session) else { return };
        watching.users.into_iter().for_each(|user| self.forget_watcher(user, session));
    }

    fn forget_watcher(&mut self, user: UserId, session: SessionId) {
        let Some(watchers) = self.watchers.get_mut(&user) else { return };
        watchers.retain(|other| *other != session);
        if watchers.is_empty() {
            self.watchers.remove(&user);
        }
    }

    /// Who sees this user, or is seen by them.
    fn seen_with(&self, user: UserId) -> Vec<UserId> {
        let watched_by = self.watchers.get(&user).into_iter().flatten();
        let watching = watched_by.filter_map(|id| Some(self.sessions.get(id)?.session.user));
        let own = self.sessions.values().filter(|watching| watching.session.user == user);
        let seen = own.flat_map(|watching| watching.users.iter().copied());
        let others: HashSet<UserId> = watching.chain(seen).filter(|other| *other != user).collect();
        others.into_iter().collect()
    }

    /// Neither of the two sees the other any more; gives the sockets that are told, and of whom.
    fn part(&mut self, user: UserId, other: UserId) -> Vec<(Session, UserId)> {
        let mut told = Vec::new();
        for (watcher, watched) in [(user, other), (other, user)] {
            for id in self.watchers.get(&watched).cloned().unwrap_or_default() {
                let Some(watching) = self.sessions.get(&id).filter(|its| its.session.user == watcher) else {
                    continue;
                };
                told.push((watching.session.clone(), watched));
                self.unwatch(id, &[watched]);
            }
        }
        told
    }

    /// The changes since the last round, by session.
    fn round(&mut self) -> Vec<(Session, Vec<UserPresence>)> {
        let mut by_session: HashMap<SessionId, Vec<UserPresence>> = HashMap::new();
        for (user, at) in std::mem::take(&mut self.changed) {
            let status = self.status(user);
            let last_seen = (status == PresenceStatus::Offline).then_some(at);
            for session in self.watchers.get(&user).into_iter().flatten() {
                by_session.entry(*session).or_default().push(UserPresence { user, status, last_seen });
            }
        }
        let with_session = |(id, users)| Some((self.sessions.get(&id)?.session.clone(), users));
        by_session.into_iter().filter_map(with_session).collect()
    }
}

/// The actor.
pub(crate) struct PresenceActor {
    pub(crate) world: World,
}

impl PresenceActor {
    /// Asks the store who of `others` shares no room with `user` any more; told as `Part`.
    fn ask_who_parts(&self, myself: &ActorRef<PresenceMessage>, user: UserId, others: Vec<UserId>) {
        if others.is_empty() {
            return;
        }
        let (store, myself) = (Arc::clone(&self.world.store), myself.clone());
        tokio::spawn(async move {
            // If nobody knows, nobody is shown.
            let sharing = store.sharing_a_room(user, &others).await.unwrap_or_default();
            let others = others.into_iter().filter(|other| !sharing.contains(other)).collect();
            let _ = myself.cast(PresenceMessage::Part { user, others }); // the node stops
        });
    }

    fn push(&self, session: &Session, users: Vec<UserPresence>, class: Class) {
        let frame = ServerFrame::Presence(PresenceFrame { users });
        let bytes = self.world.encode.encode(&frame, session.outbox.encoding());
        let _ = session.outbox.push(&[bytes], class); // full: presence is the first to be dropped
    }
}

impl Actor for PresenceActor {
    type Msg = PresenceMessage;
    type State = PresenceState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<PresenceMessage>,
        (): (),
    ) -> Result<PresenceState, ActorProcessingErr> {
        myself.send_interval(ROUND, || PresenceMessage::Round);
        Ok(PresenceState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<PresenceMessage>,
        message: PresenceMessage,
        state: &mut PresenceState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PresenceMessage::Shown { user, status, at } => state.show(user, status, at),
            PresenceMessage::Watch { session, users } => {
                let now = state.watch(session.clone(), users);
                if !now.is_empty() {
                    self.push(&session, now, Class::Answer);
                }
            }
            PresenceMessage::Unwatch { session, users } => state.unwatch(session, &users),
            PresenceMessage::Forget(session) => state.forget(session),
            PresenceMessage::Left(user) => self.ask_who_parts(&myself, user, state.seen_with(user)),
            PresenceMessage::Part { user, others } => {
                for (session, watched) in others.into_iter().flat_map(|other| state.part(user, other)) {
                    let gone =
                        UserPresence { user: watched, status: PresenceStatus::Offline, last_seen: None };
                    self.push(&session, vec![gone], Class::Answer);
                }
            }
            PresenceMessage::Round => {
                for (session, users) in state.round() {
                    self.push(&session, users, Class::Ephemeral);
                }
            }
        }
        Ok(())
    }
}
