//! The handle to every room. Says nothing about where a room lives.

use protocol::{
    Body, Incarnation, Kind, Millis, RoomId, Seq, SessionId, UserId, WriterId,
    client::{HistoryFrom, RequestId},
    entry::{Durability, HistoryAccess, Role, Visibility},
    server::Page,
};
use store::members::{InviteRecord, RoomRecord};
use telemetry::TraceContext;

use crate::session::{Refusal, Session};

/// Every room. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {}

/// A wish to hear a room whole.
#[derive(Debug, Clone)]
pub struct Open {
    /// Who.
    pub session: Session,
    /// The request, unless it is a resume.
    pub id: Option<RequestId>,
    /// Which room.
    pub room: RoomId,
    /// The last entry that the client has; `None` begins with the newest.
    pub after: Option<Seq>,
    /// The life of the room that `after` belongs to.
    pub incarnation: Option<Incarnation>,
    /// The trace.
    pub trace: TraceContext,
}

/// Something to say.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Who says it.
    pub user: UserId,
    /// Who counts.
    pub writer: WriterId,
    /// The count.
    pub n: u64,
    /// What it is.
    pub kind: Kind,
    /// Of which entry it speaks.
    pub target: Option<Seq>,
    /// The content.
    pub body: Body,
    /// The trace.
    pub trace: TraceContext,
}

/// A room to make.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Its id: random, or [`direct_room`].
    pub room: RoomId,
    /// Who makes it, and owns it.
    pub by: UserId,
    /// The other one, in a direct room; both own it.
    pub peer: Option<UserId>,
    /// Shown name.
    pub name: String,
    /// What it is about.
    pub topic: String,
    /// Who finds it.
    pub visibility: Visibility,
    /// Whether what is said is kept.
    pub durability: Durability,
    /// How far back members read.
    pub history: HistoryAccess,
}

/// What somebody wants done to a room or its members. Becomes an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Come in: a public room, as invited, or by this invitation.
    Join {
        /// The invitation, as the store has it.
        invite: Option<InviteRecord>,
    },
    /// Go.
    Leave,
    /// Let somebody in.
    Invite(UserId),
    /// Put somebody out.
    Kick(UserId),
    /// Put somebody out for good.
    Ban(UserId),
    /// Let them come back.
    Unban(UserId),
    /// Silence somebody.
    Mute {
        /// Whom.
        user: UserId,
        /// Until when; for good if absent.
        until: Option<Millis>,
    },
    /// The end of that.
    Unmute(UserId),
    /// Give somebody a role.
    SetRole {
        /// Whom.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Change the room.
    Update {
        /// Shown name.
        name: Option<String>,
        /// What it is about.
        topic: Option<String>,
        /// Who finds it; not to or from direct.
        visibility: Option<Visibility>,
        /// How far back members read.
        history: Option<HistoryAccess>,
        /// Least seconds between two sends of a member.
        slow_mode_s: Option<u32>,
    },
    /// In a direct room: do not want to hear the other one.
    Block,
    /// The end of that.
    Unblock,
    /// Delete the room.
    Delete,
}

/// The id of the one direct room of two users: a hash of the sorted pair, so that both find the same one.
pub fn direct_room(one: UserId, other: UserId) -> RoomId {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    let mut hasher = blake3::Hasher::new_derive_key("rookery 2026-11 direct room id");
    hasher.update(&low.to_bytes());
    hasher.update(&high.to_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RoomId::from_bytes(id)
}

#[expect(clippy::todo, clippy::unused_async, unused_variables, reason = "on its way")]
impl Rooms {
    /// Hear a room whole. Answered through the session's outbox: `opened` and the entries after the position, or
    /// [`crate::Notice::Shut`].
    ///
    /// # Errors
    /// When the room has too much to do.
    pub fn open(&self, open: Open) -> Result<(), Refusal> {
        todo!()
    }

    /// After [`crate::Notice::Behind`]: the session has read the log up to `at` and wants to go on live. Answered by
    /// the stream, or by another `Behind`, or by [`crate::Notice::AudienceEnded`].
    pub fn rejoin(&self, room: RoomId, session: &Session, at: Seq) {
        todo!()
    }

    /// Hear it no more.
    pub fn close(&self, room: RoomId, session: SessionId) {
        todo!()
    }

    /// Say something. `attempt` counts the session's own tries of this `(room, writer, n)` and comes back with a
    /// refusal. Answered `ack` through the outbox, or [`crate::Notice::Refused`].
    ///
    /// # Errors
    /// When the room has too much to do: the same refusal that a notice would bring.
    pub fn send(&self, room: RoomId, draft: Draft, session: &Session, attempt: u32) -> Result<(), Refusal> {
        todo!()
    }

    /// Say something, and wait for the answer (REST). At most 10 s; then `unknown`, not definite.
    ///
    /// # Errors
    /// Why it is not in the room.
    pub async fn post(&self, room: RoomId, draft: Draft) -> Result<(Seq, Millis), Refusal> {
        todo!()
    }

    /// The user is typing: tells those who have the room open. Nothing happens if the room is not active.
    pub fn typing(&self, room: RoomId, session: &Session) {
        todo!()
    }

    /// Makes a room. A room that exists already is not changed and given back (direct rooms); another id's room is a
    /// `conflict`.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn create(&self, new: NewRoom) -> Result<RoomRecord, Refusal> {
        todo!()
    }

    /// Does something to a room or its members; gives the room as it is after it. Doing what is done already
    /// succeeds.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn command(&self, room: RoomId, by: UserId, command: Command) -> Result<RoomRecord, Refusal> {
        todo!()
    }

    /// A page of the log for this user, authorised and masked.
    ///
    /// # Errors
    /// Why not.
    pub async fn page(
        &self,
        user: UserId,
        room: RoomId,
        from: Option<HistoryFrom>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        todo!()
    }
}
