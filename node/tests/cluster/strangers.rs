//! Nodes that are not to be let in.

use std::time::{Duration, Instant};

use crate::{
    server::Server,
    support::{Crowd, Nodes, secret},
};

/// Longer than a node waits for others before it serves in spite of them.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_stay_out() {
    let nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    let wrong = secret(nodes.folder(), "another-secret");
    let mut stranger = nodes.another("stranger", &[("CLUSTER__SECRET_FILE", &wrong)]);
    crowd.talk();
    // It hears nobody, and so takes itself for the first.
    tokio::task::block_in_place(|| stranger.run());
    crowd.say_around().await;
    crowd.settle(&nodes).await;
    for place in 0..3 {
        assert_eq!(nodes.logged(place, &["\"stranger."]), Vec::<String>::new());
        assert_eq!(logged(&stranger, &["a node joined", &format!("\"node-{place}.")]), 0);
    }
    assert_eq!(crowd.errors(), []);
    nodes.assert_quiet(&crowd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_the_secret_and_a_foreign_certificate_is_given_no_rooms() {
    let nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    let wrong = nodes.folder().join("another-tls").display().to_string();
    let mut stranger = nodes.another("stranger", &[("CLUSTER__DEVELOPMENT_TLS", &wrong)]);
    crowd.talk();
    let begun = Instant::now();
    tokio::task::block_in_place(|| stranger.spawn());
    while begun.elapsed() < WATCHED {
        crowd.say_around().await;
    }
    crowd.settle(&nodes).await;
    for server in &nodes.servers {
        let members =
            ["ready", "joining"].map(|state| format!("rookery_cluster_members{{state=\"{state}\"}}"));
        assert_eq!([server.metric(&members[0]).await, server.metric(&members[1]).await], [3, 1]);
    }
    stranger.signal("TERM");
    assert!(stranger.ended().await.0.success(), "{}", stranger.log());
    assert!(logged(&stranger, &["its other end is not proven to be a node"]) > 0);
    for place in 0..3 {
        assert!(!nodes.logged(place, &["the node can't be reached", "\"stranger."]).is_empty());
    }
    nodes.assert_quiet(&crowd);
}

fn logged(server: &Server, words: &[&str]) -> usize {
    server.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}
