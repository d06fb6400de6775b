//! Who opens a socket, and what becomes of one that does not say so properly.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod socket_support;

use std::time::Duration;

use futures_util::StreamExt;
use protocol::{Encoding, ServerFrame, client, limits};
use rookery_gateway::SocketSettings;
use serde_json::json;
use socket_support::{server, server_with, settings, user};
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

#[tokio::test]
async fn a_token_is_welcomed_before_anything_else_is_said() {
    let server = server().await;
    server.make_room(1, &[]).await;
    let mut client = server.knock().await;
    client.say(json!({ "type": "identify", "id": 5, "token": "1.4", "client": "test" })).await;
    let welcome = client.next().await;
    assert_eq!(welcome["type"], "welcome");
    assert_eq!((&welcome["id"], &welcome["user"]), (&json!(5), &json!(user(1))));
    assert_eq!(welcome["heartbeat_ms"], 25_000);
    let heads = client.hear("heads").await;
    assert_eq!(heads["rooms"][0]["head"], 2, "the room's making and its maker's joining: {heads}");
    client.hear("status").await;
}

#[tokio::test]
async fn tickets_are_taken_from_the_frame_and_from_the_address() {
    let server = server().await;
    server.client_that(json!({ "type": "identify", "ticket": "ticket-1" })).await;
    let request = server.request_to("/v1/socket?ticket=ticket-2", &[]);
    let mut client = server.knock_with(request).await.unwrap();
    client.say(json!({ "type": "identify" })).await;
    assert_eq!(client.hear("welcome").await["user"], json!(user(2)));
}

#[tokio::test]
async fn message_pack_is_spoken_with_those_who_ask_for_it() {
    let server = server().await;
    let request = server.request(&[("sec-websocket-protocol", "rookery.v1.msgpack")]);
    let mut client = server.knock_with(request).await.unwrap();
    let identify = client::Identify {
        id: Some(1),
        token: Some("1".into()),
        ticket: None,
        client: None,
        resume: Default::default(),
    };
    let bytes = Encoding::MessagePack.encode_client(&protocol::ClientFrame::Identify(identify));
    client.send(Message::binary(bytes)).await;
    let Message::Binary(bytes) = client.socket.next().await.unwrap().unwrap() else { panic!("not binary") };
    let frame = Encoding::MessagePack.decode_server(&bytes).unwrap();
    assert!(matches!(frame, ServerFrame::Welcome(welcome) if welcome.id == Some(1)));
}

#[tokio::test]
async fn refused_credentials_say_how_to_come_back() {
    let server = server().await;
    for (identify, error, close) in [
        (json!({ "token": "nonsense" }), "unauthenticated", 4101),
        (json!({ "token": "x".repeat(limits::TOKEN_BYTES + 1) }), "unauthenticated", 4101),
        (json!({}), "unauthenticated", 4101),
        (json!({ "ticket": "spent" }), "unauthenticated", 4101),
        (json!({ "token": "expired" }), "expired", 4102),
        (json!({ "token": "disabled" }), "disabled", 4104),
        (json!({ "token": "away" }), "unavailable", 4004),
    ] {
        let mut client = server.knock().await;
        let mut frame = identify.clone();
        frame["type"] = "identify".into();
        client.say(frame).await;
        assert_eq!(client.closed().await, close, "{error}");
        assert_eq!(client.hear("error").await["code"], error);
    }
    assert_eq!(server.gateway.counters().sessions.get(), 0);
}

#[tokio::test]
async fn nothing_may_come_before_identify() {
    let server = server().await;
    for first in [
        Message::text(r#"{"type":"ping"}"#),
        Message::text("rubbish"),
        Message::text(r#"{"type":"identify","token":7}"#),
        Message::binary(vec![1, 2, 3]),
    ] {
        let mut client = server.knock().await;
        client.send(first.clone()).await;
        assert_eq!(client.closed().await, 4200, "{first:?}");
    }
}

#[tokio::test]
async fn a_silent_socket_and_an_answerless_judge_have_a_deadline() {
    let identify_timeout = Duration::from_millis(100);
    let server = server_with(SocketSettings { identify_timeout, ..settings() }).await;
    let mut silent = server.knock().await;
    assert_eq!(silent.closed().await, 4100);
    let mut waiting = server.knock().await;
    waiting.say(json!({ "type": "identify", "token": "never" })).await;
    assert_eq!(waiting.closed().await, 4100);
}

#[tokio::test]
async fn an_address_has_few_sockets_that_are_not_identified() {
    let server = server_with(SocketSettings { max_unidentified_per_address: 2, ..settings() }).await;
    let mut first = server.knock().await;
    let _second = server.knock().await;
    assert_eq!(server.status(server.request(&[])).await, 429);
    first.say(json!({ "type": "identify", "token": "1" })).await;
    first.hear("welcome").await;
    assert_eq!(server.status(server.request(&[])).await, 101, "who is known does not count");
}

#[tokio::test]
async fn too_many_rooms_are_not_resumed() {
    let server = server().await;
    let mut client = server.knock().await;
    let resume: serde_json::Map<_, _> = (0..=limits::RESUME_ROOMS as u128)
        .map(|number| (socket_support::room(number).to_string(), json!({ "after": 1 })))
        .collect();
    client.say(json!({ "type": "identify", "token": "1", "resume": resume })).await;
    assert_eq!(client.closed().await, 4200);
    assert_eq!(client.hear("error").await["code"], "too_many");
}

#[tokio::test]
async fn a_user_has_a_number_of_sockets() {
    let actors = actors::world::Settings { user_sessions: 1, ..Default::default() };
    let server = socket_support::server_of(settings(), actors).await;
    let first = server.client(1).await;
    let mut second = server.knock().await;
    second.say(json!({ "type": "identify", "token": "1" })).await;
    assert_eq!(second.closed().await, 4203);
    assert_eq!(second.hear("error").await["code"], "too_many");
    drop(first);
    socket_support::eventually("the first is gone", || server.gateway.counters().sessions.get() == 0).await;
    server.client(1).await;
}

#[tokio::test]
async fn what_can_not_be_understood_is_answered_and_harms_nobody() {
    let server = server().await;
    let mut other = server.client(2).await;
    let mut client = server.client(1).await;
    for (text, code, id) in [
        ("", "invalid", None),
        ("{", "invalid", None),
        ("[]", "invalid", None),
        (r#"{"type":"open","id":7,"room":5}"#, "invalid", Some(7)),
        (r#"{"type":"dance","id":8}"#, "unsupported", Some(8)),
        (r#"{"type":"identify","id":9,"token":"1"}"#, "conflict", Some(9)),
    ] {
        client.send(Message::text(text)).await;
        let error = client.hear("error").await;
        assert_eq!((&error["code"], error["id"].as_u64()), (&json!(code), id), "{text}");
    }
    client.say(json!({ "type": "ping", "id": 1 })).await;
    assert_eq!(client.hear("pong").await["id"], 1);
    other.say(json!({ "type": "ping", "id": 2 })).await;
    assert_eq!(other.hear("pong").await["id"], 2);
    assert_eq!(server.gateway.counters().refusals(protocol::ErrorCode::Unsupported).get(), 1);
}

#[tokio::test]
async fn a_broken_client_is_closed_with_a_code_that_says_why() {
    let server = server().await;
    let text = |payload: Vec<u8>| {
        Message::Frame(Frame::message(Bytes::from(payload), OpCode::Data(Data::Text), true))
    };
    for (message, code) in [
        (Message::binary(vec![0x81, 0xa1, b'x']), 4200),
        (Message::text("x".repeat(limits::FRAME_BYTES + 1)), 4201),
        (text(vec![0xff, 0xfe]), 4200),
        (Message::Frame(Frame::message(Bytes::new(), OpCode::Data(Data::Continue), true)), 4200),
    ] {
        let mut client = server.client(1).await;
        client.send(message).await;
        assert_eq!(client.closed().await, code);
    }
    let mut client = server.client(1).await;
    let largest = "x".repeat(limits::FRAME_BYTES);
    client.send(Message::text(largest)).await;
    assert_eq!(client.hear("error").await["code"], "invalid", "the limit itself is allowed");
}

#[tokio::test]
async fn a_flood_is_slowed_down_and_then_closed() {
    let frames = SocketSettings::default().frames;
    let server = server_with(SocketSettings { frames, ..settings() }).await;
    let mut client = server.client(1).await;
    for _ in 0..400 {
        // The server may close while this is being said.
        if futures_util::SinkExt::feed(&mut client.socket, Message::text(r#"{"type":"unwatch","users":[]}"#))
            .await
            .is_err()
        {
            break;
        }
    }
    let _ = futures_util::SinkExt::flush(&mut client.socket).await;
    assert_eq!(client.closed().await, 4202);
    assert_eq!(client.hear("error").await["code"], "rate_limited");
}
