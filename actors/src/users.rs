//! The handle to every connected user.
//!
//! An idle ractor actor costs more than everything else about a connection, so a user's actor becomes passive when it
//! has nothing to do: its small state stays in the map, and what happens wakes it. Only a socket that comes does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{
    CloseCode, DeviceId, ErrorCode, Millis, RoomId, Seq, SessionId, UserId, client::PresenceStatus, limits,
};
use store::StoreError;
use tokio::sync::oneshot;

use crate::{
    World,
    heads::{Heads, RoomView},
    presence::{Presence, PresenceMessage, Visible},
    session::{Refusal, Session},
    user::{UserMap, UserMessage},
};

/// Rooms of one user that are looked at when a socket connects.
const ROOMS_OF_USER: usize = 1_000;
/// How long a socket waits for its user.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Every connected user. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(crate) map: Arc<UserMap>,
    pub(crate) world: World,
    pub(crate) presence: Presence,
    pub(crate) heads: Heads,
}

/// Which sockets end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOut {
    /// Those of this sign-in.
    Device(DeviceId),
    /// All but those of this one.
    AllExcept(Option<DeviceId>),
}

impl Users {
    /// A socket was identified. Its `heads` and the user's `status` follow through the outbox.
    ///
    /// # Errors
    /// `too_many` when the user has as many sockets as allowed; `unavailable` when the store is away.
    pub async fn connect(&self, session: Session) -> Result<Arc<Allowance>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.map.connect(session.clone(), reply);
        let allowance = match tokio::time::timeout(CONNECT_DEADLINE, answer).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) | Err(_) => {
                return Err(Refusal::new(ErrorCode::Overloaded, "try again").retry_after(1_000));
            }
        };
        // Registered before the store is asked, so that no change of membership falls between the two.
        self.heads.connect(session.clone());
        match self.rooms_of(session.user).await {
            Ok(rooms) => {
                self.heads.views(session.id, rooms);
                Ok(allowance)
            }
            Err(error) => {
                self.disconnect(session.user, session.id);
                Err(store_is_away(&error))
            }
        }
    }

    async fn rooms_of(&self, user: UserId) -> Result<Vec<RoomView>, StoreError> {
        let store = &self.world.store;
        let listing = store.rooms_of(user, None, ROOMS_OF_USER).await?;
        let joined = listing.items.into_iter().filter(|item| item.member.is_joined());
        let (rooms, joined): (Vec<RoomId>, Vec<Seq>) =
            joined.map(|item| (item.room.room, item.unread_after())).unzip();
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let heads = store.heads(&rooms).await?;
        let marks = store.read_marks(user, &rooms).await?;
        let marks = marks.into_iter().zip(joined).map(|(mark, joined)| mark.max(joined));
        let views = rooms.into_iter().zip(heads).zip(marks);
        Ok(views.map(|((room, head), mark)| RoomView { room, head, mark }).collect())
    }

    /// The socket is gone, for whatever reason.
    pub fn disconnect(&self, user: UserId, session: SessionId) {
        self.map.tell(user, UserMessage::Disconnect(session));
        self.heads.disconnect(user, session);
        self.presence.tell(PresenceMessage::Forget(session));
    }

    /// The session has opened this room (its stream replaces its heads) or closed it.
    pub fn watch_room(&self, session: SessionId, room: RoomId, open: bool) {
        self.heads.open(session, room, open);
    }

    /// The user chose a status on this device.
    pub fn set_status(&self, user: UserId, session: SessionId, status: PresenceStatus) {
        self.map.tell(user, UserMessage::SetStatus { session, status });
    }

    /// Everything up to `seq` is read: kept, and told to the user's sockets as `read_mark`. A mark beyond the room's
    /// newest entry stands for that entry.
    ///
    /// # Errors
    /// When the store is away, or the user is no member of the room.
    pub async fn read(&self, user: UserId, room: RoomId, seq: Seq) -> Result<(), Refusal> {
        let store = &self.world.store;
        let away = |error: StoreError| store_is_away(&error);
        let member = store.member(room, user).await.map_err(away)?;
        if !member.is_some_and(|member| member.is_joined()) {
            return Err(Refusal::new(ErrorCode::NotAMember, "only members read a room"));
        }
        let head = store.heads(&[room]).await.map_err(away)?.first().copied().unwrap_or(0);
        let seq = store.put_read_mark(user, room, seq.min(head)).await.map_err(away)?;
        self.heads.read(user, room, seq);
        Ok(())
    }

    /// Ends the user's sockets of one sign-in, or all but one's.
    pub fn sign_out(&self, user: UserId, which: SignedOut, code: CloseCode) {
        self.map.tell(user, UserMessage::SignOut { which, code });
    }

    /// Hear about these users' presence; those who share no room with the session's user show as offline without
    /// last seen. Answered by a `presence` frame with all of them.
    ///
    /// # Errors
    /// `too_many` beyond [`protocol::limits::WATCHED_USERS`]; `unavailable` when the store is away.
    pub async fn watch(&self, session: &Session, users: &[UserId]) -> Result<(), Refusal> {
        if users.len() > limits::WATCHED_USERS {
            return Err(Refusal::new(ErrorCode::TooMany, "too many users to watch"));
        }
        let store = &self.world.store;
        let sharing =
            store.sharing_a_room(session.user, users).await.map_err(|error| store_is_away(&error))?;
        let last_seen = store.last_seen(users).await.map_err(|error| store_is_away(&error))?;
        let visible = users.iter().zip(last_seen).map(|(user, last_seen)| {
            let may_see = *user == session.user || sharing.contains(user);
            (*user, if may_see { Visible::Yes { last_seen } } else { Visible::No })
        });
        self.presence.tell(PresenceMessage::Watch { session: session.clone(), users: visible.collect() });
        Ok(())
    }

    /// How many users are connected and asleep.
    pub fn passive(&self) -> usize {
        self.map.passive()
    }

    /// Hear no more about them.
    pub fn unwatch(&self, session: SessionId, users: &[UserId]) {
        self.presence.tell(PresenceMessage::Unwatch { session, users: users.to_vec() });
    }
}

fn store_is_away(error: &StoreError) -> Refusal {
    tracing::warn!(%error, "the store failed");
    Refusal::new(ErrorCode::Unavailable, "the store is away").retry_after(1_000)
}

/// What a user's sockets share: how fast they may send together.
///
/// The generic cell rate algorithm (ITU-T I.371): one number says when the allowance would be full again.
#[derive(Debug)]
pub struct Allowance {
    full_at: AtomicU64,
    per_send: Millis,
    burst: Millis,
}

impl Allowance {
    /// `per_s` sends a second sustained, `burst` at once; both at least 1.
    pub fn new(per_s: u32, burst: u32) -> Self {
        let per_send = (1_000 / Millis::from(per_s.max(1))).max(1);
        Self { full_at: AtomicU64::new(0), per_send, burst: per_send * Millis::from(burst.max(1)) }
    }

    /// Takes one send.
    ///
    /// # Errors
    /// The milliseconds to wait when there is none left.
    pub fn take(&self, now: Millis) -> Result<(), Millis> {
        let mut wait = 0;
        let next = |full_at: Millis| {
            let taken = full_at.max(now) + self.per_send;
            wait = taken.saturating_sub(now + self.burst);
            (wait == 0).then_some(taken)
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(_) => Err(wait),
        }
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
}
