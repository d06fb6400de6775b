//! A connected user: their sockets, what others see of them, and what they may do together.

use std::sync::Arc;

use protocol::{CloseCode, ErrorCode, SessionId, client::PresenceStatus};

use crate::{
    Notice,
    session::{Refusal, Session},
    users::{Allowance, SignedOut},
};

/// One user's sockets. Small: it stays in memory while the user's actor is passive.
#[derive(Debug)]
pub(crate) struct UserState {
    sessions: Vec<Socket>,
    /// What others were told last.
    shown: PresenceStatus,
    allowance: Arc<Allowance>,
}

#[derive(Debug)]
struct Socket {
    session: Session,
    status: PresenceStatus,
}

/// What the actor does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Others see this from now on.
    Show(PresenceStatus),
    /// Tell the user's own sockets.
    TellOwn(PresenceStatus),
    /// If still nobody is there after the pause, others are told.
    AwaitReturn,
}

impl UserState {
    pub(crate) fn new(allowance: Arc<Allowance>) -> Self {
        Self { sessions: Vec::new(), shown: PresenceStatus::Offline, allowance }
    }

    /// Moves everything out.
    pub(crate) fn take(&mut self) -> Self {
        let sessions = std::mem::take(&mut self.sessions);
        Self { sessions, shown: self.shown, allowance: Arc::clone(&self.allowance) }
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

    /// Another socket. The same one again replaces itself.
    pub(crate) fn connect(
        &mut self,
        session: Session,
        most: usize,
        out: &mut Vec<Output>,
    ) -> Result<Arc<Allowance>, Refusal> {
        self.sessions.retain(|socket| socket.session.id != session.id);
        if self.sessions.len() >= most {
            let message = format!("a user has at most {most} connections");
            return Err(Refusal::new(ErrorCode::TooMany, message));
        }
        // A new device does not lift what the user chose on the others.
        let chosen = self.own();
        let status = if chosen == PresenceStatus::Offline { PresenceStatus::Online } else { chosen };
        self.sessions.push(Socket { session, status });
        self.changed(out);
        out.push(Output::TellOwn(self.own()));
        Ok(Arc::clone(&self.allowance))
    }

    pub(crate) fn disconnect(&mut self, session: SessionId, out: &mut Vec<Output>) {
        let before = self.sessions.len();
        self.sessions.retain(|socket| socket.session.id != session);
        if self.sessions.len() == before {
            return;
        }
        if self.sessions.is_empty() {
            out.push(Output::AwaitReturn);
        } else {
            self.changed(out);
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

    /// Ends sockets; they disconnect by themselves.
    pub(crate) fn sign_out(&self, which: SignedOut, code: CloseCode) {
        for socket in &self.sessions {
            let ends = match which {
                SignedOut::Device(device) => socket.session.device == device,
                SignedOut::AllExcept(except) => Some(socket.session.device) != except,
            };
            if ends {
                socket.session.outbox.notify(Notice::End(code));
            }
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
