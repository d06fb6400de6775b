//! The handle to every connected user.
//!
//! An idle ractor actor costs more than everything else about a connection, so a user's actor becomes passive when it
//! has nothing to do: its small state stays in the map, and what happens wakes it. Only a socket that comes does not.

use std::sync::Arc;

use protocol::{
    CloseCode, DeviceId, ErrorCode, RoomId, Seq, SessionId, UserId, client::PresenceStatus, limits,
};
use store::StoreError;

mod homes;

use self::homes::Entered;
use crate::{
    World,
    heads::{Heads, RoomView},
    mesh::{
        Mesh, Place,
        wire::{Bits, PeerMessage},
    },
    peers::Worth,
    presence::{Presence, PresenceMessage, Visible},
    session::{Refusal, Session},
    user::UserMap,
};

pub use crate::mesh::sockets::Allowance;

/// Rooms of one user that are looked at when a socket connects.
const ROOMS_OF_USER: usize = 1_000;

/// Every connected user. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    pub(crate) map: Arc<UserMap>,
    pub(crate) world: World,
    pub(crate) mesh: Arc<Mesh>,
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
        let allowance = self.mesh.sockets.enter(&session);
        let entered = Entered { users: self, session: &session, stays: false };
        self.register(&session).await?;
        // Registered before the store is asked, so that no change of membership falls between the two.
        self.heads.connect(session.clone());
        let rooms = self.rooms_of(session.user).await.map_err(|error| store_is_away(&error))?;
        self.heads.views(session.id, rooms);
        entered.stays();
        Ok(allowance)
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
        self.mesh.sockets.leave(user, session);
        self.unregister(user, session);
        self.heads.disconnect(user, session);
        self.presence.tell(PresenceMessage::Forget(session));
    }

    /// The session has opened this room (its stream replaces its heads) or closed it.
    pub fn watch_room(&self, session: SessionId, room: RoomId, open: bool) {
        self.heads.open(session, room, open);
    }

    /// The user chose a status on this device.
    pub fn set_status(&self, user: UserId, session: SessionId, status: PresenceStatus) {
        self.mesh.sockets.set_status(user, session, status);
        match self.mesh.home_of(user) {
            Place::Here => self.map.set_status(user, session, status),
            Place::At(home) => {
                let (user, session) = (Bits(user), Bits(session));
                // Lost: the next registration says it.
                let _ = self.mesh.tell(home, &PeerMessage::SetStatus { user, session, status });
            }
            Place::Unknown => {}
        }
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
        self.tell_read(user, room, seq);
        Ok(())
    }

    /// Ends the user's sockets of one sign-in, or all but one's, on every node.
    pub fn sign_out(&self, user: UserId, which: SignedOut, code: CloseCode) {
        self.mesh.sockets.sign_out(user, which, code);
        let (device, all_but) = match which {
            SignedOut::Device(device) => (Some(Bits(device)), false),
            SignedOut::AllExcept(device) => (device.map(Bits), true),
        };
        let (user, code) = (Bits(user), code.code());
        self.mesh.tell_all(Worth::Needed, &PeerMessage::SignOut { user, device, all_but, code });
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

    /// How many sockets of identified users are here.
    pub fn sockets(&self) -> usize {
        self.mesh.sockets.len()
    }

    /// How many users have their home here.
    pub fn homed(&self) -> usize {
        self.map.len()
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
