//! The handle to every connected user.

use std::sync::Arc;

use protocol::{CloseCode, DeviceId, RoomId, Seq, SessionId, UserId, client::PresenceStatus};

use crate::session::{Refusal, Session};

/// Every connected user. Cheap to clone.
#[derive(Clone)]
pub struct Users {}

/// What a user's sockets share: how fast they may send together.
#[derive(Debug)]
pub struct Allowance {}

#[expect(clippy::todo, clippy::unused_async, unused_variables, reason = "on its way")]
impl Allowance {
    /// Takes one send.
    ///
    /// # Errors
    /// The milliseconds to wait when there is none left.
    pub fn take(&self) -> Result<(), u64> {
        todo!()
    }
}

#[expect(clippy::todo, clippy::unused_async, unused_variables, reason = "on its way")]
impl Users {
    /// A socket was identified. Its `heads` and the user's `status` follow through the outbox.
    ///
    /// # Errors
    /// `too_many` when the user has as many sockets as allowed.
    pub async fn connect(&self, session: Session) -> Result<Arc<Allowance>, Refusal> {
        todo!()
    }

    /// The socket is gone, for whatever reason.
    pub fn disconnect(&self, user: UserId, session: SessionId) {
        todo!()
    }

    /// The session has opened this room (its stream replaces its heads) or closed it.
    pub fn watch_room(&self, user: UserId, session: SessionId, room: RoomId, open: bool) {
        todo!()
    }

    /// The user chose a status on this device.
    pub fn set_status(&self, user: UserId, session: SessionId, status: PresenceStatus) {
        todo!()
    }

    /// Everything up to `seq` is read: kept, and told to the user's other sockets.
    ///
    /// # Errors
    /// When the store is away, or the user is no member of the room.
    pub async fn read(&self, user: UserId, room: RoomId, seq: Seq) -> Result<(), Refusal> {
        todo!()
    }

    /// Ends the user's sockets of one sign-in, or all but one's.
    pub fn sign_out(&self, user: UserId, which: SignedOut, code: CloseCode) {
        todo!()
    }

    /// Hear about these users' presence; those who share no room with the session's user show as offline without
    /// last seen. Answered by a `presence` frame with all of them.
    ///
    /// # Errors
    /// `too_many` beyond [`protocol::limits::WATCHED_USERS`]; `unavailable` when the store is away.
    pub async fn watch(&self, session: &Session, users: &[UserId]) -> Result<(), Refusal> {
        todo!()
    }

    /// Hear no more about them.
    pub fn unwatch(&self, session: SessionId, users: &[UserId]) {
        todo!()
    }
}

/// Which sockets end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOut {
    /// Those of this sign-in.
    Device(DeviceId),
    /// All but those of this one.
    AllExcept(Option<DeviceId>),
}
