//! What one client asked, was told and saw. Grows with the run; bodies are kept as fingerprints.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use protocol::{
    Body, Entry, ErrorCode, Incarnation, Kind, Millis, RoomId, Seq, UserId, WriterId, entry::Mask,
    server::Ack,
};

/// Everything that one client knows of a run.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose client it was; the nil id until the first welcome.
    pub user: UserId,
    /// What it wanted to say, in its order.
    pub messages: Vec<Message>,
    /// Every ack that arrived, repeats included.
    pub acks: Vec<Ack>,
    /// What arrived of each room, in order, over all connections.
    pub rooms: BTreeMap<RoomId, Vec<Seen>>,
    /// How often it connected.
    pub connections: u64,
    /// How often a message was put on a wire again.
    pub resends: u64,
    /// How often a send was refused for now and tried again later.
    pub postponed: u64,
    /// Errors and closes that were told: code and message.
    pub told: Vec<(String, String)>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            user: UserId::from_u128(0),
            messages: Vec::new(),
            acks: Vec::new(),
            rooms: BTreeMap::new(),
            connections: 0,
            resends: 0,
            postponed: 0,
            told: Vec::new(),
        }
    }
}

/// Something that a client wanted to say.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where.
    pub room: RoomId,
    /// Under which writer it was sent last.
    pub writer: WriterId,
    /// Under which number it was sent last.
    pub n: u64,
    /// Who, what, about what.
    pub print: Fingerprint,
    /// When it was first put on a wire, on the caller's clock; `None` if it never was.
    pub asked_at: Option<Duration>,
    /// When its answer came.
    pub settled_at: Option<Duration>,
    /// The answer.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No answer yet.
    Open,
    /// In the log, here.
    Acked(Seq),
    /// In the log already, as the server says; perhaps it knows where.
    Stored(Option<Seq>),
    /// Not in the log, and it never will be.
    Refused(ErrorCode),
    /// Nobody can say.
    Unknown,
}

/// Something that arrived of a room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// The stream begins.
    Opened {
        /// The position that the client had given, if any.
        asked: Option<Seq>,
        /// Where it begins.
        after: Seq,
        /// The newest entry then.
        head: Seq,
        /// Which life of the room.
        incarnation: Incarnation,
    },
    /// An entry of the stream.
    Entry(Line),
    /// An entry of a page that was asked for to fill a gap.
    Paged {
        /// The entry.
        line: Line,
        /// The newest entry of the room when the page was read.
        head: Seq,
    },
    /// Entries that are not sent.
    Gap {
        /// The last entry before.
        after: Seq,
        /// The last entry inside.
        upto: Seq,
    },
    /// The position is void.
    Reset {
        /// The newest entry.
        head: Seq,
        /// The new life.
        incarnation: Incarnation,
    },
    /// The stream has ended, at the client's wish or for this reason.
    Closed(Option<ErrorCode>),
    /// The connection is gone.
    Lost,
}

/// An entry as somebody saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub seq: Seq,
    /// When, by the server.
    pub at: Millis,
    /// Who, what, about what; `None` when the body was withheld.
    pub print: Option<Fingerprint>,
    /// Why it was.
    pub masked: Option<Mask>,
}

impl Line {
    /// An entry as it came.
    pub fn of(entry: &Entry) -> Self {
        let print = |body: &Body| Fingerprint::of(entry.from, &entry.kind, entry.target, body);
        Self { seq: entry.seq, at: entry.at, print: entry.body.as_ref().map(print), masked: entry.masked }
    }
}

/// 64 bits that stand for an author, a kind, a target and a body: enough to notice every accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of an entry with this content.
    pub fn of(from: UserId, kind: &Kind, target: Option<Seq>, body: &Body) -> Self {
        let mut hasher = DefaultHasher::new();
        (from.as_u128(), kind.as_str(), target, body.as_json()).hash(&mut hasher);
        Self(hasher.finish())
    }
}
