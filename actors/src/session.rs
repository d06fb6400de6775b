//! What a connection is to the actors.
//!
//! A session is a task of the gateway, not an actor. The actors hold its [`Outbox`] and write to it directly; what
//! only the session can decide reaches it as a [`Notice`].

use std::{fmt, sync::Arc};

use bytes::Bytes;
use protocol::{
    CloseCode, DeviceId, Encoding, ErrorCode, RoomId, Seq, ServerFrame, SessionId, UserId, WriterId,
};
use serde::{Deserialize, Serialize};

use crate::PeerId;

/// Frame → bytes that a socket takes as they are: WebSocket header and payload. The same bytes serve all sockets of
/// one encoding.
pub trait Encode: Send + Sync + 'static {
    /// One whole frame.
    fn encode(&self, frame: &ServerFrame, encoding: Encoding) -> Bytes;
}

/// The way to one client. Never blocks, never waits.
pub trait Outbox: Send + Sync + 'static {
    /// How the client wants its frames.
    fn encoding(&self) -> Encoding;

    /// Pushes whole frames, in order: all of them or none.
    fn push(&self, frames: &[Bytes], class: Class) -> Pushed;

    /// The room has an answer for this send: the session waits for it no more. `false` if it did not wait (any more):
    /// then the answer is not pushed.
    fn settle(&self, room: RoomId, writer: WriterId, n: u64) -> bool;

    /// Hands the session something to decide. Bounded: when the session does not keep up, the outbox ends it.
    fn notify(&self, notice: Notice);

    /// The node that holds the socket, if it is not this one. Then only notices can be given to this outbox.
    fn peer(&self) -> Option<PeerId> {
        None
    }
}

/// What a frame is worth when the outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Part of a room's stream. Full: the caller marks the session behind, and it catches up from the log.
    Stream,
    /// An answer that catch-up does not repeat. Has a reserve of its own; past it the connection closes.
    Answer,
    /// Typing, presence, heads: dropped when anything is pending beyond a little.
    Ephemeral,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// On the socket or queued.
    Taken,
    /// Not taken: too much is pending.
    Full,
    /// Not taken: the connection is ending.
    Dead,
}

/// What only the session can act on.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A send was refused. Dropped unless `attempt` is the session's latest for it; no longer definite if it had an
    /// earlier one.
    Refused {
        /// Where.
        room: RoomId,
        /// Whose counter.
        writer: WriterId,
        /// Which send.
        n: u64,
        /// Which attempt of the session's.
        attempt: u32,
        /// Why.
        refusal: Refusal,
    },
    /// The room's stream goes on without this session from `at`: read the log after it, then
    /// [`crate::Rooms::rejoin`].
    Behind {
        /// Which room.
        room: RoomId,
        /// The last entry pushed to this session.
        at: Seq,
        /// The room's newest delivered entry.
        head: Seq,
    },
    /// The session hears this room no more: the user left, was put out, or it was refused at the door. `closed` (or
    /// `error`, when it answers a request) is still to be sent.
    Shut {
        /// Which room.
        room: RoomId,
        /// The request that asked to open it, if it never was.
        id: Option<u64>,
        /// Why.
        code: ErrorCode,
    },
    /// The session hears this room: `opened` was pushed.
    Opened {
        /// Which room.
        room: RoomId,
    },
    /// The room's actor ended. Unanswered sends are to be sent again; streams go on by themselves.
    RoomEnded {
        /// Which room.
        room: RoomId,
    },
    /// The audience ended: open the room again after the last entry that was pushed.
    AudienceEnded {
        /// Which room.
        room: RoomId,
        /// The last entry pushed to this session.
        at: Seq,
    },
    /// The user's actor ended: [`crate::Users::connect`] again.
    UserEnded,
    /// End this session.
    End(CloseCode),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code:?}: {message}")]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
    /// Nothing was stored for this request and never will be.
    pub definite: bool,
    /// With `out_of_order`: where the counter stands.
    pub expected: Option<u64>,
    /// With `stored`: where it is, if known.
    pub seq: Option<Seq>,
}

impl Refusal {
    /// A definite refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
            definite: true,
            expected: None,
            seq: None,
        }
    }

    /// With advice when to try again, in milliseconds.
    pub fn retry_after(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }
}

/// One connection of a user's, as actors hold it. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    /// The connection.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// Of which sign-in.
    pub device: DeviceId,
    /// The way to it.
    pub outbox: Arc<dyn Outbox>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}
