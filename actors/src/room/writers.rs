//! Who has counted how far: the room's memory of `(writer, n)`, which makes a repeated send harmless for good.
//!
//! `n` counts from 1 per writer without jumps. The newest [`RECENT`] sends of a writer are remembered with a hash of
//! their content and their answer; what is older is only known to be in the log.

use std::collections::{HashMap, VecDeque};

use protocol::{Millis, Seq, UserId, WriterId};
use store::log::{Row, WriterMark};

use crate::rooms::Draft;

/// Sends remembered per writer: twice what a session may have unanswered.
const RECENT: usize = 64;
/// Writers remembered per room. Beyond it those that the store knows as well are forgotten.
const WRITERS: usize = 4_096;

/// Writers of an ephemeral room, which nothing but this memory knows. Beyond it new ones are refused.
const EPHEMERAL_WRITERS: usize = 65_536;

/// A hash of what was said, to tell a repeat from other content under the same counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentHash(u64);

impl ContentHash {
    pub(crate) fn of_draft(draft: &Draft) -> Self {
        Self::new(draft.kind.as_str(), draft.target, draft.body.as_json())
    }

    fn of_row(row: &Row) -> Option<Self> {
        row.body.as_ref().map(|body| Self::new(row.kind.as_str(), row.target, body.as_json()))
    }

    fn new(kind: &str, target: Option<Seq>, body: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(kind.len() as u64).to_be_bytes()).update(kind.as_bytes());
        hasher.update(&target.unwrap_or(0).to_be_bytes()).update(body.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_be_bytes(first))
    }
}

/// What the room makes of a `(writer, n)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The writer's next send.
    Next,
    /// Accepted and not yet durable.
    Waiting,
    /// In the log, with this answer.
    Done {
        /// Where.
        seq: Seq,
        /// When it was ordered.
        at: Millis,
    },
    /// In the log, but too old to compare; with its place, if that is known.
    Stored(Option<Seq>),
    /// Used for other content.
    Conflict,
    /// Jumps ahead of this one.
    OutOfOrder {
        /// The counter to go on with.
        expected: u64,
    },
    /// The writer belongs to another user.
    Foreign,
    /// The store has to be asked about this writer first.
    NotLoaded,
}

#[derive(Debug)]
struct Recent {
    n: u64,
    /// `None` after the content was erased.
    content: Option<ContentHash>,
    /// `None` while it waits to be durable.
    answer: Option<(Seq, Millis)>,
}

#[derive(Debug, Default)]
struct Writer {
    /// Unknown for a writer that only the store's mark tells of.
    user: Option<UserId>,
    /// The highest accepted `n`, durable or waiting.
    accepted: u64,
    /// Where the highest durable one is.
    newest: Seq,
    recent: VecDeque<Recent>,
}

/// All writers that the room knows.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    writers: HashMap<WriterId, Writer>,
}

impl Writers {
    /// What recovery found in the newest rows.
    pub(crate) fn recovered(rows: &[Row], marks: &[WriterMark]) -> Self {
        let mut writers = Self::default();
        for mark in marks {
            writers.load(mark.writer, Some(*mark));
        }
        for row in rows.iter().filter(|row| row.n > 0) {
            let writer = writers.writers.entry(row.writer).or_default();
            writer.user = Some(row.from);
            writer.accepted = writer.accepted.max(row.n);
            writer.newest = writer.newest.max(row.seq);
            writer.remember(Recent {
                n: row.n,
                content: ContentHash::of_row(row),
                answer: Some((row.seq, row.at)),
            });
        }
        writers
    }

    /// What the store knows of a writer.
    pub(crate) fn load(&mut self, writer: WriterId, mark: Option<WriterMark>) {
        let known = self.writers.entry(writer).or_default();
        if let Some(mark) = mark.filter(|mark| mark.n > known.accepted) {
            known.accepted = mark.n;
            known.newest = mark.seq;
        }
    }

    /// Whether an ephemeral room can't take another writer.
    pub(crate) fn is_full(&self) -> bool {
        self.writers.len() >= EPHEMERAL_WRITERS
    }

    /// A writer that has said nothing here takes no memory.
    pub(crate) fn forget_unused(&mut self, writer: WriterId) {
        let unused =
            self.writers.get(&writer).is_some_and(|known| known.accepted == 0 && known.recent.is_empty());
        if unused {
            self.writers.remove(&writer);
        }
    }

    /// How this send stands to those before it.
    pub(crate) fn standing(&self, draft: &Draft) -> Standing {
        let Some(writer) = self.writers.get(&draft.writer) else { return Standing::NotLoaded };
        if writer.user.is_some_and(|user| user != draft.user) {
            return Standing::Foreign;
        }
        if draft.n > writer.accepted + 1 || draft.n == 0 {
            return Standing::OutOfOrder { expected: writer.accepted + 1 };
        }
        if draft.n == writer.accepted + 1 {
            return Standing::Next;
        }
        match writer.recent.iter().find(|recent| recent.n == draft.n) {
            Some(recent) if recent.content.is_some_and(|content| content != ContentHash::of_draft(draft)) => {
                Standing::Conflict
            }
            Some(Recent { answer: Some((seq, at)), .. }) => Standing::Done { seq: *seq, at: *at },
            Some(_) => Standing::Waiting,
            None => Standing::Stored((draft.n == writer.accepted).then_some(writer.newest)),
        }
    }

    /// The writer's next send was accepted.
    pub(crate) fn accept(&mut self, draft: &Draft) {
        let writer = self.writers.entry(draft.writer).or_default();
        writer.user = Some(draft.user);
        writer.accepted = draft.n;
        writer.remember(Recent { n: draft.n, content: Some(ContentHash::of_draft(draft)), answer: None });
    }

    /// An accepted send is in the room for good.
    pub(crate) fn commit(&mut self, writer: WriterId, n: u64, seq: Seq, at: Millis) {
        let Some(writer) = self.writers.get_mut(&writer) else { return };
        writer.newest = seq;
        if let Some(recent) = writer.recent.iter_mut().rev().find(|recent| recent.n == n) {
            recent.answer = Some((seq, at));
        }
    }

    /// Forgets what this user's sends said: not even a hash is left to compare with.
    pub(crate) fn forget_content(&mut self, user: UserId) {
        for writer in self.writers.values_mut().filter(|writer| writer.user == Some(user)) {
            writer
                .recent
                .iter_mut()
                .filter(|recent| recent.answer.is_some())
                .for_each(|recent| recent.content = None);
        }
    }

    /// Keeps the memory bounded: beyond [`WRITERS`], forgets those whose sends all lie at or below `stored_upto`, up to
    /// where the store's marks are complete.
    pub(crate) fn trim(&mut self, stored_upto: Seq) {
        if self.writers.len() > WRITERS {
            self.writers.retain(|_, writer| {
                writer.newest > stored_upto
                    || writer.recent.back().is_some_and(|recent| recent.answer.is_none())
            });
        }
    }
}

impl Writer {
    fn remember(&mut self, recent: Recent) {
        self.recent.push_back(recent);
        if self.recent.len() > RECENT && self.recent.front().is_some_and(|oldest| oldest.answer.is_some()) {
            self.recent.pop_front();
        }
    }
}
