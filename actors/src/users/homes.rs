//! A user's home: the one node that knows all their sockets. Sockets are registered there under a lease, told again and
//! again, and anew whenever the home is another.

use std::time::Duration;

use protocol::{
    CloseCode, ErrorCode, RoomId, Seq, ServerFrame, SessionId, UserId, client::PresenceStatus,
    server::OwnStatus,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::Users;
use crate::{
    Notice, PeerId,
    mesh::{
        Place, proxy,
        sockets::Socket,
        wire::{Bits, PeerMessage, Registration},
    },
    session::{Class, Refusal, Session},
    user::Reply,
};

/// How long a socket waits for its user.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a socket waits for a home on another node; then it goes on, and is registered later.
const REGISTER_DEADLINE: Duration = Duration::from_secs(1);
/// How long a registration counts that is not renewed: three rounds may be lost.
const LEASE: Duration = Duration::from_secs(100);
/// After a change of placement, users are kept at their old home until the new one has told of them.
const HANDED_ON: Duration = Duration::from_secs(5);
/// Sockets in one message: some 60 KB.
const TOLD_AT_ONCE: usize = 1_000;

/// A socket that was entered; it leaves again unless it stays.
pub(super) struct Entered<'a> {
    pub(super) users: &'a Users,
    pub(super) session: &'a Session,
    pub(super) stays: bool,
}

impl Entered<'_> {
    pub(super) fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if !self.stays {
            self.users.disconnect(self.session.user, self.session.id);
        }
    }
}

/// As the node of the socket.
impl Users {
    /// Asks the user's home whether the socket may stay.
    pub(super) async fn register(&self, session: &Session) -> Result<(), Refusal> {
        match self.mesh.home_of(session.user) {
            Place::Here => {
                let (reply, answer) = oneshot::channel();
                self.map.connect(session.clone(), None, Reply::Here(reply));
                match timeout(CONNECT_DEADLINE, answer).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) | Err(_) => {
                        Err(Refusal::new(ErrorCode::Overloaded, "try again").retry_after(1_000))
                    }
                }
            }
            Place::At(home) => self.register_at_peer(home, session).await,
            // Registered when the home is known.
            Place::Unknown => Ok(()),
        }
    }

    async fn register_at_peer(&self, home: PeerId, session: &Session) -> Result<(), Refusal> {
        let answer = self.mesh.sockets.await_home(session.id);
        let registration = registration(session, None);
        if self.mesh.tell(home, &PeerMessage::Register(registration)).is_err() {
            return Ok(());
        }
        match timeout(REGISTER_DEADLINE, answer).await {
            Ok(Ok(Some(refusal))) => Err(refusal),
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
        }
    }

    /// The home has answered.
    pub(crate) fn registered(&self, user: UserId, session: SessionId, refusal: Option<Refusal>) {
        let Some(refusal) = self.mesh.sockets.home_answered(session, refusal) else { return };
        tracing::debug!(user.id = %user, session.id = %session, %refusal, "a socket is one too many");
        if let Some(session) = self.mesh.sockets.session(session) {
            session.outbox.notify(Notice::End(CloseCode::TooManyConnections));
        }
    }

    pub(super) fn unregister(&self, user: UserId, session: SessionId) {
        match self.mesh.home_of(user) {
            Place::Here => self.map.disconnect(user, session),
            Place::At(home) => {
                let (user, session) = (Bits(user), Bits(session));
                // Lost: the lease ends.
                let _ = self.mesh.tell(home, &PeerMessage::Unregister { user, session });
            }
            Place::Unknown => {}
        }
    }

    /// The user's other sockets show the mark.
    pub(super) fn tell_read(&self, user: UserId, room: RoomId, seq: Seq) {
        match self.mesh.home_of(user) {
            Place::Here => self.map.read(user, room, seq, None),
            Place::At(home) => {
                let (user, room) = (Bits(user), Bits(room));
                self.mesh.hint(home, &PeerMessage::Read { user, room, seq, from_home: false });
            }
            Place::Unknown => {}
        }
    }

    /// How many nodes share the user's allowance, and what their own status is.
    pub(crate) fn home_says(&self, user: UserId, nodes: u16, status: Option<PresenceStatus>) {
        self.mesh.sockets.share(user, nodes);
        let Some(status) = status else { return };
        let frame = ServerFrame::Status(OwnStatus { status });
        for Socket { session, .. } in self.mesh.sockets.of(user) {
            let bytes = self.world.encode.encode(&frame, session.outbox.encoding());
            let _ = session.outbox.push(&[bytes], Class::Answer); // full: the outbox ends the connection
        }
    }

    /// Registers sockets whose home is elsewhere, at the homes that `which` names.
    pub(crate) fn register_at(&self, which: impl Fn(PeerId) -> bool) {
        let mut by_home: std::collections::HashMap<PeerId, Vec<Registration>> =
            std::collections::HashMap::new();
        for user in self.mesh.sockets.users() {
            let Place::At(home) = self.mesh.home_of(user) else { continue };
            if which(home) {
                let sockets = self.mesh.sockets.of(user);
                let registrations = sockets.iter().map(|socket| registration(&socket.session, socket.status));
                by_home.entry(home).or_default().extend(registrations);
            }
        }
        for (home, mut sockets) in by_home {
            while !sockets.is_empty() {
                let rest = sockets.split_off(sockets.len().min(TOLD_AT_ONCE));
                // Lost: told again.
                let _ = self.mesh.tell(home, &PeerMessage::StillHere { sockets });
                sockets = rest;
            }
        }
    }

    /// Homes may be others: sockets are registered there, and users whose home was here are let go a while later, so
    /// that nobody sees them leave.
    pub(crate) fn placement_changed(&self) {
        self.register_at(|_| true);
        self.take_home();
        let users = self.clone();
        tokio::spawn(async move {
            sleep(HANDED_ON).await;
            users.map.release(|user| matches!(users.mesh.home_of(user), Place::At(_)));
        });
    }

    /// Users whose home is here now, and whose sockets are.
    fn take_home(&self) {
        for user in self.mesh.sockets.users() {
            if self.mesh.home_of(user) != Place::Here {
                continue;
            }
            for Socket { session, status } in self.mesh.sockets.of(user) {
                if !self.map.knows(user, session.id) {
                    self.map.connect(session, status, Reply::Nobody);
                }
            }
        }
    }

    /// Ends sockets whose sign-in has ended while this node could not be told.
    pub(crate) fn look_up_sign_ins(&self) {
        let users = self.clone();
        tokio::spawn(async move {
            for Socket { session, .. } in
                users.mesh.sockets.users().into_iter().flat_map(|user| users.mesh.sockets.of(user))
            {
                // A store that is away says nothing against anybody.
                if let Ok(None) = users.world.store.sign_in(session.device).await {
                    session.outbox.notify(Notice::End(CloseCode::SignedOut));
                }
            }
        });
    }

    /// Says again which sockets are here, and lets go of those that nobody has spoken of for long.
    pub(crate) fn renew(&self) {
        self.register_at(|_| true);
        if let Some(before) = Instant::now().checked_sub(LEASE) {
            self.map.expire(before);
        }
    }
}

/// As a user's home.
impl Users {
    pub(crate) fn registers(&self, peer: PeerId, registration: &Registration) {
        let Registration { user, session, device, status } = *registration;
        // Not our user (any more): the node finds the right home when its view has changed.
        if self.mesh.home_of(user.0) != Place::Here {
            return;
        }
        let session = proxy::session(&self.mesh, peer, session.0, user.0, device.0);
        self.map.connect(session, status, Reply::At(peer));
    }

    pub(crate) fn read_elsewhere(&self, peer: PeerId, user: UserId, room: RoomId, seq: Seq, from_home: bool) {
        self.heads.read(user, room, seq);
        if !from_home {
            self.map.read(user, room, seq, Some(peer));
        }
    }
}

fn registration(session: &Session, status: Option<PresenceStatus>) -> Registration {
    Registration { user: Bits(session.user), session: Bits(session.id), device: Bits(session.device), status }
}
