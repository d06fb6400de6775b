//! One node of the simulation: the ring and the directory, driven as the thread that owns gossip would.

use std::collections::HashMap;

use protocol::{Millis, UserId, client::PresenceStatus};

use super::{
    super::{Directory, Output, Ring, ring::Bounds},
    gossip::Gossip,
};
use crate::NodeName;

/// Between two rounds of gossip, in milliseconds.
pub(super) const INTERVAL: Millis = 200;
/// A round that comes this late says that the node itself was away.
const LATE: Millis = 2_000;
/// The shortest and the longest isolation.
const SHORTEST: Millis = 10 * INTERVAL;
const LONGEST: Millis = 25_000;

/// Small, so that few users reach every bound.
const BOUNDS: Bounds = Bounds { batch: 3, slots_at_once: 4, log: 60, page: 5 };

pub(super) struct Host {
    pub(super) name: NodeName,
    pub(super) ring: Ring,
    pub(super) directory: Directory,
    pub(super) gossip: Gossip,
    /// What its clients see.
    pub(super) shown: HashMap<UserId, PresenceStatus>,
    /// How often they saw each user change.
    pub(super) changes: HashMap<UserId, u32>,
    pub(super) sleeps_until: Millis,
    last_round: Millis,
    isolated: Option<Millis>,
    /// How many others it knew when all was quiet.
    stable: usize,
    next_stable: Millis,
}

impl Host {
    pub(super) fn new(name: NodeName, seed: u64, now: Millis) -> Self {
        Self {
            ring: Ring::with_bounds(&name, BOUNDS),
            directory: Directory::new(&name, seed),
            gossip: Gossip::new(name.clone()),
            name,
            shown: HashMap::new(),
            changes: HashMap::new(),
            sleeps_until: 0,
            last_round: now,
            isolated: None,
            stable: 0,
            next_stable: now,
        }
    }

    pub(super) fn is_awake(&self, now: Millis) -> bool {
        self.sleeps_until <= now
    }

    /// Once per gossip interval.
    pub(super) fn round(&mut self, now: Millis) {
        let flush = self.ring.flush(now);
        self.gossip.write(&flush.values);
        self.directory.flushed(&flush);
        let (came, silent) = self.gossip.judge(now);
        self.judge_itself(now);
        for node in came {
            let values = self.gossip.values(&node);
            self.directory.alive(&node, pairs(&values), now);
        }
        silent.iter().for_each(|node| self.directory.lost(node, now));
        self.last_round = now;
    }

    /// Cut off, if it was away itself or more than half of the others fell silent.
    fn judge_itself(&mut self, now: Millis) {
        let heard = self.gossip.alive.len();
        let misses_most = heard * 2 < self.stable;
        match self.isolated {
            None if misses_most || now - self.last_round > LATE => self.isolate(Some(now), now),
            None if now >= self.next_stable => {
                self.stable = heard;
                self.next_stable = now + 10_000;
            }
            Some(since) if now - since > LONGEST || (now - since > SHORTEST && !misses_most) => {
                self.stable = heard;
                self.isolate(None, now);
            }
            None | Some(_) => {}
        }
    }

    fn isolate(&mut self, since: Option<Millis>, now: Millis) {
        self.isolated = since;
        self.directory.isolate(since.is_some(), now);
    }

    /// Polls; gives whom to ask what.
    pub(super) fn poll(&mut self, now: Millis) -> Vec<(NodeName, Vec<u8>)> {
        let poll = self.directory.poll(now);
        let mut asks = Vec::new();
        for output in poll.outputs {
            match output {
                Output::Ask { node, request } => asks.push((node, request)),
                Output::Shown { user, status, .. } => {
                    let before = self.shown.insert(user, status).unwrap_or(PresenceStatus::Offline);
                    assert_ne!(before, status, "told of {user}, but nothing changed");
                    *self.changes.entry(user).or_default() += 1;
                }
            }
        }
        asks
    }
}

pub(super) fn pairs(values: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}
