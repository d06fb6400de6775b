//! Rooms, members and invitations.

use std::sync::Arc;

use protocol::{
    InviteId, Millis, RoomId, UserId,
    entry::{HistoryAccess, Role, Visibility},
};
use rookery_store::{
    Store, StoreError,
    members::{Derived, InviteRecord, MaskRecord, MemberRecord, MemberState, RoomRecord},
};

use crate::world::{ALICE, BOB, ROOM, record};

fn room(id: u128, name: &str) -> RoomRecord {
    record(RoomId::from_u128(id), name)
}

fn member(user: UserId, state: MemberState, changed_seq: u64) -> MemberRecord {
    MemberRecord { state, changed_seq, joined_seq: changed_seq, ..MemberRecord::stranger(user) }
}

async fn put(store: &dyn Store, room: &RoomRecord, members: &[MemberRecord]) {
    let derived = Derived { room: Some(room.clone()), members: members.to_vec(), ..Derived::default() };
    store.put_derived(room.room, &derived).await.unwrap();
}

pub(crate) async fn derived_rows_only_move_forward(store: Arc<dyn Store>) {
    let full = MemberRecord {
        role: Role::Owner,
        muted_until: Some(Millis::MAX),
        blocked: true,
        joined_seq: 3,
        invite: Some(InviteId::from_u128(7)),
        ..member(ALICE, MemberState::Joined, 5)
    };
    let newer = RoomRecord {
        topic: "nests".into(),
        slow_mode_s: 30,
        joined: 1,
        applied_seq: 5,
        history: HistoryAccess::SinceJoined,
        ..room(0xb0, "Rooks")
    };
    put(&*store, &newer, &[full]).await;
    put(&*store, &RoomRecord { applied_seq: 4, name: "old".into(), ..newer.clone() }, &[]).await;
    put(&*store, &newer, &[member(ALICE, MemberState::Banned, 4)]).await;
    assert_eq!(store.room(ROOM).await.unwrap(), Some(newer.clone()), "all fields come back");
    assert_eq!(store.member(ROOM, ALICE).await.unwrap(), Some(full));
    assert_eq!(store.member(ROOM, BOB).await.unwrap(), None);
    let latest = RoomRecord { deleted: true, visibility: Visibility::Direct, applied_seq: 6, ..newer };
    put(&*store, &latest, &[member(ALICE, MemberState::Left, 6)]).await;
    assert_eq!(store.room(ROOM).await.unwrap(), Some(latest.clone()));
    assert_eq!(store.member(ROOM, ALICE).await.unwrap().map(|member| member.state), Some(MemberState::Left));
    let unknown = RoomId::from_u128(1);
    assert_eq!(store.room(unknown).await.unwrap(), None);
    assert_eq!(store.rooms(&[unknown, ROOM]).await.unwrap(), [latest]);
}

pub(crate) async fn rooms_are_found_by_a_part_of_their_name(store: Arc<dyn Store>) {
    for (id, name) in
        [(1, "Rust beginners"), (2, "the RUST book"), (3, "gardening"), (4, "100% rust_ and 'quotes'")]
    {
        put(&*store, &room(id, name), &[]).await;
    }
    put(&*store, &RoomRecord { visibility: Visibility::Private, ..room(5, "rust, private") }, &[]).await;
    put(&*store, &RoomRecord { deleted: true, ..room(6, "rust, deleted") }, &[]).await;
    let names = async |text: &str| {
        let found = store.search_rooms(text, None, 10).await.unwrap();
        found.items.into_iter().map(|room| room.name).collect::<Vec<_>>()
    };
    assert_eq!(
        names("Rust").await,
        ["100% rust_ and 'quotes'", "Rust beginners", "the RUST book"],
        "by name"
    );
    assert_eq!(names("0% r").await.len(), 1, "signs mean themselves");
    assert_eq!(names("%").await.len(), 1);
    assert_eq!(names("_").await.len(), 1);
    assert_eq!(names("").await.len(), 4);
    assert!(names("cobol").await.is_empty());
}

pub(crate) async fn listings_go_on_where_they_ended(store: Arc<dyn Store>) {
    for id in 1..=7 {
        // Equal names, so that the order needs the id too.
        put(
            &*store,
            &room(id, if id % 2 == 0 { "Same" } else { "same" }),
            &[member(ALICE, MemberState::Joined, 1)],
        )
        .await;
    }
    let users = (1..=7).map(|id| member(UserId::from_u128(id), MemberState::Joined, 1)).collect::<Vec<_>>();
    put(&*store, &room(0xb0, "members"), &users).await;
    let ids = (1..=7).collect::<Vec<u128>>();

    let (mut found, mut cursor) = (Vec::new(), None);
    for part in [3, 3, 1] {
        let listing = store.search_rooms("same", cursor.as_deref(), 3).await.unwrap();
        assert_eq!(listing.items.len(), part);
        found.extend(listing.items.iter().map(|room| room.room.as_u128()));
        cursor = listing.next;
    }
    assert_eq!((found, cursor), (ids.clone(), None));

    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let listing = store.all_rooms(cursor.as_deref(), 2).await.unwrap();
        found.extend(listing.items.iter().map(|room| room.room.as_u128()));
        cursor = listing.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, [&ids[..], &[0xb0]].concat());

    let listing = store.rooms_of(ALICE, None, 4).await.unwrap();
    let rest = store.rooms_of(ALICE, listing.next.as_deref(), 4).await.unwrap();
    assert_eq!((listing.items.len(), rest.items.len(), rest.next), (4, 3, None));
    assert_eq!(rest.items[0].room.room.as_u128(), 5);

    let listing = store.members(ROOM, Some(MemberState::Joined), None, 5).await.unwrap();
    let rest = store.members(ROOM, None, listing.next.as_deref(), 5).await.unwrap();
    assert_eq!([&listing.items[..], &rest.items[..]].concat(), users);
    assert!(store.members(ROOM, Some(MemberState::Banned), None, 5).await.unwrap().items.is_empty());
    assert_eq!(store.members(ROOM, None, None, 0).await.unwrap().items.len(), 1, "a limit is at least one");
}

pub(crate) async fn cursors_of_nobody_are_refused(store: Arc<dyn Store>) {
    let invalid = |error| matches!(error, Some(StoreError::Invalid(_)));
    for cursor in ["", "x", "'; DROP TABLE room", "000000000000000000000000000000GG"] {
        assert!(invalid(store.all_rooms(Some(cursor), 5).await.err()), "{cursor:?}");
        assert!(invalid(store.search_rooms("", Some(cursor), 5).await.err()), "{cursor:?}");
        assert!(invalid(store.members(ROOM, None, Some(cursor), 5).await.err()), "{cursor:?}");
        assert!(invalid(store.rooms_of(ALICE, Some(cursor), 5).await.err()), "{cursor:?}");
        assert!(invalid(store.audit(Some(cursor), 5).await.err()), "{cursor:?}");
    }
    let unknown = RoomId::from_u128(99).to_string();
    assert!(invalid(store.search_rooms("", Some(&unknown), 5).await.err()), "no such room to go on from");
    assert!(invalid(store.users_by_prefix("ann", Some("bob"), 5).await.err()));
}

pub(crate) async fn rooms_of_somebody_are_those_joined_or_invited_to(store: Arc<dyn Store>) {
    use MemberState::{Banned, Invited, Joined, Kicked, Left};
    for (id, state) in [(1, Joined), (2, Invited), (3, Left), (4, Kicked), (5, Banned)] {
        put(&*store, &room(id, "room"), &[member(ALICE, state, 1)]).await;
    }
    put(&*store, &RoomRecord { deleted: true, ..room(6, "gone") }, &[member(ALICE, Joined, 1)]).await;
    put(&*store, &room(7, "of Bob"), &[member(BOB, Joined, 1)]).await;
    let found = store.rooms_of(ALICE, None, 10).await.unwrap().items;
    let found: Vec<_> =
        found.iter().map(|of| (of.room.room.as_u128(), of.member.user, of.member.state)).collect();
    assert_eq!(found, [(1, ALICE, Joined), (2, ALICE, Invited)]);
}

pub(crate) async fn sharing_a_room_needs_both_to_be_in_it(store: Arc<dyn Store>) {
    use MemberState::{Invited, Joined, Left};
    let [carol, dave, erin] = [0xc3, 0xd4, 0xe5].map(UserId::from_u128);
    let all = |state| [member(ALICE, Joined, 1), member(carol, state, 1)];
    put(&*store, &room(1, "left"), &all(Left)).await;
    put(&*store, &room(2, "together"), &[member(ALICE, Joined, 1), member(BOB, Joined, 1)]).await;
    put(&*store, &room(3, "alone"), &[member(ALICE, Left, 1), member(dave, Joined, 1)]).await;
    put(&*store, &room(4, "invited"), &all(Invited)).await;
    let gone = RoomRecord { deleted: true, ..room(5, "gone") };
    put(&*store, &gone, &[member(ALICE, Joined, 1), member(erin, Joined, 1)]).await;
    assert_eq!(store.sharing_a_room(ALICE, &[carol, BOB, dave, erin]).await.unwrap(), [BOB]);
    assert_eq!(store.sharing_a_room(BOB, &[ALICE]).await.unwrap(), [ALICE]);
    assert!(store.sharing_a_room(ALICE, &[]).await.unwrap().is_empty());
}

pub(crate) async fn masks_come_by_range(store: Arc<dyn Store>) {
    let mask = |target, by| MaskRecord { target, by };
    let derived = Derived { masks: vec![mask(9, 20), mask(3, 21), mask(5, 22)], ..Derived::default() };
    store.put_derived(ROOM, &derived).await.unwrap();
    let again = Derived { masks: vec![mask(5, 30), mask(3, 8)], ..Derived::default() };
    store.put_derived(ROOM, &again).await.unwrap();
    let masks = async |from, upto| store.masks(ROOM, from, upto).await.unwrap().masks;
    assert_eq!(masks(1, 100).await, [mask(3, 21), mask(5, 30), mask(9, 20)]);
    assert_eq!(masks(3, 5).await.len(), 2, "both ends belong to it");
    assert!(masks(6, 8).await.is_empty());
    assert!(masks(8, 6).await.is_empty());
}

pub(crate) async fn invitations_are_kept_counted_and_withdrawn(store: Arc<dyn Store>) {
    let invite = |id: u128, created_at| InviteRecord {
        invite: InviteId::from_u128(id),
        room: ROOM,
        secret_hash: [id as u8; 32],
        created_by: ALICE,
        created_at,
        expires_at: 1_000,
        max_uses: (id == 1).then_some(5),
        uses: 0,
        revoked: false,
    };
    for (id, at) in [(1, 10), (2, 30), (3, 20)] {
        store.create_invite(&invite(id, at)).await.unwrap();
    }
    let one = InviteId::from_u128(1);
    assert_eq!(store.invite(ROOM, one).await.unwrap(), Some(invite(1, 10)));
    assert_eq!(store.invite(RoomId::from_u128(1), one).await.unwrap(), None, "of another room");
    assert_eq!(store.invite_by_secret(ROOM, [2; 32]).await.unwrap(), Some(invite(2, 30)));
    assert_eq!(store.invite_by_secret(ROOM, [9; 32]).await.unwrap(), None);
    for uses in [2, 1] {
        let derived = Derived { invites: vec![(one, uses)], ..Derived::default() };
        store.put_derived(ROOM, &derived).await.unwrap();
    }
    store.create_invite(&invite(1, 10)).await.unwrap();
    assert_eq!(
        store.invite(ROOM, one).await.unwrap().unwrap().uses,
        2,
        "counts don't fall, not by a repeat either"
    );
    let good = async |now| {
        let found = store.invites(ROOM, now).await.unwrap();
        found.iter().map(|invite| invite.invite.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(good(999).await, [2, 3, 1], "newest first");
    assert!(good(1_000).await.is_empty(), "expired");
    assert!(store.revoke_invite(ROOM, InviteId::from_u128(3)).await.unwrap());
    assert!(!store.revoke_invite(ROOM, InviteId::from_u128(9)).await.unwrap());
    assert_eq!(good(999).await, [2, 1]);
    assert!(store.invite(ROOM, InviteId::from_u128(3)).await.unwrap().unwrap().revoked);
}
