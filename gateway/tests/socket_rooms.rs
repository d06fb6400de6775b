//! Rooms over sockets: say, hear, come back.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod socket_support;

use std::time::Duration;

use actors::rooms::Command;
use protocol::{ErrorCode, entry::Durability, limits};
use rookery_gateway::SocketSettings;
use serde_json::json;
use socket_support::{room, server, server_with, settings, user};

#[tokio::test]
async fn what_one_says_all_hear_and_the_sender_is_told() {
    let server = server().await;
    server.make_room(1, &[2]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    let opened = alice.open(1, None).await;
    assert_eq!((&opened["head"], &opened["durability"]), (&json!(3), &json!("durable")));
    bob.open(1, Some(3)).await;
    alice.say_in(1, 1, "hello").await;
    let ack = alice.hear("ack").await;
    assert_eq!((&ack["n"], &ack["seq"]), (&json!(1), &json!(4)));
    let heard = bob.hear("entries").await;
    assert_eq!(heard["entries"][0]["body"]["text"], "hello");
    assert_eq!(heard["entries"][0]["from"], json!(user(1)));
}

#[tokio::test]
async fn a_send_that_comes_again_gets_the_same_answer() {
    let server = server().await;
    server.make_room(1, &[]).await;
    let mut alice = server.client(1).await;
    alice.say_in(1, 1, "hello").await;
    let first = alice.hear("ack").await;
    alice.say_in(1, 1, "hello").await;
    assert_eq!(alice.hear("ack").await, first);
    alice.say_in(1, 1, "something else").await;
    assert_eq!(alice.hear("refused").await["code"], "conflict");
    alice.say_in(1, 5, "too far").await;
    let refused = alice.hear("refused").await;
    assert_eq!((&refused["code"], &refused["expected"]), (&json!("out_of_order"), &json!(2)));
    assert_eq!(server.gateway.counters().refusals(ErrorCode::Conflict).get(), 1);
}

#[tokio::test]
async fn many_sends_at_once_are_answered_in_order() {
    let server = server().await;
    server.make_room(1, &[]).await;
    let mut alice = server.client(1).await;
    for n in 1..=limits::WINDOW_SENDS as u64 {
        alice.say_in(1, n, "hello").await;
    }
    for n in 1..=limits::WINDOW_SENDS as u64 {
        assert_eq!(alice.hear("ack").await["n"], n);
    }
}

#[tokio::test]
async fn who_may_not_hear_a_room_is_told_why() {
    let server = server().await;
    server.make_room(1, &[]).await;
    let mut eve = server.client(3).await;
    eve.say(json!({ "type": "open", "id": 4, "room": room(1) })).await;
    let error = eve.hear("error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(4), &json!("not_a_member")));
    eve.say(json!({ "type": "open", "id": 5, "room": room(77) })).await;
    assert_eq!(eve.hear("error").await["code"], "not_found");
    eve.say_in(1, 1, "let me in").await;
    let refused = eve.hear("refused").await;
    assert_eq!((&refused["code"], &refused["definite"]), (&json!("not_a_member"), &json!(true)));
}

#[tokio::test]
async fn a_room_is_closed_when_asked_and_when_one_is_put_out() {
    let server = server().await;
    server.make_room(1, &[2]).await;
    let mut bob = server.client(2).await;
    bob.open(1, None).await;
    bob.say(json!({ "type": "close", "id": 6, "room": room(1) })).await;
    assert_eq!(bob.hear("closed").await["id"], 6);
    bob.open(1, None).await;
    server.command(1, 1, Command::Kick(user(2))).await;
    let closed = bob.hear("closed").await;
    assert_eq!((&closed["code"], &closed["room"]), (&json!("not_a_member"), &json!(room(1))));
    bob.say_in(1, 1, "hey").await;
    assert_eq!(bob.hear("refused").await["code"], "not_a_member");
}

#[tokio::test]
async fn one_frame_resumes_all_rooms_and_names_what_is_left_out() {
    let server = server().await;
    server.make_room(1, &[2]).await;
    server.make_room(2, &[2]).await;
    server.make_room(3, &[2]).await;
    let mut alice = server.client(1).await;
    let said = 150;
    for n in 1..=said {
        alice.say_in(1, n, "one").await;
        alice.hear("ack").await;
    }
    alice.say_in(2, 1, "two").await;
    alice.hear("ack").await;
    let resume = json!({
        room(1).to_string(): { "after": 10, "open": true },
        room(2).to_string(): { "after": 3, "open": true },
        room(3).to_string(): { "after": 3 },
        room(99).to_string(): { "after": 3, "open": true },
    });
    let identify = json!({ "type": "identify", "token": "2", "resume": resume });
    let mut bob = server.client_that(identify).await;
    let gap = bob.hear("gap").await;
    assert_eq!((&gap["after"], &gap["upto"]), (&json!(10), &json!(said + 3 - 100)));
    let closed = bob.hear("closed").await;
    assert_eq!((&closed["room"], &closed["code"]), (&json!(room(99)), &json!("not_found")));
    let mut seqs = std::collections::BTreeMap::<String, Vec<u64>>::new();
    while seqs.values().map(Vec::len).sum::<usize>() < 101 {
        let frame = bob.hear("entries").await;
        let entries = frame["entries"].as_array().unwrap();
        let of_room = seqs.entry(frame["room"].as_str().unwrap().to_owned()).or_default();
        of_room.extend(entries.iter().map(|entry| entry["seq"].as_u64().unwrap()));
    }
    assert_eq!(seqs[&room(1).to_string()], (said + 4 - 100..=said + 3).collect::<Vec<_>>());
    assert_eq!(seqs[&room(2).to_string()], [4]);
    let page = json!({ "type": "history", "id": 3, "room": room(1), "from": { "before": 54 }, "limit": 200 });
    bob.say(page).await;
    let page = bob.hear("page").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 53);
}

#[tokio::test]
async fn read_marks_reach_the_other_devices() {
    let server = server().await;
    server.make_room(1, &[2]).await;
    let mut phone = server.client_that(json!({ "type": "identify", "token": "2.1" })).await;
    let mut desk = server.client_that(json!({ "type": "identify", "token": "2.2" })).await;
    phone.say(json!({ "type": "read", "room": room(1), "seq": 2 })).await;
    let mark = desk.hear("read_mark").await;
    assert_eq!((&mark["seq"], &mark["unread"]), (&json!(2), &json!(1)));
    phone.say(json!({ "type": "read", "room": room(99), "seq": 2 })).await;
    let error = phone.hear("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("not_a_member"), &json!(room(99))));
}

#[tokio::test]
async fn typing_presence_and_status_are_passed_on() {
    let server = server().await;
    server.make_room(1, &[2]).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    alice.open(1, None).await;
    bob.open(1, None).await;
    alice.say(json!({ "type": "typing", "room": room(1) })).await;
    assert_eq!(bob.hear("typing").await["user"], json!(user(1)));
    alice.hear("status").await;
    alice.say(json!({ "type": "status", "status": "away" })).await;
    assert_eq!(alice.hear("status").await["status"], "away");
    bob.say(json!({ "type": "watch", "users": [user(1)] })).await;
    let presence = bob.hear("presence").await;
    assert_eq!(presence["users"][0]["status"], "away");
}

#[tokio::test]
async fn a_refreshed_token_keeps_the_session_and_an_expired_one_ends_it() {
    let heartbeat = Duration::from_millis(300);
    let server = server_with(SocketSettings { heartbeat, ..settings() }).await;
    let mut client = server.client(1).await;
    client.say(json!({ "type": "refresh", "id": 3, "token": "2" })).await;
    assert_eq!(client.hear("error").await["code"], "forbidden");
    client.say(json!({ "type": "refresh", "id": 4, "token": "1" })).await;
    assert_eq!(client.hear("refreshed").await["id"], 4);
    server.clock.advance(Duration::from_secs(631));
    assert_eq!(client.closed().await, 4102);
}

#[tokio::test]
async fn an_ephemeral_room_is_heard_as_any_other() {
    let server = server().await;
    server.make_room_that_is(1, &[2], Durability::Ephemeral).await;
    let (mut alice, mut bob) = (server.client(1).await, server.client(2).await);
    assert_eq!(alice.open(1, None).await["durability"], "ephemeral");
    let head = bob.open(1, None).await["head"].as_u64().unwrap();
    alice.say_in(1, 1, "hello").await;
    assert_eq!(alice.hear("ack").await["seq"], head + 1);
    assert_eq!(bob.entries_upto(head + 1).await.last(), Some(&(head + 1)));
}

#[tokio::test]
async fn a_user_who_is_signed_out_is_told_at_once() {
    let server = server().await;
    let mut client = server.client_that(json!({ "type": "identify", "token": "1.4" })).await;
    let device = protocol::DeviceId::from_u128(4);
    let which = actors::users::SignedOut::Device(device);
    server.actors.users.sign_out(user(1), which, protocol::CloseCode::SignedOut);
    assert_eq!(client.closed().await, 4103);
}
