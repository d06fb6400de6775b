//! Users with sockets on several nodes.

use protocol::{CloseCode, RoomId, ServerFrame, client::PresenceStatus, entry::Durability};

use super::rooms::{ANN, BOB, Cluster, peer, session};
use crate::{Notice, live_tests::until, users::SignedOut, world::Settings};

const ROOM: RoomId = RoomId::from_u128(7);

fn shows(frame: &ServerFrame, wanted: PresenceStatus) -> bool {
    matches!(frame, ServerFrame::Presence(presence) if presence.users.iter().any(|user| user.status == wanted))
}

#[tokio::test(start_paused = true)]
async fn limits_of_a_user_count_over_all_nodes() {
    let cluster = Cluster::of(2, Settings { user_sessions: 2, ..Settings::default() }).await;
    cluster.place(&[peer(1)]);
    let (one, two, three) = (session(ANN, 1).0, session(ANN, 2).0, session(ANN, 3).0);
    let allowance = cluster.at(1).users.connect(one).await.unwrap();
    let elsewhere = cluster.at(2).users.connect(two.clone()).await.unwrap();
    assert!(cluster.at(2).users.connect(three.clone()).await.is_err(), "one too many");
    // 60 at once, over two nodes.
    until(|| (0..).take_while(|_| allowance.take(1_000_000_000).is_ok()).count() < 35).await;
    let at_once = (0..100).take_while(|_| elsewhere.take(1_000_000_000).is_ok()).count();
    assert!((25..=35).contains(&at_once), "{at_once}");
    cluster.at(2).users.disconnect(ANN, two.id);
    until_ok(async || cluster.at(2).users.connect(three.clone()).await.is_ok()).await;
}

async fn until_ok(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it does not come true");
}

#[tokio::test(start_paused = true)]
async fn a_status_is_one_on_all_nodes_and_survives_its_home() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (ann, ann_sees) = session(ANN, 1);
    let (also_ann, also_sees) = session(ANN, 2);
    let (bob, bob_sees) = session(BOB, 3);
    cluster.at(2).users.connect(ann.clone()).await.unwrap();
    cluster.at(3).users.connect(also_ann).await.unwrap();
    cluster.at(3).users.connect(bob.clone()).await.unwrap();
    cluster.at(3).users.watch(&bob, &[ANN]).await.unwrap();
    cluster.at(2).users.set_status(ANN, ann.id, PresenceStatus::Dnd);
    let is_dnd = |frame: &ServerFrame| matches!(frame, ServerFrame::Status(status) if status.status == PresenceStatus::Dnd);
    until(|| ann_sees.has(is_dnd) && also_sees.has(is_dnd)).await;
    until(|| bob_sees.has(|frame| shows(frame, PresenceStatus::Dnd))).await;

    cluster.net.kill(peer(1));
    cluster.place(&[peer(2)]);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert!(!bob_sees.has(|frame| shows(frame, PresenceStatus::Offline)), "nobody left");
    let at_home = (peer(2), ANN);
    assert_eq!(cluster.net.shown.lock().unwrap().get(&at_home), Some(&PresenceStatus::Dnd));
}

#[tokio::test(start_paused = true)]
async fn the_sockets_of_a_dead_node_leave_their_users() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (ann, _) = session(ANN, 1);
    let (bob, bob_sees) = session(BOB, 3);
    cluster.at(2).users.connect(ann).await.unwrap();
    cluster.at(3).users.connect(bob.clone()).await.unwrap();
    cluster.at(3).users.watch(&bob, &[ANN]).await.unwrap();
    until(|| bob_sees.has(|frame| shows(frame, PresenceStatus::Online))).await;
    cluster.net.kill(peer(2));
    until(|| bob_sees.has(|frame| shows(frame, PresenceStatus::Offline))).await;
}

#[tokio::test(start_paused = true)]
async fn signing_out_and_reading_reach_every_node() {
    let cluster = Cluster::of(3, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (one, sees_one) = session(ANN, 1);
    let (two, sees_two) = session(ANN, 2);
    cluster.at(2).users.connect(one).await.unwrap();
    cluster.at(3).users.connect(two).await.unwrap();
    cluster.at(2).users.read(ANN, ROOM, 2).await.unwrap();
    let is_read = |frame: &ServerFrame| matches!(frame, ServerFrame::ReadMark(mark) if mark.seq == 2);
    until(|| sees_one.has(is_read) && sees_two.has(is_read)).await;

    cluster.at(1).users.sign_out(ANN, SignedOut::AllExcept(None), CloseCode::SignedOut);
    let ends = |notice: &Notice| *notice == Notice::End(CloseCode::SignedOut);
    until(|| sees_one.noticed(ends) && sees_two.noticed(ends)).await;
}

#[tokio::test(start_paused = true)]
async fn news_of_a_room_that_is_not_open_reach_every_node() {
    let cluster = Cluster::of(2, Settings::default()).await;
    cluster.place(&[peer(1)]);
    cluster.room(ROOM, Durability::Durable).await;
    let (bob, bob_sees) = session(BOB, 3);
    cluster.at(2).users.connect(bob).await.unwrap();
    let by = ANN;
    let command = crate::rooms::Command::Update {
        name: Some("news".into()),
        topic: None,
        visibility: None,
        history: None,
        slow_mode_s: None,
    };
    let record = cluster.at(2).rooms.command(ROOM, by, command).await.unwrap();
    let is_news = |frame: &ServerFrame| matches!(frame, ServerFrame::Heads(heads) if heads.rooms.iter().any(|head| head.head == record.applied_seq));
    until(|| bob_sees.has(is_news)).await;
}
