//! The one actor of a node that others can send to. All frames come to it, and all news of connections; it asks
//! [`State`] what to do, does it, and hands messages to the [`LinkHandler`](super::LinkHandler).

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use actors::PeerId;
use bytes::Bytes;
use ractor::{
    Actor, ActorId, ActorProcessingErr, ActorRef,
    message::{BoxedDowncastErr, SerializedMessage},
};
use ractor_cluster::{NodeEventSubscription, NodeSessionMessage, node::NodeServerSessionInformation};

use super::{
    connect,
    envelope::{self, Frame, Greeting},
    outbox::Outbox,
    peer::Peer,
    shared::Shared,
    state::{ConnectionId, Input, Output, State, Why},
    stream::connection_of,
};
use crate::NodeName;

/// Bytes of a session that are handled before the peer is told, at most: an eighth of its credit, so that it never waits
/// for us while we are fast enough.
const TELL_AFTER: u64 = 512 * 1024;

/// What comes to the link actor. Its mailbox is unbounded; each variant says what bounds it.
pub(crate) enum LinkMessage {
    /// Bytes of another node. The only one that crosses. At most the credit of all peers, and a heartbeat a peer and 500 ms.
    Frame(Vec<u8>),
    /// Something else came from another node. It is counted.
    Unreadable,
    /// News of a session: four a connection, whose number is bounded.
    Session(ConnectionId, SessionNews),
    /// One a dial, of which there is one a peer.
    DialFailed(ConnectionId),
    /// The live nodes changed, or time went by: look. One at a time.
    Look,
    /// The end: once.
    Stop,
}

/// What happened to a session.
pub(crate) enum SessionNews {
    Opened(ActorRef<NodeSessionMessage>),
    /// By the name that it gave itself: `node@host`.
    Authenticated(String),
    Ready,
    Disconnected,
}

impl ractor::Message for LinkMessage {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        match self {
            Self::Frame(args) => Ok(SerializedMessage::Cast { variant: String::new(), args, metadata: None }),
            Self::Unreadable | Self::Session(..) | Self::DialFailed(_) | Self::Look | Self::Stop => {
                Err(BoxedDowncastErr)
            }
        }
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Cast { args, .. } => Ok(Self::Frame(args)),
            // An error would be lost in a debug line.
            SerializedMessage::Call { .. } | SerializedMessage::CallReply(..) => Ok(Self::Unreadable),
        }
    }
}

/// Tells the link actor of all sessions. Runs inside the node server: sends, and nothing else.
pub(crate) struct Sessions(pub(crate) ActorRef<LinkMessage>);

impl Sessions {
    fn tell(&self, session: &NodeServerSessionInformation, news: SessionNews) {
        match connection_of(&session.peer_addr) {
            Some(connection) => {
                let _ = self.0.cast(LinkMessage::Session(connection, news));
            }
            // It came to the library's own listener, past TLS.
            None => session.actor.stop(Some("not a connection of ours".to_owned())),
        }
    }
}

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.tell(&session, SessionNews::Opened(session.actor.clone()));
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.tell(&session, SessionNews::Disconnected);
    }

    fn node_session_authenticated(&self, session: NodeServerSessionInformation) {
        let name = session.peer_name.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
        self.tell(&session, SessionNews::Authenticated(name));
    }

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.tell(&session, SessionNews::Ready);
    }
}

/// The name of a node's link actor, by which its peers find it among what a session mirrors.
pub(crate) fn actor_name(node: &NodeName) -> String {
    format!("link {node}")
}

/// A session, as far as it is known.
struct Session {
    actor: ActorRef<NodeSessionMessage>,
    peer: Option<NodeName>,
    remote: Option<ActorRef<LinkMessage>>,
    /// Bytes that had come at the last look.
    seen: u64,
}

pub(crate) struct Link(pub(crate) Arc<Shared>);

pub(crate) struct LinkState {
    shared: Arc<Shared>,
    state: State,
    sessions: HashMap<ConnectionId, Session>,
    /// By our number: the sessions that are up.
    up: HashMap<u64, Arc<Peer>>,
}

impl Actor for Link {
    type Msg = LinkMessage;
    type State = LinkState;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<LinkMessage>, (): ()) -> Result<LinkState, ActorProcessingErr> {
        let shared = Arc::clone(&self.0);
        let state = State::new(shared.settings.name.clone(), shared.settings.times);
        Ok(LinkState { shared, state, sessions: HashMap::new(), up: HashMap::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<LinkMessage>,
        message: LinkMessage,
        link: &mut LinkState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Frame(frame) => link.frame(frame),
            LinkMessage::Unreadable => link.unreadable(&"a call"),
            LinkMessage::Session(connection, news) => link.session(connection, news),
            LinkMessage::DialFailed(connection) => link.input(Input::DialFailed(connection)),
            LinkMessage::Look => link.look(),
            LinkMessage::Stop => link.input(Input::Stop),
        }
        Ok(())
    }
}

impl LinkState {
    fn frame(&mut self, frame: Vec<u8>) {
        let length = frame.len();
        match envelope::decode(frame, self.shared.settings.version) {
            Ok(Frame::Batch { to, entries }) => self.batch(to, length, entries),
            Ok(Frame::Pulse(pulse)) => match self.up.get(&pulse.to) {
                Some(peer) => peer.pulsed(self.shared.now(), &pulse),
                None => self.stale(),
            },
            Ok(Frame::Greeting(greeting)) => self.greeting(&greeting),
            Ok(Frame::Stranger { version, greeting }) => self.stranger(version, &greeting),
            Err(error) => self.unreadable(&error),
        }
    }

    fn batch(&mut self, to: u64, length: usize, mut entries: Bytes) {
        let Some(peer) = self.up.get(&to).cloned() else { return self.stale() };
        let id = peer.name.peer();
        let mut count = 0;
        loop {
            match envelope::next_entry(&mut entries) {
                Ok(Some((trace, payload))) => self.shared.handler.received(id, payload, trace),
                Ok(None) => break,
                Err(error) => {
                    self.unreadable(&error);
                    break;
                }
            }
            count += 1;
        }
        peer.counters.messages_in.fetch_add(count, Ordering::Relaxed);
        peer.consumed(self.shared.now(), length as u64, TELL_AFTER);
    }

    fn greeting(&mut self, greeting: &Greeting) {
        match greeting.name.parse::<NodeName>() {
            Ok(name) => {
                let (theirs, ours) = (greeting.number, greeting.to);
                self.input(Input::Greeted { peer: name.peer(), theirs, ours });
            }
            Err(error) => self.unreadable(&error),
        }
    }

    fn stranger(&mut self, version: u8, greeting: &Greeting) {
        self.shared.totals.other_version.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            peer = greeting.name,
            build = greeting.build,
            version,
            ours = self.shared.settings.version,
            "the peer speaks another version of the link protocol: no link to it"
        );
        if let Ok(name) = greeting.name.parse::<NodeName>() {
            self.input(Input::OtherVersion { peer: name.peer() });
        }
    }

    fn stale(&self) {
        self.shared.totals.stale.fetch_add(1, Ordering::Relaxed);
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) {
        self.shared.totals.unreadable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "a frame of another node can't be read");
    }

    fn session(&mut self, connection: ConnectionId, news: SessionNews) {
        match news {
            SessionNews::Opened(actor) => {
                let inbound = self.shared.wires.get(&connection).is_some_and(|wire| wire.inbound);
                self.sessions.insert(connection, Session { actor, peer: None, remote: None, seen: 0 });
                self.input(Input::Opened { connection, inbound });
            }
            SessionNews::Authenticated(name) => self.authenticated(connection, &name),
            SessionNews::Ready => self.ready(connection),
            SessionNews::Disconnected => self.disconnected(connection),
        }
    }

    fn authenticated(&mut self, connection: ConnectionId, name: &str) {
        let name = name.split_once('@').and_then(|(node, _)| node.parse::<NodeName>().ok());
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Some(name) = name else { return session.actor.stop(Some("no name of a node".to_owned())) };
        session.peer = Some(name.clone());
        let wire = self.shared.wires.get(&connection).map(|wire| Arc::clone(&wire));
        let proven = wire.is_some_and(|wire| wire.identity.speaks_for(name.id()));
        self.input(Input::Authenticated { connection, name, proven });
    }

    /// Finds the peer's link actor among what the session mirrors.
    fn ready(&mut self, connection: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Some(name) = session.peer.as_ref().map(actor_name) else { return };
        let mirrored = session.actor.get_cell().get_children().into_iter();
        let remote = mirrored
            .filter(|child| matches!(child.get_id(), ActorId::Remote { .. }))
            .find(|child| child.get_name().as_ref() == Some(&name));
        match remote {
            Some(remote) => {
                session.remote = Some(remote.into());
                self.input(Input::Ready { connection });
            }
            None => session.actor.stop(Some("the peer has no link actor".to_owned())),
        }
    }

    fn disconnected(&mut self, connection: ConnectionId) {
        self.sessions.remove(&connection);
        if let Some((_, wire)) = self.shared.wires.remove(&connection) {
            wire.closed.cancel();
        }
        self.input(Input::Disconnected { connection });
    }

    fn look(&mut self) {
        // First of all: what comes from now on asks for another look.
        self.shared.look_asked.store(false, Ordering::Release);
        if let Some(live) = self.shared.take_live() {
            self.input(Input::Live(live.clone()));
            self.shared.keep_peers(&live);
        }
        for connection in self.lost_connections() {
            self.disconnected(connection);
        }
        for connection in self.heard_connections() {
            self.input(Input::Heard { connection });
        }
        self.input(Input::Tick);
    }

    /// Those whose stream is gone, though no session told of its end: one that never began.
    fn lost_connections(&self) -> Vec<ConnectionId> {
        let wires = self.shared.wires.iter();
        wires.filter(|wire| Arc::strong_count(wire) == 1).map(|wire| *wire.key()).collect()
    }

    fn heard_connections(&mut self) -> Vec<ConnectionId> {
        let mut heard = Vec::new();
        for (&connection, session) in &mut self.sessions {
            let Some(wire) = self.shared.wires.get(&connection) else { continue };
            let bytes = wire.bytes_in.load(Ordering::Relaxed);
            if std::mem::replace(&mut session.seen, bytes) != bytes {
                heard.push(connection);
            }
            if let Some(peer) = session.peer.as_ref().and_then(|name| self.shared.peers.get(&name.peer())) {
                peer.counters.bytes_in.store(bytes, Ordering::Relaxed);
                peer.counters.bytes_out.store(wire.bytes_out.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        heard
    }

    fn input(&mut self, input: Input) {
        let now = self.shared.now();
        let is_news = !matches!(input, Input::Heard { .. });
        // The lower half of the bits.
        let chance = self.shared.settings.chance.bits() as u64;
        let outputs = self.state.handle(now, chance, input);
        // To hear something is as good as always nothing new, and comes ten times a second from each peer.
        if !is_news && outputs.is_empty() {
            return;
        }
        for output in outputs {
            self.act(output);
        }
        for peer in &self.shared.peers {
            peer.set_phase(self.state.phase(*peer.key()));
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Dial { connection, name, address } => {
                connect::spawn_dial(&self.shared, connection, name, address);
            }
            Output::Close { connection, why } => self.close(connection, why),
            Output::Greet { connection, number, to } => self.greet(connection, number, to),
            Output::Up { peer, connection, ours, theirs } => self.up(peer, connection, (ours, theirs)),
            Output::Suspended { peer } => self.suspend(peer, true),
            Output::Resumed { peer } => self.suspend(peer, false),
            Output::Down { peer } => self.down(peer),
        }
    }

    fn close(&self, connection: ConnectionId, why: Why) {
        self.shared.totals.closed.fetch_add(1, Ordering::Relaxed);
        tracing::info!(connection, ?why, "closing a connection to another node");
        // Both: the session stops what it has, the stream frees whoever is stuck in it.
        if let Some(session) = self.sessions.get(&connection) {
            session.actor.stop(Some(format!("{why:?}")));
        }
        if let Some(wire) = self.shared.wires.get(&connection) {
            wire.closed.cancel();
        }
    }

    fn greet(&self, connection: ConnectionId, number: u64, to: u64) {
        let Some(remote) = self.sessions.get(&connection).and_then(|session| session.remote.as_ref()) else {
            return;
        };
        let settings = &self.shared.settings;
        let (name, build) = (settings.name.to_string(), env!("CARGO_PKG_VERSION").to_owned());
        let frame = Greeting { to, number, name, build }.encode(settings.version);
        let _ = remote.cast(LinkMessage::Frame(frame));
    }

    fn up(&mut self, peer: PeerId, connection: ConnectionId, (ours, theirs): (u64, u64)) {
        let remote = self.sessions.get(&connection).and_then(|session| session.remote.clone());
        let found = self.shared.peers.get(&peer).map(|peer| Arc::clone(&peer));
        let (Some(remote), Some(peer)) = (remote, found) else { return };
        let settings = &self.shared.settings;
        let outbox = Outbox::new(settings.limits, settings.version, theirs);
        peer.open(remote, settings.version, theirs, outbox);
        tracing::info!(peer = %peer.name, "link up");
        self.shared.handler.up(peer.name.peer());
        self.up.insert(ours, peer);
    }

    fn suspend(&self, peer: PeerId, suspended: bool) {
        let Some(lane) = self.shared.peers.get(&peer).map(|peer| Arc::clone(&peer)) else { return };
        lane.suspend(suspended);
        tracing::info!(peer = %lane.name, suspended, "the peer is silent, or no longer");
        if suspended {
            self.shared.handler.suspended(peer);
        } else {
            self.shared.handler.resumed(peer);
        }
    }

    fn down(&mut self, peer: PeerId) {
        self.up.retain(|_, up| {
            up.name.peer() != peer || {
                up.close();
                tracing::info!(peer = %up.name, "link down");
                false
            }
        });
        self.shared.handler.down(peer);
    }
}
