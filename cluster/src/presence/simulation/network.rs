//! Several hosts, and what a bad network and bad luck do to them.

use std::collections::BTreeMap;

use protocol::{Millis, UserId, client::PresenceStatus};

use super::{
    super::{
        Tally,
        record::{User, shown},
    },
    gossip::{Delta, Digest},
    host::{Host, INTERVAL, pairs},
};
use crate::{NodeName, mix::Dice};

/// The grain of time, in milliseconds.
const STEP: Millis = 100;
/// Users of each node, and those that any node may say something of.
const OWN_USERS: u64 = 14;
const MOVERS: u64 = 4;

enum Packet {
    Syn(Digest),
    SynAck(Digest, Delta),
    Ack(Delta),
    Request(Vec<u8>),
    Page(Vec<u8>),
}

/// How bad it is.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    /// Of 100 packets so many are lost, and of link messages too.
    pub(super) loss: u64,
    /// Once in how many steps something happens to a node or the network; 0: never.
    pub(super) accidents: u64,
    /// Once in how many steps and nodes a user changes; 0: never.
    pub(super) changes: u64,
}

pub(super) struct Network {
    pub(super) now: Millis,
    pub(super) hosts: Vec<Option<Host>>,
    packets: BTreeMap<(Millis, u64), (usize, usize, NodeName, Packet)>,
    sent: u64,
    generation: u64,
    /// Which side each host is on, until when.
    sides: (u64, Millis),
    pub(super) weather: Weather,
    pub(super) dice: Dice,
    pub(super) tally: Tally,
    pub(super) kills: u32,
}

impl Network {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let mut dice = Dice::new(seed);
        let count = 3 + dice.below(3) as usize;
        let mut network = Self {
            now: 1_000_000,
            hosts: (0..count).map(|_| None).collect(),
            packets: BTreeMap::new(),
            sent: 0,
            generation: 0,
            sides: (0, 0),
            weather,
            dice,
            tally: Tally::default(),
            kills: 0,
        };
        (0..count).for_each(|index| network.start(index));
        network
    }

    pub(super) fn run(&mut self, time: Millis) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.happens(self.weather.accidents) {
            self.accident();
        }
        self.deliver();
        for index in 0..self.hosts.len() {
            if self.happens(self.weather.changes) {
                let burst = if self.dice.below(8) == 0 { 30 } else { 1 };
                (0..burst).for_each(|_| self.change(index));
            }
            self.turn(index);
        }
    }

    fn happens(&mut self, chances: u64) -> bool {
        chances > 0 && self.dice.below(chances) == 0
    }

    fn accident(&mut self) {
        let index = self.dice.below(self.hosts.len() as u64) as usize;
        match self.dice.below(5) {
            0 => self.kill(index),
            1 | 2 => self.pause(index, 2_000 + self.dice.clone().below(28_000)),
            3 => self.sides = (self.dice.next(), self.now + 1_000 + self.dice.clone().below(30_000)),
            _ if self.hosts[index].is_none() => self.start(index),
            _ => {
                self.kill(index);
                self.start(index);
            }
        }
    }

    pub(super) fn start(&mut self, index: usize) {
        self.generation += 1;
        let name = NodeName::new(&format!("n{index}"), self.generation).unwrap();
        self.hosts[index] = Some(Host::new(name, self.dice.next(), self.now));
    }

    pub(super) fn kill(&mut self, index: usize) {
        if let Some(host) = self.hosts[index].take() {
            self.count(&host);
            self.kills += 1;
        }
    }

    pub(super) fn pause(&mut self, index: usize, time: Millis) {
        if let Some(host) = &mut self.hosts[index] {
            host.sleeps_until = self.now + time;
        }
    }

    /// Ends partitions and pauses, and starts what was killed.
    pub(super) fn heal(&mut self, weather: Weather) {
        self.weather = weather;
        self.sides = (0, 0);
        for index in 0..self.hosts.len() {
            match &mut self.hosts[index] {
                Some(host) => host.sleeps_until = self.now,
                None if self.dice.below(2) == 0 => self.start(index),
                None => {}
            }
        }
    }

    pub(super) fn change(&mut self, index: usize) {
        let own = self.dice.below(OWN_USERS + 2);
        let user = if own < OWN_USERS {
            UserId::from_u128(u128::from(index as u64 * 1_000 + own))
        } else {
            UserId::from_u128(u128::from(9_000 + self.dice.below(MOVERS)))
        };
        let status = match self.dice.below(6) {
            0 | 1 => PresenceStatus::Offline,
            2 => PresenceStatus::Away,
            3 => PresenceStatus::Invisible,
            4 => PresenceStatus::Dnd,
            _ => PresenceStatus::Online,
        };
        let at = self.now - self.dice.below(300);
        if let Some(host) = self.hosts[index].as_mut().filter(|host| host.is_awake(self.now)) {
            host.ring.change(user, status, at);
        }
    }

    /// One host does what is due.
    fn turn(&mut self, index: usize) {
        let now = self.now;
        let peer = (index + 1 + self.dice.below(self.hosts.len() as u64 - 1) as usize) % self.hosts.len();
        let Some(host) = self.hosts[index].as_mut().filter(|host| host.is_awake(now)) else { return };
        let mut packets = Vec::new();
        if now.is_multiple_of(INTERVAL) {
            host.round(now);
            packets.push((peer, Packet::Syn(host.gossip.digest())));
        }
        let asks = host.poll(now);
        packets.extend(asks.into_iter().map(|(node, request)| (self.index(&node), Packet::Request(request))));
        packets.into_iter().for_each(|(to, packet)| self.send(index, to, packet));
    }

    fn index(&self, node: &NodeName) -> usize {
        node.id()[1..].parse().unwrap()
    }

    fn send(&mut self, from: usize, to: usize, packet: Packet) {
        let delay = match packet {
            Packet::Syn(_) | Packet::SynAck(..) | Packet::Ack(_) => self.dice.below(300),
            Packet::Request(_) => 20,
            Packet::Page(_) => 50, // all alike: pages keep their order
        };
        let Some(sender) = &self.hosts[from] else { return };
        let name = sender.name.clone();
        self.sent += 1;
        self.packets.insert((self.now + delay, self.sent), (from, to, name, packet));
    }

    fn deliver(&mut self) {
        while let Some(next) = self.packets.first_entry().filter(|next| next.key().0 <= self.now) {
            let (from, to, sender, packet) = next.remove();
            let apart = self.now < self.sides.1 && (self.sides.0 >> from ^ self.sides.0 >> to) & 1 == 1;
            let lost = self.dice.below(100) < self.weather.loss;
            if !apart && !lost {
                self.receive(from, to, &sender, packet);
            }
        }
    }

    fn receive(&mut self, from: usize, to: usize, sender: &NodeName, packet: Packet) {
        let now = self.now;
        let Some(host) = self.hosts[to].as_mut().filter(|host| host.is_awake(now)) else { return };
        let mut replies = Vec::new();
        let delta = match packet {
            Packet::Syn(digest) => {
                host.gossip.hear_of(&digest, now);
                let own = host.gossip.digest();
                replies.push(Packet::SynAck(own, host.gossip.delta_for(&digest, &mut self.dice)));
                None
            }
            Packet::SynAck(digest, delta) => {
                host.gossip.hear_of(&digest, now);
                replies.push(Packet::Ack(host.gossip.delta_for(&digest, &mut self.dice)));
                Some(delta)
            }
            Packet::Ack(delta) => Some(delta),
            Packet::Request(request) => {
                replies.extend(host.ring.answer(&request).into_iter().flatten().map(Packet::Page));
                None
            }
            Packet::Page(page) => {
                host.directory.answered(sender, &page, now);
                None
            }
        };
        for (node, values) in delta.into_iter().flat_map(|delta| host.gossip.take(delta)) {
            host.directory.heard(&node, pairs(&values), now);
        }
        replies.into_iter().for_each(|reply| self.send(to, from, reply));
    }

    fn count(&mut self, host: &Host) {
        let tally = host.directory.tally();
        self.tally.gaps += tally.gaps;
        self.tally.mismatches += tally.mismatches;
        self.tally.asked += tally.asked;
        self.tally.failed += tally.failed;
        self.tally.malformed += tally.malformed;
        self.tally.overflows += tally.overflows;
    }

    /// Every directory is the union of the sets of the living, and its clients were told so.
    pub(super) fn check(&mut self) {
        let hosts: Vec<_> = self.hosts.iter().flatten().collect();
        for host in &hosts {
            let name = &host.name;
            for other in &hosts {
                let known = host.directory.of_node(&other.name);
                let known: BTreeMap<_, _> =
                    known.iter().flatten().map(|record| (record.user.id(), record.stand)).collect();
                let said = other.ring.set().iter().map(|(user, stand)| (user.id(), *stand)).collect();
                assert_eq!(known, said, "{name} of {}", other.name);
                assert_eq!(host.directory.head_of(&other.name), Some(other.ring.head()), "{name}");
            }
            assert_eq!(host.directory.unknown(), 0, "{name}");
            for user in users(self.hosts.len()) {
                let said = hosts.iter().filter_map(|other| other.ring.set().get(&User::new(user)).copied());
                let status = shown(said.max());
                assert_eq!(host.directory.status(user), status, "{name} of {user}");
                let told = host.shown.get(&user).copied().unwrap_or(PresenceStatus::Offline);
                assert_eq!(told, status, "{name} told of {user}");
            }
        }
        for host in self.hosts.iter_mut().flat_map(Option::take).collect::<Vec<_>>() {
            self.count(&host);
        }
        assert_eq!((self.tally.mismatches, self.tally.malformed), (0, 0));
    }

    /// Puts everybody of every node online, and waits until all nodes know.
    pub(super) fn everybody_online(&mut self) {
        for (index, host) in self.hosts.iter_mut().enumerate() {
            for user in own_users(index) {
                host.as_mut().unwrap().ring.change(user, PresenceStatus::Online, self.now);
            }
        }
        let all = (0..self.hosts.len()).flat_map(own_users).count();
        let give_up = self.now + 300_000;
        while self.hosts.iter().flatten().any(|host| host.shown.len() < all) {
            assert!(self.now < give_up, "not everybody is known");
            self.step();
        }
        self.run(10_000); // so that all nodes have been alive for a while
    }
}

pub(super) fn own_users(index: usize) -> impl Iterator<Item = UserId> {
    (0..OWN_USERS).map(move |own| UserId::from_u128(u128::from(index as u64 * 1_000 + own)))
}

fn users(hosts: usize) -> impl Iterator<Item = UserId> {
    let movers = (0..MOVERS).map(|mover| UserId::from_u128(u128::from(9_000 + mover)));
    (0..hosts).flat_map(own_users).chain(movers)
}
