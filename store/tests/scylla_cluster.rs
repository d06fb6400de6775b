//! Three nodes with a copy of everything each: one may die and nobody notices, two and nobody is told a lie.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

#[allow(dead_code, reason = "other tests use more of it")]
mod keyspaces;
#[path = "scylla_faults/talk.rs"]
mod talk;

use std::{sync::Mutex, time::Duration};

use rookery_store::scylla::{Replication, ScyllaOptions, ScyllaStore, migrate};
use rookery_test_cassandra::{Cluster, ClusterOptions};
use talk::{Talker, Told, assert_log, for_a_while};

/// Longer than all time-outs on the way, so that an outage is told as one.
const OUTAGE: Duration = Duration::from_secs(8);

fn start() -> Cluster {
    Cluster::start(ClusterOptions { nodes: 3, ..ClusterOptions::default() }).expect("three nodes")
}

fn options(cluster: &Cluster) -> ScyllaOptions {
    ScyllaOptions {
        contact_points: cluster.contact_points().iter().map(ToString::to_string).collect(),
        replication: Replication::Simple(3),
        ..ScyllaOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make test-long"]
async fn one_of_three_is_not_missed_and_without_two_nothing_is_acknowledged() {
    let cluster = tokio::task::block_in_place(start);
    let options = options(&cluster);
    let patient = ScyllaOptions { request_timeout: Duration::from_secs(60), ..options.clone() };
    migrate(&patient, 1, &mut |_| {}).await.unwrap();
    let store = ScyllaStore::open(&options).await.unwrap();
    let told = Mutex::new(Told::default());
    let talker = Talker { store: &store, writer: 7, told: &told };
    let acked = || told.lock().unwrap().acked.len();
    talker.talk(|told| told.acked.len() >= 100).await;

    cluster.node(1).kill().unwrap();
    let before = acked();
    talker.talk(|told| told.acked.len() >= before + 100).await;

    cluster.node(2).kill().unwrap();
    let before = acked();
    // The last append may wait until the database is back: so does this.
    let blocked = async {
        tokio::time::sleep(OUTAGE).await;
        let at_most_the_one_under_way = acked() - before;
        assert!(at_most_the_one_under_way <= 20, "{at_most_the_one_under_way} acknowledged without a quorum");
        tokio::task::block_in_place(|| cluster.node(1).restart().unwrap());
    };
    let talk = talker.talk(|told| told.acked.len() >= before + 100);
    tokio::join!(blocked, talk);

    tokio::task::block_in_place(|| {
        cluster.node(2).restart().unwrap();
        cluster.await_up().unwrap();
    });
    talker.talk(for_a_while(Duration::from_secs(2))).await;
    let told = told.into_inner().unwrap();
    let rows = assert_log(&options, &told).await;
    assert_eq!(rows, told.acked.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make test-long"]
async fn rivals_write_one_log_while_nodes_come_and_go() {
    let cluster = tokio::task::block_in_place(start);
    let options = options(&cluster);
    let patient = ScyllaOptions { request_timeout: Duration::from_secs(60), ..options.clone() };
    migrate(&patient, 1, &mut |_| {}).await.unwrap();
    let (one, other) =
        (ScyllaStore::open(&options).await.unwrap(), ScyllaStore::open(&options).await.unwrap());
    let told = Mutex::new(Told::default());
    let over = Mutex::new(false);
    let talker = |store, writer| Talker { store, writer, told: &told };
    let (first, second) = (talker(&one, 1), talker(&other, 2));
    let trouble = async {
        for node in [0, 1, 2, 0] {
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.node(node).pause().unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.node(node).resume().unwrap();
            tokio::task::block_in_place(|| cluster.await_up().unwrap());
        }
        *over.lock().unwrap() = true;
    };
    let is_over = |_: &Told| *over.lock().unwrap();
    tokio::join!(trouble, first.talk(is_over), second.talk(is_over));
    let told = told.into_inner().unwrap();
    assert!(told.fenced > 2 && told.acked.len() > 100, "{} fenced, {} acked", told.fenced, told.acked.len());
    assert_log(&options, &told).await;
}
