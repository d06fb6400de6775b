//! Clients that do not keep up: nothing is lost for them, and nobody waits for them.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod socket_support;

use std::{ops::RangeInclusive, time::Duration};

use futures_util::StreamExt;
use protocol::CloseCode;
use rookery_gateway::SocketSettings;
use serde_json::json;
use socket_support::{Client, eventually, server_with, settings};
use tokio_tungstenite::tungstenite::Message;

/// A small outbox, so that a reader falls behind soon.
fn tight() -> SocketSettings {
    SocketSettings { outbox_bytes: 128 * 1024, ..settings() }
}

/// Says messages of 8 KiB with these counters, each after the last was acknowledged.
async fn speak(client: &mut Client, counters: RangeInclusive<u64>) {
    let text = "x".repeat(8 * 1024);
    for n in counters {
        client.say_in(1, n, &text).await;
        client.hear("ack").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_reader_holds_up_nobody_and_misses_nothing() {
    let server = server_with(tight()).await;
    server.make_room(1, &[2, 3]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    let mut carol = server.client(3).await;
    bob.open(1, Some(4)).await;
    carol.open(1, Some(4)).await;
    let listening = tokio::spawn(async move { carol.entries_upto(1_004).await });
    speak(&mut alice, 1..=1_000).await;
    assert_eq!(listening.await.unwrap(), (5..=1_004).collect::<Vec<_>>(), "who reads hears all, live");
    // Eight megabytes do not fit into sockets and outbox: the rest is read from the log, at bob's pace.
    assert_eq!(bob.entries_upto(1_004).await, (5..=1_004).collect::<Vec<_>>());
    assert!(server.gateway.counters().catch_up_pages.get() > 0);
    alice.say_in(1, 1_001, "live again").await;
    assert_eq!(bob.entries_upto(1_005).await, [1_005]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_entries_read_to_catch_up_are_acknowledgements() {
    let server = server_with(tight()).await;
    server.make_room(1, &[2]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    bob.open(1, Some(3)).await;
    bob.say_in(1, 1, "before").await;
    bob.hear("ack").await;
    speak(&mut alice, 1..=800).await;
    bob.say_in(1, 2, "while behind").await;
    bob.say_in(1, 3, "and again").await;
    let counters = server.gateway.counters();
    eventually("all was said", || counters.frames_in.get() >= 800 + 3 + 3).await;
    speak(&mut alice, 801..=1_000).await;
    bob.say_in(1, 4, "at the end").await;
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let frame = bob.next().await;
        let own = frame["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["n"].as_u64());
        answered.extend(own.chain(frame["n"].as_u64()));
    }
    assert_eq!(answered, [2, 3, 4], "each once, as an entry of the log or as an ack");
    bob.say_in(1, 5, "after").await;
    assert_eq!(bob.hear("ack").await["n"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_while_it_catches_up_is_let_go() {
    let server = server_with(tight()).await;
    server.make_room(1, &[2]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    bob.open(1, Some(3)).await;
    speak(&mut alice, 1..=1_000).await;
    let counters = server.gateway.counters();
    while counters.catch_up_pages.get() == 0 {
        bob.next().await;
    }
    drop(bob);
    eventually("it is gone", || counters.sessions.get() == 1).await;
    let pages = counters.catch_up_pages.get();
    alice.say_in(1, 1_001, "on its own").await;
    alice.hear("ack").await;
    assert_eq!(counters.catch_up_pages.get(), pages, "nothing is read for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_until_the_deadline_is_cut_off() {
    let write_deadline = Duration::from_millis(300);
    let server = server_with(SocketSettings { write_deadline, ..tight() }).await;
    server.make_room(1, &[2]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    bob.open(1, Some(3)).await;
    speak(&mut alice, 1..=1_000).await;
    let counters = server.gateway.counters();
    eventually("the slow one is cut", || counters.closes(CloseCode::Slow).get() == 1).await;
    eventually("and gone", || counters.sessions.get() == 1).await;
    while let Some(Ok(message)) = bob.socket.next().await {
        assert!(!matches!(message, Message::Close(_)), "there was no room to say goodbye");
    }
    alice.say(json!({ "type": "ping", "id": 1 })).await;
    alice.hear("pong").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_pinged_and_one_that_does_not_answer_is_let_go() {
    let heartbeat = Duration::from_millis(300);
    let server = server_with(SocketSettings { heartbeat, ..settings() }).await;
    let mut alive = server.client(1).await;
    let mut dead = server.client(2).await;
    // tungstenite answers pings while it is read; the other one is not read.
    let counters = server.gateway.counters();
    let reading = tokio::spawn(async move {
        let mut pings = 0;
        while pings < 6 {
            pings += usize::from(matches!(alive.socket.next().await, Some(Ok(Message::Ping(_)))));
        }
        alive
    });
    eventually("the dead one is let go", || counters.closes(CloseCode::HeartbeatLost).get() == 1).await;
    assert_eq!(dead.closed().await, 4002);
    reading.await.unwrap();
}
