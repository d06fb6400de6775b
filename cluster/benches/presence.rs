//! What presence costs without a network: a change from one node's ring into another's directory, the set of a whole
//! node, memory per user, and finding a home.
//!
//! `cargo bench -p rookery-cluster --bench presence`; memory is read where `/proc` is, else shown as 0.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a failure ends the measurement")]

use std::time::{Duration, Instant};

use protocol::{UserId, client::PresenceStatus};
use rookery_cluster::{
    NodeName,
    placement::{Candidate, Placement},
    presence::{Directory, Flush, Output, Ring},
};

fn main() {
    // A test run of all targets only wants to see that it works.
    let scale = if std::env::args().any(|argument| argument == "--bench") { 100 } else { 1 };
    for changes in [20, 200, 1_000, 4_000] {
        steady(changes, 50 * scale);
    }
    // The largest first: the others use memory again that it gave back.
    for users in [10_000, 5_000, 1_000] {
        whole_set(users * scale);
    }
    for nodes in [3, 10, 50] {
        homes(nodes, 10_000 * scale);
    }
}

fn node(index: usize) -> NodeName {
    NodeName::new(&format!("rookery-{index}"), 1).unwrap()
}

/// A user id as chance draws them.
fn user(index: usize) -> UserId {
    UserId::from_u128((index as u128 + 1).wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15))
}

fn values(flush: &Flush) -> impl Iterator<Item = (&str, &str)> {
    flush.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// Some changes in each flush, for so many flushes; statuses go round, so that each is one.
fn steady(changes: usize, flushes: usize) {
    let statuses =
        [PresenceStatus::Online, PresenceStatus::Away, PresenceStatus::Dnd, PresenceStatus::Offline];
    let (mut ring, mut reader) = (Ring::new(&node(0)), Directory::new(&node(1), 1));
    reader.alive(&node(0), [], 0);
    let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
    let (mut bytes, mut shown) = (0, 0);
    for turn in 0..flushes {
        let now = 1_700_000_000_000 + turn as u64 * 200;
        let start = Instant::now();
        for index in 0..changes {
            ring.change(user(index), statuses[turn % statuses.len()], now - index as u64 % 200);
        }
        let flush = ring.flush(now);
        writing += start.elapsed();
        bytes += values(&flush).map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let start = Instant::now();
        reader.heard(&node(0), values(&flush), now);
        shown += reader.poll(now).outputs.len();
        reading += start.elapsed();
    }
    let all = changes * flushes;
    assert_eq!((shown, reader.tally().gaps), (all, 0));
    println!(
        "{changes} changes per flush: write {} ns, read {} ns, {:.1} bytes per change",
        writing.as_nanos() / all as u128,
        reading.as_nanos() / all as u128,
        bytes as f64 / all as f64
    );
}

/// A node with so many users is met for the first time; then it dies.
fn whole_set(users: usize) {
    let mut ring = Ring::new(&node(0));
    (0..users).for_each(|index| ring.change(user(index), PresenceStatus::Online, index as u64));
    let flush = ring.flush(1_000_000);
    let mut reader = Directory::new(&node(1), 1);
    reader.alive(&node(0), values(&flush), 0);
    let asked = reader.poll(200).outputs.into_iter().find_map(|output| match output {
        Output::Ask { request, .. } => Some(request),
        Output::Shown { .. } => None,
    });
    let start = Instant::now();
    let pages: Vec<_> = ring.answer(&asked.unwrap()).unwrap().collect();
    let encoding = start.elapsed();
    let bytes: usize = pages.iter().map(Vec::len).sum();

    let before = resident();
    let start = Instant::now();
    pages.iter().for_each(|page| reader.answered(&node(0), page, 300));
    let applying = start.elapsed();
    let start = Instant::now();
    while reader.poll(400).next.is_some() {}
    let telling = start.elapsed();
    assert_eq!((reader.users(), reader.unknown()), (users, 0));
    println!(
        "a set of {users} users: {:.1} MB in {} pages, encode {encoding:.0?}, apply {applying:.0?}, tell {telling:.0?}, \
         {} bytes resident per user",
        bytes as f64 / 1e6,
        pages.len(),
        resident().saturating_sub(before) / users
    );
    reader.lost(&node(0), 500);
    let (mut now, mut longest, mut steps) = (10_500, Duration::ZERO, 0);
    while reader.users() > 0 {
        let start = Instant::now();
        reader.poll(now);
        longest = longest.max(start.elapsed());
        (now, steps) = (now + 100, steps + 1);
    }
    println!("  dropped in {steps} parts, the longest took {longest:.0?}");
}

fn homes(nodes: usize, keys: usize) {
    let mut weighted: Vec<_> = (0..nodes).map(|index| Candidate::new(node(index))).collect();
    let alike = Placement::new(weighted.clone());
    weighted[0].weight = 2.0;
    for (how, placement) in [("alike", alike), ("weighted", Placement::new(weighted))] {
        let start = Instant::now();
        let found = (0..keys).filter(|key| placement.home(user(*key).as_u128()).is_some()).count();
        assert_eq!(found, keys);
        println!("a home among {nodes} nodes, {how}: {} ns", start.elapsed().as_nanos() / keys as u128);
    }
}

/// Bytes of memory that this process uses.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4_096
}
