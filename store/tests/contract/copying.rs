//! Everything from one store into another: there and back it is the same.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::{DeviceId, InviteId, Kind, RoomId, UserId, entry::Role};
use rookery_store::{
    Store, StoreError,
    accounts::{SignIn, SigningKey, TokenFamily, UserRecord},
    audit::AuditRecord,
    copy::{Copied, Progress, copy},
    log::BUCKET_ROWS,
    members::{Derived, InviteRecord, MaskRecord, MemberRecord, MemberState, RoomRecord},
};

use crate::{
    check::all_rows,
    world::{ALICE, BOB, Chance, ROOM, TAB, batch, claimed, committed, fill, memory, message, record},
};

const QUIET: RoomId = RoomId::from_u128(0xb1);

/// Rooms that were told of.
#[derive(Default)]
struct Told(Vec<(RoomId, u64)>);

#[async_trait]
impl Progress for Told {
    async fn room(&mut self, room: RoomId, entries: u64) {
        self.0.push((room, entries));
    }
}

fn account(user: UserId, name: &str) -> UserRecord {
    UserRecord {
        user,
        name: name.to_owned(),
        display_name: name.to_uppercase(),
        full_name: None,
        email: Some(format!("{name}@example.org")),
        colour: "#aabbcc".to_owned(),
        password_hash: "$argon2id$".to_owned(),
        disabled: user == BOB,
        created_at: 77,
    }
}

fn act(at: u64) -> AuditRecord {
    let (action, subject, detail) = ("account.created".to_owned(), "bob".to_owned(), format!("{at}"));
    AuditRecord { at, actor: Some(ALICE), action, subject, address: None, detail }
}

/// A store with something of everything; the log goes over two buckets and two epochs.
async fn furnish(store: &Arc<dyn Store>) {
    let mut chance = Chance(7);
    for (user, name) in [(ALICE, "alice"), (BOB, "bob")] {
        store.create_user(&account(user, name)).await.unwrap();
    }
    store.block(ALICE, BOB).await.unwrap();
    let tokens = TokenFamily { current: [1; 32], previous: Some([2; 32]), rotated_at: 5 };
    let (device, label) = (DeviceId::from_u128(9), "Firefox".to_owned());
    let sign_in =
        SignIn { device, user: ALICE, label, created_at: 1, last_used_at: 2, expires_at: 900, tokens };
    store.create_sign_in(&sign_in).await.unwrap();
    store.put_last_seen(ALICE, 50).await.unwrap();
    let key = SigningKey { key_id: "k".to_owned(), private: vec![1, 2], created_at: 3 };
    store.put_signing_key(&key).await.unwrap();
    for at in 1..=5 {
        store.record(&act(at)).await.unwrap();
    }
    let owner = claimed(&**store, ROOM, &mut chance).await.ownership;
    let owner = fill(&**store, owner, BUCKET_ROWS - 3, &mut chance).await;
    drop(owner);
    let owner = claimed(&**store, ROOM, &mut chance).await.ownership;
    let mut deletion = message(owner.head() + 1, owner.epoch(), owner.head() + 1);
    (deletion.kind, deletion.target) = (Kind::Deletion, Some(5));
    let owner = committed(owner.append(&**store, batch(vec![deletion], &mut chance)).await);
    fill(&**store, owner, 40, &mut chance).await;
    let member = |user, role| MemberRecord {
        state: MemberState::Joined,
        role,
        joined_seq: 1,
        changed_seq: 1,
        ..MemberRecord::stranger(user)
    };
    let invite = InviteRecord {
        invite: InviteId::from_u128(4),
        room: ROOM,
        secret_hash: [8; 32],
        created_by: ALICE,
        created_at: 10,
        expires_at: 1_000,
        max_uses: Some(3),
        uses: 0,
        revoked: false,
    };
    store.create_invite(&invite).await.unwrap();
    let room = RoomRecord { joined: 2, ..record(ROOM, "Den") };
    let members = vec![member(ALICE, Role::Owner), member(BOB, Role::Member)];
    let invites = vec![(invite.invite, 2)];
    let derived = Derived { room: Some(room), members, invites, ..Derived::default() };
    store.put_derived(ROOM, &derived).await.unwrap();
    store.put_read_mark(BOB, ROOM, 12).await.unwrap();
    let quiet = Derived { room: Some(record(QUIET, "quiet")), ..Derived::default() };
    store.put_derived(QUIET, &quiet).await.unwrap();
}

async fn assert_furnished(store: &Arc<dyn Store>) {
    assert_eq!(store.user(BOB).await.unwrap(), Some(account(BOB, "bob")), "disabled, and there");
    assert_eq!(store.user_by_name("alice").await.unwrap(), Some(account(ALICE, "alice")));
    assert_eq!(store.blocked_by(ALICE).await.unwrap(), [BOB]);
    let sign_ins = store.sign_ins(ALICE).await.unwrap();
    assert_eq!((sign_ins.len(), sign_ins[0].tokens.previous), (1, Some([2; 32])));
    assert_eq!(store.last_seen(&[ALICE]).await.unwrap(), [Some(50)]);
    assert_eq!(store.signing_keys().await.unwrap().len(), 1);
    let acts = store.audit(None, 10).await.unwrap().items;
    assert_eq!(acts, [act(5), act(4), act(3), act(2), act(1)]);
    assert_eq!(store.read_marks(BOB, &[ROOM]).await.unwrap(), [12]);
    let invite = store.invite_by_secret(ROOM, [8; 32]).await.unwrap().unwrap();
    assert_eq!((invite.uses, invite.max_uses), (2, Some(3)));
    let masks = store.masks(ROOM, 1, 100).await.unwrap().masks;
    assert_eq!(masks, [MaskRecord { target: 5, by: BUCKET_ROWS - 2 }]);
    let head = BUCKET_ROWS + 38;
    let mark = store.writer_mark(ROOM, TAB).await.unwrap().unwrap();
    assert_eq!((mark.n, mark.seq), (head, head));
    // Who serves the room next goes on where it ended.
    let next = claimed(&**store, ROOM, &mut Chance(99)).await;
    assert_eq!((next.ownership.head(), next.ownership.epoch()), (head, 3));
}

pub(crate) async fn there_and_back_everything_is_the_same(store: Arc<dyn Store>) {
    let (first, last) = (memory().await, memory().await);
    furnish(&first.store()).await;
    let mut told = Told::default();
    let there = copy(&*first.store(), &*store, &mut told).await.unwrap();
    let counts = Copied {
        accounts: 2,
        sign_ins: 1,
        rooms: 2,
        entries: BUCKET_ROWS + 38,
        members: 2,
        acts: 5,
        ..there
    };
    assert_eq!(there, counts);
    assert_eq!(told.0, [(ROOM, BUCKET_ROWS + 38), (QUIET, 0)]);
    let back = copy(&*store, &*last.store(), &mut Told::default()).await.unwrap();
    assert_eq!(back, there, "the same counts, the same checksum");
    assert_eq!(all_rows(&*last.store(), ROOM).await, all_rows(&*first.store(), ROOM).await);
    assert_furnished(&last.store()).await;
    assert_furnished(&store).await;
}

pub(crate) async fn a_copy_goes_on_where_it_ended(store: Arc<dyn Store>) {
    let first = memory().await;
    furnish(&first.store()).await;
    let whole = copy(&*first.store(), &*store, &mut Told::default()).await.unwrap();
    let owner = claimed(&*first.store(), ROOM, &mut Chance(5)).await.ownership;
    fill(&*first.store(), owner, 300, &mut Chance(6)).await;
    first.store().record(&act(6)).await.unwrap();
    let again = copy(&*first.store(), &*store, &mut Told::default()).await.unwrap();
    assert_eq!((again.entries, again.acts), (whole.entries + 300, 6));
    assert_eq!(store.audit(None, 10).await.unwrap().items.len(), 6, "none twice");
}

pub(crate) async fn what_is_something_else_is_left_alone(store: Arc<dyn Store>) {
    let first = memory().await;
    furnish(&first.store()).await;
    let other = UserRecord { user: UserId::from_u128(77), email: None, ..account(ALICE, "alice") };
    store.create_user(&other).await.unwrap();
    let error = copy(&*first.store(), &*store, &mut Told::default()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(what) if what.contains("alice")), "{error}");
    assert_eq!(store.user_by_name("alice").await.unwrap(), Some(other));
}
