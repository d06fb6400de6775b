//! A model of gossip as far as presence sees it: values per node in the order in which they were written, those that
//! were overwritten never told, cut to a budget; heartbeats, and a private opinion on who is alive. The dead stay known.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Millis;

use crate::{NodeName, mix::Dice};

/// Without a rising heartbeat for this long, a node is taken for dead. Milliseconds.
pub(super) const SILENCE: Millis = 4_000;
/// Values in one exchange at most.
const BUDGET: u64 = 60;

type Values = Vec<(String, String)>;

#[derive(Default)]
struct Known {
    heartbeat: u64,
    version: u64,
    values: BTreeMap<String, (u64, String)>,
    /// When the heartbeat last rose, and how often it did.
    rose: (Millis, u32),
}

/// What one node knows of all.
pub(super) struct Gossip {
    me: NodeName,
    copies: BTreeMap<NodeName, Known>,
    pub(super) alive: BTreeSet<NodeName>,
}

/// How far a node knows the others.
pub(super) struct Digest(BTreeMap<NodeName, (u64, u64)>);

/// News for a node that is behind.
pub(super) struct Delta(Vec<Part>);

/// News of one node: the version they begin after, then versions, keys and values.
type Part = (NodeName, u64, Vec<(u64, String, String)>);

impl Gossip {
    pub(super) fn new(me: NodeName) -> Self {
        let copies = BTreeMap::from([(me.clone(), Known::default())]);
        Self { me, copies, alive: BTreeSet::new() }
    }

    pub(super) fn write(&mut self, values: &[(String, String)]) {
        let own = self.copies.entry(self.me.clone()).or_default();
        for (key, value) in values {
            own.version += 1;
            own.values.insert(key.clone(), (own.version, value.clone()));
        }
    }

    pub(super) fn digest(&mut self) -> Digest {
        self.copies.entry(self.me.clone()).or_default().heartbeat += 1;
        let known = self.copies.iter().map(|(node, copy)| (node.clone(), (copy.heartbeat, copy.version)));
        Digest(known.collect())
    }

    pub(super) fn hear_of(&mut self, digest: &Digest, now: Millis) {
        for (node, (heartbeat, _)) in digest.0.iter().filter(|(node, _)| **node != self.me) {
            let copy = self.copies.entry(node.clone()).or_default();
            if copy.heartbeat < *heartbeat {
                copy.heartbeat = *heartbeat;
                copy.rose = (now, copy.rose.1 + 1);
            }
        }
    }

    pub(super) fn delta_for(&self, digest: &Digest, dice: &mut Dice) -> Delta {
        let mut budget = 1 + dice.below(BUDGET) as usize;
        let mut delta = Vec::new();
        for (node, copy) in &self.copies {
            let known = digest.0.get(node).map_or(0, |(_, version)| *version);
            if copy.version <= known || budget == 0 {
                continue;
            }
            let newer = copy.values.iter().filter(|(_, (version, _))| *version > known);
            let mut newer: Vec<_> =
                newer.map(|(key, (version, value))| (*version, key.clone(), value.clone())).collect();
            newer.sort_unstable();
            newer.truncate(budget);
            budget -= newer.len();
            delta.push((node.clone(), known, newer));
        }
        Delta(delta)
    }

    /// Gives what is new here, by node.
    pub(super) fn take(&mut self, delta: Delta) -> Vec<(NodeName, Values)> {
        let mut news = Vec::new();
        for (node, after, values) in delta.0.into_iter().filter(|(node, ..)| *node != self.me) {
            let copy = self.copies.entry(node.clone()).or_default();
            if after > copy.version {
                continue; // there is something in between that is not known here
            }
            let known = copy.version;
            let mut taken = Vec::new();
            for (version, key, value) in values.into_iter().filter(|(version, ..)| *version > known) {
                copy.version = version;
                copy.values.insert(key.clone(), (version, value.clone()));
                taken.push((key, value));
            }
            news.push((node, taken));
        }
        news
    }

    /// Who came to life and who is silent since the last time this was asked.
    pub(super) fn judge(&mut self, now: Millis) -> (Vec<NodeName>, Vec<NodeName>) {
        let is_alive = |copy: &Known| copy.rose.1 >= 2 && now - copy.rose.0 < SILENCE;
        let alive = self.copies.iter().filter(|(node, copy)| **node != self.me && is_alive(copy));
        let alive: BTreeSet<_> = alive.map(|(node, _)| node.clone()).collect();
        let came = alive.difference(&self.alive).cloned().collect();
        let silent: Vec<_> = self.alive.difference(&alive).cloned().collect();
        for node in &silent {
            self.copies.entry(node.clone()).or_default().rose.1 = 0;
        }
        self.alive = alive;
        (came, silent)
    }

    /// All that is known of a node, in the order of its keys: not that of their writing.
    pub(super) fn values(&self, node: &NodeName) -> Values {
        let values = self.copies.get(node).into_iter().flat_map(|copy| &copy.values);
        values.map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }
}
