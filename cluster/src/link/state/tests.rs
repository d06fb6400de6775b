use std::collections::{BTreeSet, HashMap};

use super::*;

fn name(id: &str) -> NodeName {
    NodeName::new(id, 1).unwrap()
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A link of `me` to `peer` that is up, on connection 2 (dialled) or 1.
fn up(me: &str, peer: &str) -> State {
    let mut state = State::new(name(me), Times::default());
    state.handle(seconds(0), 1, Input::Live(vec![(name(peer), address())]));
    let inbound = me > peer;
    let connection = if inbound { 1 } else { 2 };
    state.handle(seconds(0), 1, Input::Opened { connection, inbound });
    state.handle(seconds(0), 7, Input::Authenticated { connection, name: name(peer), proven: true });
    state.handle(seconds(0), 1, Input::Ready { connection });
    let peer = name(peer).peer();
    let out = state.handle(seconds(0), 1, Input::Greeted { peer, theirs: 9, ours: 7 });
    assert_eq!(out[1], Output::Up { peer, connection, ours: 7, theirs: 9 });
    state
}

#[test]
fn only_the_smaller_id_dials_and_never_itself() {
    let all: Vec<_> = ["a", "b", "c"].map(|id| (name(id), address())).to_vec();
    for (me, dials) in [("a", 2), ("b", 1), ("c", 0)] {
        let mut state = State::new(name(me), Times::default());
        assert_eq!(state.handle(seconds(0), 1, Input::Live(all.clone())).len(), dials, "{me}");
    }
}

#[test]
fn silence_suspends_a_word_resumes_and_more_silence_closes() {
    let mut state = up("a", "b");
    let peer = name("b").peer();
    assert_eq!(state.handle(Duration::from_millis(1999), 1, Input::Tick), []);
    assert_eq!(state.handle(seconds(2), 1, Input::Tick), [Output::Suspended { peer }]);
    assert_eq!(state.phase(peer), LinkPhase::Suspended);
    assert_eq!(state.handle(seconds(3), 1, Input::Heard { connection: 2 }), [Output::Resumed { peer }]);
    assert_eq!(state.handle(seconds(5), 1, Input::Tick), [Output::Suspended { peer }]);
    assert_eq!(state.handle(seconds(14), 1, Input::Tick), []);
    let closed = [Output::Close { connection: 2, why: Why::Silent }, Output::Down { peer }];
    assert_eq!(state.handle(seconds(15), 1, Input::Tick), closed);
    assert_eq!(state.phase(peer), LinkPhase::Closing);
    state.handle(seconds(15), 1, Input::Disconnected { connection: 2 });
    assert!(matches!(state.handle(seconds(16), 1, Input::Tick)[..], [Output::Dial { connection: 4, .. }]));
}

#[test]
fn who_does_not_live_is_turned_away_and_an_earlier_life_too() {
    let mut state = up("b", "a");
    let old = NodeName::new("a", 0).unwrap();
    for (connection, who) in [(3, name("z")), (5, old)] {
        state.handle(seconds(0), 1, Input::Opened { connection, inbound: true });
        let came = Input::Authenticated { connection, name: who, proven: true };
        let closed = [Output::Close { connection, why: Why::NotLive }];
        assert_eq!(state.handle(seconds(0), 1, came), closed);
    }
    let peer = name("a").peer();
    let next = NodeName::new("a", 2).unwrap();
    let out = state.handle(seconds(1), 1, Input::Live(vec![(next, address())]));
    assert_eq!(out, [Output::Close { connection: 1, why: Why::NotLive }, Output::Down { peer }]);
}

#[test]
fn a_certificate_for_another_name_is_not_enough() {
    let mut state = State::new(name("b"), Times::default());
    state.handle(seconds(0), 1, Input::Live(vec![(name("a"), address())]));
    state.handle(seconds(0), 1, Input::Opened { connection: 1, inbound: true });
    let came = Input::Authenticated { connection: 1, name: name("a"), proven: false };
    assert_eq!(state.handle(seconds(0), 1, came), [Output::Close { connection: 1, why: Why::WrongName }]);
}

#[test]
fn a_silent_stranger_is_closed_after_the_time_for_authentication() {
    let mut state = State::new(name("b"), Times::default());
    state.handle(seconds(0), 1, Input::Opened { connection: 1, inbound: true });
    assert_eq!(state.handle(seconds(4), 1, Input::Tick), []);
    let late = [Output::Close { connection: 1, why: Why::Late }];
    assert_eq!(state.handle(seconds(5), 1, Input::Tick), late);
}

#[test]
fn another_version_is_closed_and_not_dialled_for_half_a_minute() {
    let mut state = State::new(name("a"), Times::default());
    let peer = name("b").peer();
    state.handle(seconds(0), 1, Input::Live(vec![(name("b"), address())]));
    state.handle(seconds(0), 1, Input::Opened { connection: 2, inbound: false });
    state.handle(seconds(0), 1, Input::Authenticated { connection: 2, name: name("b"), proven: true });
    state.handle(seconds(0), 1, Input::OtherVersion { peer });
    let ready = state.handle(seconds(0), 1, Input::Ready { connection: 2 });
    assert!(matches!(ready[..], [Output::Greet { .. }]), "the peer is to know, too");
    let closed = [Output::Close { connection: 2, why: Why::Version }];
    assert_eq!(state.handle(seconds(1), 1, Input::Tick), closed);
    state.handle(seconds(1), 1, Input::Disconnected { connection: 2 });
    assert_eq!(state.handle(seconds(29), 1, Input::Tick), []);
    assert!(matches!(state.handle(seconds(30), 1, Input::Tick)[..], [Output::Dial { .. }]));
}

#[test]
fn a_greeting_of_an_earlier_session_opens_nothing() {
    let mut state = up("a", "b");
    let peer = name("b").peer();
    state.handle(seconds(1), 1, Input::Disconnected { connection: 2 });
    state.handle(seconds(2), 1, Input::Tick);
    state.handle(seconds(2), 1, Input::Opened { connection: 4, inbound: false });
    state.handle(seconds(2), 8, Input::Authenticated { connection: 4, name: name("b"), proven: true });
    state.handle(seconds(2), 1, Input::Ready { connection: 4 });
    let stale = state.handle(seconds(2), 1, Input::Greeted { peer, theirs: 9, ours: 7 });
    assert_eq!(stale, [Output::Greet { connection: 4, number: 8, to: 9 }]);
    assert_eq!(state.phase(peer), LinkPhase::Authenticated);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let times = Times::default();
    assert_eq!(pause(&times, 0, 0), times.first_retry);
    assert_eq!(pause(&times, 3, 0), times.first_retry * 8);
    assert_eq!(pause(&times, 60, 0), times.last_retry);
    assert!(pause(&times, 60, 1023) >= times.last_retry / 2);
}

/// Three nodes and a network that loses connections, delays what happens, and falls silent.
#[test]
fn after_any_trouble_all_links_come_up_with_matching_numbers() {
    for seed in 0..3000 {
        World::new(seed).run();
    }
}

struct Pipe {
    /// Node and connection of the one that dialled, and of the other.
    ends: [(usize, ConnectionId); 2],
    over: bool,
}

struct World {
    seed: u64,
    random: u64,
    now: u64,
    nodes: Vec<State>,
    pipes: Vec<Pipe>,
    /// By time and order.
    events: BTreeMap<(u64, u64), (usize, Input)>,
    count: u64,
    up: HashMap<(usize, PeerId), (u64, u64, bool)>,
    calm: bool,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl World {
    fn new(seed: u64) -> Self {
        let nodes = NAMES.map(|id| State::new(name(id), Times::default())).into_iter().collect();
        Self {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            nodes,
            pipes: Vec::new(),
            events: BTreeMap::new(),
            count: 0,
            up: HashMap::new(),
            calm: false,
        }
    }

    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.chance().is_multiple_of(n)
    }

    fn run(mut self) {
        for node in 0..NAMES.len() {
            let live = NAMES.map(|id| (name(id), address())).to_vec();
            let late = self.chance() % 500;
            self.later(late, node, Input::Live(live));
        }
        self.go(8_000);
        self.calm = true;
        self.go(40_000);
        self.check();
    }

    fn go(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.now < until {
            while let Some((&(at, order), _)) = self.events.first_key_value()
                && at <= self.now
            {
                if let Some((node, input)) = self.events.remove(&(at, order)) {
                    self.give(node, input);
                }
            }
            self.everyday();
            self.now += 100;
        }
    }

    /// Heartbeats, the passing of time, and connections that break.
    fn everyday(&mut self) {
        for pipe in 0..self.pipes.len() {
            if self.pipes[pipe].over {
                continue;
            }
            if !self.calm && self.one_in(60) {
                self.hang_up(pipe);
                continue;
            }
            // One in two connections has times without a byte.
            let silent = !self.calm && pipe % 2 == 0 && (self.now / 4_000).is_multiple_of(2);
            if !silent {
                for (node, connection) in self.pipes[pipe].ends {
                    self.give(node, Input::Heard { connection });
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.give(node, Input::Tick);
        }
    }

    fn later(&mut self, millis: u64, node: usize, input: Input) {
        self.count += 1;
        self.events.insert((self.now + millis, self.count), (node, input));
    }

    fn hang_up(&mut self, pipe: usize) {
        if !std::mem::replace(&mut self.pipes[pipe].over, true) {
            for (node, connection) in self.pipes[pipe].ends {
                let late = self.chance() % 300;
                self.later(late, node, Input::Disconnected { connection });
            }
        }
    }

    fn give(&mut self, node: usize, input: Input) {
        let chance = self.chance();
        for output in self.nodes[node].handle(Duration::from_millis(self.now), chance, input) {
            self.act(node, output);
        }
    }

    fn act(&mut self, node: usize, output: Output) {
        let seed = self.seed;
        match output {
            Output::Dial { connection, name, .. } => self.dial(node, connection, &name),
            Output::Close { connection, .. } => {
                let end = (node, connection);
                if let Some(pipe) = self.pipes.iter().position(|pipe| pipe.ends.contains(&end)) {
                    self.hang_up(pipe);
                }
            }
            Output::Greet { connection, number, to } => self.greet((node, connection), number, to),
            Output::Up { peer, ours, theirs, .. } => {
                let before = self.up.insert((node, peer), (ours, theirs, false));
                assert_eq!(before, None, "seed {seed}: up twice");
            }
            Output::Down { peer } => {
                assert!(self.up.remove(&(node, peer)).is_some(), "seed {seed}: down without up");
            }
            Output::Suspended { peer } => {
                let up = self.up.get_mut(&(node, peer)).expect("suspended is up");
                assert!(!std::mem::replace(&mut up.2, true), "seed {seed}: suspended twice");
            }
            Output::Resumed { peer } => {
                let up = self.up.get_mut(&(node, peer)).expect("resumed is up");
                assert!(std::mem::replace(&mut up.2, false), "seed {seed}: resumed twice");
            }
        }
    }

    fn dial(&mut self, node: usize, connection: ConnectionId, to: &NodeName) {
        let peer = NAMES.iter().position(|id| *id == to.id()).expect("a node");
        assert!(node < peer, "seed {}: the greater id dials", self.seed);
        let free = |pipe: &Pipe| pipe.over || pipe.ends.map(|(node, _)| node) != [node, peer];
        // A pipe that is over may still be known to the other end, and often is.
        assert!(self.pipes.iter().all(free), "seed {}: a second connection", self.seed);
        if !self.calm && self.one_in(3) {
            return self.later(50, node, Input::DialFailed(connection));
        }
        let accepted = self.pipes.len() as ConnectionId * 2 + 1;
        let ends = [(node, connection), (peer, accepted)];
        self.pipes.push(Pipe { ends, over: false });
        for (index, (node, connection)) in ends.into_iter().enumerate() {
            let other = name(NAMES[ends[1 - index].0]);
            let mut at = 0;
            for input in [
                Input::Opened { connection, inbound: index == 1 },
                Input::Authenticated { connection, name: other, proven: true },
                Input::Ready { connection },
            ] {
                at += self.chance() % 300;
                self.later(at, node, input);
            }
        }
    }

    /// In order on one connection, but late enough to come after its end.
    fn greet(&mut self, from: (usize, ConnectionId), number: u64, to: u64) {
        let Some(pipe) = self.pipes.iter().find(|pipe| pipe.ends.contains(&from)) else { return };
        let other = if pipe.ends[0] == from { pipe.ends[1].0 } else { pipe.ends[0].0 };
        if pipe.over && self.one_in(2) {
            return;
        }
        let greeted = Input::Greeted { peer: name(NAMES[from.0]).peer(), theirs: number, ours: to };
        let slow = !self.calm && self.one_in(4);
        self.later(if slow { 900 } else { 100 }, other, greeted);
    }

    fn check(&self) {
        let pairs: BTreeSet<_> = self.up.keys().collect();
        assert_eq!(pairs.len(), 6, "seed {}: {:?}", self.seed, self.up);
        for (&(node, peer), &(ours, theirs, suspended)) in &self.up {
            let other = NAMES.iter().position(|id| name(id).peer() == peer).expect("a node");
            let back = self.up[&(other, name(NAMES[node]).peer())];
            assert_eq!((back.0, back.1, suspended), (theirs, ours, false), "seed {}", self.seed);
        }
    }
}
