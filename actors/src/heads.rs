//! News of rooms that are not open: how far they have come, at most once a second and room.
//!
//! One actor a node knows which sessions belong to members of which room, so a message in a large room costs one cast
//! here, not one a member. It also keeps the read marks that unread counts are reckoned with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use protocol::{
    ErrorCode, RoomId, Seq, ServerFrame, SessionId, UserId,
    server::{Closed, Head, Heads as HeadsFrame, ReadMark},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use store::members::MemberState;

use crate::{
    World,
    mesh::{
        Mesh,
        wire::{Bits, PeerMessage},
    },
    peers::Worth,
    session::{Class, Session},
};

/// Time between two rounds of news.
const ROUND: std::time::Duration = std::time::Duration::from_secs(1);
/// Rooms in one message to another node: some 50 KB.
const TOLD_AT_ONCE: usize = 2_000;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Heads(pub(crate) ActorRef<HeadsMessage>);

/// What the actor is told.
pub(crate) enum HeadsMessage {
    /// Another session.
    Connect(Session),
    /// Its user is in these rooms, as the store knew after it connected.
    Views { session: SessionId, rooms: Vec<RoomView> },
    /// It is gone.
    Disconnect { user: UserId, session: SessionId },
    /// It hears this room whole, or no more.
    Open { session: SessionId, room: RoomId, open: bool },
    /// A room has come this far; it lives here, or elsewhere.
    Moved { room: RoomId, head: Seq, here: bool },
    /// Somebody has read this far.
    Read { user: UserId, room: RoomId, seq: Seq },
    /// Somebody's place in a room changed.
    Member { user: UserId, room: RoomId, state: MemberState, head: Seq },
    /// Time for news.
    Round,
}

/// Stays in this process.
impl ractor::Message for HeadsMessage {}

/// A room as one user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomView {
    pub(crate) room: RoomId,
    pub(crate) head: Seq,
    /// Everything up to here is read.
    pub(crate) mark: Seq,
}

impl Heads {
    fn tell(&self, message: HeadsMessage) {
        let _ = self.0.cast(message); // the node stops
    }

    pub(crate) fn connect(&self, session: Session) {
        self.tell(HeadsMessage::Connect(session));
    }

    pub(crate) fn views(&self, session: SessionId, rooms: Vec<RoomView>) {
        self.tell(HeadsMessage::Views { session, rooms });
    }

    pub(crate) fn disconnect(&self, user: UserId, session: SessionId) {
        self.tell(HeadsMessage::Disconnect { user, session });
    }

    pub(crate) fn open(&self, session: SessionId, room: RoomId, open: bool) {
        self.tell(HeadsMessage::Open { session, room, open });
    }

    pub(crate) fn moved(&self, room: RoomId, head: Seq) {
        self.tell(HeadsMessage::Moved { room, head, here: true });
    }

    /// Another node says how far a room of its has come.
    pub(crate) fn moved_elsewhere(&self, room: RoomId, head: Seq) {
        self.tell(HeadsMessage::Moved { room, head, here: false });
    }

    pub(crate) fn read(&self, user: UserId, room: RoomId, seq: Seq) {
        self.tell(HeadsMessage::Read { user, room, seq });
    }

    pub(crate) fn member(&self, user: UserId, room: RoomId, state: MemberState, head: Seq) {
        self.tell(HeadsMessage::Member { user, room, state, head });
    }
}

/// Who wants to know of which room.
#[derive(Default)]
pub(crate) struct HeadsState {
    sessions: HashMap<SessionId, Watcher>,
    users: HashMap<UserId, Vec<SessionId>>,
    rooms: HashMap<RoomId, Watched>,
    news: HashSet<RoomId>,
    /// Rooms of this node that have moved since the other nodes were told. At most those that are active here.
    for_others: HashMap<RoomId, Seq>,
}

struct Watcher {
    session: Session,
    rooms: Vec<Seen>,
    /// Rooms that the user left before the views came; empty from then on.
    left: Vec<RoomId>,
    has_views: bool,
}

struct Seen {
    room: RoomId,
    mark: Seq,
    is_open: bool,
}

struct Watched {
    head: Seq,
    sessions: Vec<SessionId>,
}

impl HeadsState {
    fn connect(&mut self, session: Session) {
        let (user, id) = (session.user, session.id);
        self.disconnect(user, id);
        self.users.entry(user).or_default().push(id);
        let watcher = Watcher { session, rooms: Vec::new(), left: Vec::new(), has_views: false };
        self.sessions.insert(id, watcher);
    }

    /// Takes what the store knew of a session's rooms; gives how they stand. What changed meanwhile is newer.
    fn views(&mut self, id: SessionId, views: Vec<RoomView>) -> Option<(Session, Vec<Head>)> {
        let watcher = self.sessions.get_mut(&id)?;
        watcher.has_views = true;
        let left = std::mem::take(&mut watcher.left);
        let mut heads = Vec::with_capacity(views.len());
        for RoomView { room, head, mark } in views {
            if left.contains(&room) {
                continue;
            }
            let watched = self.rooms.entry(room).or_insert(Watched { head, sessions: Vec::new() });
            watched.head = watched.head.max(head);
            if watcher.see(room).is_none() {
                watched.sessions.push(id);
                watcher.rooms.push(Seen { room, mark, is_open: false });
            }
            heads.push(head_of(room, watched.head, mark));
        }
        (!heads.is_empty()).then(|| (watcher.session.clone(), heads))
    }

    fn disconnect(&mut self, user: UserId, session: SessionId) {
        if let Some(sessions) = self.users.get_mut(&user) {
            sessions.retain(|other| *other != session);
            if sessions.is_empty() {
                self.users.remove(&user);
            }
        }
        let Some(watcher) = self.sessions.remove(&session) else { return };
        watcher.rooms.iter().for_each(|seen| self.unwatch(seen.room, session));
    }

    fn unwatch(&mut self, room: RoomId, session: SessionId) {
        let Some(watched) = self.rooms.get_mut(&room) else { return };
        watched.sessions.retain(|other| *other != session);
        if watched.sessions.is_empty() {
            self.rooms.remove(&room);
        }
    }

    fn moved(&mut self, room: RoomId, head: Seq) {
        if let Some(watched) = self.rooms.get_mut(&room) {
            watched.head = watched.head.max(head);
            self.news.insert(room);
        }
    }

    fn open(&mut self, session: SessionId, room: RoomId, open: bool) {
        let seen = self.sessions.get_mut(&session).and_then(|watcher| watcher.see(room));
        if let Some(seen) = seen {
            seen.is_open = open;
        }
    }

    /// Somebody's place in a room changed; gives what their sockets are told at once. A socket that hears the room whole
    /// learns of its end there.
    fn member(
        &mut self,
        user: UserId,
        room: RoomId,
        state: MemberState,
        head: Seq,
    ) -> Vec<(Session, ServerFrame)> {
        let mut told = Vec::new();
        for id in self.users.get(&user).cloned().unwrap_or_default() {
            let Some(watcher) = self.sessions.get_mut(&id) else { continue };
            let is_open = watcher.see(room).map(|seen| seen.is_open);
            match (state, is_open) {
                (MemberState::Joined, None) => {
                    watcher.rooms.push(Seen { room, mark: head, is_open: false });
                    self.rooms
                        .entry(room)
                        .or_insert(Watched { head, sessions: Vec::new() })
                        .sessions
                        .push(id);
                    self.moved(room, head);
                }
                (MemberState::Joined, Some(_)) => {}
                (MemberState::Invited, _) => {
                    let frame = HeadsFrame { rooms: vec![Head { room, head, unread: 0 }] };
                    told.push((watcher.session.clone(), ServerFrame::Heads(frame)));
                }
                (MemberState::Left | MemberState::Kicked | MemberState::Banned, Some(is_open)) => {
                    watcher.rooms.retain(|seen| seen.room != room);
                    let code = match state {
                        MemberState::Banned => ErrorCode::Banned,
                        _ => ErrorCode::NotAMember,
                    };
                    if !is_open {
                        let frame = Closed { id: None, room, code: Some(code) };
                        told.push((watcher.session.clone(), ServerFrame::Closed(frame)));
                    }
                    self.unwatch(room, id);
                }
                (MemberState::Left | MemberState::Kicked | MemberState::Banned, None) => {
                    if !watcher.has_views {
                        watcher.left.push(room);
                    }
                }
            }
        }
        told
    }

    /// Moves a mark; gives it with the user's sessions, which are told.
    fn read(&mut self, user: UserId, room: RoomId, seq: Seq) -> Option<(ReadMark, Vec<Session>)> {
        let head = self.rooms.get(&room)?.head;
        let mut told = Vec::new();
        for id in self.users.get(&user)? {
            let Some(watcher) = self.sessions.get_mut(id) else { continue };
            if let Some(seen) = watcher.see(room) {
                seen.mark = seen.mark.max(seq);
                told.push(watcher.session.clone());
            }
        }
        Some((ReadMark { room, seq, unread: head.saturating_sub(seq) }, told))
    }

    /// The news since the last round, by session.
    fn round(&mut self) -> Vec<(Session, Vec<Head>)> {
        let mut by_session: HashMap<SessionId, Vec<Head>> = HashMap::new();
        for room in self.news.drain() {
            let Some(watched) = self.rooms.get(&room) else { continue };
            for id in &watched.sessions {
                let seen = self.sessions.get_mut(id).and_then(|watcher| watcher.see(room));
                if let Some(seen) = seen.filter(|seen| !seen.is_open) {
                    by_session.entry(*id).or_default().push(head_of(room, watched.head, seen.mark));
                }
            }
        }
        let with_session = |(id, heads)| Some((self.sessions.get(&id)?.session.clone(), heads));
        by_session.into_iter().filter_map(with_session).collect()
    }
}

impl Watcher {
    fn see(&mut self, room: RoomId) -> Option<&mut Seen> {
        self.rooms.iter_mut().find(|seen| seen.room == room)
    }
}

fn head_of(room: RoomId, head: Seq, mark: Seq) -> Head {
    Head { room, head, unread: head.saturating_sub(mark) }
}

/// The actor.
pub(crate) struct HeadsActor {
    pub(crate) world: World,
    pub(crate) mesh: Arc<Mesh>,
}

impl HeadsActor {
    /// Every node is told of every room that moved, whoever wants to know there: 25 bytes a room, node and second, where
    /// an interest kept for every member of every room would cost memory on all of them.
    fn tell_others(&self, moved: impl Iterator<Item = (RoomId, Seq)>) {
        let moved: Vec<_> = moved.map(|(room, head)| (Bits(room), head)).collect();
        for rooms in moved.chunks(TOLD_AT_ONCE) {
            self.mesh.tell_all(Worth::Droppable, &PeerMessage::Heads { rooms: rooms.to_vec() });
        }
    }

    fn push(&self, session: &Session, frame: &ServerFrame, class: Class) {
        let bytes = self.world.encode.encode(frame, session.outbox.encoding());
        let _ = session.outbox.push(&[bytes], class); // full: the next news says more
    }
}

impl Actor for HeadsActor {
    type Msg = HeadsMessage;
    type State = HeadsState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<HeadsMessage>,
        (): (),
    ) -> Result<HeadsState, ActorProcessingErr> {
        myself.send_interval(ROUND, || HeadsMessage::Round);
        Ok(HeadsState::default())
    }

    async fn handle(
        &self,
        _: ActorRef<HeadsMessage>,
        message: HeadsMessage,
        state: &mut HeadsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HeadsMessage::Connect(session) => state.connect(session),
            HeadsMessage::Views { session, rooms } => {
                if let Some((session, heads)) = state.views(session, rooms) {
                    self.push(&session, &ServerFrame::Heads(HeadsFrame { rooms: heads }), Class::Answer);
                }
            }
            HeadsMessage::Disconnect { user, session } => state.disconnect(user, session),
            HeadsMessage::Open { session, room, open } => state.open(session, room, open),
            HeadsMessage::Moved { room, head, here } => {
                state.moved(room, head);
                if here && self.mesh.peers().is_some() {
                    state.for_others.insert(room, head);
                }
            }
            HeadsMessage::Member { user, room, state: place, head } => {
                for (session, frame) in state.member(user, room, place, head) {
                    self.push(&session, &frame, Class::Answer);
                }
            }
            HeadsMessage::Read { user, room, seq } => {
                if let Some((mark, sessions)) = state.read(user, room, seq) {
                    let frame = ServerFrame::ReadMark(mark);
                    sessions.iter().for_each(|session| self.push(session, &frame, Class::Answer));
                }
            }
            HeadsMessage::Round => {
                self.tell_others(state.for_others.drain());
                for (session, heads) in state.round() {
                    self.push(&session, &ServerFrame::Heads(HeadsFrame { rooms: heads }), Class::Ephemeral);
                }
            }
        }
        Ok(())
    }
}
