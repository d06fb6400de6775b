//! What writers and numbers mean: a repeat is answered alike, a jump and a lie are refused, a refusal blocks nothing.

use std::collections::BTreeMap;

use client::{Rest, net::Socket};
use protocol::{
    Body, ClientFrame, Encoding, ErrorCode, Kind, RoomId, ServerFrame, WriterId,
    client::Send,
    server::{Ack, Refused},
};

use crate::support::{CANARY, Server, frame_that, socket};

const WRITER: WriterId = WriterId::from_u128(0x5e4d);

struct Scene {
    server: Server,
    alice: Rest,
    room: RoomId,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start(&[("LIMITS__USER_SENDS_BURST", "500"), ("LIMITS__FRAMES_BURST", "500")]);
        let alice = server.person("alice").await;
        let room = alice.create_room("numbers").await.unwrap();
        Self { server, alice, room }
    }

    async fn socket(&self, encoding: Encoding) -> Socket {
        socket(&self.alice, encoding, BTreeMap::new()).await.0
    }

    fn message(&self, n: u64, text: &str) -> ClientFrame {
        let body = Body::text(&format!("{CANARY} {text}")).unwrap();
        self.with_body(n, body)
    }

    fn with_body(&self, n: u64, body: Body) -> ClientFrame {
        let (room, writer, kind) = (self.room, WRITER, Kind::Message);
        ClientFrame::Send(Send { room, writer, n, kind, target: None, body, traceparent: None })
    }

    async fn ask(&self, socket: &mut Socket, send: &ClientFrame) -> Result<Ack, Refused> {
        socket.send(send).await.unwrap();
        answer(socket).await
    }

    async fn texts(&self) -> Vec<String> {
        let log = self.alice.log(self.room).await.unwrap();
        let messages = log.into_iter().filter(|entry| entry.kind == Kind::Message);
        messages.map(|entry| entry.body.unwrap().as_json().to_owned()).collect()
    }
}

async fn answer(socket: &mut Socket) -> Result<Ack, Refused> {
    frame_that(socket, |frame| match frame {
        ServerFrame::Ack(ack) => Some(Ok(ack)),
        ServerFrame::Refused(refused) => Some(Err(refused)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_send_that_is_repeated_a_hundred_times_is_in_the_log_once() {
    let scene = Scene::set().await;
    let mut sockets = [scene.socket(Encoding::Json).await, scene.socket(Encoding::MessagePack).await];
    let send = scene.message(1, "once");
    let first = scene.ask(&mut sockets[0], &send).await.unwrap();
    for repeat in 0..100 {
        let again = scene.ask(&mut sockets[repeat % 2], &send).await;
        assert_eq!(again, Ok(first), "repeat {repeat}");
    }
    assert_eq!(scene.texts().await.len(), 1);
    scene.server.assert_quiet(std::slice::from_ref(&scene.alice));
}

#[tokio::test]
async fn a_send_that_is_repeated_at_once_over_two_sockets_is_in_the_log_once() {
    let scene = Scene::set().await;
    let mut sockets = [scene.socket(Encoding::Json).await, scene.socket(Encoding::MessagePack).await];
    let send = scene.message(1, "once");
    for repeat in 0..60 {
        sockets[repeat % 2].send(&send).await.unwrap();
    }
    // A repeat within one session may be answered once for several; each session is answered at least once.
    let first = answer(&mut sockets[0]).await.unwrap();
    assert_eq!(answer(&mut sockets[1]).await, Ok(first));
    assert_eq!(scene.ask(&mut sockets[0], &scene.message(2, "and on")).await.unwrap().n, 2);
    assert_eq!(scene.texts().await.len(), 2);
}

#[tokio::test]
async fn a_jump_is_refused_and_says_where_to_go_on() {
    let scene = Scene::set().await;
    let mut socket = scene.socket(Encoding::Json).await;
    let refused = scene.ask(&mut socket, &scene.message(2, "too early")).await.unwrap_err();
    assert_eq!((refused.code, refused.expected), (ErrorCode::OutOfOrder, Some(1)));
    assert!(refused.definite);
    scene.ask(&mut socket, &scene.message(1, "first")).await.unwrap();
    let refused = scene.ask(&mut socket, &scene.message(7, "too early")).await.unwrap_err();
    assert_eq!((refused.code, refused.expected), (ErrorCode::OutOfOrder, Some(2)));
    scene.ask(&mut socket, &scene.message(2, "second")).await.unwrap();
    assert_eq!(scene.texts().await.len(), 2);
}

#[tokio::test]
async fn other_content_under_a_used_number_is_a_conflict() {
    let scene = Scene::set().await;
    let mut sockets = [scene.socket(Encoding::Json).await, scene.socket(Encoding::Json).await];
    let first = scene.ask(&mut sockets[0], &scene.message(1, "true")).await.unwrap();
    for socket in &mut sockets {
        let refused = scene.ask(socket, &scene.message(1, "false")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
    }
    assert_eq!(scene.ask(&mut sockets[1], &scene.message(1, "true")).await, Ok(first));
    assert_eq!(scene.texts().await.len(), 1);
}

#[tokio::test]
async fn a_refused_number_does_not_block_the_next() {
    let scene = Scene::set().await;
    let mut socket = scene.socket(Encoding::Json).await;
    let to_nothing = ClientFrame::Send(Send {
        room: scene.room,
        writer: WRITER,
        n: 1,
        kind: Kind::Reply,
        target: Some(4_000),
        body: Body::text("to nothing").unwrap(),
        traceparent: None,
    });
    let refused = scene.ask(&mut socket, &to_nothing).await.unwrap_err();
    assert!(refused.definite, "{refused:?}");
    // The number was not consumed: it serves the next message.
    scene.ask(&mut socket, &scene.message(1, "first")).await.unwrap();
    scene.ask(&mut socket, &scene.message(2, "second")).await.unwrap();
    assert_eq!(scene.texts().await.len(), 2);
}

#[tokio::test]
async fn a_repeat_is_answered_alike_after_the_server_was_killed() {
    let mut scene = Scene::set().await;
    let send = scene.message(1, "once");
    let first = scene.ask(&mut scene.socket(Encoding::Json).await, &send).await.unwrap();
    scene.server.kill();
    tokio::task::spawn_blocking(move || {
        scene.server.run();
        scene
    })
    .await
    .map(async |scene| {
        let mut socket = scene.socket(Encoding::Json).await;
        match scene.ask(&mut socket, &send).await {
            Ok(again) => assert_eq!(again, first),
            // It may not know the content any more; the place it knows.
            Err(refused) => assert_eq!((refused.code, refused.seq), (ErrorCode::Stored, Some(first.seq))),
        }
        assert_eq!(scene.texts().await.len(), 1);
    })
    .unwrap()
    .await;
}
