//! Who is a member: decided from what gossip shows, without socket, clock or task.
//!
//! Once per interval the gossip thread shows [`Members`] which nodes it holds for alive and what they say of themselves; out
//! come a [`View`] and the [`Change`]s since the last. Three rules:
//!
//! * **One life per node.** Only the highest generation that was ever seen of a node counts, dead or alive. A lower one is
//!   gone at first sight of a higher one.
//! * **What is heard is believed at once, silence only while it is the exception.** The stable view is everybody who was heard
//!   within the last detection time, this node included, save those who said that they leave. When more than half of it is
//!   silent, or when this node's own loop was late by more than half the detection time, the silence is more likely ours:
//!   the view is *isolated*. An isolated node claims nothing and purges nothing; members are reported neither lost nor
//!   placeable, though what is still heard goes on being reported. Silence may set in member by member: those reported lost
//!   before the half was passed stay so, and whoever drops what they held should wait some seconds for that reason.
//! * **A majority ends isolation; half of it does so slowly.** It ends as soon as more than half of the stable view was heard
//!   anew, this node included, and also when exactly half was and a whole detection time has passed. After that, members who
//!   are still silent have one detection time before they are lost.
//!
//! So a node that never saw another works alone; of two nodes the survivor of a killed one goes on, as do both halves of an
//! even split: losing half is not losing more than half, and the store's fence makes two owners harmless. Of three nodes,
//! one that loses both others at once stays isolated until one of them is back, in the same or a later life, or until it is
//! itself started again.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::says::{Load, Meta, Role, Says, State};
use crate::NodeName;

/// How long the generation of a vanished node is remembered: twice as long as gossip itself remembers the dead.
const REMEMBERED: Duration = Duration::from_mins(30);

/// A node of the cluster, in its latest life.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// What it is doing.
    pub state: State,
    /// What it is.
    pub meta: Arc<Meta>,
    /// How much it has to do.
    pub load: Load,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// This node, in the life that its peers know.
    pub me: NodeName,
    /// What this node is doing.
    pub state: State,
    /// This node can't tell who lives: it claims nothing and purges nothing.
    pub isolated: bool,
    /// All members, this node included once its own word is out, by name.
    pub members: Vec<Member>,
}

impl View {
    /// The members on which things of the role may be placed: those that are ready. None while this node is isolated.
    pub fn placeable(&self, role: Role) -> impl Iterator<Item = &Member> {
        let ready = move |member: &&Member| member.state == State::Ready && member.meta.roles.contains(&role);
        self.members.iter().filter(|_| !self.isolated).filter(ready)
    }

    /// The member of this name, in this life.
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        let place = self.members.binary_search_by(|member| member.name.cmp(name)).ok()?;
        self.members.get(place)
    }
}

/// Why a node holds itself for isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its own loop stood still.
    Late,
    /// More than half of the stable view fell silent.
    Alone,
    /// A later life of this very node exists. This one should end.
    Superseded,
}

/// What became different.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A member is there, perhaps in a new life.
    Joined(Member),
    /// A member says something else of itself.
    Changed(Member),
    /// A member is about to stop: what it holds goes elsewhere now.
    Leaving(NodeName),
    /// A member that was leaving has left.
    Left(NodeName),
    /// A member fell silent.
    Lost(NodeName),
    /// A later life of the node was seen: the earlier one is over. Also told of this node itself.
    Superseded {
        /// The life that is over.
        old: NodeName,
        /// The life that counts.
        new: NodeName,
    },
    /// This node can't tell any more who lives.
    Isolated(Why),
    /// This node can tell again who lives.
    Rejoined,
}

/// A node that gossip holds for alive.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: NodeName,
    /// Grows as long as news of the node arrive.
    pub(crate) beat: u64,
    /// What it says of itself; `None` until that arrived and could be read.
    pub(crate) says: Option<Says>,
}

/// What gossip shows at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    /// Time since any fixed moment; never goes back.
    pub(crate) at: Duration,
    /// How much later than intended this was taken.
    pub(crate) late: Duration,
    /// How long a node is silent before gossip holds it for dead.
    pub(crate) detection: Duration,
    /// Everybody alive, this node included, in any order and in any number of lives.
    pub(crate) seen: Vec<Seen>,
}

type Id = Arc<str>;

/// Everybody heard in their highest generation, by the name that stays.
type Heard<'a> = BTreeMap<&'a str, &'a Seen>;

#[derive(Debug)]
struct Isolation {
    why: Why,
    since: Duration,
    /// What the heartbeats were when it began.
    beats: HashMap<NodeName, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Latest {
    generation: u64,
    seen: Duration,
}

/// The state behind the views.
#[derive(Debug)]
pub(crate) struct Members {
    me: NodeName,
    latest: BTreeMap<Id, Latest>,
    members: BTreeMap<Id, Member>,
    /// The stable view, and since when a node of it is silent.
    stable: BTreeMap<Id, Option<Duration>>,
    isolation: Option<Isolation>,
    /// Nobody is lost before this moment.
    lenient_until: Duration,
}

impl Members {
    pub(crate) fn new(me: NodeName) -> Self {
        let mut members = Self {
            me: me.clone(),
            latest: BTreeMap::new(),
            members: BTreeMap::new(),
            stable: BTreeMap::new(),
            isolation: None,
            lenient_until: Duration::ZERO,
        };
        members.reborn(me);
        members
    }

    /// This node's gossip began anew: its peers know this node by another name, and it knows none of them any more.
    pub(crate) fn reborn(&mut self, me: NodeName) {
        let id: Id = me.id().into();
        self.latest.insert(id.clone(), Latest { generation: me.generation(), seen: Duration::ZERO });
        self.members.remove(&id);
        self.stable.insert(id, None);
        self.me = me;
    }

    pub(crate) fn view(&self) -> View {
        let state = self.members.get(self.me.id()).map_or(State::Joining, |me| me.state);
        let mut members: Vec<_> = self.members.values().cloned().collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        View { me: self.me.clone(), state, isolated: self.isolation.is_some(), members }
    }

    /// Takes in what gossip shows, and says what became different.
    pub(crate) fn observe(&mut self, sighting: &Sighting) -> Vec<Change> {
        let mut changes = Vec::new();
        let heard = self.latest_lives(sighting, &mut changes);
        self.note_silence(&heard, sighting.at);
        self.judge(&heard, sighting, &mut changes);
        for seen in heard.values() {
            self.listen(seen, &mut changes);
        }
        self.let_go(&heard, sighting.at, &mut changes);
        self.forget(sighting.at, sighting.detection);
        changes
    }

    /// Of each node the highest generation that was ever seen, if it is among those alive.
    fn latest_lives<'a>(&mut self, sighting: &'a Sighting, changes: &mut Vec<Change>) -> Heard<'a> {
        for seen in &sighting.seen {
            self.outdate(seen, sighting.at, changes);
        }
        let is_latest = |seen: &&Seen| {
            let latest = self.latest.get(seen.name.id());
            latest.is_some_and(|latest| latest.generation == seen.name.generation())
        };
        sighting.seen.iter().filter(is_latest).map(|seen| (seen.name.id(), seen)).collect()
    }

    fn outdate(&mut self, seen: &Seen, at: Duration, changes: &mut Vec<Change>) {
        let generation = seen.name.generation();
        let latest = self.latest.get_mut(seen.name.id());
        let Some(latest) = latest else {
            self.latest.insert(seen.name.id().into(), Latest { generation, seen: at });
            return;
        };
        latest.seen = at;
        if generation <= latest.generation {
            return;
        }
        latest.generation = generation;
        let member = self.members.remove(seen.name.id()).map(|member| member.name);
        let old = if seen.name.id() == self.me.id() { Some(self.me.clone()) } else { member };
        changes.extend(old.map(|old| Change::Superseded { old, new: seen.name.clone() }));
    }

    fn is_superseded(&self) -> bool {
        self.latest.get(self.me.id()).is_some_and(|latest| latest.generation > self.me.generation())
    }

    /// Notes who is silent and since when. Whoever leaves is not missed.
    fn note_silence(&mut self, heard: &Heard<'_>, at: Duration) {
        let members = &self.members;
        let leaves = |id: &Id| members.get(id).is_some_and(|member| member.state == State::Leaving);
        let me = self.me.id();
        self.stable.retain(|id, since| {
            let is_heard = **id == *me || heard.contains_key(&**id);
            *since = if is_heard { None } else { Some(since.unwrap_or(at)) };
            is_heard || !leaves(id)
        });
        for id in heard.keys() {
            if !self.stable.contains_key(*id) {
                self.stable.insert((*id).into(), None);
            }
        }
    }

    /// Enters or ends isolation.
    fn judge(&mut self, heard: &Heard<'_>, sighting: &Sighting, changes: &mut Vec<Change>) {
        if self.is_superseded() {
            self.isolate(Why::Superseded, heard, sighting.at, changes);
        } else if sighting.late > sighting.detection / 2 {
            self.isolate(Why::Late, heard, sighting.at, changes);
        } else if let Some(isolation) = &self.isolation {
            if self.may_end(isolation, heard, sighting) {
                self.isolation = None;
                self.lenient_until = sighting.at + sighting.detection;
                self.stable.values_mut().flatten().for_each(|since| *since = sighting.at);
                changes.push(Change::Rejoined);
            }
        } else if self.stable.values().flatten().count() * 2 > self.stable.len() {
            self.isolate(Why::Alone, heard, sighting.at, changes);
        }
    }

    fn isolate(&mut self, why: Why, heard: &Heard<'_>, at: Duration, changes: &mut Vec<Change>) {
        if self.isolation.as_ref().is_none_or(|isolation| isolation.why != why) {
            changes.push(Change::Isolated(why));
        }
        let beats = heard.values().map(|seen| (seen.name.clone(), seen.beat)).collect();
        self.isolation = Some(Isolation { why, since: at, beats });
    }

    fn may_end(&self, isolation: &Isolation, heard: &Heard<'_>, sighting: &Sighting) -> bool {
        let anew = |seen: &&Seen| {
            seen.name == self.me || isolation.beats.get(&seen.name).is_none_or(|&before| seen.beat > before)
        };
        let mut anew = heard.values().filter(|seen| anew(seen)).count();
        if !heard.contains_key(self.me.id()) {
            anew += 1;
        }
        let waited = sighting.at.saturating_sub(isolation.since) >= sighting.detection;
        anew * 2 > self.stable.len() || (waited && anew * 2 == self.stable.len())
    }

    /// Takes a node at its word.
    fn listen(&mut self, seen: &Seen, changes: &mut Vec<Change>) {
        let Some(Says { state, meta, load }) = seen.says.clone() else { return };
        let said = Member { name: seen.name.clone(), state, meta, load };
        let before = self.members.get(seen.name.id());
        if before == Some(&said) {
            return;
        }
        let was = before.map(|before| before.state);
        changes.push(match (was, state) {
            (Some(was), State::Leaving) if was != State::Leaving => Change::Leaving(said.name.clone()),
            (Some(_), _) => Change::Changed(said.clone()),
            (None, _) => Change::Joined(said.clone()),
        });
        self.members.insert(seen.name.id().into(), said);
    }

    /// Parts with those that left, and unless isolated with those that fell silent.
    fn let_go(&mut self, heard: &Heard<'_>, at: Duration, changes: &mut Vec<Change>) {
        let believes_silence = self.isolation.is_none() && at >= self.lenient_until;
        self.members.retain(|id, member| {
            let gone = !heard.contains_key(&**id) && member.name != self.me;
            let leaves = member.state == State::Leaving;
            if !gone || !(leaves || believes_silence) {
                return true;
            }
            let name = member.name.clone();
            changes.push(if leaves { Change::Left(name) } else { Change::Lost(name) });
            false
        });
    }

    /// Whoever is silent for long is no longer missed.
    fn forget(&mut self, at: Duration, detection: Duration) {
        if self.isolation.is_none() {
            self.stable.retain(|_, since| since.is_none_or(|since| at.saturating_sub(since) < detection));
        }
        let (me, members) = (self.me.id(), &self.members);
        let recent = |latest: &Latest| at.saturating_sub(latest.seen) < REMEMBERED;
        self.latest.retain(|id, latest| **id == *me || members.contains_key(id) || recent(latest));
    }
}
