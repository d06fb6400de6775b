//! What nodes tell each other about rooms and users. One layout a version; what peers are sent is told by the link, which
//! refuses peers of a version that this one does not know.
//!
//! Bodies and texts are borrowed from the bytes that came. What is rare is JSON inside: it may grow without a new layout.

use protocol::{
    Body, DeviceId, Entry, ErrorCode, Incarnation, Kind, Millis, RoomId, Seq, SessionId, UserId, WriterId,
    client::PresenceStatus,
    entry::{Durability, Mask, Role},
    server::{Ack, Gap, Opened, Reset},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use store::members::MemberState;

use crate::session::Refusal;

/// An id as its 16 bytes; its own text form is for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits<T>(pub(crate) T);

macro_rules! bits {
    ($($id:ident),*) => {$(
        impl Serialize for Bits<$id> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0.to_bytes())
            }
        }

        impl<'de> Deserialize<'de> for Bits<$id> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = <&[u8]>::deserialize(deserializer)?;
                let bytes = bytes.try_into().map_err(|_| de::Error::invalid_length(bytes.len(), &"16 bytes"))?;
                Ok(Self($id::from_bytes(bytes)))
            }
        }
    )*};
}

bits!(RoomId, UserId, DeviceId, SessionId, WriterId);

type Room = Bits<RoomId>;
type User = Bits<UserId>;
type Socket = Bits<SessionId>;
type Writer = Bits<WriterId>;

/// One message from a node to another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PeerMessage<'a> {
    /// To the owner: a session of ours wants to hear a room.
    Open(OpenAsked),
    /// To the owner: somebody says something.
    #[serde(borrow)]
    Send(SendAsked<'a>),
    /// To the owner: somebody types.
    Typing { room: Room, user: User },
    /// To the owner: a request that waits for an answer, which is a [`super::calls::Request`] in JSON.
    Call { call: u64, room: Room, request: &'a [u8] },
    /// To the owner: we hear these rooms, as far as this and of this epoch. A lease: it is told again and again.
    Listen { rooms: Vec<(Room, Seq, u64)> },
    /// To the owner: we hear it no more.
    Unlisten { room: Room },
    /// From the owner: the room lives elsewhere, ask who.
    Moved { room: Room },
    /// From the owner: the answer to a call, in JSON.
    Reply { call: u64, answer: &'a [u8] },
    /// From the owner: how the room stands, for listeners that knew nothing of this owner.
    Hello(Greeting<'a>),
    /// From the owner: so far has the room come. All before it was sent, and came or is lost.
    Heard { room: Room, epoch: u64, head: Seq },
    /// From the owner: a session may hear the room.
    Admit(Admitted),
    /// From the owner: it may not.
    Shut { room: Room, session: Socket, id: Option<u64>, code: ErrorCode },
    /// From the owner: what was committed, and who is told that theirs is in it.
    Batch(Batch<'a>),
    /// From the owner: these are in the log.
    Acks { room: Room, acks: Vec<AckTold> },
    /// From the owner: a send was refused.
    Refused(RefusedTold),
    /// From the owner: it is the owner no more. What is unanswered is to be asked again.
    Ended { room: Room },
    /// From the owner: others type.
    Types { room: Room, user: User },
    /// From the owner: entries below are kept no more.
    Forget { room: Room, below: Seq },
    /// From the owner: this user's words are shown no more.
    ForgetWords { room: Room, user: User },
    /// From the old owner to the new one.
    HandOver(HandedOver),
    /// To a user's home: a socket of theirs is here.
    Register(Registration),
    /// To a user's home: it is gone.
    Unregister { user: User, session: Socket },
    /// To a user's home: these sockets are still here.
    StillHere { sockets: Vec<Registration> },
    /// To a user's home: chosen on a socket.
    SetStatus { user: User, session: Socket, status: PresenceStatus },
    /// To a user's home, and from it to the user's other nodes: read up to here.
    Read { user: User, room: Room, seq: Seq, from_home: bool },
    /// From a user's home: whether a socket may stay.
    Registered { user: User, session: Socket, refusal: Option<Refused> },
    /// From a user's home: over how many nodes their allowance is spread, and their own status if it is to be told.
    Home { user: User, nodes: u16, status: Option<PresenceStatus> },
    /// To every node: rooms have come this far.
    Heads { rooms: Vec<(Room, Seq)> },
    /// To every node: somebody's place in a room changed.
    Member { room: Room, user: User, state: Place, head: Seq },
    /// To every node: these sockets end.
    SignOut { user: User, device: Option<Bits<DeviceId>>, all_but: bool, code: u16 },
}

/// A wish to hear a room.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenAsked {
    pub(crate) room: Room,
    pub(crate) session: Socket,
    pub(crate) user: User,
    pub(crate) device: Bits<DeviceId>,
    pub(crate) id: Option<u64>,
    pub(crate) after: Option<Seq>,
    pub(crate) incarnation: Option<u64>,
    /// The newest epoch that the node has heard of, if it hears the room; otherwise it is told how the room stands.
    pub(crate) listening: Option<u64>,
}

/// Something to say.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SendAsked<'a> {
    pub(crate) room: Room,
    pub(crate) session: Socket,
    pub(crate) user: User,
    pub(crate) device: Bits<DeviceId>,
    pub(crate) attempt: u32,
    pub(crate) writer: Writer,
    pub(crate) n: u64,
    pub(crate) kind: &'a str,
    pub(crate) target: Option<Seq>,
    pub(crate) body: &'a str,
}

/// An entry of a room's stream.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntryTold<'a> {
    seq: Seq,
    at: Millis,
    from: User,
    kind: &'a str,
    target: Option<Seq>,
    body: Option<&'a str>,
    masked: Option<Mask>,
}

/// How a room stands.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Greeting<'a> {
    pub(crate) room: Room,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) head: Seq,
    #[serde(borrow)]
    pub(crate) recent: Vec<EntryTold<'a>>,
}

/// A session that may hear the room.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Admitted {
    pub(crate) room: Room,
    pub(crate) epoch: u64,
    pub(crate) session: Socket,
    pub(crate) id: Option<u64>,
    pub(crate) incarnation: u64,
    pub(crate) durability: Durability,
    pub(crate) head: Seq,
    pub(crate) after: Seq,
    pub(crate) role: Role,
    pub(crate) reset: Option<Seq>,
    pub(crate) gap: Option<(Seq, Seq)>,
    pub(crate) start: Seq,
}

/// A committed group. The acknowledgements come last, so that all before them is made once for all nodes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Batch<'a> {
    pub(crate) room: Room,
    pub(crate) epoch: u64,
    #[serde(borrow)]
    pub(crate) entries: Vec<EntryTold<'a>>,
    pub(crate) ends: Option<(User, ErrorCode)>,
    pub(crate) deleted: bool,
    pub(crate) acks: Vec<AckTold>,
}

/// A send that is in the log.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AckTold {
    pub(crate) session: Socket,
    pub(crate) attempt: u32,
    pub(crate) writer: Writer,
    pub(crate) n: u64,
    pub(crate) seq: Seq,
    pub(crate) at: Millis,
}

/// A send that is not.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RefusedTold {
    pub(crate) room: Room,
    pub(crate) session: Socket,
    pub(crate) writer: Writer,
    pub(crate) n: u64,
    pub(crate) attempt: u32,
    pub(crate) refusal: Refused,
}

/// A [`Refusal`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    code: ErrorCode,
    message: String,
    retry_after_ms: Option<u64>,
    definite: bool,
    expected: Option<u64>,
    seq: Option<Seq>,
}

/// The right to a room, from its last owner.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HandedOver {
    pub(crate) room: Room,
    pub(crate) bucket: u64,
    pub(crate) epoch: u64,
    pub(crate) last_seq: Seq,
    pub(crate) member_seq: Seq,
    /// The nodes that hear the room.
    pub(crate) listeners: Vec<crate::PeerId>,
}

/// A socket, for its user's home.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) user: User,
    pub(crate) session: Socket,
    pub(crate) device: Bits<DeviceId>,
    /// What the user has chosen on it; `None` until they do.
    pub(crate) status: Option<PresenceStatus>,
}

/// A [`MemberState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Joined,
    Invited,
    Left,
    Kicked,
    Banned,
}

impl<'a> PeerMessage<'a> {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("nothing in a message has an unknown length")
    }

    /// # Errors
    /// When these are not the bytes of a message.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, postcard::Error> {
        match postcard::take_from_bytes(bytes)? {
            (message, []) => Ok(message),
            _ => Err(postcard::Error::DeserializeBadEncoding),
        }
    }
}

impl<'a> EntryTold<'a> {
    pub(crate) fn new(entry: &'a Entry) -> Self {
        Self {
            seq: entry.seq,
            at: entry.at,
            from: Bits(entry.from),
            kind: entry.kind.as_str(),
            target: entry.target,
            body: entry.body.as_ref().map(Body::as_json),
            masked: entry.masked,
        }
    }

    /// # Errors
    /// When the body is no JSON.
    pub(crate) fn entry(&self) -> Result<Entry, serde_json::Error> {
        Ok(Entry {
            seq: self.seq,
            at: self.at,
            from: self.from.0,
            kind: Kind::from_name(self.kind),
            target: self.target,
            body: self.body.map(|text| Body::from_stored(text.to_owned())).transpose()?,
            masked: self.masked,
            writer: None,
            n: None,
        })
    }
}

/// All or none.
///
/// # Errors
/// When a body is no JSON.
pub(crate) fn entries(told: &[EntryTold<'_>]) -> Result<Vec<Entry>, serde_json::Error> {
    told.iter().map(EntryTold::entry).collect()
}

impl AckTold {
    pub(crate) fn new(session: SessionId, attempt: u32, ack: &Ack) -> Self {
        let Ack { writer, n, seq, at, .. } = *ack;
        Self { session: Bits(session), attempt, writer: Bits(writer), n, seq, at }
    }

    pub(crate) fn ack(&self, room: RoomId) -> Ack {
        Ack { room, writer: self.writer.0, n: self.n, seq: self.seq, at: self.at }
    }
}

impl Admitted {
    /// What the client is told: its position is void, the room is open, some entries are left out.
    pub(crate) fn frames(&self) -> (Option<Reset>, Opened, Option<Gap>) {
        let (room, incarnation) = (self.room.0, Incarnation(self.incarnation));
        let opened = Opened {
            id: self.id,
            room,
            incarnation,
            durability: self.durability,
            head: self.head,
            after: self.after,
            role: self.role,
        };
        let reset = self.reset.map(|head| Reset { room, head, incarnation });
        (reset, opened, self.gap.map(|(after, upto)| Gap { room, after, upto }))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after_ms, definite, expected, seq } = refusal;
        Self { code, message, retry_after_ms, definite, expected, seq }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Refused { code, message, retry_after_ms, definite, expected, seq } = refused;
        Self { code, message, retry_after_ms, definite, expected, seq }
    }
}

impl From<MemberState> for Place {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Joined => Self::Joined,
            MemberState::Invited => Self::Invited,
            MemberState::Left => Self::Left,
            MemberState::Kicked => Self::Kicked,
            MemberState::Banned => Self::Banned,
        }
    }
}

impl From<Place> for MemberState {
    fn from(place: Place) -> Self {
        match place {
            Place::Joined => Self::Joined,
            Place::Invited => Self::Invited,
            Place::Left => Self::Left,
            Place::Kicked => Self::Kicked,
            Place::Banned => Self::Banned,
        }
    }
}
