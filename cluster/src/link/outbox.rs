//! What waits for a link: a bounded queue, cut into batches as far as the peer's credit goes. Knows no clock and no socket.

use std::{collections::VecDeque, time::Duration};

use actors::peers::{Unsent, Worth};
use bytes::Bytes;
use telemetry::TraceContext;

use super::envelope;

/// A batch is sent at this size, in bytes, even if the last one has just gone: enough to make the cost of a frame small
/// against that of its messages, and at 1 Gbit/s what is behind it waits 0.3 ms.
pub(crate) const BATCH: usize = 32 * 1024;

/// Between two batches that are smaller: what comes in between waits, and goes together.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);

/// How much may be lost in a crash or wait in sockets and mailboxes on both ends, and how much is queued behind that.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of batches under way to a peer that has not said that it handled them. They wait in sockets and in the
    /// unbounded mailboxes of the way, which this bounds; 4 MiB are 30 ms at 1 Gbit/s. At least twice 1 MiB, so that the
    /// longest message fits while the answer to the last is under way.
    pub credit: u64,
    /// Bytes that wait for credit in a peer's queue. When it is full, droppable messages are dropped, needed ones push
    /// out the droppable ones, and are refused if that is not enough.
    pub queue: usize,
    /// Messages in that queue, so that small ones don't cost more memory than they say.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { credit: 4 * 1024 * 1024, queue: 4 * 1024 * 1024, entries: 32 * 1024 }
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this.
    Batch(Vec<u8>),
    /// Ask again at this time.
    At(Duration),
    /// Nothing, until something is offered or acknowledged.
    Nothing,
}

struct Entry {
    worth: Worth,
    trace: TraceContext,
    payload: Bytes,
}

impl Entry {
    fn length(&self) -> usize {
        envelope::entry_length(self.payload.len(), &self.trace)
    }
}

/// The queue to a peer, for one session.
pub(crate) struct Outbox {
    limits: Limits,
    version: u8,
    /// The peer's number of the session.
    to: u64,
    queue: VecDeque<Entry>,
    queued: usize,
    droppable: usize,
    /// Bytes of batches since the session began, and how many of them the peer has handled.
    sent: u64,
    acked: u64,
    last_batch: Option<Duration>,
    /// Messages that were taken and then given up for needed ones.
    pub(crate) shed: u64,
}

impl Outbox {
    pub(crate) fn new(limits: Limits, version: u8, to: u64) -> Self {
        Self {
            limits,
            version,
            to,
            queue: VecDeque::new(),
            queued: 0,
            droppable: 0,
            sent: 0,
            acked: 0,
            last_batch: None,
            shed: 0,
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When there is no room for it, or it is longer than [`envelope::LONGEST_PAYLOAD`].
    pub(crate) fn offer(&mut self, worth: Worth, trace: TraceContext, payload: Bytes) -> Result<(), Unsent> {
        if payload.len() > envelope::LONGEST_PAYLOAD {
            return Err(Unsent);
        }
        let entry = Entry { worth, trace, payload };
        if !self.fits(entry.length()) && (worth == Worth::Droppable || !self.shed_for(entry.length())) {
            return Err(Unsent);
        }
        self.queued += entry.length();
        self.droppable += usize::from(worth == Worth::Droppable);
        self.queue.push_back(entry);
        Ok(())
    }

    /// The next batch, if it is time and the peer has credit.
    pub(crate) fn next(&mut self, now: Duration) -> Next {
        let Some(first) = self.queue.front() else { return Next::Nothing };
        if !self.has_credit(envelope::HEADER + first.length()) {
            return Next::Nothing;
        }
        match self.last_batch {
            Some(last) if self.queued < BATCH && now < last + PAUSE => Next::At(last + PAUSE),
            Some(_) | None => Next::Batch(self.cut(now)),
        }
    }

    /// The peer says that it has handled so many bytes of the session. A number that went back or beyond what was sent
    /// is none.
    pub(crate) fn acked(&mut self, consumed: u64) {
        if consumed <= self.sent {
            self.acked = self.acked.max(consumed);
        }
    }

    /// Whether the peer has handled everything.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.acked == self.sent
    }

    /// Lets the next batch go at once.
    pub(crate) fn hurry(&mut self) {
        self.last_batch = None;
    }

    /// Bytes that wait for credit or for their batch.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes under way.
    pub(crate) fn outstanding(&self) -> u64 {
        self.sent - self.acked
    }

    fn fits(&self, length: usize) -> bool {
        self.queued + length <= self.limits.queue && self.queue.len() < self.limits.entries
    }

    fn has_credit(&self, length: usize) -> bool {
        self.outstanding() + length as u64 <= self.limits.credit
    }

    /// Gives up all droppable messages at once: one by one would look through the queue again and again.
    fn shed_for(&mut self, length: usize) -> bool {
        if self.droppable > 0 {
            self.queue.retain(|entry| entry.worth == Worth::Needed);
            self.queued = self.queue.iter().map(Entry::length).sum();
            self.shed += std::mem::take(&mut self.droppable) as u64;
        }
        self.fits(length)
    }

    fn cut(&mut self, now: Duration) -> Vec<u8> {
        let longest = self.queue.front().map_or(0, Entry::length);
        let mut frame = envelope::batch(self.version, self.to, self.queued.min(BATCH).max(longest));
        while let Some(entry) = self.queue.front() {
            let length = frame.len() + entry.length();
            let is_first = frame.len() == envelope::HEADER;
            if !is_first && (length > envelope::HEADER + BATCH || !self.has_credit(length)) {
                break;
            }
            envelope::put_entry(&mut frame, entry.worth, &entry.trace, &entry.payload);
            self.queued -= entry.length();
            self.droppable -= usize::from(entry.worth == Worth::Droppable);
            self.queue.pop_front();
        }
        self.sent += frame.len() as u64;
        self.last_batch = Some(now);
        frame
    }
}

#[cfg(test)]
mod tests;
