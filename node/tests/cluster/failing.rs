//! A node is killed or frozen: what it owned goes on elsewhere, and it can do no harm when it comes back.

use std::time::{Duration, Instant};

use crate::support::{Crowd, Nodes, name, until};

/// Longer than it takes to be given up.
const FROZEN: Duration = Duration::from_secs(10);
/// Longest time without an answer that is no failure: being given up, a claim, and a slow machine.
const MOST_UNAVAILABLE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_owner_is_followed() {
    let mut nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    crowd.talk();
    for victim in 0..3 {
        crowd.say_around().await;
        let (owned_elsewhere, there) = ((victim + 2) % 3, (victim + 1) % 3);
        nodes.servers[victim].kill();
        // Of a client elsewhere in a room that lived there; of a client that was there in a room that lives elsewhere.
        let (room, gateway) =
            tokio::join!(crowd.unavailable(there, victim), crowd.unavailable(victim, owned_elsewhere));
        println!("{} killed: its room away for {room:?}, its clients for {gateway:?}", name(victim));
        assert!(room.max(gateway) < MOST_UNAVAILABLE);
        nodes.restart(victim);
    }
    crowd.say_around().await;
    crowd.settle(&nodes).await;
    let resumed: u64 = crowd.clients.iter().map(|client| client.record().connections).sum();
    assert!(resumed > crowd.clients.len() as u64, "nobody had to come back");
    nodes.assert_quiet(&crowd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_owner_is_fenced() {
    let nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    crowd.talk();
    crowd.say_around().await;
    let begun = Instant::now();
    nodes.servers[0].signal("STOP");
    let away = crowd.unavailable(1, 0).await;
    println!("{} frozen: its room away for {away:?}", name(0));
    assert!(away < MOST_UNAVAILABLE);
    tokio::time::sleep(FROZEN.saturating_sub(begun.elapsed())).await;
    nodes.servers[0].signal("CONT");
    let fenced = || nodes.logged(0, &["another owner has the room"]);
    until("the end of the old owner", || !fenced().is_empty()).await;
    println!("{}", fenced().join("\n"));
    crowd.say_around().await;
    crowd.settle(&nodes).await;
    nodes.assert_quiet(&crowd);
}
