//! This server and the others, as it sees them: for operators and metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use actors::{Rooms, Users};
use cluster::{
    Cluster, NodeName,
    gossip::{Load, Member, Metrics, State, View},
    link::{LinkPhase, LinkStats, LinksStats},
};
use protocol::{RoomId, UserId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What is looked at. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    /// The others; none of a server alone.
    pub(crate) cluster: Option<Cluster>,
    /// Where clients reach this server.
    pub(crate) public: String,
    /// Asks this server to stop, as a signal does.
    pub(crate) stop: CancellationToken,
}

/// All of it at one moment.
pub(crate) struct Sight {
    /// What this server has to do.
    pub(crate) own: Load,
    pub(crate) public: String,
    pub(crate) is_stopping: bool,
    pub(crate) others: Option<Others>,
}

/// What there is beyond a server alone.
pub(crate) struct Others {
    pub(crate) view: Arc<View>,
    pub(crate) links: LinksStats,
    pub(crate) gossip: Arc<Metrics>,
    pub(crate) presence: Presence,
}

/// What is known of who is online.
#[derive(Default)]
pub(crate) struct Presence {
    pub(crate) shown: u64,
    pub(crate) unknown: u64,
    pub(crate) gaps: u64,
    pub(crate) mismatches: u64,
}

/// Where something lives.
#[derive(Debug, PartialEq)]
pub(crate) enum Home {
    /// This server is alone: here.
    Alone,
    /// On this node.
    Node { name: NodeName, is_me: bool },
    /// This node can't know now.
    Unknown,
}

impl Fleet {
    pub(crate) fn sight(&self) -> Sight {
        let own = Load {
            sessions: self.users.sockets() as u64,
            users: self.users.homed() as u64,
            rooms: self.rooms.active() as u64,
            busy: 0,
        };
        Sight {
            own,
            public: self.public.clone(),
            is_stopping: self.stop.is_cancelled(),
            others: self.cluster.as_ref().map(Others::of),
        }
    }

    pub(crate) fn home_of_room(&self, room: RoomId) -> Home {
        self.home(room.as_u128())
    }

    pub(crate) fn home_of_user(&self, user: UserId) -> Home {
        self.home(user.as_u128())
    }

    fn home(&self, key: u128) -> Home {
        let Some(cluster) = &self.cluster else { return Home::Alone };
        match cluster.home(key) {
            Some(name) => Home::Node { is_me: name == cluster.view().me, name },
            None => Home::Unknown,
        }
    }
}

impl Home {
    /// The name of the node; nothing alone, or while it can't be known.
    pub(crate) fn node(&self) -> Option<String> {
        match self {
            Self::Node { name, .. } => Some(name.to_string()),
            Self::Alone | Self::Unknown => None,
        }
    }

    /// Whether that is this server; nothing while it can't be known.
    pub(crate) fn is_here(&self) -> Option<bool> {
        match self {
            Self::Alone => Some(true),
            Self::Node { is_me, .. } => Some(*is_me),
            Self::Unknown => None,
        }
    }
}

impl Others {
    fn of(cluster: &Cluster) -> Self {
        let figures = cluster.figures();
        let presence = Presence {
            shown: figures.shown.load(Ordering::Relaxed),
            unknown: figures.unknown.load(Ordering::Relaxed),
            gaps: figures.gaps.load(Ordering::Relaxed),
            mismatches: figures.mismatches.load(Ordering::Relaxed),
        };
        let links = cluster.links().unwrap_or_default();
        Self { view: cluster.view(), links, gossip: cluster.gossip(), presence }
    }

    /// The links by the id of the node at the other end, of its latest life.
    pub(crate) fn peers(&self) -> BTreeMap<String, &LinkStats> {
        let named = |link: &LinkStats| Some(link.name.parse::<NodeName>().ok()?.id().to_owned());
        // They come in the order of their names: a later life after an earlier one.
        self.links.peers.iter().filter_map(|link| Some((named(link)?, link))).collect()
    }

    fn node(&self, member: &Member, own: Load) -> Value {
        let is_me = member.name == self.view.me;
        let Load { sessions, users, rooms, .. } = if is_me { own } else { member.load };
        let name = member.name.to_string();
        json!({
            "node": name, "this": is_me, "state": member.state.word(), "address": member.meta.link,
            "public": member.meta.public, "zone": member.meta.zone, "build": member.meta.build,
            "roles": member.meta.roles, "sessions": sessions, "users": users, "rooms": rooms,
            "isolated": is_me.then_some(self.view.isolated),
            "link": self.links.peers.iter().find(|link| link.name == name).map(link),
        })
    }
}

impl Sight {
    /// The state of this server, as the others are told it.
    fn state(&self) -> State {
        if self.is_stopping { State::Draining } else { State::Ready }
    }

    /// One item a node.
    pub(crate) fn nodes(&self) -> Vec<Value> {
        let Some(others) = &self.others else { return vec![self.alone()] };
        others.view.members.iter().map(|member| others.node(member, self.own)).collect()
    }

    fn alone(&self) -> Value {
        json!({
            "node": null, "alone": true, "this": true, "state": self.state().word(), "public": self.public,
            "build": env!("CARGO_PKG_VERSION"), "sessions": self.own.sessions, "users": self.own.users,
            "rooms": self.own.rooms,
        })
    }

    /// What the page for operators draws.
    pub(crate) fn page(&self, at: u64) -> Value {
        let others = self.others.as_ref();
        json!({
            "at": at, "alone": others.is_none(), "isolated": others.is_some_and(|others| others.view.isolated),
            "presence": others.map(|Others { presence, .. }| json!({
                "shown": presence.shown, "unknown": presence.unknown, "gaps": presence.gaps,
                "mismatches": presence.mismatches,
            })),
            "nodes": self.nodes(),
        })
    }

    /// The name of this node, in this life; none alone.
    pub(crate) fn me(&self) -> Option<&NodeName> {
        self.others.as_ref().map(|others| &others.view.me)
    }
}

fn link(link: &LinkStats) -> Value {
    json!({
        "phase": link.phase.word(), "rtt_ms": link.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
        "messages_in": link.messages_in, "messages_out": link.messages_out, "bytes_in": link.bytes_in,
        "bytes_out": link.bytes_out, "queued_bytes": link.queued, "dropped": link.dropped,
        "refused": link.refused, "sessions": link.sessions,
    })
}

/// Whether messages go this way now.
pub(crate) fn is_up(link: &LinkStats) -> bool {
    link.phase == LinkPhase::Ready
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use cluster::gossip::{Meta, Role};

    use super::*;

    pub(crate) fn alone() -> Sight {
        let own = Load { sessions: 2, users: 1, rooms: 4, busy: 0 };
        Sight { own, public: "http://a.example".into(), is_stopping: false, others: None }
    }

    /// Node `a`, which sees `b` in its second life.
    pub(crate) fn two() -> Sight {
        let name = |id, life| NodeName::new(id, life).unwrap();
        let meta = Arc::new(Meta {
            protocol: 1,
            build: "1.0".into(),
            roles: vec![Role::Rooms],
            link: "10.0.0.1:7281".parse().unwrap(),
            public: None,
            zone: Some("north".into()),
        });
        let load = Load { sessions: 7, users: 5, rooms: 3, busy: 0 };
        let member = |name, state| Member { name, state, meta: meta.clone(), load };
        let view = View {
            me: name("a", 1),
            state: State::Ready,
            isolated: false,
            members: vec![member(name("a", 1), State::Ready), member(name("b", 20), State::Draining)],
        };
        let link = |name: &str, messages_in| LinkStats {
            name: name.into(),
            phase: LinkPhase::Ready,
            bytes_in: 10,
            bytes_out: 20,
            messages_in,
            messages_out: 2,
            queued: 30,
            outstanding: 0,
            dropped: 4,
            refused: 5,
            sessions: 1,
            rtt: Some(Duration::from_micros(1_500)),
        };
        let links = LinksStats { peers: vec![link("b.10", 8), link("b.20", 9)], ..LinksStats::default() };
        let presence = Presence { shown: 6, unknown: 0, gaps: 1, mismatches: 0 };
        let others = Others { view: Arc::new(view), links, gossip: Arc::default(), presence };
        Sight { others: Some(others), ..alone() }
    }

    #[test]
    fn a_server_alone_lists_itself() {
        let nodes = alone().nodes();
        assert_eq!(nodes.len(), 1);
        let told = ["alone", "this", "state", "sessions", "users", "rooms"].map(|key| nodes[0][key].clone());
        assert_eq!(told, [json!(true), json!(true), json!("ready"), json!(2), json!(1), json!(4)]);
        assert_eq!(alone().page(3)["presence"], Value::Null);
    }

    #[test]
    fn of_itself_a_node_knows_what_it_does_now_and_of_others_what_they_said_last() {
        let nodes = two().nodes();
        let told = |node: usize| {
            ["node", "this", "state", "sessions", "rooms", "isolated"].map(|key| nodes[node][key].clone())
        };
        assert_eq!(told(0), [json!("a.1"), json!(true), json!("ready"), json!(2), json!(4), json!(false)]);
        assert_eq!(
            told(1),
            [json!("b.20"), json!(false), json!("draining"), json!(7), json!(3), Value::Null]
        );
        assert_eq!(nodes[0]["link"], Value::Null);
        assert_eq!((&nodes[1]["link"]["rtt_ms"], &nodes[1]["link"]["messages_in"]), (&json!(1.5), &json!(9)));
    }

    #[test]
    fn of_two_lives_of_a_peer_the_later_one_counts() {
        let sight = two();
        let peers = sight.others.as_ref().unwrap().peers();
        assert_eq!(
            peers.into_iter().map(|(id, link)| (id, link.messages_in)).collect::<Vec<_>>(),
            [("b".into(), 9)]
        );
    }
}
