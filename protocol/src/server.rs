//! What the server says.

use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, Entry, ErrorCode, Incarnation, Millis, RoomId, Seq, SessionId, UserId, WriterId,
    client::{PresenceStatus, RequestId},
    entry::{Durability, Role},
    limits::Limits,
};

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to `identify`.
    Welcome(Welcome),
    /// The room's stream begins: the next entry of this room has `after + 1`, unless a `gap` comes first.
    Opened(Opened),
    /// The room's stream has ended.
    Closed(Closed),
    /// What happened in a room, in order.
    Entries(Entries),
    /// Entries that are not sent on this socket; page through them with `history`.
    Gap(Gap),
    /// The client's position means nothing any more: forget the room's entries and begin at `head`.
    Reset(Reset),
    /// News of rooms that are not open, at most once a second and room.
    Heads(Heads),
    /// A send is in the log (in an ephemeral room: is ordered).
    Ack(Ack),
    /// A send is not accepted.
    Refused(Refused),
    /// A page of the log.
    Page(Page),
    /// The user's own read mark moved, on whichever device.
    ReadMark(ReadMark),
    /// Somebody is typing. Ephemeral; forget it after five seconds.
    Typing(Typing),
    /// What changed in the presence of watched users.
    Presence(Presence),
    /// The user's own status, as it is now over all devices.
    Status(OwnStatus),
    /// The answer to `refresh`.
    Refreshed(Refreshed),
    /// The answer to `ping`.
    Pong(Pong),
    /// The server will close this socket; the close code follows.
    Goodbye(Goodbye),
    /// A request, or a frame, was refused.
    Error(Error),
}

/// The session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Protocol version of the server.
    pub version: u32,
    /// Who the client is.
    pub user: UserId,
    /// The sign-in.
    pub device: DeviceId,
    /// This socket.
    pub session: SessionId,
    /// The server's clock.
    pub server_time: Millis,
    /// When the access token ends; send `refresh` before.
    pub expires_at: Millis,
    /// The server pings about this often; a client that hears nothing for twice as long reconnects.
    pub heartbeat_ms: u64,
    /// The limits in force.
    pub limits: Limits,
}

/// The room's stream begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The request that it answers; absent on a resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Which room.
    pub room: RoomId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Whether acknowledged means stored.
    pub durability: Durability,
    /// The newest entry.
    pub head: Seq,
    /// The stream begins after this entry.
    pub after: Seq,
    /// The user's role.
    pub role: Role,
}

/// The room's stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Which room.
    pub room: RoomId,
    /// Why, if the client did not ask for it: `not_a_member`, `banned`, `not_found`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}

/// What happened, in order, without holes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entries {
    /// Where.
    pub room: RoomId,
    /// In which life of the room.
    pub incarnation: Incarnation,
    /// At least one.
    pub entries: Vec<Entry>,
}

/// The entries above `after` and up to `upto` are not sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Which room.
    pub room: RoomId,
    /// The last entry before the gap.
    pub after: Seq,
    /// The last entry inside it.
    pub upto: Seq,
}

/// The position is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Which room.
    pub room: RoomId,
    /// Its newest entry.
    pub head: Seq,
    /// Its present life.
    pub incarnation: Incarnation,
}

/// News of rooms that are not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// At least one.
    pub rooms: Vec<Head>,
}

/// How far a room has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which room.
    pub room: RoomId,
    /// Its newest entry.
    pub head: Seq,
    /// Entries above the user's read mark.
    pub unread: u64,
}

/// A send is accepted for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Where.
    pub room: RoomId,
    /// Whose counter.
    pub writer: WriterId,
    /// Which send.
    pub n: u64,
    /// Its place in the room.
    pub seq: Seq,
    /// When the server ordered it.
    pub at: Millis,
}

/// A send is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Where.
    pub room: RoomId,
    /// Whose counter.
    pub writer: WriterId,
    /// Which send.
    pub n: u64,
    /// Why.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Nothing was or will be stored under this `n`: it may be used for something else. Otherwise `n` and content
    /// stay together.
    pub definite: bool,
    /// With `out_of_order`: where the counter stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// With `stored`: where it is, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The request that it answers; absent in REST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Which room.
    pub room: RoomId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The newest entry of the room when the page was read.
    pub head: Seq,
    /// The oldest entry that this reader may see, if the room has any.
    pub first: Seq,
    /// In order, without holes.
    pub entries: Vec<Entry>,
}

/// The user's own read mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMark {
    /// Which room.
    pub room: RoomId,
    /// Everything up to here is read.
    pub seq: Seq,
    /// What is left.
    pub unread: u64,
}

/// Somebody is typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
}

/// Presence of watched users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// At least one.
    pub users: Vec<UserPresence>,
}

/// One user's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    /// Who.
    pub user: UserId,
    /// As what they show themselves; never `invisible`.
    pub status: PresenceStatus,
    /// When they were last there, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Millis>,
}

/// The user's own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnStatus {
    /// May be `invisible`.
    pub status: PresenceStatus,
}

/// The new token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// The request that it answers.
    pub id: RequestId,
    /// When the new token ends.
    pub expires_at: Millis,
}

/// Here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// The server's clock.
    pub server_time: Millis,
}

/// The socket will close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// The close code that follows.
    pub code: u16,
    /// For people.
    pub reason: String,
    /// Whether to come back.
    pub reconnect: bool,
    /// Not before this time has passed.
    pub after_ms: u64,
}

/// A request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The request that it answers, if it had a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Why.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The room it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
