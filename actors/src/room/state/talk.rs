//! What a room is told, and what it does about it: the language between [`super`] and its actor.

use protocol::{
    Entry, ErrorCode, Seq, UserId, WriterId,
    client::HistoryFrom,
    server::{Ack, Gap, Opened, Page, Reset},
};
use store::{
    StoreError,
    erasure::{EraseError, Erased},
    log::{Row, WriterMark},
    members::{Derived, MemberState, RoomRecord},
    retention::Removed,
};
use telemetry::TraceContext;
use tokio::sync::oneshot;

use crate::{
    admission::Permit,
    room::{Answer, CommandReply, ReplyTo, Unanswered},
    rooms::{Command, Draft, NewRoom, Open, Retained},
    session::{Refusal, Session},
};

/// What a room is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A session wants to hear the room.
    Open(Opening),
    /// Somebody says something.
    Send(Send),
    /// Somebody wants something done.
    Command { by: UserId, command: Command, reply: CommandReply, trace: TraceContext },
    /// Somebody makes the room.
    Create { new: Box<NewRoom>, reply: CommandReply },
    /// The store knows this of a writer.
    WriterLoaded { writer: WriterId, mark: Result<Option<WriterMark>, StoreError> },
    /// The store knows this of an entry that somebody wants to change.
    TargetLoaded { writer: WriterId, target: Seq, found: Result<Option<Target>, StoreError> },
    /// Somebody reads what an ephemeral room still holds.
    Recent(Recent),
    /// It is this room's turn to append.
    Turn,
    /// Somebody wants old entries gone, or it is time to look.
    Retain { reply: Option<Answer<Retained>> },
    /// The store has done a part of that.
    Retained(Result<Removed, StoreError>),
    /// Somebody's words are to go.
    Erase { user: UserId, reply: Answer<Erased> },
    /// The store has taken them out of a part of the log.
    Erased(Result<Erased, EraseError>),
    /// The group is in the log, whose rows are reflected in the writers' marks up to here.
    Appended { marked_upto: Seq },
    /// The group is not in the log and never will be.
    AppendRefused(StoreError),
}

impl Input {
    /// Whether it makes a room that is not there.
    pub(crate) fn creates(&self) -> bool {
        matches!(self, Self::Create { .. })
    }

    /// Whether somebody asks for it; otherwise it is an answer to the room.
    pub(crate) fn is_asked(&self) -> bool {
        match self {
            Self::Open(_)
            | Self::Send(_)
            | Self::Command { .. }
            | Self::Create { .. }
            | Self::Recent(_)
            | Self::Retain { reply: Some(_) }
            | Self::Erase { .. } => true,
            Self::WriterLoaded { .. }
            | Self::TargetLoaded { .. }
            | Self::Turn
            | Self::Retain { reply: None }
            | Self::Retained(_)
            | Self::Erased(_)
            | Self::Appended { .. }
            | Self::AppendRefused(_) => false,
        }
    }
}

/// A send with the way to answer it.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) draft: Draft,
    pub(crate) reply: ReplyTo,
    pub(crate) permit: Option<Permit>,
}

/// A wish to hear the room.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) open: Open,
    pub(crate) unanswered: Unanswered,
    /// Holds the room's admission until the room has decided.
    pub(crate) permit: Option<Permit>,
    /// The newest owner that was heard of where the session is.
    pub(crate) epoch: u64,
    /// The store was asked whether this is still the owner.
    pub(crate) is_verified: bool,
}

impl Opening {
    pub(crate) fn new(open: Open, permit: Option<Permit>, epoch: u64) -> Self {
        Self { unanswered: Unanswered::new(&open), open, permit, epoch, is_verified: false }
    }

    /// An opening that was asked of another owner before, with what it promised.
    pub(crate) fn with(open: Open, permit: Permit, unanswered: Unanswered, epoch: u64) -> Self {
        Self { open, unanswered, permit: Some(permit), epoch, is_verified: false }
    }
}

/// A wish to read the newest entries, with the way to answer it.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) user: UserId,
    pub(crate) from: Option<HistoryFrom>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Result<Page, ErrorCode>>,
    /// Holds the room's admission until it is answered.
    pub(crate) _permit: Option<Permit>,
}

/// What must be known of an entry to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) author: UserId,
    /// Something said, so something that can be withdrawn.
    pub(crate) is_said: bool,
    /// Withdrawn already: no other content is given to it.
    pub(crate) is_masked: bool,
}

/// What a room does.
#[derive(Debug)]
pub(crate) enum Output {
    /// Ask for the right to append; answered `Turn`. Until then the group grows.
    AskTurn,
    /// Make these rows durable, with the right that was asked for; answered `Appended` or `AppendRefused`.
    Append { rows: Vec<Row>, derived: Derived },
    /// Ask the store about a writer.
    LoadWriter(WriterId),
    /// Ask the store about an entry.
    LoadTarget { writer: WriterId, target: Seq },
    /// Show this to everybody who hears the room, and acknowledge.
    Deliver(Delivery),
    /// Acknowledge a repeat.
    Ack { to: ReplyTo, ack: Ack },
    /// Refuse a send.
    Refuse { to: ReplyTo, writer: WriterId, n: u64, refusal: Refusal },
    /// Answer a command.
    Done { to: CommandReply, result: Result<RoomRecord, Refusal> },
    /// Answer a reader.
    Page { to: oneshot::Sender<Result<Page, ErrorCode>>, page: Result<Page, ErrorCode> },
    /// Remove old entries, a part at a time; answered `Retained`.
    Retain,
    /// Entries below this one are held nowhere any more.
    Forget { below: Seq },
    /// Answer who wanted that.
    Retained { to: Answer<Retained>, result: Result<Retained, Refusal> },
    /// Take somebody's words out of these entries; answered `Erased`.
    Erase { user: UserId, after: Seq, upto: Seq },
    /// Nobody who hears the room is given their words any more.
    ForgetWords { user: UserId },
    /// Answer who wanted that.
    Erased { to: Answer<Erased>, result: Result<Erased, Refusal> },
    /// Let a session hear the room.
    Admit(Admit),
    /// Where the session is, more was heard than this owner knows of, or of a later one: ask the store whether it is
    /// still the owner, and if so let the session open the room.
    Verify(Opening),
    /// Do not let it.
    Shut { session: Session, id: Option<u64>, code: ErrorCode },
    /// Somebody's place in the room changed: so does their list of rooms.
    Member { user: UserId, state: MemberState, head: Seq },
    /// End: nothing more can be accepted here.
    Retire,
}

/// A committed group.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// In order, without holes.
    pub(crate) entries: Vec<Entry>,
    /// Who waited for which.
    pub(crate) acks: Vec<(ReplyTo, Ack)>,
    /// Who hears nothing after it, and why.
    pub(crate) ends: Option<(UserId, ErrorCode)>,
    /// Nobody hears anything after it.
    pub(crate) deleted: bool,
    /// Of its first followed message.
    pub(crate) trace: TraceContext,
}

impl Delivery {
    /// Nothing but answers.
    pub(crate) fn answers(acks: Vec<(ReplyTo, Ack)>) -> Self {
        Self { entries: Vec::new(), acks, ends: None, deleted: false, trace: TraceContext::NONE }
    }
}

/// A session that may hear the room, and from where.
#[derive(Debug)]
pub(crate) struct Admit {
    pub(crate) session: Session,
    /// First of all, if its position is void.
    pub(crate) reset: Option<Reset>,
    pub(crate) opened: Opened,
    /// Named before the entries.
    pub(crate) gap: Option<Gap>,
    /// The stream begins after this entry.
    pub(crate) start: Seq,
    pub(crate) unanswered: Unanswered,
}
