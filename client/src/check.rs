//! Is what everybody saw what the log says? Every rule is a fold over recorded events or log lines; a run of millions
//! of events takes seconds.
//!
//! In reading order:
//!
//! * `log`: a room's log, and the rules that it keeps by itself;
//! * `senders`: what was acknowledged is there, once, where the ack said;
//! * `streams`: what was delivered is the log, from where a client joined.
//!
//! Each rule has a [`Violation`] and a test that breaks it by hand.

mod log;
mod senders;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use protocol::{ErrorCode, RoomId, Seq, UserId, WriterId};

pub use log::Log;

use crate::record::Record;

/// How far a run has come when it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Still going: answers and entries may be under way.
    Running,
    /// Everything had time to settle: nothing may be missing any more.
    Settled,
}

/// A rule that a run breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The log has a hole or goes back.
    #[error("room {room}: the log has {found} where {expected} should be")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Hole { room: RoomId, expected: Seq, found: Seq },
    /// A writer's number is in the log twice.
    #[error("room {room}: number {n} of writer {writer} is in the log twice, at {seq} and before")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Twice { room: RoomId, writer: WriterId, n: u64, seq: Seq },
    /// A writer's numbers do not rise along the log.
    #[error("room {room}: number {n} of writer {writer} at {seq} comes after {before}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    SenderOrder { room: RoomId, writer: WriterId, n: u64, seq: Seq, before: u64 },
    /// A writer's numbers have a hole.
    #[error("room {room}: writer {writer} goes from {before} to {n} at {seq}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Skipped { room: RoomId, writer: WriterId, n: u64, seq: Seq, before: u64 },
    /// Something was acknowledged and is not in the log.
    #[error("room {room}: number {n} of writer {writer} was acknowledged at {seq} and is not in the log")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    AckedLost { room: RoomId, writer: WriterId, n: u64, seq: Seq },
    /// Something was acknowledged with another place or time than the log has.
    #[error("room {room}: number {n} of writer {writer} was acknowledged at {told}, the log has it at {seq}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    AckedElsewhere { room: RoomId, writer: WriterId, n: u64, told: Seq, seq: Seq },
    /// The log has other content under a number than was sent.
    #[error("room {room}: the log has other content at {seq} than was sent as number {n} of writer {writer}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    OtherContent { room: RoomId, writer: WriterId, n: u64, seq: Seq },
    /// A message was definitely refused and is in the log all the same.
    #[error("room {room}: a message was refused ({code:?}) and is in the log at {seq}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    RefusedStored { room: RoomId, code: ErrorCode, seq: Seq },
    /// One message is in the log more than once, under different numbers.
    #[error("room {room}: a message is in the log again at {seq}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Doubled { room: RoomId, seq: Seq },
    /// The log has something under a known writer that was never sent.
    #[error("room {room}: nobody sent number {n} of writer {writer}, which is in the log at {seq}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Invented { room: RoomId, writer: WriterId, n: u64, seq: Seq },
    /// A message that was sent after another one's ack is before it in the log.
    #[error("room {room}: {seq} was sent after {earlier} had been acknowledged")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    OutOfTime { room: RoomId, seq: Seq, earlier: Seq },
    /// A message has no answer though everything had time to settle.
    #[error("room {room}: number {n} of writer {writer} was never answered")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Unanswered { room: RoomId, writer: WriterId, n: u64 },
    /// An entry was delivered that is not in the log.
    #[error("room {room}, client {client}: entry {seq} was delivered and is not in the log")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    NotInLog { room: RoomId, client: UserId, seq: Seq },
    /// An entry was delivered with other content or time than the log has.
    #[error("room {room}, client {client}: entry {seq} was delivered with other content")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Differs { room: RoomId, client: UserId, seq: Seq },
    /// An entry was withheld without a deletion or erasure in the log.
    #[error("room {room}, client {client}: entry {seq} was masked without a reason in the log")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    MaskedWithoutReason { room: RoomId, client: UserId, seq: Seq },
    /// A deleted entry was shown after its deletion.
    #[error("room {room}, client {client}: entry {seq} was shown after its deletion")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Unmasked { room: RoomId, client: UserId, seq: Seq },
    /// An entry was shown with content to somebody who had been told that it was erased.
    #[error("room {room}, client {client}: entry {seq} was shown after it had been erased")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Restored { room: RoomId, client: UserId, seq: Seq },
    /// An entry from which rosters are folded was erased.
    #[error("room {room}: entry {seq} is a membership or room entry and was erased")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    RosterErased { room: RoomId, seq: Seq },
    /// Entries are missing from a stream, and no gap was named.
    #[error("room {room}, client {client}: after {after} came {seq}, and no gap was named")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    SilentGap { room: RoomId, client: UserId, after: Seq, seq: Seq },
    /// An entry came again within a stream.
    #[error("room {room}, client {client}: after {after} came {seq} again")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Repeated { room: RoomId, client: UserId, after: Seq, seq: Seq },
    /// A named gap does not begin where the stream stood, or leads nowhere.
    #[error("room {room}, client {client}: at {at} a gap from {after} to {upto} was named")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    WrongGap { room: RoomId, client: UserId, at: Seq, after: Seq, upto: Seq },
    /// A stream was resumed at another place than asked, in the same life of the room.
    #[error("room {room}, client {client}: asked to go on after {asked}, the stream began after {after}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    ResumedElsewhere { room: RoomId, client: UserId, asked: Seq, after: Seq },
    /// A position was declared void though the room's life is the same.
    #[error("room {room}, client {client}: the position was reset to {head} in the same life of the room")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    NeedlessReset { room: RoomId, client: UserId, head: Seq },
    /// Entries came outside of a stream.
    #[error("room {room}, client {client}: entry {seq} came while the room was not open")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Unasked { room: RoomId, client: UserId, seq: Seq },
    /// A page that fills a gap leaves something out.
    #[error("room {room}, client {client}: entry {seq} of a page does not follow what is known")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    PageHole { room: RoomId, client: UserId, seq: Seq },
    /// A stream stopped short of the log's end.
    #[error("room {room}, client {client}: stands at {at}, the log ends at {head}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    Behind { room: RoomId, client: UserId, at: Seq, head: Seq },
    /// A named gap was never filled.
    #[error("room {room}, client {client}: the gap from {after} to {upto} was not filled")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    GapLeft { room: RoomId, client: UserId, after: Seq, upto: Seq },
}

/// What a check found, and how much it looked at: a check of nothing finds nothing.
#[derive(Debug, Default)]
pub struct Report {
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// Log lines read.
    pub lines: usize,
    /// Acks compared.
    pub acks: usize,
    /// Delivered entries compared.
    pub delivered: usize,
    /// Resumed streams.
    pub resumed: usize,
    /// Named gaps.
    pub gaps: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { violations, lines, acks, delivered, resumed, gaps } = self;
        write!(
            f,
            "{lines} log lines, {acks} acks, {delivered} deliveries, {resumed} resumed streams, {gaps} gaps: "
        )?;
        match violations.as_slice() {
            [] => f.write_str("every rule holds"),
            broken => {
                write!(f, "{} violations", broken.len())?;
                broken.iter().take(20).try_for_each(|violation| write!(f, "\n  {violation}"))
            }
        }
    }
}

/// Checks the logs by themselves, every sender against them, and every stream. Rooms without a log are left out, and
/// so are writers of which no record knows.
pub fn check(logs: &BTreeMap<RoomId, Log>, records: &[Record], phase: Phase) -> Report {
    let mut report = Report::default();
    for (room, log) in logs {
        log.check(*room, &mut report);
        senders::check(*room, log, records, phase, &mut report);
        let mut shown = HashMap::new();
        for record in records {
            streams::check(*room, log, record, phase, &mut shown, &mut report);
        }
    }
    report
}
