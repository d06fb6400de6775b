//! Old entries go while the room is used; nobody is given what is gone, and everybody is told.

use protocol::{Seq, client::HistoryFrom, server::Gap};
use store::{
    Members, RoomLog,
    log::{BUCKET_ROWS, Kept},
    retention::Policy,
};

use super::*;

/// The room's two first entries say that it is there and who is in it.
const MADE: u64 = 2;

fn newest(entries: u64) -> Settings {
    let retention = Policy { max_entries: Some(entries), max_age_days: None };
    Settings { retention, ..Settings::default() }
}

impl Tree {
    /// Says something until the log has so many entries; `n` goes on from what was said before.
    async fn talk_until(&self, from: Seq, upto: Seq) {
        for seq in from..=upto {
            assert_eq!(self.post(seq - MADE, "words").await, Ok(seq));
        }
    }

    async fn until_kept(&self, wanted: Kept) {
        let wait = async {
            while self.store.kept(ROOM).await != Ok(wanted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes true");
    }

    fn open_after(&self, session: &Session, after: Seq) {
        let open = Open {
            session: session.clone(),
            id: Some(1),
            room: ROOM,
            after: Some(after),
            incarnation: None,
            trace: TraceContext::NONE,
        };
        self.actors.rooms.open(open).unwrap();
    }

    async fn fail(&self) {
        let room = self.actors.rooms.context.rooms.get(ROOM).unwrap();
        let before = room.actor.get_id();
        room.actor.cast(RoomMessage::Panic).unwrap();
        until(|| self.actors.rooms.context.rooms.get(ROOM).is_none_or(|room| room.actor.get_id() != before))
            .await;
    }
}

#[tokio::test]
async fn a_full_bucket_goes_once_there_is_a_next_one_and_the_gap_is_named() {
    let tree = Tree::room(newest(1), Durability::Durable).await;
    let (_, listener) = tree.listener(ANN, 1).await;
    tree.talk_until(MADE + 1, BUCKET_ROWS).await;
    assert_eq!(tree.store.kept(ROOM).await, Ok(Kept::default()), "the newest bucket stays");
    tree.talk_until(BUCKET_ROWS + 1, BUCKET_ROWS + 5).await;
    tree.until_kept(Kept { oldest: 1, emptied: 1 }).await;
    let first = BUCKET_ROWS + 1;
    let retained = tree.actors.rooms.retain(ROOM).await.unwrap();
    assert_eq!((retained.first, retained.removed), (first, 0), "there is nothing more to do");

    // The room's and the audience's memory had more than that.
    let (late, heard) = tree.session(ANN, 2);
    tree.open_after(&late, BUCKET_ROWS - 3);
    until(|| heard.has(|frame| matches!(frame, ServerFrame::Entries(_)))).await;
    let gap = Gap { room: ROOM, after: BUCKET_ROWS - 3, upto: BUCKET_ROWS };
    assert!(heard.has(|frame| *frame == ServerFrame::Gap(gap)));
    let begins = |frame: &ServerFrame| matches!(frame, ServerFrame::Entries(entries) if entries.entries[0].seq == first);
    assert!(heard.has(begins));

    let page = tree.actors.rooms.page(ANN, ROOM, Some(HistoryFrom::After(0)), 10).await.unwrap();
    assert_eq!((page.first, page.entries[0].seq, page.entries.len()), (first, first, 5));
    let to_gone = Draft { kind: Kind::Reply, target: Some(9), ..draft(BUCKET_ROWS + 6 - MADE, "to whom?") };
    let refused = tree.actors.rooms.post(ROOM, to_gone).await;
    assert_eq!(refused.map_err(|refusal| refusal.code), Err(ErrorCode::NotFound));
    tree.talk_until(BUCKET_ROWS + 6, BUCKET_ROWS + 6).await;
    until(|| listener.texts().len() as u64 == BUCKET_ROWS + 6 - MADE).await;
}

#[tokio::test]
async fn a_run_that_a_failure_ended_goes_on_when_the_room_wakes() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    tree.talk_until(MADE + 1, BUCKET_ROWS + 5).await;
    assert_eq!(tree.store.kept(ROOM).await, Ok(Kept::default()), "off by default");
    tree.store.keep_from(ROOM, 1).await.unwrap();
    tree.fail().await;
    tree.talk_until(BUCKET_ROWS + 6, BUCKET_ROWS + 6).await;
    tree.until_kept(Kept { oldest: 1, emptied: 1 }).await;
    let page = tree.actors.rooms.page(ANN, ROOM, Some(HistoryFrom::After(0)), 10).await.unwrap();
    assert_eq!((page.first, page.entries.len()), (BUCKET_ROWS + 1, 6), "nothing above it is lost");
}

#[tokio::test]
async fn a_room_goes_by_its_own_choice_and_a_sender_is_still_known_after_that() {
    let tree = Tree::room(Settings::default(), Durability::Durable).await;
    tree.talk_until(MADE + 1, BUCKET_ROWS + 5).await;
    let own = Policy { max_entries: Some(1), max_age_days: None };
    tree.store.set_retention(ROOM, Some(own)).await.unwrap();
    let retained = tree.actors.rooms.retain(ROOM).await.unwrap();
    assert_eq!((retained.first, retained.removed), (BUCKET_ROWS + 1, BUCKET_ROWS));
    tree.fail().await;
    assert_eq!(tree.post(1, "words").await, Err(ErrorCode::Stored), "a repeat of what is gone");
    tree.talk_until(BUCKET_ROWS + 6, BUCKET_ROWS + 6).await;
}

#[tokio::test]
async fn nobody_removes_from_a_room_that_is_not_there() {
    let tree = Tree::with(newest(1)).await;
    let refused = tree.actors.rooms.retain(ROOM).await;
    assert_eq!(refused.map_err(|refusal| refusal.code), Err(ErrorCode::NotFound));
}
