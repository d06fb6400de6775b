use super::{
    super::{
        ring::{Bounds, Ring},
        wire::Request,
    },
    *,
};

const ONLINE: PresenceStatus = PresenceStatus::Online;
const OFFLINE: PresenceStatus = PresenceStatus::Offline;

fn name(id: &str, generation: u64) -> NodeName {
    NodeName::new(id, generation).unwrap()
}

fn user(id: usize) -> UserId {
    UserId::from_u128(id as u128)
}

/// A ring, and everything it wrote since it was last read.
struct Writer {
    name: NodeName,
    ring: Ring,
    unread: Vec<(String, String)>,
}

impl Writer {
    fn new(id: &str, generation: u64) -> Self {
        let name = name(id, generation);
        let bounds = Bounds { page: 2_000, ..Bounds::default() };
        Self { ring: Ring::with_bounds(&name, bounds), name, unread: Vec::new() }
    }

    fn show(&mut self, users: std::ops::Range<usize>, status: PresenceStatus, at: Millis) -> &mut Self {
        users.for_each(|id| self.ring.change(user(id), status, at));
        self.unread.extend(self.ring.flush(at).values);
        self
    }

    fn read(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.unread)
    }

    fn alive(&mut self, directory: &mut Directory, now: Millis) {
        let values = self.read();
        directory.alive(&self.name, pairs(&values), now);
    }

    fn heard(&mut self, directory: &mut Directory, now: Millis) {
        let values = self.read();
        directory.heard(&self.name, pairs(&values), now);
    }
}

fn pairs(values: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

fn directory() -> Directory {
    Directory::new(&name("own", 1), 5)
}

fn told(poll: Poll) -> Vec<(UserId, PresenceStatus, Millis)> {
    let shown = |output| match output {
        Output::Shown { user, status, at } => Some((user, status, at)),
        Output::Ask { .. } => None,
    };
    poll.outputs.into_iter().filter_map(shown).collect()
}

fn asks(poll: Poll) -> Vec<(NodeName, Vec<u8>)> {
    let ask = |output| match output {
        Output::Ask { node, request } => Some((node, request)),
        Output::Shown { .. } => None,
    };
    poll.outputs.into_iter().filter_map(ask).collect()
}

/// A directory that knows `users` of node `a` and has told of them.
fn knowing(users: usize) -> (Directory, Writer) {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    a.show(0..users, ONLINE, 1_000).alive(&mut directory, 1_000);
    answer_all(&mut directory, &a, 1_200);
    while !directory.news.is_empty() {
        directory.poll(1_200);
    }
    assert_eq!((directory.users(), directory.unknown()), (users, 0));
    (directory, a)
}

fn answer_all(directory: &mut Directory, writer: &Writer, now: Millis) {
    for (node, request) in asks(directory.poll(now)) {
        let pages: Vec<_> = writer.ring.answer(&request).unwrap().collect();
        pages.iter().for_each(|page| directory.answered(&node, page, now));
    }
}

#[test]
fn changes_are_told_once_and_only_if_they_show() {
    let (mut directory, mut a) = knowing(1);
    a.show(0..1, PresenceStatus::Away, 2_000).heard(&mut directory, 2_000);
    assert_eq!(told(directory.poll(2_000)), [(user(0), PresenceStatus::Away, 2_000)]);
    a.show(0..1, PresenceStatus::Invisible, 3_000).heard(&mut directory, 3_000);
    assert_eq!(told(directory.poll(3_000)), [(user(0), OFFLINE, 3_000)]);
    a.show(0..1, OFFLINE, 4_000).heard(&mut directory, 4_000);
    a.show(0..1, ONLINE, 4_001).show(0..1, OFFLINE, 4_002).heard(&mut directory, 4_002);
    assert_eq!(told(directory.poll(4_002)), []);
}

#[test]
fn a_node_knows_its_own_users() {
    let mut directory = directory();
    let mut ring = Ring::new(&name("own", 1));
    (0..5_000).for_each(|id| ring.change(user(id), ONLINE, 5));
    directory.flushed(&ring.flush(5));
    assert_eq!(told(directory.poll(5)).len(), 5_000);
    assert_eq!((directory.status(user(7)), directory.unknown()), (ONLINE, 0));
}

#[test]
fn values_may_come_in_the_order_of_their_keys() {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    for id in 0..100 {
        a.show(id..id + 1, ONLINE, 1_000);
    }
    let latest: BTreeMap<_, _> = a.read().into_iter().rev().collect::<Vec<_>>().into_iter().rev().collect();
    directory.alive(&a.name, latest.iter().map(|(key, value)| (key.as_str(), value.as_str())), 1_000);
    assert_eq!((directory.users(), directory.tally()), (100, Tally::default()));
}

#[test]
fn a_gap_is_asked_for_and_later_batches_wait() {
    let (mut directory, mut a) = knowing(1);
    a.show(1..2, ONLINE, 2_000).read();
    a.show(2..3, ONLINE, 2_200).heard(&mut directory, 2_200);
    assert_eq!((directory.users(), directory.unknown()), (1, 1));
    let mut asked = asks(directory.poll(2_400));
    let (node, request) = asked.pop().unwrap();
    assert_eq!(Request::decode(&request).unwrap().since, Some(1));
    let pages: Vec<_> = a.ring.answer(&request).unwrap().collect();
    a.show(3..4, ONLINE, 2_400).heard(&mut directory, 2_400);
    assert_eq!(directory.users(), 1);
    pages.iter().for_each(|page| directory.answered(&node, page, 2_500));
    assert_eq!((directory.users(), directory.unknown()), (4, 0));
}

#[test]
fn a_set_that_differs_from_its_sum_is_replaced() {
    let (mut directory, mut a) = knowing(3);
    let forged = Head { seq: 1, sum: Default::default() }.encode();
    directory.heard(&a.name, [(HEAD_KEY, forged.as_str())], 2_000);
    assert_eq!(directory.tally().mismatches, 1);
    let asked = asks(directory.poll(2_200));
    assert_eq!(Request::decode(&asked[0].1).unwrap().since, None);
    let pages: Vec<_> = a.ring.answer(&asked[0].1).unwrap().collect();
    a.show(0..2, OFFLINE, 2_200).heard(&mut directory, 2_200);
    assert_eq!(directory.users(), 3, "what comes meanwhile waits");
    pages.iter().for_each(|page| directory.answered(&a.name, page, 2_300));
    assert_eq!((directory.users(), directory.unknown()), (1, 0));
    assert_eq!(told(directory.poll(2_300)).len(), 2);
}

#[test]
fn nothing_of_an_answer_shows_before_its_last_page() {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    a.show(0..6_000, ONLINE, 1_000).alive(&mut directory, 1_000);
    let (node, request) = asks(directory.poll(1_200)).pop().unwrap();
    let pages: Vec<_> = a.ring.answer(&request).unwrap().collect();
    assert_eq!(pages.len(), 3);
    directory.answered(&node, &pages[0], 1_300);
    directory.answered(&node, &pages[1], 1_300);
    assert_eq!((directory.users(), told(directory.poll(1_300)).len()), (0, 0));
    directory.answered(&node, &pages[2], 1_300);
    assert_eq!((directory.users(), told(directory.poll(1_300)).len()), (6_000, 6_000));
}

#[test]
fn an_answer_with_a_lost_page_is_asked_for_again_after_a_pause() {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    a.show(0..6_000, ONLINE, 1_000).alive(&mut directory, 1_000);
    let (node, request) = asks(directory.poll(1_200)).pop().unwrap();
    let pages: Vec<_> = a.ring.answer(&request).unwrap().collect();
    directory.answered(&node, &pages[0], 1_300);
    directory.answered(&node, &pages[2], 1_300);
    let poll = directory.poll(1_300);
    let next = poll.next.unwrap();
    assert!((1_800..=2_050).contains(&next), "{next}");
    assert!(asks(poll).is_empty() && directory.tally().failed == 1);
    assert_eq!(asks(directory.poll(next)).len(), 1);
    directory.answered(&node, &pages[1], next);
    assert_eq!(directory.users(), 0, "a page of the earlier answer");
}

#[test]
fn two_are_asked_at_once_and_the_silent_make_way() {
    let mut directory = directory();
    let mut writers: Vec<_> = ["a", "b", "c"].map(|id| Writer::new(id, 1)).into();
    for (index, writer) in writers.iter_mut().enumerate() {
        let first = index * 10_000;
        writer.show(first..first + 5_000, ONLINE, 1_000).alive(&mut directory, 1_000);
    }
    let asked = asks(directory.poll(1_200));
    assert_eq!(asked.len(), 2);
    assert_eq!(directory.poll(1_200).next, Some(4_200), "when the two are given up");
    let third = asks(directory.poll(4_200));
    assert_eq!(third.len(), 1);
    assert!(asked.iter().all(|(node, _)| *node != third[0].0));
}

#[test]
fn a_node_that_never_answers_is_asked_every_few_seconds_however_long() {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    a.show(0..5_000, ONLINE, 1_000).alive(&mut directory, 1_000);
    let (mut now, mut asked) = (1_000, 0);
    while asked < 200 {
        let poll = directory.poll(now);
        let next = poll.next.unwrap();
        assert!(next <= now + 12_000);
        asked += asks(poll).len();
        now = next;
    }
    assert!((1_900_000..3_100_000).contains(&now), "{now}");
}

#[test]
fn users_of_a_lost_node_are_held_and_then_go_in_parts() {
    let (mut directory, a) = knowing(2_500);
    directory.lost(&a.name, 20_000);
    let held = directory.poll(29_999);
    assert_eq!(held.next, Some(30_000));
    assert!(told(held).is_empty());
    let mut gone = Vec::new();
    for (now, next) in [(30_000, Some(30_100)), (30_100, Some(30_200)), (30_200, None)] {
        let poll = directory.poll(now);
        assert_eq!(poll.next, next);
        gone.push(told(poll));
    }
    assert_eq!(gone.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    assert!(gone.iter().flatten().all(|(_, status, at)| (*status, *at) == (OFFLINE, 20_000)));
    assert_eq!(directory.users(), 0);
}

#[test]
fn a_user_who_came_back_elsewhere_never_goes() {
    let (mut directory, a) = knowing(1);
    let mut b = Writer::new("b", 1);
    directory.lost(&a.name, 20_000);
    b.show(0..1, ONLINE, 25_000).alive(&mut directory, 25_000);
    assert!(told(directory.poll(40_000)).is_empty());
    assert_eq!((directory.users(), directory.status(user(0))), (1, ONLINE));
}

#[test]
fn a_node_that_returns_within_the_hold_continues_by_sequence() {
    let (mut directory, mut a) = knowing(3);
    directory.lost(&a.name, 20_000);
    a.show(3..4, ONLINE, 25_000).alive(&mut directory, 25_000);
    assert_eq!(told(directory.poll(60_000)), [(user(3), ONLINE, 25_000)]);
    assert_eq!(directory.tally().gaps, 0);
}

#[test]
fn a_node_that_returns_while_its_users_go_is_asked_for_everything() {
    let (mut directory, mut a) = knowing(2_500);
    directory.lost(&a.name, 20_000);
    directory.poll(30_000);
    a.alive(&mut directory, 30_050);
    let asked = asks(directory.poll(30_250));
    assert_eq!(Request::decode(&asked[0].1).unwrap().since, None);
    a.ring.answer(&asked[0].1).unwrap().for_each(|page| directory.answered(&a.name, &page, 30_300));
    assert_eq!((directory.users(), directory.unknown()), (2_500, 0));
    assert_eq!(directory.tally().mismatches, 0, "that it differs was known");
    assert_eq!(told(directory.poll(30_300)).len(), 1_000);
}

#[test]
fn who_leaves_or_starts_again_is_not_held() {
    let (mut directory, a) = knowing(1);
    directory.left(&a.name, 20_000);
    assert_eq!(told(directory.poll(20_000)), [(user(0), OFFLINE, 20_000)]);

    let (mut directory, mut a) = knowing(2);
    let mut again = Writer::new("a", 2);
    again.show(0..1, ONLINE, 20_000).alive(&mut directory, 20_000);
    assert_eq!(told(directory.poll(20_000)), [(user(1), OFFLINE, 20_000)], "the other came back with it");
    a.alive(&mut directory, 20_100);
    assert_eq!((directory.users(), directory.unknown()), (1, 0), "an earlier life is ignored");
}

#[test]
fn nobody_is_dropped_while_this_node_may_be_the_one_that_is_cut_off() {
    let (mut directory, a) = knowing(1);
    directory.isolate(true, 19_000);
    directory.lost(&a.name, 20_000);
    let poll = directory.poll(90_000);
    assert_eq!((poll.next, told(poll)), (None, vec![]));
    directory.isolate(false, 90_000);
    assert!(told(directory.poll(99_999)).is_empty());
    assert_eq!(told(directory.poll(100_000)).len(), 1);
}

#[test]
fn values_of_nodes_that_are_not_alive_are_ignored() {
    let (mut directory, mut a) = (directory(), Writer::new("a", 1));
    a.show(0..1, ONLINE, 1_000).heard(&mut directory, 1_000);
    assert_eq!(directory.users(), 0);
    a.alive(&mut directory, 1_000);
    directory.left(&a.name, 1_100);
    a.show(1..2, ONLINE, 1_200).heard(&mut directory, 1_200);
    directory.poll(1_200);
    assert_eq!((directory.users(), directory.unknown()), (0, 0));
}

#[test]
fn junk_is_counted_and_nothing_else() {
    let (mut directory, a) = knowing(2);
    directory.heard(&a.name, [("p/head", "?"), ("p/000", "AQ"), ("p/", ""), ("n/meta", "junk")], 2_000);
    directory.answered(&a.name, b"", 2_000);
    assert_eq!(directory.tally(), Tally { malformed: 4, ..Tally::default() });
    assert_eq!((directory.users(), directory.unknown()), (2, 0));
}

#[test]
fn too_many_waiting_batches_make_it_ask_again() {
    let (mut directory, mut a) = knowing(1);
    directory.lost(&a.name, 2_000);
    a.show(1..2, ONLINE, 2_000).read();
    for id in 2..400 {
        a.show(id..id + 1, ONLINE, 3_000);
    }
    a.heard(&mut directory, 3_000);
    assert!(directory.tally().overflows > 0 && asks(directory.poll(3_500)).is_empty());
    a.alive(&mut directory, 4_000);
    answer_all(&mut directory, &a, 4_000);
    assert_eq!((directory.users(), directory.unknown()), (400, 0));
}
