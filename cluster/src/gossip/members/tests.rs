//! The rules of membership, one by one.

use std::sync::LazyLock;

use super::{super::says::PROTOCOL, *};

const DETECTION: Duration = Duration::from_millis(3_300);
const TICK: Duration = Duration::from_millis(200);

pub(super) fn says(state: State) -> Says {
    static META: LazyLock<Arc<Meta>> = LazyLock::new(|| {
        let link = "10.0.0.1:7281".parse().unwrap();
        let roles = vec![Role::Rooms];
        Arc::new(Meta { protocol: PROTOCOL, build: String::new(), roles, link, public: None, zone: None })
    });
    Says { state, meta: META.clone(), load: Load::default() }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A node `a.1`, how often it looked, and when it last did.
struct Node {
    members: Members,
    looks: u64,
    now: Duration,
}

impl Node {
    fn new() -> Self {
        Self { members: Members::new(name("a.1")), looks: 0, now: Duration::ZERO }
    }

    fn shown(&mut self, late: Duration, seen: Vec<Seen>) -> Vec<Change> {
        self.looks += 1;
        self.now += TICK + late;
        self.members.observe(&Sighting { at: self.now, late, detection: DETECTION, seen })
    }

    /// One interval in which these are heard anew, all of them ready.
    fn hears(&mut self, names: &str) -> Vec<Change> {
        let beat = self.looks;
        let seen = |text: &str| Seen { name: name(text), beat, says: Some(says(State::Ready)) };
        let seen = names.split_whitespace().map(seen).collect();
        self.shown(Duration::ZERO, seen)
    }

    /// As often as a detection time takes.
    fn hears_long(&mut self, names: &str) -> Vec<Change> {
        (0..DETECTION.as_millis() / TICK.as_millis() + 2).flat_map(|_| self.hears(names)).collect()
    }

    fn view(&self) -> String {
        let view = self.members.view();
        let names: Vec<_> = view.members.iter().map(|member| member.name.to_string()).collect();
        format!("{}{}", names.join(" "), if view.isolated { " isolated" } else { "" })
    }
}

#[test]
fn a_node_that_never_saw_another_works_alone() {
    let mut node = Node::new();
    assert!(matches!(&node.hears("a.1")[..], [Change::Joined(me)] if me.name == name("a.1")));
    node.hears_long("a.1");
    assert_eq!(node.view(), "a.1");
    assert_eq!(node.members.view().placeable(Role::Rooms).count(), 1);
    node.shown(DETECTION, vec![]);
    assert!(node.members.view().isolated);
    node.hears("a.1");
    assert_eq!(node.view(), "a.1");
}

#[test]
fn of_two_nodes_the_survivor_goes_on() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1");
    assert_eq!(node.hears("a.1"), [Change::Lost(name("b.1"))]);
    assert_eq!(node.view(), "a.1");
}

#[test]
fn of_two_nodes_one_that_stood_still_waits_before_it_goes_on_alone() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1");
    assert_eq!(node.shown(DETECTION, vec![]), [Change::Isolated(Why::Late)]);
    assert_eq!(node.hears("a.1"), []);
    assert_eq!(node.view(), "a.1 b.1 isolated");
    assert_eq!(node.hears_long("a.1"), [Change::Rejoined]);
    assert_eq!(node.hears_long("a.1"), [Change::Lost(name("b.1"))]);
}

#[test]
fn a_node_that_loses_more_than_half_at_once_loses_nobody() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1");
    assert_eq!(node.hears("a.1"), [Change::Isolated(Why::Alone)]);
    assert_eq!(node.hears_long("a.1"), []);
    assert_eq!(node.view(), "a.1 b.1 c.1 isolated");
    assert_eq!(node.members.view().placeable(Role::Rooms).count(), 0);
    assert_eq!(node.hears("a.1 b.1"), [Change::Rejoined]);
    assert_eq!(node.view(), "a.1 b.1 c.1", "c has its time to be heard");
    assert_eq!(node.hears_long("a.1 b.1"), [Change::Lost(name("c.1"))]);
}

#[test]
fn losses_that_trickle_in_within_a_detection_time_are_one_loss() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1 d.1 e.1");
    assert_eq!(node.hears("a.1 b.1 c.1 d.1"), [Change::Lost(name("e.1"))]);
    assert_eq!(node.hears("a.1 b.1 c.1"), [Change::Lost(name("d.1"))]);
    assert_eq!(node.hears("a.1 b.1"), [Change::Isolated(Why::Alone)]);
    assert_eq!(node.view(), "a.1 b.1 c.1 isolated");
}

#[test]
fn losses_far_apart_are_losses() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1 d.1");
    node.hears_long("a.1 b.1 c.1");
    node.hears_long("a.1 b.1");
    node.hears_long("a.1");
    assert_eq!(node.view(), "a.1");
}

#[test]
fn a_resumed_node_hears_a_majority_anew_before_it_speaks() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1");
    let stale = |text| Seen { name: name(text), beat: 3, says: Some(says(State::Ready)) };
    let all = || ["a.1", "b.1", "c.1"].map(stale).to_vec();
    assert_eq!(node.shown(DETECTION, all()), [Change::Isolated(Why::Late)]);
    assert_eq!(node.shown(Duration::ZERO, all()), [], "nothing of this is new");
    assert_eq!(node.hears("a.1 b.1 c.1"), [Change::Rejoined]);
    assert_eq!(node.view(), "a.1 b.1 c.1");
}

#[test]
fn only_the_latest_life_counts() {
    let mut node = Node::new();
    node.hears("a.1 b.5");
    let changes = node.hears("a.1 b.5 b.6");
    assert_eq!(changes[0], Change::Superseded { old: name("b.5"), new: name("b.6") });
    assert!(matches!(&changes[1], Change::Joined(member) if member.name == name("b.6")));
    assert_eq!(node.hears("a.1 b.5"), [Change::Lost(name("b.6"))], "the earlier life doesn't come back");
    assert_eq!(node.view(), "a.1");
}

#[test]
fn a_life_that_is_over_stays_over_however_long_isolation_lasts() {
    let mut node = Node::new();
    node.hears_long("a.1 b.6 c.1");
    assert_eq!(node.hears("a.1"), [Change::Isolated(Why::Alone)]);
    node.now += 2 * REMEMBERED;
    node.hears("a.1");
    node.hears("a.1 b.5");
    assert_eq!(node.view(), "a.1 b.6 c.1 isolated");
}

#[test]
fn a_later_life_is_enough_to_end_the_earlier_before_it_says_anything() {
    let mut node = Node::new();
    node.hears("a.1 b.5");
    let mute = |text, beat| Seen { name: name(text), beat, says: None };
    let changes = node.shown(Duration::ZERO, vec![mute("a.1", 9), mute("b.6", 1), mute("b.5", 9)]);
    assert_eq!(changes, [Change::Superseded { old: name("b.5"), new: name("b.6") }]);
    assert_eq!(node.view(), "a.1");
}

#[test]
fn a_node_that_leaves_is_not_missed() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1");
    let seen = |text: &str, state| Seen { name: name(text), beat: 99, says: Some(says(state)) };
    let leaving = vec![seen("a.1", State::Ready), seen("b.1", State::Leaving), seen("c.1", State::Leaving)];
    let told = node.shown(Duration::ZERO, leaving);
    assert_eq!(told, [Change::Leaving(name("b.1")), Change::Leaving(name("c.1"))]);
    assert_eq!(node.hears("a.1"), [Change::Left(name("b.1")), Change::Left(name("c.1"))]);
    assert_eq!(node.view(), "a.1");
}

#[test]
fn a_node_that_sees_its_own_successor_claims_nothing() {
    let mut node = Node::new();
    node.hears("a.1 b.1");
    let changes = node.hears("a.1 a.2 b.1");
    assert_eq!(changes[0], Change::Superseded { old: name("a.1"), new: name("a.2") });
    assert_eq!(changes[1], Change::Isolated(Why::Superseded));
    node.hears_long("a.1 b.1");
    assert!(node.members.view().isolated);
}

#[test]
fn new_gossip_of_this_node_is_a_new_life_that_first_has_to_hear_a_majority() {
    let mut node = Node::new();
    node.hears_long("a.1 b.1 c.1");
    node.members.reborn(name("a.2"));
    assert_eq!(node.members.view().me, name("a.2"));
    node.hears("a.2");
    assert_eq!(node.view(), "a.2 b.1 c.1 isolated");
    node.hears("a.1 a.2 b.1 c.1");
    assert_eq!(node.view(), "a.2 b.1 c.1");
}
