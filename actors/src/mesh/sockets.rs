//! The sockets of this node, by session and by user: how a message from another node finds its way to them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::{CloseCode, Millis, SessionId, UserId, client::PresenceStatus};
use tokio::sync::oneshot;

use crate::{
    Notice,
    session::{Refusal, Session},
    users::SignedOut,
};

/// All sockets that are known to be somebody's.
pub(crate) struct Sockets {
    users: DashMap<UserId, Local>,
    sessions: DashMap<SessionId, Session>,
    /// Sockets that wait for a home on another node; each with a deadline.
    waiting: DashMap<SessionId, oneshot::Sender<Option<Refusal>>>,
    per_s: u32,
    burst: u32,
}

/// One user's sockets here.
struct Local {
    allowance: Arc<Allowance>,
    sockets: Vec<Socket>,
}

/// A socket, and what its user chose on it.
#[derive(Clone)]
pub(crate) struct Socket {
    pub(crate) session: Session,
    pub(crate) status: Option<PresenceStatus>,
}

impl Sockets {
    /// With an allowance of `per_s` sends a second and `burst` at once for every user.
    pub(crate) fn new(per_s: u32, burst: u32) -> Self {
        Self { users: DashMap::new(), sessions: DashMap::new(), waiting: DashMap::new(), per_s, burst }
    }

    /// A socket was identified; gives what its user's sockets here share.
    pub(crate) fn enter(&self, session: &Session) -> Arc<Allowance> {
        self.sessions.insert(session.id, session.clone());
        let mut local = self.users.entry(session.user).or_insert_with(|| Local {
            allowance: Arc::new(Allowance::new(self.per_s, self.burst)),
            sockets: Vec::with_capacity(1),
        });
        if local.sockets.iter().all(|socket| socket.session.id != session.id) {
            local.sockets.push(Socket { session: session.clone(), status: None });
        }
        Arc::clone(&local.allowance)
    }

    /// It is gone.
    pub(crate) fn leave(&self, user: UserId, session: SessionId) {
        self.sessions.remove(&session);
        self.waiting.remove(&session);
        let Entry::Occupied(mut local) = self.users.entry(user) else { return };
        local.get_mut().sockets.retain(|socket| socket.session.id != session);
        if local.get().sockets.is_empty() {
            local.remove();
        }
    }

    /// A socket waits for its user's home to say whether it may stay.
    pub(crate) fn await_home(&self, session: SessionId) -> oneshot::Receiver<Option<Refusal>> {
        let (reply, answer) = oneshot::channel();
        self.waiting.insert(session, reply);
        answer
    }

    /// The home has said it. Gives a refusal back for which nobody waits.
    pub(crate) fn home_answered(&self, session: SessionId, refusal: Option<Refusal>) -> Option<Refusal> {
        match self.waiting.remove(&session) {
            Some((_, waiting)) => waiting.send(refusal).err().flatten(),
            None => refusal,
        }
    }

    pub(crate) fn session(&self, session: SessionId) -> Option<Session> {
        self.sessions.get(&session).map(|session| session.clone())
    }

    /// The sockets of one user.
    pub(crate) fn of(&self, user: UserId) -> Vec<Socket> {
        self.users.get(&user).map(|local| local.sockets.clone()).unwrap_or_default()
    }

    /// Everybody who has a socket here.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.users.iter().map(|local| *local.key()).collect()
    }

    /// How many sockets.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The user chose a status on a socket.
    pub(crate) fn set_status(&self, user: UserId, session: SessionId, status: PresenceStatus) {
        let Some(mut local) = self.users.get_mut(&user) else { return };
        let socket = local.sockets.iter_mut().find(|socket| socket.session.id == session);
        if let Some(socket) = socket {
            socket.status = Some(status);
        }
    }

    /// The user has sockets on so many nodes, which share what one may send.
    pub(crate) fn share(&self, user: UserId, nodes: u16) {
        if let Some(local) = self.users.get(&user) {
            local.allowance.share(nodes);
        }
    }

    /// Ends sockets; they leave by themselves.
    pub(crate) fn sign_out(&self, user: UserId, which: SignedOut, code: CloseCode) {
        for Socket { session, .. } in self.of(user) {
            let ends = match which {
                SignedOut::Device(device) => session.device == device,
                SignedOut::AllExcept(except) => Some(session.device) != except,
            };
            if ends {
                session.outbox.notify(Notice::End(code));
            }
        }
    }
}

/// What a user's sockets share: how fast they may send together.
///
/// The generic cell rate algorithm (ITU-T I.371): one number says when the allowance would be full again.
#[derive(Debug)]
pub struct Allowance {
    full_at: AtomicU64,
    /// Milliseconds that one send costs.
    per_send: AtomicU64,
    /// The same, if one node may spend all.
    alone: Millis,
    burst: Millis,
}

impl Allowance {
    /// `per_s` sends a second sustained, `burst` at once; both at least 1.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let alone = (1_000 / Millis::from(per_s.max(1))).max(1);
        let burst = alone * Millis::from(burst.max(1));
        Self { full_at: AtomicU64::new(0), per_send: AtomicU64::new(alone), alone, burst }
    }

    /// Takes one send.
    ///
    /// # Errors
    /// The milliseconds to wait when there is none left.
    pub fn take(&self, now: Millis) -> Result<(), Millis> {
        let per_send = self.per_send.load(Ordering::Relaxed);
        let mut wait = 0;
        let next = |full_at: Millis| {
            let taken = full_at.max(now) + per_send;
            wait = taken.saturating_sub(now + self.burst.max(per_send));
            (wait == 0).then_some(taken)
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(_) => Err(wait),
        }
    }

    /// From now on this is one of so many parts: each send costs as many times as much.
    fn share(&self, nodes: u16) {
        self.per_send.store(self.alone * Millis::from(nodes.max(1)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_gives_a_burst_and_then_its_rate() {
        let allowance = Allowance::new(10, 3);
        assert_eq!([(); 3].map(|()| allowance.take(1_000)), [Ok(()); 3]);
        assert_eq!(allowance.take(1_000), Err(100));
        assert_eq!((allowance.take(1_100), allowance.take(1_100)), (Ok(()), Err(100)));
    }

    #[test]
    fn a_part_of_an_allowance_gives_its_part() {
        let allowance = Allowance::new(10, 4);
        allowance.share(2);
        assert_eq!([(); 2].map(|()| allowance.take(1_000)), [Ok(()); 2]);
        assert_eq!(allowance.take(1_000), Err(200));
        allowance.share(1);
        assert_eq!(allowance.take(1_000), Err(100));
    }
}
