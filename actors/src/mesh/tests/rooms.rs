//! Rooms that are elsewhere.

use std::{sync::Arc, time::Duration};

use protocol::{
    Body, ErrorCode, Kind, RoomId, Seq, ServerFrame, UserId, WriterId,
    entry::{Durability, HistoryAccess, Visibility},
};
use telemetry::TraceContext;

use super::net::{Cut, Net};
use crate::{
    Actors, Notice, PeerId,
    live_tests::{Recorder, until},
    rooms::{Command, Draft, NewRoom, Open},
    session::{Outbox, Session},
    world::Settings,
};

pub(super) const ANN: UserId = UserId::from_u128(1);
pub(super) const BOB: UserId = UserId::from_u128(2);

pub(super) fn peer(number: u64) -> PeerId {
    PeerId::of("node", number)
}

/// Nodes that see each other, and know where everything lives.
pub(super) struct Cluster {
    pub(super) net: Arc<Net>,
    pub(super) nodes: Vec<(PeerId, Actors)>,
}

impl Cluster {
    pub(super) async fn of(count: u64, settings: Settings) -> Self {
        let net = Net::new();
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push((peer(number), net.node(peer(number), settings.clone()).await));
        }
        let cluster = Self { net, nodes };
        cluster.place(&cluster.peers());
        cluster
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.nodes.iter().map(|(peer, _)| *peer).collect()
    }

    /// Everybody places everything on these nodes.
    pub(super) fn place(&self, nodes: &[PeerId]) {
        self.nodes.iter().for_each(|(me, _)| self.net.see(*me, nodes));
    }

    pub(super) fn at(&self, number: u64) -> &Actors {
        &self.nodes.iter().find(|(peer, _)| *peer == self::peer(number)).unwrap().1
    }

    /// A public room with Ann and Bob in it.
    pub(super) async fn room(&self, room: RoomId, durability: Durability) {
        let new = NewRoom {
            room,
            by: ANN,
            peer: None,
            name: "there".into(),
            topic: String::new(),
            visibility: Visibility::Public,
            durability,
            history: HistoryAccess::All,
        };
        let rooms = &self.nodes.last().unwrap().1.rooms;
        rooms.create(new).await.unwrap();
        rooms.command(room, BOB, Command::Join { invite: None }).await.unwrap();
    }
}

pub(super) fn session(user: UserId, number: u128) -> (Session, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let outbox = Arc::clone(&recorder) as Arc<dyn Outbox>;
    let device = protocol::DeviceId::from_u128(number);
    (Session { id: protocol::SessionId::from_u128(number), user, device, outbox }, recorder)
}

/// A connected session that hears the room.
pub(super) async fn listener(
    node: &Actors,
    room: RoomId,
    user: UserId,
    number: u128,
) -> (Session, Arc<Recorder>) {
    let (session, recorder) = session(user, number);
    node.users.connect(session.clone()).await.unwrap();
    open(node, room, &session, Some(0));
    until(|| recorder.has(|frame| matches!(frame, ServerFrame::Opened(_)))).await;
    (session, recorder)
}

fn open(node: &Actors, room: RoomId, session: &Session, after: Option<Seq>) {
    let (session, trace) = (session.clone(), TraceContext::NONE);
    node.rooms.open(Open { session, id: Some(1), room, after, incarnation: None, trace }).unwrap();
}

fn draft(user: UserId, n: u64, text: &str) -> Draft {
    Draft {
        user,
        writer: WriterId::from_u128(user.as_u128() + 100),
        n,
        kind: Kind::Message,
        target: None,
        body: Body::text(text).unwrap(),
        trace: TraceContext::NONE,
    }
}

fn acks(recorder: &Recorder) -> usize {
    recorder.count(|frame| matches!(frame, ServerFrame::Ack(_)))
}

const ROOM: RoomId = RoomId::from_u128(7);

#[tokio::test(start_paused = true)]
async fn a_room_is_heard_on_every_node_in_one_order() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (ann_session, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    let (bob_session, bob) = listener(cluster.at(3), ROOM, BOB, 2).await;
    assert_eq!((cluster.at(1).rooms.active(), cluster.at(2).rooms.active()), (1, 0));
    for n in 1..=20 {
        cluster.at(2).rooms.send(ROOM, draft(ANN, n, &format!("a{n}")), &ann_session, 1).unwrap();
        cluster.at(3).rooms.send(ROOM, draft(BOB, n, &format!("b{n}")), &bob_session, 1).unwrap();
    }
    until(|| ann.texts().len() == 40 && bob.texts().len() == 40).await;
    assert_eq!(ann.texts(), bob.texts());
    assert_eq!((acks(&ann), acks(&bob)), (20, 20));
    assert_eq!(cluster.net.log(ROOM).await.len(), 3 + 40);
}

#[tokio::test(start_paused = true)]
async fn what_a_link_lost_is_read_in_the_log() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (_, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    let post = async |n| cluster.at(1).rooms.post(ROOM, draft(BOB, n, "hello")).await.unwrap().0;
    let first = post(1).await;
    until(|| ann.texts().len() == 1).await;

    cluster.net.cut(peer(1), peer(2), Cut::Loses);
    post(2).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    cluster.net.heal(peer(1), peer(2));
    let third = post(3).await;
    let behind = |head| move |notice: &Notice| *notice == Notice::Behind { room: ROOM, at: first, head };
    until(|| ann.noticed(behind(third - 1)) || ann.noticed(behind(third))).await;
    assert_eq!(ann.texts().len(), 1, "nothing comes out of order");
}

#[tokio::test(start_paused = true)]
async fn the_last_thing_that_a_link_lost_is_found_without_another() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (_, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    cluster.net.cut(peer(1), peer(2), Cut::Loses);
    let (seq, _) = cluster.at(1).rooms.post(ROOM, draft(BOB, 1, "last")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    // Nobody notices the link's lapse: the lease is told again.
    cluster.net.heal_silently(peer(1), peer(2));
    until(|| ann.noticed(|notice| matches!(notice, Notice::Behind { head, .. } if *head == seq))).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_owner_died_is_claimed_and_its_senders_send_again() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (session, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    let send =
        |n, attempt| cluster.at(2).rooms.send(ROOM, draft(ANN, n, "hello"), &session, attempt).unwrap();
    send(1, 1);
    until(|| acks(&ann) == 1).await;

    cluster.net.kill(peer(1));
    send(2, 1);
    cluster.place(&[peer(3)]);
    until(|| ann.noticed(|notice| *notice == Notice::RoomEnded { room: ROOM })).await;
    send(2, 2);
    until(|| acks(&ann) == 2 && ann.texts().len() == 2).await;
    assert_eq!(cluster.at(3).rooms.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_moves_with_what_it_was_asked_meanwhile() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (_, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    let epoch_before = cluster.net.epoch(ROOM).await;
    cluster.place(&[peer(3)]);
    // Three nodes with three ways to the room.
    for (n, number) in (1..).zip([1, 2, 3, 1, 2, 3]) {
        let posted = cluster.at(number).rooms.post(ROOM, draft(BOB, n, "on the way")).await;
        assert_eq!(posted.map(|(seq, _)| seq).map_err(|refusal| refusal.code), Ok(n + 3));
    }
    until(|| ann.texts().len() == 6).await;
    assert!(!ann.noticed(|notice| matches!(notice, Notice::Shut { .. } | Notice::Behind { .. })));
    until(|| cluster.at(1).rooms.active() == 0 && cluster.at(3).rooms.active() == 1).await;
    assert_eq!(cluster.net.epoch(ROOM).await, epoch_before + 1, "handed over in one claim");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_sees_it_late_is_told_that_the_room_moved() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    // Nodes 1 and 3 know, node 2 does not.
    cluster.net.see(peer(1), &[peer(3)]);
    cluster.net.see(peer(3), &[peer(3)]);
    until(|| cluster.at(1).rooms.active() == 0).await;
    let (session, ann) = session(ANN, 1);
    cluster.at(2).users.connect(session.clone()).await.unwrap();
    open(cluster.at(2), ROOM, &session, Some(0));
    let two = cluster.at(2).rooms.clone();
    let post = tokio::spawn(async move { two.post(ROOM, draft(BOB, 1, "late")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!ann.has(|frame| matches!(frame, ServerFrame::Opened(_))));
    cluster.net.see(peer(2), &[peer(3)]);
    until(|| ann.texts().len() == 1).await;
    assert!(post.await.unwrap().is_ok());
    assert!(!ann.noticed(|notice| matches!(notice, Notice::Shut { .. })), "nobody is told of it");
}

#[tokio::test(start_paused = true)]
async fn who_is_banned_hears_nothing_more_on_any_node() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (_, bob) = listener(cluster.at(2), ROOM, BOB, 2).await;
    cluster.at(2).rooms.command(ROOM, ANN, Command::Ban(BOB)).await.unwrap();
    cluster.at(2).rooms.post(ROOM, draft(ANN, 1, "without bob")).await.unwrap();
    until(|| bob.noticed(|notice| matches!(notice, Notice::Shut { code: ErrorCode::Banned, .. }))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(bob.texts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_room_is_read_and_heard_elsewhere() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Ephemeral).await;
    let (_, ann) = listener(cluster.at(2), ROOM, ANN, 1).await;
    cluster.at(2).rooms.post(ROOM, draft(BOB, 1, "now")).await.unwrap();
    until(|| ann.texts().len() == 1).await;
    let page = cluster.at(2).rooms.page(ANN, ROOM, None, 10).await.unwrap();
    assert_eq!(page.entries.iter().filter(|entry| entry.kind == Kind::Message).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_a_room_by_asking_another_node_for_one() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    let (session, ann) = session(ANN, 1);
    cluster.at(2).users.connect(session.clone()).await.unwrap();
    open(cluster.at(2), ROOM, &session, Some(0));
    until(|| ann.noticed(|notice| matches!(notice, Notice::Shut { code: ErrorCode::NotFound, .. }))).await;
}
