//! A connected user: their sockets, what others see of them, and what they may do together.

use protocol::{ErrorCode, SessionId, client::PresenceStatus};
use tokio::time::Instant;

use crate::{
    Notice, PeerId,
    session::{Refusal, Session},
};

/// One user's sockets. Small: it stays in memory while the user's actor is passive.
#[derive(Debug)]
pub(crate) struct UserState {
    sessions: Vec<Socket>,
    /// What others were told last.
    shown: PresenceStatus,
}

#[derive(Debug)]
struct Socket {
    session: Session,
    status: PresenceStatus,
    /// Since its node has last said that it is there, if it is another node.
    renewed_at: Option<Instant>,
}

/// What the actor does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Others see this from now on.
    Show(PresenceStatus),
    /// Tell the user's own sockets.
    TellOwn(PresenceStatus),
    /// Tell the user's nodes how many they are.
    Share,
    /// If still nobody is there after the pause, others are told.
    AwaitReturn,
}

impl UserState {
    pub(crate) fn new() -> Self {
        Self { sessions: Vec::new(), shown: PresenceStatus::Offline }
    }

    /// Moves everything out.
    pub(crate) fn take(&mut self) -> Self {
        let sessions = std::mem::take(&mut self.sessions);
        Self { sessions, shown: self.shown }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.sessions.is_empty() && self.shown == PresenceStatus::Offline
    }

    /// Whether the last socket is gone and others were not told yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.sessions.is_empty() && self.shown != PresenceStatus::Offline
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|socket| &socket.session)
    }

    /// The other nodes that have sockets of this user.
    pub(crate) fn peers(&self) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> =
            self.sessions.iter().filter_map(|socket| socket.session.outbox.peer()).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// How many nodes have sockets of this user.
    pub(crate) fn nodes(&self) -> u16 {
        let here = self.sessions.iter().any(|socket| socket.session.outbox.peer().is_none());
        u16::try_from(self.peers().len() + usize::from(here)).unwrap_or(u16::MAX)
    }

    /// The sockets of a node that is gone, or of nodes that have not renewed them since `before`.
    pub(crate) fn lost(&self, peer: Option<PeerId>, before: Option<Instant>) -> Vec<SessionId> {
        let is_lost = |socket: &&Socket| {
            let of_peer = peer.is_some() && socket.session.outbox.peer() == peer;
            let is_stale = before.is_some_and(|before| socket.renewed_at.is_some_and(|at| at < before));
            of_peer || is_stale
        };
        self.sessions.iter().filter(is_lost).map(|socket| socket.session.id).collect()
    }

    /// A node says that a socket is still there; `false` if nobody knew of it.
    pub(crate) fn renew(&mut self, session: SessionId) -> bool {
        let socket = self.sessions.iter_mut().find(|socket| socket.session.id == session);
        socket.map(|socket| socket.renewed_at = Some(Instant::now())).is_some()
    }

    /// Another socket, with what was chosen on it when it was known elsewhere. The same one again replaces itself.
    pub(crate) fn connect(
        &mut self,
        session: Session,
        status: Option<PresenceStatus>,
        most: usize,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        self.sessions.retain(|socket| socket.session.id != session.id);
        if self.sessions.len() >= most {
            let message = format!("a user has at most {most} connections");
            return Err(Refusal::new(ErrorCode::TooMany, message));
        }
        // A new device does not lift what the user chose on the others.
        let chosen = status.unwrap_or_else(|| self.own());
        let status = if chosen == PresenceStatus::Offline { PresenceStatus::Online } else { chosen };
        let renewed_at = session.outbox.peer().map(|_| Instant::now());
        self.sessions.push(Socket { session, status, renewed_at });
        self.changed(out);
        out.push(Output::TellOwn(self.own()));
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, session: SessionId, out: &mut Vec<Output>) {
        let before = (self.sessions.len(), self.nodes());
        self.sessions.retain(|socket| socket.session.id != session);
        if self.sessions.len() == before.0 {
            return;
        }
        if self.sessions.is_empty() {
            out.push(Output::AwaitReturn);
        } else {
            self.changed(out);
            if self.nodes() != before.1 {
                out.push(Output::Share);
            }
        }
    }

    pub(crate) fn set_status(&mut self, session: SessionId, status: PresenceStatus, out: &mut Vec<Output>) {
        let hides = status == PresenceStatus::Invisible;
        for socket in &mut self.sessions {
            // Nobody is invisible on one device and seen on another.
            if socket.session.id == session || hides || socket.status == PresenceStatus::Invisible {
                socket.status = status;
            }
        }
        self.changed(out);
        out.push(Output::TellOwn(self.own()));
    }

    /// The pause after the last socket is over.
    pub(crate) fn returned_or_left(&mut self, out: &mut Vec<Output>) {
        if self.sessions.is_empty() {
            self.changed(out);
        }
    }

    /// The user's status over all devices: the most active wins.
    fn own(&self) -> PresenceStatus {
        self.sessions
            .iter()
            .map(|socket| socket.status)
            .max_by_key(|status| activity(*status))
            .unwrap_or(PresenceStatus::Offline)
    }

    fn changed(&mut self, out: &mut Vec<Output>) {
        let shown = match self.own() {
            PresenceStatus::Invisible => PresenceStatus::Offline,
            status @ (PresenceStatus::Online
            | PresenceStatus::Away
            | PresenceStatus::Dnd
            | PresenceStatus::Offline) => status,
        };
        if shown != self.shown {
            self.shown = shown;
            out.push(Output::Show(shown));
        }
    }
}

/// If a user's actor fails, their sockets register again.
impl Drop for UserState {
    fn drop(&mut self) {
        for socket in &self.sessions {
            socket.session.outbox.notify(Notice::UserEnded);
        }
    }
}

fn activity(status: PresenceStatus) -> u8 {
    match status {
        PresenceStatus::Offline => 0,
        PresenceStatus::Away => 1,
        PresenceStatus::Online => 2,
        PresenceStatus::Dnd => 3,
        PresenceStatus::Invisible => 4,
    }
}
