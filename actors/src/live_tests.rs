//! The actors themselves, over a store in memory: what happens when one of them fails, and when nobody needs it.

mod erasing;
mod keeping;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    Body, CloseCode, DeviceId, Encoding, ErrorCode, Kind, Millis, RoomId, ServerFrame, SessionId, UserId,
    WriterId,
    client::PresenceStatus,
    entry::{Durability, HistoryAccess, Visibility},
};
use store::{Marks, memory::MemoryStore};
use telemetry::TraceContext;

use crate::{
    Actors, Chance, Clock, Notice, Outbox, Session, World,
    audience::AudienceMessage,
    room::RoomMessage,
    rooms::{Command, Draft, NewRoom, Open},
    session::{Class, Pushed},
    simulation::client::PlainJson,
    user::UserMessage,
    users::SignedOut,
    world::Settings,
};

const ROOM: RoomId = RoomId::from_u128(7);
const ANN: UserId = UserId::from_u128(1);
const BOB: UserId = UserId::from_u128(2);

struct Counter(AtomicU64);

impl Clock for Counter {
    fn now(&self) -> Millis {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Chance for Counter {
    fn bits(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64 | 1
    }
}

#[derive(Default)]
pub(crate) struct Recorder {
    frames: Mutex<Vec<ServerFrame>>,
    notices: Mutex<Vec<Notice>>,
}

impl Outbox for Recorder {
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn push(&self, frames: &[Bytes], _: Class) -> Pushed {
        let frames = frames.iter().map(|bytes| Encoding::Json.decode_server(bytes).unwrap());
        self.frames.lock().unwrap().extend(frames);
        Pushed::Taken
    }

    fn settle(&self, _: RoomId, _: WriterId, _: u64) -> bool {
        true
    }

    fn notify(&self, notice: Notice) {
        self.notices.lock().unwrap().push(notice);
    }
}

impl Recorder {
    pub(crate) fn texts(&self) -> Vec<String> {
        let frames = self.frames.lock().unwrap();
        let entries = frames.iter().filter_map(|frame| match frame {
            ServerFrame::Entries(entries) => Some(&entries.entries),
            _ => None,
        });
        let messages = entries.flatten().filter(|entry| entry.kind == Kind::Message);
        messages.filter_map(|entry| Some(entry.body.as_ref()?.as_json().to_owned())).collect()
    }

    pub(crate) fn has(&self, wanted: impl Fn(&ServerFrame) -> bool) -> bool {
        self.count(wanted) > 0
    }

    pub(crate) fn count(&self, wanted: impl Fn(&ServerFrame) -> bool) -> usize {
        self.frames.lock().unwrap().iter().filter(|frame| wanted(frame)).count()
    }

    pub(crate) fn noticed(&self, wanted: impl Fn(&Notice) -> bool) -> bool {
        self.notices.lock().unwrap().iter().any(wanted)
    }
}

struct Tree {
    actors: Actors,
    store: Arc<MemoryStore>,
}

impl Tree {
    async fn with(settings: Settings) -> Self {
        let store = Arc::new(MemoryStore::new());
        let counter = Arc::new(Counter(AtomicU64::new(1)));
        let world = World {
            clock: Arc::clone(&counter) as _,
            chance: counter,
            store: Arc::clone(&store) as _,
            encode: Arc::new(PlainJson),
            peers: None,
            settings: Arc::new(settings),
        };
        Self { actors: Actors::start(world).await.unwrap(), store }
    }

    async fn room(settings: Settings, durability: Durability) -> Self {
        let tree = Self::with(settings).await;
        let new = NewRoom {
            room: ROOM,
            by: ANN,
            peer: None,
            name: "here".into(),
            topic: String::new(),
            visibility: Visibility::Public,
            durability,
            history: HistoryAccess::All,
        };
        tree.actors.rooms.create(new).await.unwrap();
        tree
    }

    fn session(&self, user: UserId, number: u128) -> (Session, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        let outbox = Arc::clone(&recorder) as Arc<dyn Outbox>;
        let device = DeviceId::from_u128(number);
        (Session { id: SessionId::from_u128(number), user, device, outbox }, recorder)
    }

    async fn listener(&self, user: UserId, number: u128) -> (Session, Arc<Recorder>) {
        let (session, recorder) = self.session(user, number);
        self.open(&session);
        until(|| recorder.has(|frame| matches!(frame, ServerFrame::Opened(_)))).await;
        (session, recorder)
    }

    fn open(&self, session: &Session) {
        let open = Open {
            session: session.clone(),
            id: Some(1),
            room: ROOM,
            after: Some(0),
            incarnation: None,
            trace: TraceContext::NONE,
        };
        self.actors.rooms.open(open).unwrap();
    }

    async fn post(&self, n: u64, text: &str) -> Result<u64, ErrorCode> {
        let posted = self.actors.rooms.post(ROOM, draft(n, text)).await;
        posted.map(|(seq, _)| seq).map_err(|refusal| refusal.code)
    }
}

fn draft(n: u64, text: &str) -> Draft {
    Draft {
        user: ANN,
        writer: WriterId::from_u128(9),
        n,
        kind: Kind::Message,
        target: None,
        body: Body::text(text).unwrap(),
        trace: TraceContext::NONE,
    }
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes true");
}

#[tokio::test]
async fn a_room_that_panics_is_claimed_again_and_loses_nothing() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    let (_, ann) = tree.listener(ANN, 1).await;
    assert_eq!(tree.post(1, "before").await, Ok(3));

    let room = tree.actors.rooms.context.rooms.get(ROOM).unwrap();
    room.actor.cast(RoomMessage::Panic).unwrap();
    until(|| ann.noticed(|notice| matches!(notice, Notice::RoomEnded { .. }))).await;

    assert_eq!(tree.post(1, "before").await, Ok(3), "the same send has the same answer");
    assert_eq!(tree.post(2, "after").await, Ok(4));
    until(|| ann.texts().len() == 2).await;
    assert_eq!(ann.texts(), [r#"{"text":"before"}"#, r#"{"text":"after"}"#]);
}

#[tokio::test]
async fn a_room_that_panics_again_and_again_is_left_alone_for_a_while() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    for _ in 0..5 {
        let room = Arc::clone(&tree.actors.rooms.context.rooms);
        let child = tree.actors.rooms.child(ROOM).unwrap();
        child.actor.cast(RoomMessage::Panic).unwrap();
        until(|| room.get(ROOM).is_none()).await;
    }
    assert_eq!(tree.post(1, "hello").await, Err(ErrorCode::Unavailable));
}

#[tokio::test]
async fn listeners_of_an_audience_that_panics_are_told_where_they_were() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    let (session, ann) = tree.listener(ANN, 1).await;
    assert_eq!(tree.post(1, "before").await, Ok(3));
    until(|| ann.texts().len() == 1).await;

    let audience = tree.actors.rooms.context.audiences.map.get(ROOM).unwrap();
    audience.actor.cast(AudienceMessage::Panic).unwrap();
    until(|| ann.noticed(|notice| *notice == Notice::AudienceEnded { room: ROOM, at: 3 })).await;
    assert_eq!(tree.post(2, "meanwhile").await, Ok(4));

    tree.open(&session);
    until(|| ann.texts().iter().any(|text| text.contains("meanwhile"))).await;
}

#[tokio::test]
async fn an_idle_room_retires_and_its_listeners_hear_it_again_when_it_wakes() {
    let settings = Settings { room_idle_ms: 50, ..Settings::default() };
    let tree = Tree::room(settings, Durability::Durable).await;
    let (_, ann) = tree.listener(ANN, 1).await;
    until(|| tree.actors.rooms.active() == 0).await;

    assert_eq!(tree.post(1, "awake").await, Ok(3));
    until(|| ann.texts().len() == 1).await;
}

#[tokio::test]
async fn an_ephemeral_room_stays_while_somebody_listens() {
    let settings = Settings { room_idle_ms: 50, ..Settings::default() };
    let tree = Tree::room(settings, Durability::Ephemeral).await;
    let (session, ann) = tree.listener(ANN, 1).await;
    assert!(tree.post(1, "now").await.is_ok());
    until(|| ann.texts().len() == 1).await;

    tree.actors.rooms.close(ROOM, session.id);
    until(|| tree.actors.rooms.active() == 0).await;
    let page = tree.actors.rooms.page(ANN, ROOM, None, 10).await.unwrap();
    assert!(page.entries.is_empty(), "what was said is gone with the room's life");
    assert_eq!(tree.post(1, "a new life").await.map(|_| ()), Ok(()), "writers begin again");
}

#[tokio::test]
async fn nobody_makes_a_room_by_asking_for_one() {
    let tree = Tree::with(Settings::default()).await;
    assert_eq!(tree.post(1, "hello?").await, Err(ErrorCode::NotFound));
    let (session, ann) = tree.session(ANN, 1);
    tree.open(&session);
    until(|| ann.noticed(|notice| matches!(notice, Notice::Shut { code: ErrorCode::NotFound, .. }))).await;
    until(|| tree.actors.rooms.active() == 0).await;
}

#[tokio::test]
async fn who_is_banned_hears_the_ban_and_nothing_after_it() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    tree.actors.rooms.command(ROOM, BOB, Command::Join { invite: None }).await.unwrap();
    let (_, bob) = tree.listener(BOB, 2).await;
    tree.actors.rooms.command(ROOM, ANN, Command::Ban(BOB)).await.unwrap();
    assert!(tree.post(1, "without bob").await.is_ok());
    until(|| bob.noticed(|notice| matches!(notice, Notice::Shut { code: ErrorCode::Banned, .. }))).await;
    assert!(bob.texts().is_empty());
}

#[tokio::test]
async fn who_is_invited_or_put_out_learns_it_without_hearing_the_room() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    let (session, bob) = tree.session(BOB, 2);
    tree.actors.users.connect(session).await.unwrap();
    tree.actors.rooms.command(ROOM, ANN, Command::Invite(BOB)).await.unwrap();
    until(|| bob.has(|frame| matches!(frame, ServerFrame::Heads(_)))).await;
    tree.actors.rooms.command(ROOM, BOB, Command::Join { invite: None }).await.unwrap();
    tree.actors.rooms.command(ROOM, ANN, Command::Kick(BOB)).await.unwrap();
    until(|| bob.has(|frame| matches!(frame, ServerFrame::Closed(closed) if closed.id.is_none()))).await;
}

#[tokio::test]
async fn who_shares_no_room_any_more_is_seen_no_more() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    tree.actors.rooms.command(ROOM, BOB, Command::Join { invite: None }).await.unwrap();
    let (owner, _) = tree.session(ANN, 1);
    tree.actors.users.connect(owner).await.unwrap();
    let (session, bob) = tree.session(BOB, 2);
    tree.actors.users.connect(session.clone()).await.unwrap();
    tree.actors.users.watch(&session, &[ANN]).await.unwrap();
    until(|| bob.has(|frame| shows(frame, PresenceStatus::Online))).await;

    tree.actors.rooms.command(ROOM, ANN, Command::Ban(BOB)).await.unwrap();
    until(|| bob.has(|frame| shows(frame, PresenceStatus::Offline) && !last_seen(frame))).await;
}

#[tokio::test]
async fn a_deleted_message_takes_its_edits_with_it() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    let (_, ann) = tree.listener(ANN, 1).await;
    assert_eq!(tree.post(1, "first").await, Ok(3));
    let of = |n, kind, target| Draft { kind, target: Some(target), ..draft(n, "second") };
    tree.actors.rooms.post(ROOM, of(2, Kind::Edit, 3)).await.unwrap();
    tree.actors.rooms.post(ROOM, of(3, Kind::Deletion, 3)).await.unwrap();
    let again = tree.actors.rooms.post(ROOM, of(4, Kind::Edit, 3)).await;
    assert_eq!(again.map_err(|refusal| refusal.code), Err(ErrorCode::Invalid), "what is withdrawn stays so");

    let page = tree.actors.rooms.page(ANN, ROOM, None, 10).await.unwrap();
    let shown = |seq: u64| page.entries.iter().any(|entry| entry.seq == seq && entry.body.is_some());
    assert!(!shown(3) && !shown(4) && shown(5));
    let (_, late) = tree.listener(ANN, 2).await;
    until(|| late.noticed(|notice| matches!(notice, Notice::Behind { .. }))).await;
    assert!(late.texts().is_empty() && ann.texts().len() == 1, "nobody is given it from memory");
}

#[tokio::test]
async fn a_user_goes_passive_and_wakes_and_leaves_after_a_pause() {
    let settings = Settings { user_idle_ms: 20, offline_after_ms: 60, ..Settings::default() };
    let tree = Tree::room(settings, Durability::Durable).await;
    tree.actors.rooms.command(ROOM, BOB, Command::Join { invite: None }).await.unwrap();
    let (watcher, bob) = tree.session(BOB, 2);
    tree.actors.users.connect(watcher.clone()).await.unwrap();
    tree.actors.users.watch(&watcher, &[ANN]).await.unwrap();

    let (session, ann) = tree.session(ANN, 1);
    tree.actors.users.connect(session.clone()).await.unwrap();
    until(|| bob.has(|frame| shows(frame, PresenceStatus::Online))).await;
    until(|| tree.actors.users.passive() == 2).await;

    tree.actors.users.set_status(ANN, session.id, PresenceStatus::Away);
    until(|| bob.has(|frame| shows(frame, PresenceStatus::Away))).await;
    tree.actors.users.sign_out(ANN, SignedOut::AllExcept(None), CloseCode::SignedOut);
    until(|| ann.noticed(|notice| *notice == Notice::End(CloseCode::SignedOut))).await;

    tree.actors.users.disconnect(ANN, session.id);
    until(|| bob.has(|frame| shows(frame, PresenceStatus::Offline) && last_seen(frame))).await;
    let seen = tree.store.last_seen(&[ANN]).await.unwrap();
    assert!(seen[0].is_some());
}

#[tokio::test]
async fn a_socket_that_comes_wakes_nobody() {
    let tree = Tree::with(Settings::default()).await;
    let (first, ann) = tree.session(ANN, 1);
    let (second, _) = tree.session(ANN, 2);
    tree.actors.users.connect(first).await.unwrap();
    tree.actors.users.connect(second.clone()).await.unwrap();
    assert_eq!(tree.actors.users.passive(), 1);
    assert!(
        ann.has(|frame| matches!(frame, ServerFrame::Status(own) if own.status == PresenceStatus::Online))
    );
    tree.actors.users.set_status(ANN, second.id, PresenceStatus::Away);
    assert_eq!(tree.actors.users.passive(), 0, "what happens later is decided in order, by an actor");
}

#[tokio::test]
async fn sockets_of_a_user_whose_actor_fails_register_again() {
    let tree = Tree::with(Settings::default()).await;
    let (session, ann) = tree.session(ANN, 1);
    tree.actors.users.connect(session.clone()).await.unwrap();
    tree.actors.users.map.tell(ANN, UserMessage::Panic);
    until(|| ann.noticed(|notice| *notice == Notice::UserEnded)).await;
    tree.actors.users.connect(session.clone()).await.unwrap();
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_sockets() {
    let tree = Tree::with(Settings { user_sessions: 2, ..Settings::default() }).await;
    let connect = async |number| tree.actors.users.connect(tree.session(ANN, number).0).await.map(|_| ());
    assert_eq!((connect(1).await, connect(2).await), (Ok(()), Ok(())));
    assert_eq!(connect(3).await.map_err(|refusal| refusal.code), Err(ErrorCode::TooMany));
}

fn shows(frame: &ServerFrame, status: PresenceStatus) -> bool {
    matches!(frame, ServerFrame::Presence(presence) if presence.users.iter().any(|user| user.user == ANN && user.status == status))
}

fn last_seen(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Presence(presence) if presence.users.iter().any(|user| user.last_seen.is_some()))
}
