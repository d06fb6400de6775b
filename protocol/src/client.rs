//! What a client says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Body, Incarnation, Kind, RoomId, Seq, UserId, WriterId};

/// A client's own number for a request; the answer carries it back. At most 2^53 - 1.
pub type RequestId = u64;

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Who this is; the first frame.
    Identify(Identify),
    /// Hear a room's whole stream. Answered `opened`, then its entries.
    Open(Open),
    /// Stop hearing it whole. Answered `closed`.
    Close(Close),
    /// Say something in a room. Answered `ack` or `refused`.
    Send(Send),
    /// Read the log. Answered `page`.
    History(History),
    /// Everything up to here is read. Told to the user's other devices as `read`.
    Read(Read),
    /// The user is typing. Ephemeral, unanswered.
    Typing(Typing),
    /// Hear about these users' presence. Answered `presence`.
    Watch(Watch),
    /// Hear no more about them.
    Unwatch(Watch),
    /// The user's own status on this device.
    Status(Status),
    /// A fresh access token, before the old one ends. Answered `refreshed`.
    Refresh(Refresh),
    /// Are you there? Answered `pong`.
    Ping(Ping),
}

/// Who this is, with what to resume.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Identify {
    /// The client's number for this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// An access token. Neither this nor a ticket: the upgrade's own `?ticket=` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A single-use ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Name and version of the client, for the operator's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// All rooms at once: where the client stopped in each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resume: BTreeMap<RoomId, Resume>,
}

impl std::fmt::Debug for Identify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Credentials stay out of logs.
        f.debug_struct("Identify")
            .field("client", &self.client)
            .field("resume", &self.resume.len())
            .finish_non_exhaustive()
    }
}

/// One room of a resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The last entry that the client has.
    pub after: Seq,
    /// Whether to hear the whole stream again; otherwise only head and unread are told.
    #[serde(default)]
    pub open: bool,
    /// The life of the room that `after` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

/// Hear a room whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The client's number for this request.
    pub id: RequestId,
    /// Which room.
    pub room: RoomId,
    /// The last entry that the client has; without it the newest entries are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// The life of the room that `after` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

/// Stop hearing a room whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The client's number for this request.
    pub id: RequestId,
    /// Which room.
    pub room: RoomId,
}

/// Say something. The triple of room, writer and `n` names it for good: sent again, it gets the same answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Send {
    /// Where.
    pub room: RoomId,
    /// Who counts.
    pub writer: WriterId,
    /// 1, 2, 3, … per room and writer.
    pub n: u64,
    /// What it is.
    pub kind: Kind,
    /// The entry that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Seq>,
    /// The content.
    pub body: Body,
    /// W3C trace context of the sender, if it wants the message followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Read a page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The client's number for this request.
    pub id: RequestId,
    /// Which room.
    pub room: RoomId,
    /// From where; without it the newest page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<HistoryFrom>,
    /// Most entries; 1 to [`crate::limits::PAGE_ENTRIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryFrom {
    /// The newest entries below this one.
    Before(Seq),
    /// The oldest entries above this one.
    After(Seq),
    /// Half below, this one and the rest above.
    Around(Seq),
}

/// A read mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Which room.
    pub room: RoomId,
    /// Everything up to here is read. Marks only move forward.
    pub seq: Seq,
}

/// The user is typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// Where.
    pub room: RoomId,
}

/// Whose presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Users on the screen.
    pub users: Vec<UserId>,
}

/// The user's own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What others shall see.
    pub status: PresenceStatus,
}

/// What others see of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// There.
    Online,
    /// There, but not at the screen.
    Away,
    /// There, and not to be disturbed.
    Dnd,
    /// There, shown as offline.
    Invisible,
    /// Not there. Never sent by a client.
    Offline,
}

/// A fresh access token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// The client's number for this request.
    pub id: RequestId,
    /// For the same user and sign-in.
    pub token: String,
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Are you there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The client's number for this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
}
