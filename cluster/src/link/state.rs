//! Whom this node is linked with, and how far each link has come: decides, and does nothing. Time and chance are arguments.
//!
//! ```text
//!          Dial             name known          both greeted        silence
//!   Down ───────► Dialing ─────────────► Known ──────────────► Up ◄───────► suspended
//!    ▲               │                     │                   │
//!    └── it ended ───┴────── Closing ◄─────┴── closed by us ───┘
//! ```
//!
//! Of two nodes the one with the smaller id dials. Both name the session by a number of their own, drawn by chance, and
//! tell it the other in a greeting; a link is up when the other side has answered with our number. So whatever was sent
//! in an earlier session belongs to no number.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use actors::PeerId;

use super::times::Times;
use crate::NodeName;

/// A connection, by this node's count: even for those that it dialled, odd for those that it accepted.
pub(crate) type ConnectionId = u64;

/// How long a connection stays open after a greeting in another version, so that ours gets there too.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// These nodes live, by gossip. All others don't.
    Live(Vec<(NodeName, SocketAddr)>),
    /// What was to be dialled could not be reached, or not identified.
    DialFailed(ConnectionId),
    /// A session began on a connection.
    Opened { connection: ConnectionId, inbound: bool },
    /// The session's other side knows the cookie, and calls itself so. `proven`: its certificate may say so.
    Authenticated { connection: ConnectionId, name: NodeName, proven: bool },
    /// Frames can be sent to the other side's link actor.
    Ready { connection: ConnectionId },
    /// A connection is over.
    Disconnected { connection: ConnectionId },
    /// A greeting came: the peer's number for the session, and ours if it knows it, else 0.
    Greeted { peer: PeerId, theirs: u64, ours: u64 },
    /// A greeting came in a version that this build doesn't speak.
    OtherVersion { peer: PeerId },
    /// Bytes came since the last time.
    Heard { connection: ConnectionId },
    /// Time goes by.
    Tick,
    /// This node ends all links for good.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Dial { connection: ConnectionId, name: NodeName, address: SocketAddr },
    Close { connection: ConnectionId, why: Why },
    Greet { connection: ConnectionId, number: u64, to: u64 },
    Up { peer: PeerId, connection: ConnectionId, ours: u64, theirs: u64 },
    Suspended { peer: PeerId },
    Resumed { peer: PeerId },
    Down { peer: PeerId },
}

/// Why a connection is closed from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nobody waits for it any more.
    Unwanted,
    /// Authentication or greeting took too long.
    Late,
    /// It is of a node that doesn't live, or of an earlier life.
    NotLive,
    /// It is of another node than the dialled one, or its certificate is not for the name.
    WrongName,
    /// The node has opened another one.
    Replaced,
    /// It speaks another version.
    Version,
    /// Nothing was heard for too long.
    Silent,
    /// This node stops.
    Stopping,
}

/// How far a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPhase {
    /// No connection.
    Down,
    /// A connection is being opened from here.
    Dialing,
    /// A connection to the peer is open, the greetings are under way.
    Authenticated,
    /// Messages go.
    Ready,
    /// Messages would go, but the peer has been silent.
    Suspended,
    /// A connection is being closed from here.
    Closing,
}

impl LinkPhase {
    /// As people are shown it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Dialing => "dialing",
            Self::Authenticated => "authenticated",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Closing => "closing",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Down,
    Dialing { connection: ConnectionId, until: Duration },
    Known { connection: ConnectionId, until: Duration, ours: u64, greeted: Option<Duration> },
    Up { connection: ConnectionId, ours: u64, theirs: u64, heard: Duration, suspended: bool },
    Closing { connection: ConnectionId, until: Duration },
}

impl Phase {
    fn connection(&self) -> Option<ConnectionId> {
        match *self {
            Self::Down => None,
            Self::Dialing { connection, .. }
            | Self::Known { connection, .. }
            | Self::Up { connection, .. }
            | Self::Closing { connection, .. } => Some(connection),
        }
    }
}

struct Link {
    name: NodeName,
    address: SocketAddr,
    phase: Phase,
    failures: u32,
    dial_at: Duration,
    /// The peer's number in the last greeting, until the session that it is of is ready here.
    hello: Option<u64>,
    /// When to close for its version.
    refuse_at: Option<Duration>,
}

/// All links of a node.
pub(crate) struct State {
    me: NodeName,
    times: Times,
    links: BTreeMap<PeerId, Link>,
    /// Accepted connections without a name, and when each is too late.
    strangers: BTreeMap<ConnectionId, Duration>,
    next_connection: ConnectionId,
    stopping: bool,
}

type Outputs = Vec<Output>;

impl State {
    pub(crate) fn new(me: NodeName, times: Times) -> Self {
        let (links, strangers) = (BTreeMap::new(), BTreeMap::new());
        Self { me, times, links, strangers, next_connection: 0, stopping: false }
    }

    /// `now` is since any fixed time, `chance` drawn anew for each call.
    pub(crate) fn handle(&mut self, now: Duration, chance: u64, input: Input) -> Outputs {
        let mut out = Vec::new();
        match input {
            Input::Live(live) => self.live(now, live, &mut out),
            Input::DialFailed(connection) | Input::Disconnected { connection } => {
                self.ended(now, chance, connection, &mut out);
            }
            Input::Opened { connection, inbound } => self.opened(now, connection, inbound, &mut out),
            Input::Authenticated { connection, name, proven } => {
                self.authenticated(now, chance, connection, (&name, proven), &mut out);
            }
            Input::Ready { connection } => self.ready(now, connection, &mut out),
            Input::Greeted { peer, theirs, ours } => self.greeted(now, peer, (theirs, ours), &mut out),
            Input::OtherVersion { peer } => self.other_version(now, peer),
            Input::Heard { connection } => self.heard(now, connection, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Stop => self.stop(now, &mut out),
        }
        out
    }

    /// How far the link to a peer has come.
    pub(crate) fn phase(&self, peer: PeerId) -> LinkPhase {
        match self.links.get(&peer).map(|link| link.phase) {
            None | Some(Phase::Down) => LinkPhase::Down,
            Some(Phase::Dialing { .. }) => LinkPhase::Dialing,
            Some(Phase::Known { .. }) => LinkPhase::Authenticated,
            Some(Phase::Up { suspended: false, .. }) => LinkPhase::Ready,
            Some(Phase::Up { suspended: true, .. }) => LinkPhase::Suspended,
            Some(Phase::Closing { .. }) => LinkPhase::Closing,
        }
    }

    fn live(&mut self, now: Duration, live: Vec<(NodeName, SocketAddr)>, out: &mut Outputs) {
        let mut wanted: BTreeMap<PeerId, (NodeName, SocketAddr)> = live
            .into_iter()
            .filter(|(name, _)| name.id() != self.me.id() && !self.stopping)
            .map(|(name, address)| (name.peer(), (name, address)))
            .collect();
        let gone: Vec<PeerId> =
            self.links.keys().filter(|peer| !wanted.contains_key(peer)).copied().collect();
        for peer in gone {
            self.close(now, peer, Why::NotLive, out);
            self.links.remove(&peer);
        }
        for (peer, link) in &mut self.links {
            if let Some((_, address)) = wanted.remove(peer) {
                link.address = address;
            }
        }
        for (peer, (name, address)) in wanted {
            let link = Link {
                name,
                address,
                phase: Phase::Down,
                failures: 0,
                dial_at: now,
                hello: None,
                refuse_at: None,
            };
            self.links.insert(peer, link);
        }
        self.dial(now, out);
    }

    fn dial(&mut self, now: Duration, out: &mut Outputs) {
        let until = now + 2 * self.times.connect + self.times.authenticate;
        for link in self.links.values_mut() {
            let is_due = matches!(link.phase, Phase::Down) && now >= link.dial_at;
            if is_due && self.me.id() < link.name.id() {
                self.next_connection += 2;
                let connection = self.next_connection;
                link.phase = Phase::Dialing { connection, until };
                out.push(Output::Dial { connection, name: link.name.clone(), address: link.address });
            }
        }
    }

    fn opened(&mut self, now: Duration, connection: ConnectionId, inbound: bool, out: &mut Outputs) {
        let until = now + self.times.authenticate;
        if inbound && !self.stopping {
            self.strangers.insert(connection, until);
            return;
        }
        match self.link_of(connection).map(|(_, link)| &mut link.phase) {
            Some(Phase::Dialing { until: late, .. }) => *late = until,
            Some(_) | None => out.push(Output::Close { connection, why: Why::Unwanted }),
        }
    }

    fn authenticated(
        &mut self,
        now: Duration,
        chance: u64,
        connection: ConnectionId,
        (name, proven): (&NodeName, bool),
        out: &mut Outputs,
    ) {
        let peer = name.peer();
        let dialled = self.link_of(connection).map(|(dialled, _)| dialled);
        let stranger = self.strangers.remove(&connection).is_some();
        if !proven || dialled.is_some_and(|dialled| dialled != peer) {
            // Also after a dial: the link stays in Dialing until the connection has ended, so that it counts as failed.
            out.push(Output::Close { connection, why: Why::WrongName });
        } else if dialled.is_none() && !stranger {
            out.push(Output::Close { connection, why: Why::Unwanted });
        } else if !self.links.contains_key(&peer) {
            out.push(Output::Close { connection, why: Why::NotLive });
        } else {
            if dialled.is_none() {
                self.close(now, peer, Why::Replaced, out);
            }
            self.know(now, peer, connection, chance);
        }
    }

    fn know(&mut self, now: Duration, peer: PeerId, connection: ConnectionId, chance: u64) {
        let until = now + self.times.authenticate;
        if let Some(link) = self.links.get_mut(&peer) {
            link.phase = Phase::Known { connection, until, ours: chance.max(1), greeted: None };
        }
    }

    fn ready(&mut self, now: Duration, connection: ConnectionId, out: &mut Outputs) {
        let Some((_, link)) = self.link_of(connection) else { return };
        if let Phase::Known { ours, greeted, .. } = &mut link.phase {
            *greeted = Some(now);
            out.push(Output::Greet { connection, number: *ours, to: link.hello.take().unwrap_or(0) });
        }
    }

    fn greeted(&mut self, now: Duration, peer: PeerId, (theirs, to): (u64, u64), out: &mut Outputs) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        match link.phase {
            Phase::Known { connection, ours, greeted: Some(_), .. } => {
                out.push(Output::Greet { connection, number: ours, to: theirs });
                if to == ours {
                    link.phase = Phase::Up { connection, ours, theirs, heard: now, suspended: false };
                    (link.failures, link.hello) = (0, None);
                    out.push(Output::Up { peer, connection, ours, theirs });
                }
            }
            // It has not heard our answer.
            Phase::Up { connection, ours, theirs: known, .. } if known == theirs && to != ours => {
                out.push(Output::Greet { connection, number: ours, to: theirs });
            }
            Phase::Up { theirs: known, .. } if known == theirs => {}
            // Of a session that is not ready here yet, or of one that is over: its answer tells.
            Phase::Down
            | Phase::Dialing { .. }
            | Phase::Known { .. }
            | Phase::Up { .. }
            | Phase::Closing { .. } => link.hello = Some(theirs),
        }
    }

    fn other_version(&mut self, now: Duration, peer: PeerId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.refuse_at.get_or_insert(now + LAST_WORDS);
            link.dial_at = now + self.times.refused;
        }
    }

    fn heard(&mut self, now: Duration, connection: ConnectionId, out: &mut Outputs) {
        let Some((peer, link)) = self.link_of(connection) else { return };
        if let Phase::Up { heard, suspended, .. } = &mut link.phase {
            *heard = now;
            if std::mem::take(suspended) {
                out.push(Output::Resumed { peer });
            }
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Outputs) {
        let late = self.strangers.extract_if(.., |_, until| now >= *until);
        out.extend(late.map(|(connection, _)| Output::Close { connection, why: Why::Late }));
        let mut closing = Vec::new();
        for (&peer, link) in &mut self.links {
            if link.refuse_at.take_if(|at| now >= *at).is_some() {
                closing.push((peer, Why::Version));
            } else if let Some(why) = look(&self.times, now, peer, link, out) {
                closing.push((peer, why));
            }
        }
        for (peer, why) in closing {
            self.close(now, peer, why, out);
        }
        self.dial(now, out);
    }

    /// Closes the connection to a peer, if there is one. The link dials again when it has ended.
    fn close(&mut self, now: Duration, peer: PeerId, why: Why, out: &mut Outputs) {
        let until = now + self.times.authenticate;
        let Some(link) = self.links.get_mut(&peer) else { return };
        let was_up = matches!(link.phase, Phase::Up { .. });
        match link.phase {
            Phase::Down | Phase::Closing { .. } => return,
            Phase::Dialing { connection, .. }
            | Phase::Known { connection, .. }
            | Phase::Up { connection, .. } => {
                link.phase = Phase::Closing { connection, until };
                out.push(Output::Close { connection, why });
            }
        }
        if was_up {
            out.push(Output::Down { peer });
        }
    }

    fn ended(&mut self, now: Duration, chance: u64, connection: ConnectionId, out: &mut Outputs) {
        self.strangers.remove(&connection);
        let times = self.times;
        let Some((peer, link)) = self.link_of(connection) else { return };
        let was_up = matches!(link.phase, Phase::Up { .. });
        link.phase = Phase::Down;
        link.dial_at = link.dial_at.max(now + pause(&times, link.failures, chance));
        link.failures = link.failures.saturating_add(1);
        if was_up {
            out.push(Output::Down { peer });
        }
    }

    fn stop(&mut self, now: Duration, out: &mut Outputs) {
        self.stopping = true;
        let peers: Vec<PeerId> = self.links.keys().copied().collect();
        for peer in peers {
            self.close(now, peer, Why::Stopping, out);
        }
        self.links.clear();
        let strangers = std::mem::take(&mut self.strangers);
        let close = |(connection, _)| Output::Close { connection, why: Why::Stopping };
        out.extend(strangers.into_iter().map(close));
    }

    fn link_of(&mut self, connection: ConnectionId) -> Option<(PeerId, &mut Link)> {
        let of = |link: &Link| link.phase.connection() == Some(connection);
        self.links.iter_mut().find(|(_, link)| of(link)).map(|(peer, link)| (*peer, link))
    }
}

/// What the time does to a link: says if it is to be closed.
fn look(times: &Times, now: Duration, peer: PeerId, link: &mut Link, out: &mut Outputs) -> Option<Why> {
    match &mut link.phase {
        Phase::Down => None,
        Phase::Dialing { until, .. } => (now >= *until).then_some(Why::Late),
        Phase::Known { until, .. } if now >= *until => Some(Why::Late),
        Phase::Known { connection, ours, greeted, .. } => {
            if greeted.take_if(|at| now >= *at + times.heartbeat).is_some() {
                *greeted = Some(now);
                out.push(Output::Greet {
                    connection: *connection,
                    number: *ours,
                    to: link.hello.unwrap_or(0),
                });
            }
            None
        }
        Phase::Up { heard, .. } if now >= *heard + times.close => Some(Why::Silent),
        Phase::Up { heard, suspended, .. } => {
            if !*suspended && now >= *heard + times.suspend {
                *suspended = true;
                out.push(Output::Suspended { peer });
            }
            None
        }
        // Whoever was to tell of its end did not.
        Phase::Closing { until, .. } => {
            if now >= *until {
                link.phase = Phase::Down;
            }
            None
        }
    }
}

/// Before the next try to dial: doubled with each failure, up to half taken off so that nodes don't dial in step.
fn pause(times: &Times, failures: u32, chance: u64) -> Duration {
    let doubled = times.first_retry.saturating_mul(1 << failures.min(16));
    let whole = doubled.min(times.last_retry);
    let part = u32::try_from(chance % 1024).unwrap_or(0);
    whole - whole / 2 * part / 1024
}

#[cfg(test)]
mod tests;
