//! What sessions of this node have asked of rooms elsewhere, until it is answered or asked again.
//!
//! A port knows where its room's requests go. When it does not (the room moved, the link is lost, nobody may know), it
//! waits for a change of placement or a pause, whichever is first; then openings are asked again by the port, and sends by
//! the sessions, which know their order.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::{RoomId, SessionId};
use tokio::time::Instant;

use super::{
    Mesh,
    wire::{Bits, OpenAsked, PeerMessage, SendAsked},
};
use crate::{
    Notice, PeerId,
    peers::Worth,
    room::Unanswered,
    rooms::{Draft, Open},
    session::Session,
};

/// First and longest pause before a room is looked for again.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);
/// How long an opening waits for its answer before it is asked again: longer than any claim should take.
const OPEN_AGAIN: Duration = Duration::from_secs(3);
/// How long an opening is asked again before the session is told that the room can't be had now.
const OPEN_FOR: Duration = Duration::from_secs(15);
/// A port that nobody has used for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// All ports: one a room that sessions here have lately used and that is placed elsewhere.
#[derive(Default)]
pub(crate) struct Ports(DashMap<RoomId, Port>);

struct Port {
    /// Where requests go; `None` while the port waits.
    at: Option<PeerId>,
    retry_at: Instant,
    pause: Duration,
    /// Sessions that have sent something lately: when the room moves, they send what is unanswered again.
    senders: HashSet<SessionId>,
    opens: HashMap<SessionId, Asked>,
    used_at: Instant,
}

/// An opening without an answer.
struct Asked {
    open: Open,
    unanswered: Unanswered,
    since: Instant,
    asked_at: Instant,
}

/// What waited at a port, to be asked elsewhere.
pub(crate) struct Left {
    pub(crate) opens: Vec<(Open, Unanswered)>,
    pub(crate) senders: Vec<SessionId>,
}

impl Port {
    fn new(at: Option<PeerId>, now: Instant) -> Self {
        Self {
            at,
            retry_at: now + *PAUSE.start(),
            pause: *PAUSE.start(),
            senders: HashSet::new(),
            opens: HashMap::new(),
            used_at: now,
        }
    }

    /// Requests go nowhere for a while.
    fn wait(&mut self, now: Instant) {
        self.at = None;
        self.retry_at = now + self.pause;
        self.pause = (self.pause * 2).min(*PAUSE.end());
    }
}

impl Ports {
    /// A session sends something to a room that is placed at `at`.
    pub(crate) fn send(
        &self,
        mesh: &Mesh,
        at: Option<PeerId>,
        room: RoomId,
        session: &Session,
        (draft, attempt): (&Draft, u32),
        now: Instant,
    ) {
        let mut port = self.0.entry(room).or_insert_with(|| Port::new(at, now));
        port.used_at = now;
        port.senders.insert(session.id);
        let Some(peer) = port.at else { return };
        let message = PeerMessage::Send(SendAsked {
            room: Bits(room),
            session: Bits(session.id),
            user: Bits(session.user),
            device: Bits(session.device),
            attempt,
            writer: Bits(draft.writer),
            n: draft.n,
            kind: draft.kind.as_str(),
            target: draft.target,
            body: draft.body.as_json(),
        });
        if mesh.send(peer, Worth::Needed, message.encode().into(), draft.trace).is_err() {
            port.wait(now);
        }
    }

    /// A session wants to hear a room that is placed at `at`.
    pub(crate) fn open(
        &self,
        mesh: &Mesh,
        at: Option<PeerId>,
        (open, unanswered): (Open, Unanswered),
        listening: Option<u64>,
        now: Instant,
    ) {
        let (room, session) = (open.room, open.session.id);
        let mut port = self.0.entry(room).or_insert_with(|| Port::new(at, now));
        port.used_at = now;
        let asked = Asked { open, unanswered, since: now, asked_at: now };
        let is_asked = port.at.is_none_or(|peer| ask(mesh, peer, &asked.open, listening));
        if let Some(mut earlier) = port.opens.insert(session, asked) {
            earlier.unanswered.answered(); // the session has asked again
        }
        if !is_asked {
            port.wait(now);
        }
    }

    /// An opening is answered, or nobody wants it any more.
    pub(crate) fn take_open(&self, room: RoomId, session: SessionId) -> Option<(Open, Unanswered)> {
        let asked = self.0.get_mut(&room)?.opens.remove(&session)?;
        Some((asked.open, asked.unanswered))
    }

    /// A peer answered the opening with "not now": it is asked again after a pause.
    pub(crate) fn ask_later(&self, room: RoomId, session: SessionId, now: Instant) -> bool {
        let Some(mut port) = self.0.get_mut(&room) else { return false };
        if !port.opens.contains_key(&session) {
            return false;
        }
        port.wait(now);
        true
    }

    /// The room is not at `peer`, or not any more.
    pub(crate) fn moved(&self, room: RoomId, peer: PeerId, now: Instant) {
        if let Some(mut port) = self.0.get_mut(&room)
            && port.at == Some(peer)
        {
            port.wait(now);
        }
    }

    /// The link to a peer is lost.
    pub(crate) fn lost(&self, peer: PeerId, now: Instant) {
        for mut port in self.0.iter_mut().filter(|port| port.at == Some(peer)) {
            port.wait(now);
        }
    }

    /// Rooms that are to be looked for now: those that wait and are due, or all that wait or point elsewhere than
    /// `place` says when the placement has changed.
    pub(crate) fn due(
        &self,
        now: Instant,
        has_changed: bool,
        place: impl Fn(RoomId) -> Option<PeerId>,
    ) -> Vec<RoomId> {
        let is_due = |room: RoomId, port: &Port| match port.at {
            None => has_changed || port.retry_at <= now,
            Some(at) => has_changed && place(room) != Some(at),
        };
        self.0.iter().filter(|port| is_due(*port.key(), port)).map(|port| *port.key()).collect()
    }

    /// The room is at `peer` now: openings are asked there, and senders send again.
    pub(crate) fn turn(&self, mesh: &Mesh, room: RoomId, peer: PeerId, listening: Option<u64>, now: Instant) {
        let Some(mut port) = self.0.get_mut(&room) else { return };
        port.at = Some(peer);
        let is_asked = port.opens.values_mut().all(|asked| {
            asked.asked_at = now;
            ask(mesh, peer, &asked.open, listening)
        });
        if !is_asked {
            return port.wait(now);
        }
        let senders: Vec<SessionId> = port.senders.drain().collect();
        drop(port);
        send_again(mesh, room, &senders);
    }

    /// The room can't be placed now.
    pub(crate) fn wait(&self, room: RoomId, now: Instant) {
        if let Some(mut port) = self.0.get_mut(&room) {
            port.wait(now);
        }
    }

    /// The room is here now: what waits is asked here.
    pub(crate) fn close(&self, room: RoomId) -> Option<Left> {
        let (_, port) = self.0.remove(&room)?;
        let opens = port.opens.into_values().map(|asked| (asked.open, asked.unanswered)).collect();
        Some(Left { opens, senders: port.senders.into_iter().collect() })
    }

    /// Something came from the room: the next trouble is the first again.
    pub(crate) fn heard(&self, room: RoomId, peer: PeerId) {
        if let Some(mut port) = self.0.get_mut(&room)
            && port.at == Some(peer)
        {
            port.pause = *PAUSE.start();
        }
    }

    /// Asks openings again whose answer does not come, gives up on those that have waited too long (their sessions are
    /// told), and closes ports that nobody uses.
    pub(crate) fn sweep(&self, now: Instant, is_here: impl Fn(SessionId) -> bool) {
        self.0.retain(|_, port| {
            port.senders.retain(|session| is_here(*session));
            port.opens.retain(|_, asked| now < asked.since + OPEN_FOR);
            if port.at.is_some() && port.opens.values().any(|asked| now >= asked.asked_at + OPEN_AGAIN) {
                port.wait(now);
            }
            !port.opens.is_empty() || now < port.used_at + IDLE
        });
    }

    /// Forgets a session at a room.
    pub(crate) fn leave(&self, room: RoomId, session: SessionId) {
        if let Entry::Occupied(mut port) = self.0.entry(room) {
            port.get_mut().senders.remove(&session);
            if let Some(mut asked) = port.get_mut().opens.remove(&session) {
                asked.unanswered.answered();
            }
        }
    }
}

/// Tells sessions to send what is unanswered again.
pub(crate) fn send_again(mesh: &Mesh, room: RoomId, senders: &[SessionId]) {
    for session in senders.iter().filter_map(|session| mesh.sockets.session(*session)) {
        session.outbox.notify(Notice::RoomEnded { room });
    }
}

fn ask(mesh: &Mesh, peer: PeerId, open: &Open, listening: Option<u64>) -> bool {
    let Open { session, id, room, after, incarnation, trace } = open;
    let message = PeerMessage::Open(OpenAsked {
        room: Bits(*room),
        session: Bits(session.id),
        user: Bits(session.user),
        device: Bits(session.device),
        id: *id,
        after: *after,
        incarnation: incarnation.map(|incarnation| incarnation.0),
        listening,
    });
    mesh.send(peer, Worth::Needed, message.encode().into(), *trace).is_ok()
}
