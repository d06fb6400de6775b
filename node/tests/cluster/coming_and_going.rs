//! Nodes are started and stopped as operators do it, and nobody notices.

use std::time::Duration;

use crate::support::{Crowd, Nodes, name, until};

/// Longest wait for an answer that nobody takes for a failure, on a slow machine.
const MOST_WAITED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_of_all_under_load() {
    let mut nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    crowd.talk();
    for place in 0..3 {
        crowd.say_around().await;
        nodes.servers[place].signal("TERM");
        let (status, stopping) = nodes.servers[place].ended().await;
        println!("{} stopped in {stopping:?}", name(place));
        assert!(status.success(), "{status}: {}", nodes.servers[place].log());
        nodes.restart(place);
    }
    crowd.say_around().await;
    crowd.settle(&nodes).await;
    println!("the slowest answer took {:?}", crowd.slowest());
    assert!(crowd.slowest() < MOST_WAITED);
    assert_eq!(crowd.errors(), []);
    nodes.assert_quiet(&crowd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_joins_under_load() {
    let mut nodes = Nodes::three().await;
    let mut crowd = Crowd::gather_for(&nodes, 4).await;
    crowd.talk();
    crowd.say_around().await;
    let mut fourth = nodes.another(&name(3), &[]);
    tokio::task::block_in_place(|| fourth.run());
    nodes.servers.push(fourth);
    until("the fourth node in all logs", || {
        (0..3).all(|place| !nodes.logged(place, &["a node joined", "node-3."]).is_empty())
    })
    .await;
    // Its room is there now.
    let begun = tokio::time::Instant::now();
    while nodes.servers[3].metric("rookery_store_conditional_writes_total").await == 0 {
        assert!(begun.elapsed() < crate::server::PATIENCE, "the fourth node owns nothing");
        crowd.say(0, 3).await;
    }
    crowd.say_around().await;
    crowd.settle(&nodes).await;
    println!("the slowest answer took {:?}", crowd.slowest());
    assert!(crowd.slowest() < MOST_WAITED);
    assert_eq!(crowd.errors(), []);
    nodes.assert_quiet(&crowd);
}
