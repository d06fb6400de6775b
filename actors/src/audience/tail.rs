//! The newest flushed entries of a room, for those who come back after a short while.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::{Encoding, Entry, Seq, UserId};

use super::flight::{Encoded, Framer};
use crate::room::ring::{erase, is_said_by, is_withdrawn};

/// Entries kept at most: more than a resume is given.
const TAIL_ENTRIES: usize = 128;
/// Bytes of bodies kept at most; the newest entry is kept however large.
const TAIL_BYTES: usize = 256 * 1024;

/// Consecutive entries, oldest first. Many come back at the same position after a cut, so the last answer is kept.
#[derive(Default)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    last_answer: Option<(Seq, Encoded)>,
}

impl Tail {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.last_answer = None;
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > TAIL_ENTRIES || (self.bytes > TAIL_BYTES && self.entries.len() > 1) {
            self.drop_oldest();
        }
    }

    /// Forgets everything up to `target` and its edits, whose content is withheld from now on.
    pub(crate) fn cut(&mut self, target: Seq) {
        self.last_answer = None;
        let newest = self.entries.iter().rev().find(|entry| is_withdrawn(entry, target));
        let Some(upto) = newest.map(|entry| entry.seq) else { return };
        self.drop_below(upto + 1);
    }

    /// Forgets everything below `first`.
    pub(crate) fn drop_below(&mut self, first: Seq) {
        self.last_answer = None;
        while self.entries.front().is_some_and(|entry| entry.seq < first) {
            self.drop_oldest();
        }
    }

    /// Empties what this user has said.
    pub(crate) fn erase(&mut self, user: UserId) {
        self.last_answer = None;
        for entry in self.entries.iter_mut().filter(|entry| is_said_by(entry, user)) {
            self.bytes -= size(entry);
            erase(entry);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// One frame with everything after `at`; `None` if something of that is not held.
    pub(crate) fn after(&mut self, at: Seq, framer: &Framer, encoding: Encoding) -> Option<Bytes> {
        if self.entries.front()?.seq > at + 1 {
            return None;
        }
        if self.last_answer.as_ref().is_none_or(|(after, _)| *after != at) {
            self.last_answer = Some((at, Encoded::default()));
        }
        let entries = &self.entries;
        let (_, answer) = self.last_answer.as_mut()?;
        Some(answer.get(encoding, || {
            framer.entries(entries.iter().filter(|entry| entry.seq > at).cloned().collect(), encoding)
        }))
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.entries.pop_front() {
            self.bytes -= size(&dropped);
        }
    }
}

/// Bytes of an entry's body.
pub(crate) fn size(entry: &Entry) -> usize {
    entry.body.as_ref().map_or(0, |body| body.as_json().len())
}
