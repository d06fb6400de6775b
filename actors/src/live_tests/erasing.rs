//! Somebody's words are taken out while others hear the room.

use protocol::{Entry, entry::Mask, server::Page};
use store::RoomLog;

use super::*;

impl Tree {
    /// A room in which Ann and Bob have said something: entries 4 and 5, and 6 is Ann's first, which she deletes with 7.
    async fn talked() -> Self {
        let tree = Self::room(Settings::default(), Durability::Durable).await;
        tree.actors.rooms.command(ROOM, BOB, Command::Join { invite: None }).await.unwrap();
        assert_eq!(tree.post(1, "ann's").await, Ok(4));
        let bobs = Draft { user: BOB, writer: WriterId::from_u128(10), ..draft(1, "bob's") };
        assert_eq!(tree.actors.rooms.post(ROOM, bobs).await.unwrap().0, 5);
        assert_eq!(tree.post(2, "ann's, deleted").await, Ok(6));
        let deletion = Draft { kind: Kind::Deletion, target: Some(6), ..draft(3, "why") };
        assert_eq!(tree.actors.rooms.post(ROOM, deletion).await.unwrap().0, 7);
        tree
    }

    async fn page(&self) -> Page {
        self.actors.rooms.page(BOB, ROOM, None, 10).await.unwrap()
    }
}

fn masks(entries: &[Entry]) -> Vec<(u64, Option<Mask>)> {
    entries.iter().map(|entry| (entry.seq, entry.masked)).collect()
}

fn entries_of(heard: &Recorder) -> Vec<Entry> {
    let frames = heard.frames.lock().unwrap();
    let entries = frames.iter().filter_map(|frame| match frame {
        ServerFrame::Entries(entries) => Some(entries.entries.clone()),
        _ => None,
    });
    entries.flatten().collect()
}

const AFTER: [(u64, Option<Mask>); 7] = [
    (1, None),
    (2, None),
    (3, None),
    (4, Some(Mask::Erased)),
    (5, None),
    (6, Some(Mask::Erased)),
    (7, Some(Mask::Erased)),
];

#[tokio::test]
async fn words_are_gone_from_the_log_and_from_every_memory() {
    let tree = Tree::talked().await;
    let (_, early) = tree.listener(BOB, 1).await;
    let erased = tree.actors.rooms.erase(ROOM, ANN).await.unwrap();
    assert_eq!((erased.erased, erased.already), (3, 0));
    assert_eq!(masks(&tree.page().await.entries), AFTER);

    // From the audience's tail, …
    let (_, heard) = tree.listener(BOB, 2).await;
    until(|| entries_of(&heard).len() == 7).await;
    assert_eq!(masks(&entries_of(&heard)), AFTER);
    // … and from the room's ring, once nobody's audience is there.
    let audience = tree.actors.rooms.context.audiences.map.get(ROOM).unwrap();
    audience.actor.cast(AudienceMessage::Panic).unwrap();
    until(|| early.noticed(|notice| matches!(notice, Notice::AudienceEnded { .. }))).await;
    let (_, heard) = tree.listener(BOB, 3).await;
    until(|| entries_of(&heard).len() == 7).await;
    assert_eq!(masks(&entries_of(&heard)), AFTER);

    let again = tree.actors.rooms.erase(ROOM, ANN).await.unwrap();
    assert_eq!((again.erased, again.already), (0, 3), "once is enough");
    assert_eq!(tree.post(1, "ann's").await, Ok(4), "a repeat has its answer still");
    assert_eq!(tree.post(1, "or this?").await, Ok(4), "with nothing left to compare it with");
}

#[tokio::test]
async fn what_a_claim_before_had_remembered_is_forgotten_too() {
    let tree = Tree::talked().await;
    // An earlier owner has erased the rows and could not tell anybody.
    let rows = tree.store.rows_after(ROOM, 3, 7, 9).await.unwrap();
    let anns: Vec<_> = rows.into_iter().filter(|row| row.is_erasable(ANN)).collect();
    assert_eq!(tree.store.erase(ROOM, &anns).await, Ok(true));
    let erased = tree.actors.rooms.erase(ROOM, ANN).await.unwrap();
    assert_eq!((erased.erased, erased.already), (0, 3));
    let (_, heard) = tree.listener(BOB, 2).await;
    until(|| entries_of(&heard).len() == 7).await;
    assert_eq!(masks(&entries_of(&heard)), AFTER);
}

#[tokio::test]
async fn an_owner_that_was_replaced_does_not_say_that_it_is_done() {
    let tree = Tree::talked().await;
    let mut nonces = || 99;
    store::owner::claim(&*tree.store, ROOM, &mut nonces).await.unwrap();
    let refused = tree.actors.rooms.erase(ROOM, ANN).await;
    assert_eq!(refused.map_err(|refusal| refusal.code), Err(ErrorCode::Unavailable));
    // The room learns of it with its next append; then the next owner is asked.
    assert_eq!(tree.post(4, "lost").await, Err(ErrorCode::Unknown));
    assert_eq!(tree.actors.rooms.erase(ROOM, ANN).await.map(|done| done.already), Ok(3));
}

#[tokio::test]
async fn an_ephemeral_room_forgets_words_and_a_deleted_one_is_erased() {
    let tree = Tree::room(Settings::default(), Durability::Ephemeral).await;
    assert!(tree.post(1, "now").await.is_ok());
    assert_eq!(tree.actors.rooms.erase(ROOM, ANN).await.map(|done| done.erased), Ok(0));
    let page = tree.actors.rooms.page(ANN, ROOM, None, 10).await.unwrap();
    assert_eq!(page.entries.last().and_then(|entry| entry.masked), Some(Mask::Erased));

    let tree = Tree::talked().await;
    tree.actors.rooms.command(ROOM, ANN, Command::Delete).await.unwrap();
    until(|| tree.actors.rooms.active() == 0).await;
    assert_eq!(tree.actors.rooms.erase(ROOM, ANN).await.map(|done| done.erased), Ok(3));
}
