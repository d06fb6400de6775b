//! A gateway on a loopback port over the real actors and a store in memory, and clients that speak to it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actors::{
    Actors, Chance, Clock, World,
    rooms::{Command, NewRoom},
    world::Settings,
};
use async_trait::async_trait;
use axum::{Extension, Router, routing::get};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    DeviceId, ErrorCode, Millis, RoomId, UserId,
    entry::{Durability, HistoryAccess, Visibility},
};
use rookery_gateway::{
    ClientAddress, Frames, Gateway, GatewayParts, Identifier, SocketSettings,
    auth::{Credential, Identity},
    limits::Rate,
};
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request},
};

/// Longest wait for anything: a test that hits it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const START: Millis = 1_800_000_000_000;

/// Time stands until a test moves it.
pub struct FakeClock(AtomicU64);

impl FakeClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}

/// Numbers that do not repeat.
#[derive(Default)]
pub struct FakeChance(AtomicU64);

impl Chance for FakeChance {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst)) + (7 << 64)
    }
}

/// A token is `<user>` or `<user>.<device>`, or the name of a refusal; a ticket is `ticket-<user>`.
struct FakeIdentifier;

#[async_trait]
impl Identifier for FakeIdentifier {
    async fn identify(&self, credential: Credential<'_>) -> Result<Identity, ErrorCode> {
        let text = match credential {
            Credential::Token("expired") => return Err(ErrorCode::Expired),
            Credential::Token("disabled") => return Err(ErrorCode::Disabled),
            Credential::Token("away") => return Err(ErrorCode::Unavailable),
            Credential::Token("never") => std::future::pending().await,
            Credential::Token(token) => token,
            Credential::Ticket(ticket) => ticket.strip_prefix("ticket-").ok_or(ErrorCode::Unauthenticated)?,
        };
        let (user, device) = text.split_once('.').unwrap_or((text, "1"));
        let number = |text: &str| text.parse().map_err(|_| ErrorCode::Unauthenticated);
        let expires_at = START + 600_000;
        let (user, device) = (UserId::from_u128(number(user)?), DeviceId::from_u128(number(device)?));
        Ok(Identity { user, device, expires_at })
    }
}

pub struct Server {
    pub gateway: Gateway,
    pub actors: Actors,
    pub clock: Arc<FakeClock>,
}

/// Settings of a test: any port, nothing that takes long, and no rate that a test runs into by accident.
pub fn settings() -> SocketSettings {
    SocketSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        close_timeout: Duration::from_secs(1),
        frames: Rate { per_second: 100_000, burst: 100_000 },
        ..SocketSettings::default()
    }
}

pub async fn server() -> Server {
    server_with(settings()).await
}

pub async fn server_with(settings: SocketSettings) -> Server {
    server_of(
        settings,
        Settings { user_sends_per_s: 100_000, user_sends_burst: 100_000, ..Settings::default() },
    )
    .await
}

pub async fn server_of(settings: SocketSettings, actors: Settings) -> Server {
    let (clock, chance) = (Arc::new(FakeClock(AtomicU64::new(START))), Arc::new(FakeChance::default()));
    let world = World {
        clock: clock.clone(),
        chance: chance.clone(),
        store: Arc::new(MemoryStore::new()),
        encode: Arc::new(Frames),
        peers: None,
        settings: Arc::new(actors),
    };
    let actors = Actors::start(world).await.unwrap();
    let whoami =
        |Extension(ClientAddress(address)): Extension<ClientAddress>| async move { address.to_string() };
    let parts = GatewayParts {
        rooms: actors.rooms.clone(),
        users: actors.users.clone(),
        identifier: Arc::new(FakeIdentifier),
        router: Router::new().route("/whoami", get(whoami)),
        clock: clock.clone(),
        chance,
        settings,
    };
    Server { gateway: Gateway::start(parts).await.unwrap(), actors, clock }
}

pub fn user(number: u128) -> UserId {
    UserId::from_u128(number)
}

pub fn room(number: u128) -> RoomId {
    RoomId::from_u128(number)
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    /// A public room of user 1's, joined by these.
    pub async fn make_room(&self, number: u128, members: &[u128]) -> RoomId {
        self.make_room_that_is(number, members, Durability::Durable).await
    }

    pub async fn make_room_that_is(&self, number: u128, members: &[u128], durability: Durability) -> RoomId {
        let new = NewRoom {
            room: room(number),
            by: user(1),
            peer: None,
            name: format!("room {number}"),
            topic: String::new(),
            visibility: Visibility::Public,
            durability,
            history: HistoryAccess::All,
        };
        self.actors.rooms.create(new).await.unwrap();
        for member in members {
            self.command(number, *member, Command::Join { invite: None }).await;
        }
        room(number)
    }

    pub async fn command(&self, number: u128, by: u128, command: Command) {
        self.actors.rooms.command(room(number), user(by), command).await.unwrap();
    }

    /// A client that has said nothing yet.
    pub async fn knock(&self) -> Client {
        self.knock_with(self.request(&[])).await.unwrap()
    }

    pub async fn knock_with(&self, request: Request) -> Result<Client, Error> {
        let socket = TcpStream::connect(self.address()).await.unwrap();
        let writer = socket.local_addr().unwrap().port().into();
        let (socket, _) = timeout(PATIENCE, client_async(request, socket)).await.unwrap()?;
        Ok(Client::new(socket, writer))
    }

    pub fn request(&self, headers: &[(&'static str, &str)]) -> Request {
        self.request_to("/v1/socket", headers)
    }

    pub fn request_to(&self, path: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut request = format!("ws://{}{path}", self.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    /// The HTTP status with which an upgrade is refused; 101 if it is not.
    pub async fn status(&self, request: Request) -> u16 {
        match self.knock_with(request).await {
            Ok(_) => 101,
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// A client of this user's.
    pub async fn client(&self, number: u128) -> Client {
        self.client_that(json!({ "type": "identify", "token": number.to_string() })).await
    }

    pub async fn client_that(&self, identify: Value) -> Client {
        let mut client = self.knock().await;
        client.say(identify).await;
        client.hear("welcome").await;
        client
    }
}

pub struct Client<S = TcpStream> {
    pub socket: WebSocketStream<S>,
    /// Frames that were heard while waiting for another kind.
    pub set_aside: Vec<Value>,
    /// Who counts its sends; no other client's.
    pub writer: u128,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(socket: WebSocketStream<S>, writer: u128) -> Self {
        Self { socket, set_aside: Vec::new(), writer }
    }

    pub async fn say(&mut self, frame: Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    pub async fn send(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.unwrap().unwrap();
    }

    /// The next frame, of whatever kind.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no frame: {other:?}"),
            }
        }
    }

    async fn message(&mut self) -> Message {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("something is heard in time");
        message.expect("the socket is open").expect("the socket is whole")
    }

    /// The next frame of this kind; others that come before it are set aside.
    pub async fn hear(&mut self, kind: &str) -> Value {
        if let Some(place) = self.set_aside.iter().position(|frame| frame["type"] == kind) {
            return self.set_aside.remove(place);
        }
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
            self.set_aside.push(frame);
        }
    }

    /// How the server closes the socket; frames before it are set aside.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the socket ends in time") {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(Message::Text(text))) => self.set_aside.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(_)) => {}
                other => panic!("not closed: {other:?}"),
            }
        }
    }

    /// Opens a room after this entry, and waits until it is.
    pub async fn open(&mut self, number: u128, after: Option<u64>) -> Value {
        let mut frame = json!({ "type": "open", "id": 1, "room": room(number) });
        if let Some(after) = after {
            frame["after"] = after.into();
        }
        self.say(frame).await;
        self.hear("opened").await
    }

    pub async fn say_in(&mut self, number: u128, n: u64, text: &str) {
        self.say(message(number, self.writer, n, text)).await;
    }

    /// Entries of a room in the order of arrival, up to this one.
    pub async fn entries_upto(&mut self, seq: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last().is_none_or(|last| *last < seq) {
            let frame = self.hear("entries").await;
            seqs.extend(
                frame["entries"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()),
            );
        }
        seqs
    }
}

pub fn message(number: u128, writer: u128, n: u64, text: &str) -> Value {
    json!({
        "type": "send",
        "room": room(number),
        "writer": protocol::WriterId::from_u128(writer),
        "n": n,
        "kind": "message",
        "body": { "text": text },
    })
}

/// Waits until something holds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}
