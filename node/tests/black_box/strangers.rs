//! Input that no sane client sends: it is told an error or a close code, nothing panics, and nobody else notices.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Client, Rest,
    net::{Message, Socket},
    record::Outcome,
    rest::HttpMethod,
};
use protocol::{Body, CloseCode, Encoding, ErrorCode, Kind, RoomId, ServerFrame, WriterId, limits};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{CANARY, Server, connect, end, frame_that, socket, within};

/// A server, somebody who attacks it, and somebody who only wants to talk.
struct Scene {
    server: Server,
    mallory: Rest,
    people: Vec<Rest>,
    bystander: Client,
    room: RoomId,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start(&[]);
        let (mallory, bob) = (server.person("mallory").await, server.person("bob").await);
        let room = bob.create_room("quiet").await.unwrap();
        let bystander = connect(&bob, Encoding::Json, WriterId::from_u128(0xb0b));
        bystander.open(room);
        within("the bystander's stream", bystander.live(room)).await;
        Self { server, people: vec![mallory.clone(), bob], mallory, bystander, room }
    }

    async fn identified(&self, encoding: Encoding) -> Socket {
        socket(&self.mallory, encoding, BTreeMap::new()).await.0
    }

    async fn unidentified(&self) -> Socket {
        Socket::connect(&self.server.address(), Encoding::Json, "").await.unwrap()
    }

    /// The bystander is heard and was never disconnected, and the log tells of nothing bad.
    async fn nobody_noticed(&self) {
        let body = Body::text(&format!("{CANARY} still here")).unwrap();
        let message = self.bystander.try_send(self.room, Kind::Message, None, body).unwrap();
        let outcome = within("the bystander's ack", self.bystander.answered(message)).await;
        assert!(matches!(outcome, Outcome::Acked(_)), "{outcome:?}");
        assert_eq!(self.bystander.record().connections, 1);
        self.server.assert_quiet(&self.people);
    }
}

fn has_error(told: &[ServerFrame], code: ErrorCode) -> bool {
    told.iter().any(|frame| matches!(frame, ServerFrame::Error(error) if error.code == code))
}

/// What no client says, as text.
fn nonsense() -> Vec<String> {
    let deep = format!(r#"{{"type":"ping","id":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    vec![
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        r#"{"type":"open","id":"seven","room":5}"#.to_owned(),
        r#"{"type":"send"}"#.to_owned(),
        r#"{"type":"dance","id":1}"#.to_owned(),
        r#"{"type":"ping","id":99999999999999999999}"#.to_owned(),
        r#"{"type":"history","id":1,"room":"00000000000000000000000000000001","limit":-1}"#.to_owned(),
        deep,
    ]
}

#[tokio::test]
async fn nonsense_is_told_an_error_or_a_close_code() {
    let scene = Scene::set().await;
    for text in nonsense() {
        let mut socket = scene.identified(Encoding::Json).await;
        let shown: String = text.chars().take(60).collect();
        socket.send_raw(Message::text(text)).await.unwrap();
        // Behind the nonsense stands a ping: either it is answered, or the socket has ended with a code.
        let _ = socket.send_raw(Message::text(r#"{"type":"ping","id":77}"#)).await;
        let mut told = Vec::new();
        let closed = within("an answer", async {
            loop {
                match socket.receive().await {
                    client::net::Received::Frame(frame) => {
                        if matches!(&*frame, ServerFrame::Pong(pong) if pong.id == Some(77)) {
                            return None;
                        }
                        told.push(*frame);
                    }
                    client::net::Received::End(close) => return Some(close.map(|(code, _)| code)),
                    _ => {}
                }
            }
        })
        .await;
        match closed {
            None => assert!(
                told.iter().any(|frame| matches!(frame, ServerFrame::Error(_))),
                "{shown:?} was told nothing: {told:?}"
            ),
            Some(code) => assert_eq!(code, Some(CloseCode::ProtocolError.code()), "{shown:?}"),
        }
    }
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_end_the_socket() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    // A masked text frame of two bytes that are no UTF-8.
    socket.write_bytes(&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]).await.unwrap();
    end(&mut socket).await;
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn frames_of_the_other_encoding_are_refused() {
    let scene = Scene::set().await;
    let mut json = scene.identified(Encoding::Json).await;
    json.send_raw(Message::binary(vec![0x81, 0xa4, b't'])).await.unwrap();
    assert_eq!(end(&mut json).await.0, Some(CloseCode::ProtocolError.code()));
    let mut packed = scene.identified(Encoding::MessagePack).await;
    packed.send_raw(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    assert_eq!(end(&mut packed).await.0, Some(CloseCode::ProtocolError.code()));
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn an_oversized_frame_ends_the_socket_as_too_large() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    // The server may end it before it has read all.
    let _ = socket.send_raw(Message::text("x".repeat(limits::FRAME_BYTES + 1))).await;
    assert_eq!(end(&mut socket).await.0, Some(CloseCode::TooLarge.code()));
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_frame_that_lies_about_its_length_takes_no_memory() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    // The header of a masked text frame of 2^62 bytes.
    let mut header = vec![0x81, 0xff];
    header.extend((1u64 << 62).to_be_bytes());
    header.extend([0; 4]);
    socket.write_bytes(&header).await.unwrap();
    end(&mut socket).await;
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_frame_that_is_cut_off_leaves_nothing_behind() {
    let scene = Scene::set().await;
    for _ in 0..20 {
        let mut socket = scene.identified(Encoding::Json).await;
        socket.write_bytes(&[0x81, 0xfe, 0x10, 0x00, 1, 2, 3, 4, b'x']).await.unwrap();
        drop(socket);
    }
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    let body = "x".repeat(limits::BODY_BYTES);
    let send = json!({
        "type": "send", "room": scene.room, "writer": WriterId::from_u128(1), "n": 1, "kind": "message",
        "body": { "text": body },
    });
    socket.send_raw(Message::text(send.to_string())).await.unwrap();
    let code = frame_that(&mut socket, |frame| match frame {
        ServerFrame::Refused(refused) => Some(refused.code),
        ServerFrame::Error(error) => Some(error.code),
        _ => None,
    })
    .await;
    assert!(matches!(code, ErrorCode::Invalid | ErrorCode::TooLarge), "{code:?}");
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn whoever_has_not_said_who_they_are_can_do_nothing() {
    let scene = Scene::set().await;
    let open = json!({ "type": "open", "id": 1, "room": scene.room });
    for text in [r#"{"type":"ping","id":1}"#.to_owned(), open.to_string(), "junk".to_owned()] {
        let mut socket = scene.unidentified().await;
        socket.send_raw(Message::text(text)).await.unwrap();
        let (code, told) = end(&mut socket).await;
        let code = code.and_then(CloseCode::from_code);
        assert!(matches!(code, Some(CloseCode::ProtocolError | CloseCode::Unauthenticated)), "{code:?}");
        assert!(!told.iter().any(|frame| matches!(frame, ServerFrame::Opened(_) | ServerFrame::Pong(_))));
    }
    let mut socket = scene.unidentified().await;
    let token = "eyJhbGciOiJub25lIn0.e30.";
    socket.send_raw(Message::text(json!({ "type": "identify", "token": token }).to_string())).await.unwrap();
    assert_eq!(end(&mut socket).await.0, Some(CloseCode::Unauthenticated.code()));
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn whoever_says_nothing_is_shown_out() {
    let scene = Scene::set().await;
    let mut socket = scene.unidentified().await;
    assert_eq!(end(&mut socket).await.0, Some(CloseCode::IdentifyTimeout.code()));
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_flood_of_frames_is_slowed_and_then_ended() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    for id in 0..5_000 {
        let frame = json!({ "type": "typing", "room": scene.room, "id": id }).to_string();
        if socket.send_raw(Message::text(frame)).await.is_err() {
            break;
        }
    }
    let (code, told) = end(&mut socket).await;
    assert_eq!(code, Some(CloseCode::Flood.code()), "{told:?}");
    assert!(has_error(&told, ErrorCode::RateLimited), "{told:?}");
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_flood_of_pings_is_ended() {
    let scene = Scene::set().await;
    let mut socket = scene.identified(Encoding::Json).await;
    for _ in 0..5_000 {
        if socket.send_raw(Message::Ping(vec![0; 125].into())).await.is_err() {
            break;
        }
    }
    assert_eq!(end(&mut socket).await.0, Some(CloseCode::Flood.code()));
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_problems_not_faults() {
    let scene = Scene::set().await;
    let cases = [
        (HttpMethod::POST, "/v1/rooms".to_owned(), Some(json!({ "name": 5 }))),
        (HttpMethod::POST, "/v1/rooms".to_owned(), Some(json!([]))),
        (HttpMethod::GET, "/v1/rooms/not-an-id".to_owned(), None),
        (HttpMethod::GET, format!("/v1/rooms/{}/entries?after=-1", scene.room), None),
        (HttpMethod::GET, "/v1/rooms?cursor=%00%ff".to_owned(), None),
        (HttpMethod::POST, "/v1/sessions".to_owned(), Some(json!({ "name": "x".repeat(100_000) }))),
    ];
    for (method, path, body) in cases {
        let answer = scene.mallory.call(method, &path, body).await.unwrap();
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.code().is_some(), "{path}: {answer:?}");
    }
    scene.nobody_noticed().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_dropped() {
    let scene = Scene::set().await;
    let mut stream = scene.server.address().connect().await.unwrap();
    stream.write_all(b"GET /v1/rooms HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the server waits for good");
    scene.nobody_noticed().await;
}
