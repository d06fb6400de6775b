//! Real gossip on the loopback interface: several nodes in one process, each with its thread.

mod support;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use support::{Net, junk, secret, secrets};

use super::*;

#[tokio::test]
async fn five_nodes_find_one_another_and_see_what_changes() {
    let mut net = Net::default();
    let nodes = net.start_all(&["a", "b", "c", "d", "e"]).await;
    for node in &nodes {
        node.gossip.set_state(State::Ready);
    }
    for node in &nodes {
        node.until("all are placeable", |view| view.placeable(Role::Rooms).count() == 5).await;
    }
    nodes[0].gossip.set_load(Load { sessions: 7, users: 5, rooms: 3, busy: 30 });
    let name = nodes[0].gossip.view().me.clone();
    let has_load = |view: &View| view.member(&name).is_some_and(|member| member.load.sessions == 7);
    nodes[4].until("the load of a is seen", has_load).await;
    assert_eq!(nodes[4].gossip.metrics().catch_ups.load(Relaxed), 0);
}

#[tokio::test]
async fn published_values_arrive_in_the_order_of_writing() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    let entries = (0..20).rev().map(|slot| (format!("p/{slot:03}"), format!("batch {slot}")));
    nodes[0].gossip.put(entries).unwrap();
    for slot in (0..20).rev() {
        let value = nodes[2].next_value().await;
        assert_eq!(value, ("a".into(), format!("p/{slot:03}"), format!("batch {slot}")));
    }
    let refused = nodes[0].gossip.put([("n/meta".to_owned(), String::new())]);
    assert_eq!(refused, Err(BadEntry::Key("n/meta".into())));
}

#[tokio::test]
async fn a_killed_node_is_lost_and_its_next_life_joins() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    let killed = nodes.pop().unwrap();
    let name = killed.gossip.view().me.clone();
    drop(killed);
    nodes[0].until("c is lost", |view| view.members.len() == 2).await;
    nodes[0].until_told(|event| *event == Event::Members(Change::Lost(name.clone()))).await;
    let again = net.start("c").await;
    assert!(again.gossip.view().me.generation() > name.generation());
    nodes[1].until("c is back", |view| view.members.len() == 3).await;
}

#[tokio::test]
async fn a_quick_restart_supersedes_the_life_before() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    let old = nodes.pop().unwrap().gossip.view().me.clone();
    let again = net.start("c").await;
    let new = again.gossip.view().me.clone();
    nodes[0]
        .until_told(|event| {
            *event == Event::Members(Change::Superseded { old: old.clone(), new: new.clone() })
        })
        .await;
    nodes[0].until("the new life is there", |view| view.member(&new).is_some()).await;
}

#[tokio::test]
async fn a_node_that_stops_says_so_first() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b"]).await;
    let leaver = nodes.pop().unwrap();
    let name = leaver.gossip.view().me.clone();
    leaver.gossip.stop().await;
    nodes[0].until_told(|event| *event == Event::Members(Change::Leaving(name.clone()))).await;
    nodes[0].until_told(|event| *event == Event::Members(Change::Left(name.clone()))).await;
}

#[tokio::test]
async fn a_failed_gossip_task_begins_anew_as_another_life() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    nodes[1].gossip.put([("p/000".to_owned(), "kept".to_owned())]).unwrap();
    assert_eq!(nodes[0].next_value().await.2, "kept");
    let was = nodes[1].gossip.view().me.clone();
    nodes[1].gossip.kill_task();
    nodes[1].until_told(|event| matches!(event, Event::Reborn { was: old, .. } if *old == was)).await;
    nodes[1].until("it hears the others again", |view| !view.isolated && view.members.len() == 3).await;
    let now = nodes[1].gossip.view().me.clone();
    assert!(now.id() == was.id() && now.generation() > was.generation());
    assert_eq!(nodes[1].gossip.metrics().restarts.load(Relaxed), 1);
    nodes[0].until("the others see the new life", |view| view.member(&now).is_some()).await;
    assert_eq!(nodes[0].next_value().await.2, "kept", "what the node had written is written again");
}

#[tokio::test]
async fn a_node_that_stood_still_loses_nobody() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    nodes[0].told();
    nodes[0].gossip.freeze();
    let changes = nodes[0].changes_until(&Change::Rejoined).await;
    assert!(changes.contains(&Change::Isolated(Why::Late)), "{changes:?}");
    assert!(!changes.iter().any(|change| matches!(change, Change::Lost(_))), "{changes:?}");
    assert_eq!(nodes[0].gossip.view().members.len(), 3);
    let frozen = nodes[0].gossip.view().me.clone();
    nodes[1].until("the others have it back", |view| view.member(&frozen).is_some()).await;
}

#[tokio::test]
async fn strangers_do_nothing_but_raise_counters() {
    let mut net = Net::default();
    let nodes = net.start_all(&["a", "b"]).await;
    let wrong_secret = net.start_with("x", |settings| settings.secrets = secrets(&[9])).await;
    let wrong_bytes = net
        .start_with("y", |settings| settings.secrets = Secrets::only(Secret::new(1, &[99; 32]).unwrap()))
        .await;
    let other_cluster = net.start_with("z", |settings| settings.cluster_id = "other".into()).await;
    let heard = nodes[0].gossip.metrics();
    nodes[0]
        .wait("the strangers were refused", |_| {
            heard.rejected(Rejected::UnknownKey) > 3 && heard.rejected(Rejected::Forged) > 3
        })
        .await;
    junk(nodes[0].gossip.address()).await;
    nodes[0].wait("the junk was refused", |_| heard.rejected(Rejected::Malformed) >= 2).await;
    nodes[0].wait("and datagrams of no version", |_| heard.rejected(Rejected::Version) >= 1).await;
    for stranger in [&wrong_secret, &wrong_bytes, &other_cluster] {
        assert_eq!(stranger.gossip.view().members.len(), 1);
    }
    for node in &nodes {
        assert_eq!(node.gossip.view().members.len(), 2);
        assert_eq!(node.gossip.metrics().restarts.load(Relaxed), 0);
    }
}

#[tokio::test]
async fn repeated_and_truncated_datagrams_of_a_member_do_nothing_either() {
    let mut net = Net::default();
    let node = net.start("a").await;
    let to = node.gossip.address();
    let mut peer = support::Member::new().await;
    let datagrams = peer.syn(to).await;
    let heard = node.gossip.metrics();
    let answered = heard.datagrams_out.load(Relaxed);
    peer.send(&datagrams, to).await;
    node.wait("the first is answered", |_| heard.datagrams_out.load(Relaxed) > answered).await;
    peer.send(&datagrams, to).await;
    node.wait("the second is not", |_| heard.rejected(Rejected::Replayed) == datagrams.len() as u64).await;
    let cut: Vec<_> = datagrams.iter().map(|datagram| datagram[..datagram.len() - 1].to_vec()).collect();
    peer.send(&cut, to).await;
    node.wait("nor what was cut", |_| heard.rejected(Rejected::Forged) == datagrams.len() as u64).await;
    let unreadable = peer.seal(to, b"no message of chitchat");
    peer.send(&unreadable, to).await;
    node.wait("nor what is no message", |_| heard.rejected(Rejected::Unreadable) == 1).await;
    assert_eq!(heard.restarts.load(Relaxed), 0);
    assert_eq!(node.gossip.view().members.len(), 1);
}

#[tokio::test]
async fn secrets_change_without_a_gap() {
    let mut net = Net::default();
    let mut nodes = net.start_all(&["a", "b", "c"]).await;
    for round in [&[1, 2][..], &[2, 1], &[2]] {
        for place in 0..nodes.len() {
            nodes[place].gossip.set_secrets(&secrets(round));
            // News get around between any two steps.
            let mark = Load { sessions: net.next_number(), ..Load::default() };
            nodes[place].gossip.set_load(mark);
            let name = nodes[place].gossip.view().me.clone();
            for node in &nodes {
                let seen = |view: &View| view.member(&name).is_some_and(|member| member.load == mark);
                node.until("the mark is seen", seen).await;
            }
        }
    }
    for node in &mut nodes {
        assert_eq!(node.gossip.metrics().rejected(Rejected::UnknownKey), 0);
        assert!(!node.told().iter().any(|event| matches!(event, Event::Members(Change::Lost(_)))));
    }
    assert_ne!(secret(1), secret(2));
}

#[tokio::test]
async fn seeds_may_be_names() {
    let mut net = Net::default();
    let first = net.start("a").await;
    let seed = format!("localhost:{}", first.gossip.address().port());
    let second =
        net.start_with("b", |settings| settings.seeds = vec![seed, "no.such.name.invalid:1".into()]).await;
    second.until("a is found", |view| view.members.len() == 2).await;
    first.until("b is found", |view| view.members.len() == 2).await;
}

#[test]
fn an_address_in_use_is_told_at_once() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut settings = Net::default().settings("a");
    settings.listen = taken.local_addr().unwrap();
    let started = Gossip::start(settings, mpsc::channel(EVENTS).0);
    assert!(matches!(started, Err(StartError::Bind(..))));
}

#[test]
fn an_interval_out_of_range_is_refused() {
    for interval in [Duration::ZERO, Duration::from_secs(2)] {
        let mut settings = Net::default().settings("a");
        settings.interval = interval;
        let started = Gossip::start(settings, mpsc::channel(EVENTS).0);
        assert!(matches!(started, Err(StartError::Interval(_))));
    }
}

#[test]
fn times_scale_down_but_not_up() {
    let tenth = Duration::from_millis(100);
    assert_eq!(life::assumed_interval(INTERVAL), Duration::from_millis(1_500));
    assert_eq!(life::assumed_interval(tenth), Duration::from_millis(750));
    assert_eq!(life::assumed_interval(Duration::from_secs(1)), Duration::from_millis(1_500));
}
