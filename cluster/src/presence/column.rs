//! How far the users of one node are known, and what is missing.

use std::collections::BTreeMap;

use protocol::Millis;

use super::{
    record::Record,
    table::{ColumnId, Cursor, Mark},
    wire::{Batch, Head, Page, Request},
};
use crate::mix::Dice;

/// Batches kept while an earlier one is missing: two rounds of the ring, at most 3 MB per node. When full the oldest is
/// dropped; the gap that this leaves is asked for later.
const WAITING_BATCHES: usize = 256;
/// Records that one answer may have: 96 MB, more users than a node can serve. An answer with more is dropped.
const ANSWER_RECORDS: usize = 1 << 22;

/// A first request waits up to this long, by chance: all readers of a node miss the same batch at once. Milliseconds.
const SPREAD: Millis = 200;
/// An answer without a new page for this long has failed. Milliseconds.
const PATIENCE: Millis = 3_000;
/// The pause after a failure, doubled by each further one up to 8 s, and up to half of it more by chance. Milliseconds.
const FIRST_PAUSE: Millis = 500;
const LONGEST_DOUBLING: u32 = 4;

pub(super) struct Column {
    pub(super) id: ColumnId,
    /// That of all its cells.
    pub(super) mark: Mark,
    pub(super) life: Life,
    /// What is in the table, by sequence and sum.
    pub(super) applied: Head,
    /// The latest head heard.
    heard: Option<Head>,
    waiting: BTreeMap<u64, Vec<Record>>,
    pub(super) asking: Asking,
}

/// What the cluster thinks of the node.
pub(super) enum Life {
    Here,
    /// Not heard of; its users are shown until then.
    Suspect {
        until: Millis,
    },
    /// Its users go, in parts. They were last there at `since`.
    Dropping {
        cursor: Cursor,
        since: Millis,
    },
}

/// Whether the node is asked for what is missing.
pub(super) enum Asking {
    No,
    /// At its time, and when not too many are asked.
    Wanted {
        not_before: Millis,
        everything: bool,
        failures: u32,
    },
    /// Pages are coming.
    Asked(Box<Asked>),
}

pub(super) struct Asked {
    request: Request,
    fails_at: Millis,
    failures: u32,
    pages: u32,
    is_full: bool,
    records: Vec<Record>,
}

/// What a page made of an answer.
pub(super) enum Taken {
    /// Not asked for, or not any more.
    Stray,
    /// More is to come.
    Part,
    /// It cannot be completed any more.
    Failed,
    Whole(Answer),
}

/// A complete answer.
pub(super) struct Answer {
    pub(super) is_full: bool,
    pub(super) head: Head,
    pub(super) records: Vec<Record>,
    failures: u32,
}

/// What is known to be wrong with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Nothing,
    /// Batches are missing that nobody will send.
    Gap,
    /// The set differs from what its node says.
    Mismatch,
}

impl Column {
    pub(super) fn new(id: ColumnId) -> Self {
        Self {
            id,
            mark: Mark::default(),
            life: Life::Here,
            applied: Head::default(),
            heard: None,
            waiting: BTreeMap::new(),
            asking: Asking::No,
        }
    }

    /// Its users go; what was asked or waits is of no use.
    pub(super) fn start_dropping(&mut self, since: Millis) {
        self.life = Life::Dropping { cursor: Cursor::default(), since };
        self.waiting.clear();
        self.asking = Asking::No;
    }

    /// Takes a batch in. False if one had to be dropped for it.
    pub(super) fn hear(&mut self, batch: Batch) -> bool {
        if batch.seq > self.applied.seq {
            self.waiting.insert(batch.seq, batch.records);
        }
        let fits = self.waiting.len() <= WAITING_BATCHES;
        if !fits {
            self.waiting.pop_first();
        }
        fits
    }

    pub(super) fn hear_head(&mut self, head: Head) {
        if self.heard.is_none_or(|heard| heard.seq <= head.seq) {
            self.heard = Some(head);
        }
    }

    /// The records of the batch that comes next, if it is here and may be applied: not while an answer is on its way,
    /// which is the set at a sequence that may be before it.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Record>> {
        if matches!(self.asking, Asking::Asked(_)) {
            return None;
        }
        let next = self.applied.seq.checked_add(1)?;
        self.waiting = self.waiting.split_off(&next);
        let records = self.waiting.remove(&next)?;
        self.applied.seq = next;
        Some(records)
    }

    /// After all that could be applied was. Gossip offers batches in order and a head after its batches: what is not here
    /// by then was overwritten, or never written.
    pub(super) fn lack(&self) -> Lack {
        let ahead = self.heard.filter(|heard| heard.seq >= self.applied.seq);
        match ahead {
            _ if !self.waiting.is_empty() => Lack::Gap,
            Some(head) if head.seq > self.applied.seq => Lack::Gap,
            Some(head) if head.sum != self.applied.sum => Lack::Mismatch,
            Some(_) | None => Lack::Nothing,
        }
    }

    /// Whether all is known that its node has said so far.
    pub(super) fn is_known(&self) -> bool {
        self.heard.is_some() && matches!(self.asking, Asking::No)
    }

    /// Wants what is missing; or no more, if it came by itself. True if that is new.
    pub(super) fn want(&mut self, lack: Lack, now: Millis, dice: &mut Dice) -> bool {
        match (lack, &mut self.asking) {
            (_, Asking::Asked(_)) => false,
            (Lack::Nothing, Asking::Wanted { everything: false, .. }) => {
                self.asking = Asking::No;
                false
            }
            (Lack::Mismatch, Asking::Wanted { everything, .. }) => {
                *everything = true;
                false
            }
            (Lack::Nothing, Asking::No) | (_, Asking::Wanted { .. }) => false,
            (Lack::Gap | Lack::Mismatch, Asking::No) => {
                self.want_after(now + dice.below(SPREAD), lack == Lack::Mismatch, 0);
                true
            }
        }
    }

    /// Its users were dropped in part: only everything helps.
    pub(super) fn want_everything(&mut self, now: Millis, dice: &mut Dice) {
        self.want_after(now + dice.below(SPREAD), true, 0);
    }

    fn want_after(&mut self, not_before: Millis, everything: bool, failures: u32) {
        self.asking = Asking::Wanted { not_before, everything, failures };
    }

    /// When it wants to ask; `None` if it does not, or its node would not hear it.
    pub(super) fn asks_at(&self) -> Option<Millis> {
        match (&self.life, &self.asking) {
            (Life::Here, Asking::Wanted { not_before, .. }) => Some(*not_before),
            _ => None,
        }
    }

    /// When the answer under way is given up.
    pub(super) fn fails_at(&self) -> Option<Millis> {
        if let Asking::Asked(asked) = &self.asking { Some(asked.fails_at) } else { None }
    }

    /// Asks now.
    pub(super) fn ask(&mut self, generation: u64, now: Millis, dice: &mut Dice) -> Option<Request> {
        let Asking::Wanted { everything, failures, .. } = self.asking else { return None };
        let since = (!everything).then_some(self.applied.seq);
        let request = Request { id: dice.next(), generation, since };
        let fails_at = now + PATIENCE;
        let asked = Asked { request, fails_at, failures, pages: 0, is_full: false, records: Vec::new() };
        self.asking = Asking::Asked(Box::new(asked));
        Some(request)
    }

    /// Gives an answer up and asks again after a pause.
    pub(super) fn fail(&mut self, now: Millis, dice: &mut Dice) {
        let Asking::Asked(asked) = &self.asking else { return };
        let (everything, failures) = (asked.request.since.is_none(), asked.failures);
        self.want_again(everything, failures, now, dice);
    }

    fn want_again(&mut self, everything: bool, failures: u32, now: Millis, dice: &mut Dice) {
        let pause = FIRST_PAUSE << failures.min(LONGEST_DOUBLING);
        let not_before = now + pause + dice.below(pause / 2);
        self.want_after(not_before, everything, failures.saturating_add(1));
    }

    /// Takes a page of an answer.
    pub(super) fn take(&mut self, page: Page, now: Millis) -> Taken {
        let Asking::Asked(asked) = &mut self.asking else { return Taken::Stray };
        if asked.request.id != page.about.request {
            return Taken::Stray;
        }
        if !asked.append(page.records, page.about.index, page.about.is_full) {
            return Taken::Failed;
        }
        asked.fails_at = now + PATIENCE;
        if !page.about.is_last {
            return Taken::Part;
        }
        let (records, is_full, failures) =
            (std::mem::take(&mut asked.records), asked.is_full, asked.failures);
        self.asking = Asking::No;
        Taken::Whole(Answer { is_full, head: page.about.head, records, failures })
    }

    /// The answer was applied. If the set still differs from what its node said of it, asks for everything; true then.
    pub(super) fn check(&mut self, answer: &Answer, now: Millis, dice: &mut Dice) -> bool {
        self.applied.seq = answer.head.seq;
        let differs = self.applied.sum != answer.head.sum;
        if differs {
            self.want_again(true, answer.failures, now, dice);
        }
        differs
    }
}

impl Asked {
    /// False if the page does not follow the last one, or is not what was asked for.
    fn append(&mut self, records: Vec<Record>, index: u32, is_full: bool) -> bool {
        let follows = index == self.pages && (index == 0 || is_full == self.is_full);
        let fits = self.records.len() + records.len() <= ANSWER_RECORDS;
        if !follows || !fits || !(is_full || self.request.since.is_some()) {
            return false;
        }
        self.pages += 1;
        self.is_full = is_full;
        self.records.extend(records);
        true
    }
}
