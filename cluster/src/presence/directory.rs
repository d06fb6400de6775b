//! The reader's side: the users of all nodes, and what is shown of them.

use std::collections::BTreeMap;

use protocol::{Millis, UserId, client::PresenceStatus};

use super::{
    column::{Answer, Asking, Column, Lack, Life, Taken},
    news::News,
    record::{Record, Stand, User, shown},
    ring::{Flush, HEAD_KEY},
    table::{ColumnId, MOST_COLUMNS, Table},
    wire::{Batch, Head, Malformed, Page},
};
use crate::{NodeName, mix::Dice};

/// How long the users of a node that is not heard of are shown: their clients come back elsewhere. Milliseconds.
const HOLD: Millis = 10_000;
/// Users of gone nodes dropped at once, and the pause until the next: the watchers of 85,000 users hear of it over 8 s.
const DROPPED_AT_ONCE: usize = 1_000;
const DROP_PAUSE: Millis = 100;
/// Answers under way at once: each may be tens of megabytes, and comes in beside rooms' traffic.
const ASKED_AT_ONCE: usize = 2;
/// Changes told in one poll; the others wait for the next, which is due at once.
const TOLD_AT_ONCE: usize = 10_000;

/// What the directory wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Others see this of a user from now on. Only real changes; never `Invisible`, which is shown as `Offline`.
    Shown {
        /// Who.
        user: UserId,
        /// What is shown.
        status: PresenceStatus,
        /// Since when, by the clock of the node that said it. Of a node that is gone: when it was missed.
        at: Millis,
    },
    /// Carry these bytes to the node's [`Ring::answer`](super::Ring::answer), and its pages in order to
    /// [`Directory::answered`]. May be lost: it is asked again.
    Ask {
        /// Who is asked.
        node: NodeName,
        /// The request, below 64 bytes.
        request: Vec<u8>,
    },
}

/// What [`Directory::poll`] gives.
#[derive(Debug, Default)]
pub struct Poll {
    /// To be done, in this order.
    pub outputs: Vec<Output>,
    /// When to poll again, if nothing happens before; in the past: at once.
    pub next: Option<Millis>,
}

/// What happened so far that should be rare; for metrics. Each counts from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches were missing.
    pub gaps: u64,
    /// A set differed from its sum. Never, but for a defect.
    pub mismatches: u64,
    /// Requests to other nodes.
    pub asked: u64,
    /// Answers that did not come, or not whole.
    pub failed: u64,
    /// Values and pages that were not read.
    pub malformed: u64,
    /// Batches dropped because too many waited for an earlier one.
    pub overflows: u64,
}

/// The users of all nodes.
pub struct Directory {
    own: NodeName,
    table: Table,
    columns: BTreeMap<NodeName, Column>,
    free: Vec<ColumnId>,
    fresh: u16,
    news: News,
    isolated: bool,
    /// When the next users of gone nodes may be dropped.
    next_drop: Millis,
    dice: Dice,
    tally: Tally,
}

impl Directory {
    /// An empty directory on this node. `chance`: any number that differs between nodes.
    pub fn new(own: &NodeName, chance: u64) -> Self {
        let mut directory = Self {
            own: own.clone(),
            table: Table::default(),
            columns: BTreeMap::new(),
            free: Vec::new(),
            fresh: 0,
            news: News::default(),
            isolated: false,
            next_drop: 0,
            dice: Dice::new(chance),
            tally: Tally::default(),
        };
        directory.add(own);
        directory
    }

    /// Another life of this node begins: its flushes count as this one's. The last life is to be told as
    /// [`Self::left`] once its users were flushed again.
    pub fn reborn(&mut self, own: &NodeName) {
        self.own = own.clone();
        self.add(own);
    }

    /// What others see of a user, as far as is known here.
    pub fn status(&self, user: UserId) -> PresenceStatus {
        shown(self.table.winner(User::new(user)))
    }

    /// Users at any node, the invisible included.
    pub fn users(&self) -> usize {
        self.table.len()
    }

    /// Nodes whose users are not known, or not all: 0 says that a node that joined has caught up.
    pub fn unknown(&self) -> usize {
        let unknown = |(name, column): &(&NodeName, &Column)| **name != self.own && !column.is_known();
        self.columns.iter().filter(unknown).count()
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// This node flushed its ring.
    pub fn flushed(&mut self, flush: &Flush) {
        let Some(mut column) = self.columns.remove(&self.own) else { return };
        for batch in &flush.batches {
            batch.records.iter().for_each(|record| self.put(&mut column, *record));
        }
        column.applied.seq = flush.head.seq;
        column.hear_head(flush.head);
        self.columns.insert(self.own.clone(), column);
    }

    /// A node is heard of, at first or again. `values`: all that gossip holds of it under `p/`, in any order; other keys
    /// are skipped. Drops the users of its earlier lives, without hold. An earlier life than one that is known is ignored.
    pub fn alive<'a>(
        &mut self,
        node: &NodeName,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Millis,
    ) {
        if self.is_outlived(node) {
            return;
        }
        self.drop_earlier(node, now);
        let Some(column) = self.columns.get_mut(node) else {
            self.add(node);
            return self.heard(node, values, now);
        };
        if matches!(column.life, Life::Dropping { .. }) {
            column.want_everything(now, &mut self.dice);
        }
        column.life = Life::Here;
        self.heard(node, values, now);
    }

    /// Gossip brought values of a node. Those of a node that is not alive, or that left, are ignored: gossip goes on
    /// telling of the dead. Values that come together may be in any order; of those that come apart, a head must not come
    /// before the batches that were written before it.
    pub fn heard<'a>(
        &mut self,
        node: &NodeName,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Millis,
    ) {
        let Some(mut column) = self.columns.remove(node) else { return };
        if *node != self.own && !matches!(column.life, Life::Dropping { .. }) {
            for (key, value) in values {
                if self.hear(&mut column, key, value).is_err() {
                    self.tally.malformed += 1;
                }
            }
            self.advance(&mut column, now);
        }
        self.columns.insert(node.clone(), column);
    }

    /// A page of an answer came from a node. Strays and repeats do nothing.
    pub fn answered(&mut self, node: &NodeName, page: &[u8], now: Millis) {
        let Ok(page) = Page::decode(page) else {
            self.tally.malformed += 1;
            return;
        };
        let Some(mut column) = self.columns.remove(node) else { return };
        match column.take(page, now) {
            Taken::Stray | Taken::Part => {}
            Taken::Failed => {
                self.tally.failed += 1;
                column.fail(now, &mut self.dice);
            }
            Taken::Whole(answer) => {
                self.apply(&mut column, &answer, now);
                self.advance(&mut column, now);
            }
        }
        self.columns.insert(node.clone(), column);
    }

    /// A node is not heard of any more. Its users stay for 10 s.
    pub fn lost(&mut self, node: &NodeName, now: Millis) {
        let Some(column) = self.columns.get_mut(node).filter(|_| *node != self.own) else { return };
        if matches!(column.life, Life::Here) {
            column.life = Life::Suspect { until: now + HOLD };
        }
    }

    /// A node said that it leaves, after its users went elsewhere. Those it still has are dropped without hold.
    pub fn left(&mut self, node: &NodeName, now: Millis) {
        if *node != self.own {
            self.start_dropping(node, now);
        }
    }

    /// Whether this node may be the one that is cut off. While it is, no users of other nodes are dropped; when it is no
    /// more, those of nodes that are not heard of stay for 10 s from then.
    pub fn isolate(&mut self, isolated: bool, now: Millis) {
        if self.isolated && !isolated {
            for column in self.columns.values_mut() {
                if let Life::Suspect { until } = &mut column.life {
                    *until = now + HOLD;
                }
            }
        }
        self.isolated = isolated;
    }

    /// Does what is due, and gives what is to be done.
    pub fn poll(&mut self, now: Millis) -> Poll {
        self.end_holds(now);
        self.drop_some(now);
        let mut outputs = Vec::new();
        self.ask(now, &mut outputs);
        self.tell(&mut outputs);
        Poll { outputs, next: self.next(now) }
    }

    fn add(&mut self, node: &NodeName) {
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.fresh < MOST_COLUMNS => {
                self.fresh += 1;
                ColumnId::new(self.fresh - 1)
            }
            // With that many lives at once gossip itself has failed: the users of this one are not known.
            None => return,
        };
        self.columns.insert(node.clone(), Column::new(id));
    }

    /// Whether it is this node, or a later life of it is known.
    fn is_outlived(&self, node: &NodeName) -> bool {
        let later = |known: &NodeName| known.id() == node.id() && known.generation() > node.generation();
        *node == self.own || self.columns.keys().any(later)
    }

    fn drop_earlier(&mut self, node: &NodeName, now: Millis) {
        let earlier = |known: &&NodeName| known.id() == node.id() && known.generation() < node.generation();
        let earlier: Vec<_> = self.columns.keys().filter(earlier).cloned().collect();
        earlier.iter().for_each(|life| self.start_dropping(life, now));
    }

    fn start_dropping(&mut self, node: &NodeName, now: Millis) {
        let Some(column) = self.columns.get_mut(node) else { return };
        if !matches!(column.life, Life::Dropping { .. }) {
            column.start_dropping(now);
        }
    }

    fn hear(&mut self, column: &mut Column, key: &str, value: &str) -> Result<(), Malformed> {
        if key == HEAD_KEY {
            column.hear_head(Head::decode(value)?);
        } else if key.starts_with("p/") {
            self.tally.overflows += u64::from(!column.hear(Batch::decode(value)?));
        }
        Ok(())
    }

    /// Applies all batches that follow, and asks if something is missing.
    fn advance(&mut self, column: &mut Column, now: Millis) {
        while let Some(records) = column.next_batch() {
            records.into_iter().for_each(|record| self.put(column, record));
        }
        let lack = column.lack();
        if column.want(lack, now, &mut self.dice) {
            self.tally.gaps += u64::from(lack == Lack::Gap);
            self.tally.mismatches += u64::from(lack == Lack::Mismatch);
        }
    }

    /// Replaces or adds to what is known of a node, in one step: nobody sees half of it.
    fn apply(&mut self, column: &mut Column, answer: &Answer, now: Millis) {
        if answer.is_full {
            column.mark = column.mark.other();
        }
        answer.records.iter().for_each(|record| self.put(column, *record));
        if answer.is_full {
            for user in self.table.without_mark(column.id, column.mark) {
                self.put(column, Record { user, stand: Stand::new(PresenceStatus::Offline, now) });
            }
        }
        self.tally.mismatches += u64::from(column.check(answer, now, &mut self.dice));
    }

    fn put(&mut self, column: &mut Column, record: Record) {
        let changed = self.table.put(column.id, column.mark, record);
        column.applied.sum.replace(record.user, changed.was, Some(record.stand));
        self.news.note(record.user, &changed, record.stand.at());
    }

    fn end_holds(&mut self, now: Millis) {
        if self.isolated {
            return;
        }
        for column in self.columns.values_mut() {
            if let Life::Suspect { until } = column.life
                && until <= now
            {
                column.start_dropping(until - HOLD);
            }
        }
    }

    fn drop_some(&mut self, now: Millis) {
        if self.isolated || now < self.next_drop {
            return;
        }
        let mut left = DROPPED_AT_ONCE;
        while left > 0
            && let Some(node) = self.dropping()
        {
            left -= self.drop_of(&node, left);
            self.next_drop = now + DROP_PAUSE;
        }
    }

    fn dropping(&self) -> Option<NodeName> {
        let mut columns = self.columns.iter();
        columns.find(|(_, column)| matches!(column.life, Life::Dropping { .. })).map(|(node, _)| node.clone())
    }

    /// Drops up to `limit` users of a node, and the node with the last one. Gives how many.
    fn drop_of(&mut self, node: &NodeName, limit: usize) -> usize {
        let Some(mut column) = self.columns.remove(node) else { return 0 };
        let Life::Dropping { cursor, since } = &mut column.life else { return 0 };
        let users = self.table.some_of(column.id, cursor, limit);
        let stand = Stand::new(PresenceStatus::Offline, *since);
        users.iter().for_each(|user| self.put(&mut column, Record { user: *user, stand }));
        if users.len() < limit {
            self.free.push(column.id);
        } else {
            self.columns.insert(node.clone(), column);
        }
        users.len()
    }

    fn ask(&mut self, now: Millis, outputs: &mut Vec<Output>) {
        let mut asked = 0;
        for column in self.columns.values_mut() {
            if column.fails_at().is_some_and(|at| at <= now) {
                self.tally.failed += 1;
                column.fail(now, &mut self.dice);
            }
            asked += usize::from(matches!(column.asking, Asking::Asked(_)));
        }
        let wanting = |(node, column): (&NodeName, &Column)| {
            column.asks_at().filter(|at| *at <= now).map(|at| (at, node.clone()))
        };
        let mut due: Vec<_> = self.columns.iter().filter_map(wanting).collect();
        due.sort_unstable();
        for (_, node) in due.into_iter().take(ASKED_AT_ONCE.saturating_sub(asked)) {
            let column = self.columns.get_mut(&node);
            let request = column.and_then(|column| column.ask(node.generation(), now, &mut self.dice));
            if let Some(request) = request {
                self.tally.asked += 1;
                outputs.push(Output::Ask { node, request: request.encode() });
            }
        }
    }

    fn tell(&mut self, outputs: &mut Vec<Output>) {
        let news = std::iter::from_fn(|| self.news.next(&self.table)).take(TOLD_AT_ONCE);
        outputs.extend(news.map(|(user, status, at)| Output::Shown { user: user.id(), status, at }));
    }

    fn next(&self, now: Millis) -> Option<Millis> {
        let told = (!self.news.is_empty()).then_some(now);
        let columns = self.columns.values();
        let fails = columns.clone().filter_map(Column::fails_at);
        let asked = fails.clone().count();
        let asks = columns.clone().filter_map(Column::asks_at).filter(|_| asked < ASKED_AT_ONCE);
        let drops = columns.filter(|_| !self.isolated).filter_map(|column| match column.life {
            Life::Here => None,
            Life::Suspect { until } => Some(until),
            Life::Dropping { .. } => Some(self.next_drop),
        });
        told.into_iter().chain(fails).chain(asks).chain(drops).min()
    }

    /// The records of a node, in no order; `None` if it is not known.
    #[cfg(test)]
    pub(super) fn of_node(&self, node: &NodeName) -> Option<Vec<Record>> {
        self.columns.get(node).map(|column| self.table.of_column(column.id))
    }

    /// How far a node is known.
    #[cfg(test)]
    pub(super) fn head_of(&self, node: &NodeName) -> Option<Head> {
        self.columns.get(node).map(|column| column.applied)
    }
}

#[cfg(test)]
mod tests;
