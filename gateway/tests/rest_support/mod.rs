//! A whole REST server without sockets: the router over a store in memory and the real actors, with a clock that
//! tests move.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use actors::{
    Actors, Chance, Clock, Encode, Notice, Outbox, Session, World,
    session::{Class, Pushed},
};
use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use protocol::{DeviceId, Encoding, Millis, RoomId, Seq, ServerFrame, SessionId, UserId, WriterId};
use rookery_gateway::{
    ClientAddress,
    auth::{Auth, AuthSettings, passwords::PasswordSettings},
    rest::{Health, RestParts, RestSettings, rates::PerSecond, router},
};
use serde_json::{Value, json};
use store::{Store, memory::MemoryStore};
use tower::ServiceExt;

pub const PASSWORD: &str = "correct horse battery";
pub const ORIGIN: &str = "http://chat.test";
const HOST: &str = "chat.test";

/// Time stands until a test moves it.
pub struct FakeClock(AtomicU64);

impl FakeClock {
    pub fn advance(&self, millis: Millis) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}

/// Numbers that do not repeat and look like chance.
#[derive(Default)]
pub struct FakeChance(AtomicU64);

impl Chance for FakeChance {
    fn bits(&self) -> u128 {
        let count = self.0.fetch_add(1, Ordering::SeqCst);
        let hash = blake3::hash(&count.to_be_bytes());
        u128::from_be_bytes(hash.as_bytes()[..16].try_into().unwrap())
    }
}

struct NoFrames;

impl Encode for NoFrames {
    fn encode(&self, _: &ServerFrame, _: Encoding) -> bytes::Bytes {
        bytes::Bytes::new()
    }
}

/// A socket that notes what the actors tell it.
#[derive(Default)]
pub struct Socket(Mutex<Vec<Notice>>);

impl Socket {
    pub fn notices(&self) -> Vec<Notice> {
        self.0.lock().unwrap().clone()
    }
}

impl Outbox for Socket {
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn push(&self, _: &[bytes::Bytes], _: Class) -> Pushed {
        Pushed::Taken
    }

    fn settle(&self, _: RoomId, _: WriterId, _: u64) -> bool {
        true
    }

    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

pub struct Server {
    pub router: Router,
    pub clock: Arc<FakeClock>,
    pub chance: Arc<FakeChance>,
    pub store: Arc<dyn Store>,
    pub auth: Arc<Auth>,
    pub actors: Actors,
    pub health: Health,
}

/// Somebody signed in.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: UserId,
    pub name: String,
    pub device: DeviceId,
    pub token: String,
    pub refresh: String,
}

/// Cheap passwords and rates that no test runs into by accident.
pub fn lenient() -> (AuthSettings, RestSettings) {
    let passwords = PasswordSettings { memory_kib: 8, passes: 1, ..PasswordSettings::default() };
    let auth = AuthSettings { passwords, ..AuthSettings::default() };
    let many = PerSecond::new(100_000, 100_000);
    let rest = RestSettings {
        public_url: ORIGIN.into(),
        per_address: many,
        per_stranger: many,
        per_user: many,
        ..RestSettings::default()
    };
    (auth, rest)
}

pub async fn server() -> Server {
    let (auth, rest) = lenient();
    server_with(auth, rest).await
}

pub async fn server_with(auth: AuthSettings, settings: RestSettings) -> Server {
    server_on(Arc::new(MemoryStore::new()), auth, settings).await
}

pub async fn server_on(store: Arc<dyn Store>, auth: AuthSettings, settings: RestSettings) -> Server {
    let clock = Arc::new(FakeClock(AtomicU64::new(1_800_000_000_000)));
    let chance = Arc::new(FakeChance::default());
    let world = World {
        clock: Arc::clone(&clock) as _,
        chance: Arc::clone(&chance) as _,
        store: Arc::clone(&store),
        encode: Arc::new(NoFrames),
        peers: None,
        settings: Arc::default(),
    };
    let actors = Actors::start(world).await.unwrap();
    let auth = Auth::start(Arc::clone(&store), Arc::clone(&clock) as _, Arc::clone(&chance) as _, auth);
    let auth = Arc::new(auth.await.unwrap());
    let health = Health::default();
    let router = router(RestParts {
        store: Arc::clone(&store),
        rooms: actors.rooms.clone(),
        users: actors.users.clone(),
        auth: Arc::clone(&auth),
        clock: Arc::clone(&clock) as _,
        chance: Arc::clone(&chance) as _,
        health: health.clone(),
        tasks: tokio_util::task::TaskTracker::new(),
        settings,
    });
    Server { router, clock, chance, store, auth, actors, health }
}

/// A request in the making.
pub struct Ask<'a> {
    server: &'a Server,
    request: http::request::Builder,
    body: Body,
    address: IpAddr,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    pub fn code(&self) -> String {
        match serde_json::from_str::<Value>(&self.text) {
            Ok(body) => body["code"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::new(),
        }
    }

    pub fn fields(&self) -> Vec<String> {
        let body = self.json();
        let fields = body["fields"].as_array().cloned().unwrap_or_default();
        fields.iter().map(|field| field["field"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn refused(self, code: &str) -> Self {
        assert_eq!(self.code(), code, "{} {}", self.status, self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        self
    }

    /// The refresh token of the cookie that is set.
    pub fn cookie(&self) -> Option<String> {
        let line = self.headers.get(header::SET_COOKIE)?.to_str().unwrap();
        Some(line.strip_prefix("rookery_refresh=")?.split(';').next()?.to_owned())
    }
}

impl Ask<'_> {
    pub fn by(self, person: &Person) -> Self {
        self.token(&person.token)
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn json(mut self, body: Value) -> Self {
        self.request = self.request.header(header::CONTENT_TYPE, "application/json");
        self.body = Body::from(body.to_string());
        self
    }

    pub fn raw(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub fn from(mut self, address: &str) -> Self {
        self.address = address.parse().unwrap();
        self
    }

    pub async fn send(self) -> Reply {
        let mut request = self.request.body(self.body).unwrap();
        request.extensions_mut().insert(ClientAddress(self.address));
        let response = self.server.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Reply { status: parts.status, headers: parts.headers, text }
    }
}

impl Server {
    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
        Ask { server: self, request, body: Body::empty(), address: IpAddr::from([192, 0, 2, 1]) }
    }

    pub fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Ask<'_> {
        self.ask(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Ask<'_> {
        self.ask(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Ask<'_> {
        self.ask(Method::DELETE, path)
    }

    pub async fn sign_up(&self, name: &str) -> Person {
        let body = json!({ "name": name, "password": PASSWORD, "client": "test" });
        person(&self.post("/v1/accounts").json(body).send().await.expect(201))
    }

    pub async fn sign_in(&self, name: &str) -> Person {
        let body = json!({ "name": name, "password": PASSWORD, "client": "test" });
        person(&self.post("/v1/sessions").json(body).send().await.expect(200))
    }

    pub async fn refresh(&self, token: &str) -> Reply {
        self.post("/v1/sessions/refresh").json(json!({ "refresh_token": token })).send().await
    }

    /// A socket of this sign-in.
    pub async fn connect(&self, person: &Person) -> Arc<Socket> {
        let socket = Arc::new(Socket::default());
        let session = Session {
            id: SessionId::from_u128(self.chance.bits()),
            user: person.id,
            device: person.device,
            outbox: Arc::clone(&socket) as _,
        };
        self.actors.users.connect(session).await.unwrap();
        socket
    }

    pub async fn actions(&self) -> Vec<String> {
        let records = self.store.audit(None, 1_000).await.unwrap().items;
        records.into_iter().rev().map(|record| record.action).collect()
    }

    pub async fn room(&self, owner: &Person, wish: Value) -> RoomId {
        let room = self.post("/v1/rooms").by(owner).json(wish).send().await.expect(201);
        room.json()["id"].as_str().unwrap().parse().unwrap()
    }

    pub async fn say(&self, person: &Person, room: RoomId, text: &str) -> Seq {
        let body = json!({ "kind": "message", "body": { "text": text } });
        let reply = self.post(&format!("/v1/rooms/{room}/entries")).by(person).json(body).send().await;
        reply.expect(201).json()["seq"].as_u64().unwrap()
    }

    pub async fn join(&self, person: &Person, room: RoomId) {
        self.post(&format!("/v1/rooms/{room}/join")).by(person).send().await.expect(200);
    }
}

pub fn person(session: &Reply) -> Person {
    let session = session.json();
    Person {
        id: session["user"]["id"].as_str().unwrap().parse().unwrap(),
        name: session["user"]["name"].as_str().unwrap().to_owned(),
        device: session["device"].as_str().unwrap().parse().unwrap(),
        token: session["access_token"].as_str().unwrap().to_owned(),
        refresh: session["refresh_token"].as_str().unwrap_or_default().to_owned(),
    }
}

/// Waits for something that happens in another task.
pub async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never happened");
}
