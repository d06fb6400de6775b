//! Pages and rosters for somebody.

use std::{collections::BTreeMap, sync::Arc};

use protocol::{
    Body, Entry, Kind, Seq, UserId, WriterId,
    client::HistoryFrom,
    entry::{Durability, HistoryAccess, Mask, Membership, MembershipChange, RoomChange, Visibility},
    limits::PAGE_ENTRIES,
    server::Page,
};
use rookery_store::{
    Store,
    log::Row,
    members::{Derived, MemberRecord, RoomRecord},
    owner::{Batch, Ownership},
    reader::{ReadError, owners_roster, page, roster},
};

use crate::{
    lagging::Lagging,
    world::{ALICE, BOB, Chance, ROOM, TAB, claimed, committed, message, record},
};

const EVE: UserId = UserId::from_u128(0xe5);

/// Writes a room's entries, and what follows from them, as its owner does.
struct Writing {
    store: Arc<dyn Store>,
    ownership: Option<Ownership>,
    room: RoomRecord,
    members: BTreeMap<UserId, MemberRecord>,
    chance: Chance,
    /// Whether room and members are written to their tables too.
    derives: bool,
}

impl Writing {
    /// A room with Alice in it: entries 1 and 2.
    async fn begin(store: &Arc<dyn Store>, first: RoomChange, derives: bool) -> Self {
        let mut chance = Chance(9);
        let ownership = Some(claimed(&**store, ROOM, &mut chance).await.ownership);
        let room = RoomRecord { applied_seq: 0, joined: 0, ..record(ROOM, "") };
        let room = RoomRecord { durability: first.durability.unwrap_or(Durability::Durable), ..room };
        let mut writing =
            Self { store: store.clone(), ownership, room, members: BTreeMap::new(), chance, derives };
        writing.change(RoomChange { created: true, ..first }).await;
        writing.member(ALICE, Membership::Joined).await;
        writing
    }

    async fn write(&mut self, kind: Kind, target: Option<Seq>, body: serde_json::Value, n: u64) -> Seq {
        let ownership = self.ownership.take().unwrap();
        let seq = ownership.head() + 1;
        let writer = if n == 0 { WriterId::from_u128(0) } else { TAB };
        let body = Some(Body::new(&body).unwrap());
        let row = Row { kind, target, writer, body, ..message(seq, ownership.epoch(), n) };
        let mut derived = Derived::default();
        if row.changes_roster() && self.derives {
            self.room.applied_seq = seq;
            self.room.joined = self.members.values().filter(|member| member.is_joined()).count() as u64;
            derived.room = Some(self.room.clone());
            derived.members =
                self.members.values().filter(|member| member.changed_seq == seq).copied().collect();
        }
        let batch = Batch { rows: vec![row], write_id: self.chance.nonce(), derived };
        self.ownership = Some(committed(ownership.append(&*self.store, batch).await));
        seq
    }

    async fn change(&mut self, change: RoomChange) -> Seq {
        self.room.apply(&change);
        self.write(Kind::Room, None, serde_json::to_value(change).unwrap(), 0).await
    }

    async fn member(&mut self, user: UserId, change: Membership) -> Seq {
        let change = MembershipChange { user, change, role: None, until: None, invite: None };
        let seq = self.ownership.as_ref().unwrap().head() + 1;
        self.members.entry(user).or_insert_with(|| MemberRecord::stranger(user)).apply(&change, seq);
        self.write(Kind::Membership, None, serde_json::to_value(change).unwrap(), 0).await
    }

    async fn say(&mut self, n: u64) -> Seq {
        self.write(Kind::Message, None, serde_json::json!({ "text": n }), n).await
    }

    async fn delete(&mut self, target: Seq, n: u64) -> Seq {
        self.write(Kind::Deletion, Some(target), serde_json::json!({}), n).await
    }

    async fn page(&self, user: UserId, from: Option<HistoryFrom>, limit: usize) -> Result<Page, ReadError> {
        page(&*self.store, user, ROOM, from, limit).await
    }
}

fn a_room(visibility: Visibility, history: HistoryAccess) -> RoomChange {
    RoomChange {
        visibility: Some(visibility),
        history: Some(history),
        name: Some("Den".into()),
        ..Default::default()
    }
}

fn private() -> RoomChange {
    a_room(Visibility::Private, HistoryAccess::All)
}

fn seqs(page: &Page) -> Vec<Seq> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

pub(crate) async fn a_page_lies_where_it_was_asked_for(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    for n in 1..=20 {
        room.say(n).await;
    }
    let at = async |from, limit| seqs(&room.page(ALICE, from, limit).await.unwrap());
    assert_eq!(at(None, 3).await, [20, 21, 22], "the newest");
    assert_eq!(at(Some(HistoryFrom::Before(5)), 3).await, [2, 3, 4]);
    assert_eq!(at(Some(HistoryFrom::Before(99)), 2).await, [21, 22], "bounded by the head");
    assert_eq!(at(Some(HistoryFrom::After(5)), 3).await, [6, 7, 8]);
    assert!(at(Some(HistoryFrom::After(22)), 3).await.is_empty());
    assert_eq!(at(Some(HistoryFrom::Around(10)), 5).await, [8, 9, 10, 11, 12]);
    assert_eq!(at(Some(HistoryFrom::Around(1)), 4).await, [1, 2, 3, 4], "nothing below: the rest above");
    assert_eq!(at(Some(HistoryFrom::Around(10)), 1).await, [10]);
    assert_eq!(at(None, 0).await, [22], "at least one");
    assert_eq!(at(None, PAGE_ENTRIES + 50).await.len(), 22);
    let page = room.page(ALICE, None, 5).await.unwrap();
    assert_eq!((page.head, page.first, page.id), (22, 1, None));
}

pub(crate) async fn who_may_read_what(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    assert!(room.page(ALICE, None, 9).await.is_ok());
    assert_eq!(room.page(EVE, None, 9).await, Err(ReadError::NotAMember));
    for change in [Membership::Invited, Membership::Left, Membership::Kicked] {
        room.member(BOB, change).await;
        assert_eq!(room.page(BOB, None, 9).await, Err(ReadError::NotAMember), "{change:?}");
    }
    room.member(BOB, Membership::Joined).await;
    assert!(room.page(BOB, None, 9).await.is_ok());
    room.member(BOB, Membership::Banned).await;
    assert_eq!(room.page(BOB, None, 9).await, Err(ReadError::Banned));

    room.change(RoomChange { visibility: Some(Visibility::Public), ..Default::default() }).await;
    assert_eq!(
        room.page(EVE, None, 9).await.unwrap().first,
        1,
        "a public room's whole history is for everybody"
    );
    assert_eq!(room.page(BOB, None, 9).await, Err(ReadError::Banned), "but not for those who are banned");
    room.change(RoomChange { history: Some(HistoryAccess::SinceJoined), ..Default::default() }).await;
    assert_eq!(room.page(EVE, None, 9).await, Err(ReadError::NotAMember));
}

pub(crate) async fn since_joined_begins_at_the_last_joining(store: Arc<dyn Store>) {
    let since = a_room(Visibility::Public, HistoryAccess::SinceJoined);
    let mut room = Writing::begin(&store, since, true).await;
    room.member(BOB, Membership::Joined).await;
    room.say(1).await;
    room.member(BOB, Membership::Left).await;
    room.say(2).await;
    let joined = room.member(BOB, Membership::Joined).await;
    room.say(3).await;
    for from in
        [None, Some(HistoryFrom::After(0)), Some(HistoryFrom::Around(joined)), Some(HistoryFrom::After(2))]
    {
        let page = room.page(BOB, from, 50).await.unwrap();
        assert_eq!((seqs(&page), page.first), (vec![joined, joined + 1], joined), "{from:?}");
    }
    assert!(room.page(BOB, Some(HistoryFrom::Before(joined)), 50).await.unwrap().entries.is_empty());
    assert_eq!(room.page(ALICE, None, 50).await.unwrap().first, 2, "Alice has been there from her joining");
}

pub(crate) async fn an_ephemeral_or_unknown_room_is_not_found(store: Arc<dyn Store>) {
    assert_eq!(page(&*store, ALICE, ROOM, None, 5).await, Err(ReadError::NotFound), "no log");
    let ephemeral = RoomChange { durability: Some(Durability::Ephemeral), ..private() };
    let room = Writing::begin(&store, ephemeral, true).await;
    assert_eq!(room.page(ALICE, None, 5).await, Err(ReadError::NotFound), "its log is not what was said");
}

pub(crate) async fn a_deleted_room_is_not_found(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    assert!(room.page(ALICE, None, 5).await.is_ok());
    room.change(RoomChange { deleted: true, ..Default::default() }).await;
    assert_eq!(room.page(ALICE, None, 5).await, Err(ReadError::NotFound));
}

fn assert_deleted(entries: &[Entry], target: Seq) {
    for entry in entries {
        let deleted = entry.seq == target;
        assert_eq!(entry.masked, deleted.then_some(Mask::Deleted), "entry {}", entry.seq);
        assert_eq!(entry.body.is_none(), deleted, "entry {}", entry.seq);
    }
}

pub(crate) async fn deleted_bodies_are_masked(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    let target = room.say(1).await;
    room.say(2).await;
    assert_deleted(&room.page(ALICE, None, 9).await.unwrap().entries, 0);
    room.delete(target, 3).await;
    assert_deleted(&room.page(ALICE, None, 9).await.unwrap().entries, target);
    let alone = room.page(ALICE, Some(HistoryFrom::Around(target)), 1).await.unwrap();
    assert_deleted(&alone.entries, target);
    room.say(4).await;
    assert_deleted(&room.page(ALICE, None, 9).await.unwrap().entries, target);
}

pub(crate) async fn deletions_above_the_masks_are_folded(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    let target = room.say(1).await;
    for n in 2..9 {
        room.say(n).await;
    }
    let deletion = room.delete(target, 9).await;
    room.say(10).await;
    for upto in [0, target, deletion - 1, deletion] {
        let lagging = Lagging { inner: store.clone(), upto };
        let page = page(&lagging, ALICE, ROOM, Some(HistoryFrom::Before(target + 2)), 9).await.unwrap();
        assert_eq!(seqs(&page), [1, 2, target, target + 1]);
        assert_deleted(&page.entries, target);
    }
}

pub(crate) async fn memberships_above_the_tables_are_folded(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    room.member(BOB, Membership::Joined).await;
    room.derives = false;
    room.member(BOB, Membership::Banned).await;
    room.member(EVE, Membership::Joined).await;
    room.say(1).await;
    assert_eq!(room.page(BOB, None, 9).await, Err(ReadError::Banned), "the tables say that Bob is in");
    assert_eq!(seqs(&room.page(EVE, None, 9).await.unwrap()), [1, 2, 3, 4, 5, 6]);
    room.change(RoomChange { deleted: true, ..Default::default() }).await;
    assert_eq!(room.page(ALICE, None, 9).await, Err(ReadError::NotFound));
}

pub(crate) async fn a_roster_folds_what_the_log_has_above_the_tables(store: Arc<dyn Store>) {
    assert_eq!(roster(&*store, ROOM, 0).await.unwrap(), None);
    for derives in [false, true] {
        let mut room = Writing::begin(&store, private(), derives).await;
        let member_seq = room.member(BOB, Membership::Joined).await;
        let found = roster(&*store, ROOM, member_seq).await.unwrap().unwrap();
        assert_eq!(
            (found.room.applied_seq, found.room.joined, found.room.name.as_str()),
            (member_seq, 2, "Den")
        );
        let users: Vec<_> = found.members.iter().map(|member| (member.user, member.is_joined())).collect();
        assert_eq!(users, [(ALICE, true), (BOB, true)], "by user id");
        if !derives {
            let left = room.member(BOB, Membership::Left).await;
            let found = roster(&*store, ROOM, left).await.unwrap().unwrap();
            assert_eq!((found.room.joined, found.members[1].changed_seq), (1, left));
        }
    }
}

pub(crate) async fn an_owner_brings_the_tables_up_to_the_log(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    room.derives = false;
    let member_seq = room.member(BOB, Membership::Joined).await;
    let found = owners_roster(&*store, ROOM, member_seq).await.unwrap().unwrap();
    assert_eq!((found.room.applied_seq, found.room.joined), (member_seq, 2));
    assert_eq!(store.room(ROOM).await.unwrap().map(|room| room.applied_seq), Some(member_seq));
    assert_eq!(store.member(ROOM, BOB).await.unwrap().map(|member| member.changed_seq), Some(member_seq));
    assert_eq!(store.rooms_of(BOB, None, 5).await.unwrap().items.len(), 1);
}

pub(crate) async fn the_writer_is_shown_to_its_own_user_alone(store: Arc<dyn Store>) {
    let mut room = Writing::begin(&store, private(), true).await;
    room.member(BOB, Membership::Joined).await;
    room.say(1).await;
    let newest = async |user| room.page(user, None, 1).await.unwrap().entries.remove(0);
    assert_eq!((newest(ALICE).await.writer, newest(ALICE).await.n), (Some(TAB), Some(1)));
    assert_eq!((newest(BOB).await.writer, newest(BOB).await.n), (None, None));
}
