//! People and sign-ins.

use std::sync::Arc;

use protocol::{DeviceId, UserId};
use rookery_store::{
    Store,
    accounts::{ERASED_NAME, NewUser, ProfileChange, SignIn, SigningKey, Ticket, TokenFamily, UserRecord},
};

use crate::world::{ALICE, BOB};

fn account(user: UserId, name: &str, email: Option<&str>) -> UserRecord {
    UserRecord {
        user,
        name: name.to_owned(),
        display_name: name.to_uppercase(),
        full_name: Some("Full Name".to_owned()),
        email: email.map(str::to_owned),
        colour: "#aabbcc".to_owned(),
        password_hash: "$argon2id$".to_owned(),
        disabled: false,
        created_at: 77,
    }
}

pub(crate) async fn names_and_addresses_are_unique_ignoring_case(store: Arc<dyn Store>) {
    let alice = account(ALICE, "Alice", Some("alice@example.org"));
    assert_eq!(store.create_user(&alice).await.unwrap(), NewUser::Created);
    let twin = account(BOB, "aLICE", None);
    assert_eq!(store.create_user(&twin).await.unwrap(), NewUser::NameTaken);
    let twin = account(BOB, "bob", Some("ALICE@example.org"));
    assert_eq!(store.create_user(&twin).await.unwrap(), NewUser::EmailTaken);
    assert_eq!(store.user(BOB).await.unwrap(), None, "a refused account leaves nothing");
    for (user, name) in [(BOB, "bob"), (UserId::from_u128(3), "carol")] {
        assert_eq!(
            store.create_user(&account(user, name, None)).await.unwrap(),
            NewUser::Created,
            "no address is free"
        );
    }
}

pub(crate) async fn making_an_account_twice_is_making_it_once(store: Arc<dyn Store>) {
    let alice = account(ALICE, "alice", Some("a@example.org"));
    store.create_user(&alice).await.unwrap();
    store.set_password(ALICE, "newer").await.unwrap();
    assert_eq!(store.create_user(&alice).await.unwrap(), NewUser::Created, "its answer may have been lost");
    assert_eq!(store.user(ALICE).await.unwrap().unwrap().password_hash, "newer");
}

pub(crate) async fn accounts_are_found_by_id_name_and_prefix(store: Arc<dyn Store>) {
    for (id, name) in [(1, "Anna"), (2, "annabel"), (3, "ANTON"), (4, "bert"), (5, "annette")] {
        store.create_user(&account(UserId::from_u128(id), name, None)).await.unwrap();
    }
    let one = UserId::from_u128(1);
    assert_eq!(store.user(one).await.unwrap(), Some(account(one, "Anna", None)), "as it was made");
    assert_eq!(store.user_by_name("aNNA").await.unwrap().map(|user| user.user), Some(one));
    assert_eq!(store.user_by_name("ann").await.unwrap(), None);
    let found = store.users(&[UserId::from_u128(4), UserId::from_u128(99), one]).await.unwrap();
    assert_eq!(found.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["bert", "Anna"]);

    store.set_disabled(UserId::from_u128(5), true).await.unwrap();
    let first = store.users_by_prefix("AN", None, 2).await.unwrap();
    assert_eq!(first.items.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["Anna", "annabel"]);
    let rest = store.users_by_prefix("AN", first.next.as_deref(), 2).await.unwrap();
    assert_eq!(rest.items.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["ANTON"]);
    assert_eq!(rest.next, None);
    assert_eq!(
        store.users_by_prefix("", None, 10).await.unwrap().items.len(),
        4,
        "disabled ones are left out"
    );
    assert!(store.users_by_prefix("%", None, 10).await.unwrap().items.is_empty());
}

pub(crate) async fn profiles_passwords_and_states_change(store: Arc<dyn Store>) {
    store.create_user(&account(ALICE, "alice", None)).await.unwrap();
    let change =
        ProfileChange { display_name: Some("Al".into()), full_name: Some(String::new()), colour: None };
    let changed = store.update_profile(ALICE, &change).await.unwrap().unwrap();
    assert_eq!(
        (changed.display_name.as_str(), &changed.full_name, changed.colour.as_str()),
        ("Al", &None, "#aabbcc")
    );
    assert_eq!(store.user(ALICE).await.unwrap(), Some(changed));
    assert!(store.set_password(ALICE, "other").await.unwrap());
    assert!(store.set_disabled(ALICE, true).await.unwrap());
    let found = store.user(ALICE).await.unwrap().unwrap();
    assert_eq!((found.password_hash.as_str(), found.disabled), ("other", true));
    assert_eq!(store.update_profile(BOB, &change).await.unwrap(), None);
    assert!(!store.set_password(BOB, "other").await.unwrap());
    assert!(!store.set_disabled(BOB, true).await.unwrap());
}

pub(crate) async fn an_erased_profile_is_shut_and_its_address_free(store: Arc<dyn Store>) {
    let alice =
        UserRecord { full_name: Some("Alice A.".into()), ..account(ALICE, "alice", Some("a@example.org")) };
    store.create_user(&alice).await.unwrap();
    assert!(store.erase_profile(ALICE).await.unwrap());
    let found = store.user(ALICE).await.unwrap().unwrap();
    assert_eq!((found.display_name.as_str(), found.full_name, found.email), (ERASED_NAME, None, None));
    assert!(found.disabled && found.name == "alice");
    assert!(store.erase_profile(ALICE).await.unwrap(), "as often as one likes");
    assert_eq!(store.create_user(&account(BOB, "alice", None)).await.unwrap(), NewUser::NameTaken);
    let bob = account(BOB, "bob", Some("A@example.org"));
    assert_eq!(store.create_user(&bob).await.unwrap(), NewUser::Created);
    assert!(!store.erase_profile(UserId::from_u128(9)).await.unwrap());
}

pub(crate) async fn blocks_come_and_go(store: Arc<dyn Store>) {
    let carol = UserId::from_u128(3);
    for other in [BOB, carol, BOB] {
        store.block(ALICE, other).await.unwrap();
    }
    assert_eq!(store.blocked_by(ALICE).await.unwrap(), [carol, BOB], "each once, by id");
    assert!(store.blocked_by(BOB).await.unwrap().is_empty());
    store.unblock(ALICE, carol).await.unwrap();
    store.unblock(ALICE, carol).await.unwrap();
    assert_eq!(store.blocked_by(ALICE).await.unwrap(), [BOB]);
}

fn sign_in(device: u128, user: UserId, created_at: u64) -> SignIn {
    let tokens = TokenFamily { current: [1; 32], previous: None, rotated_at: created_at };
    SignIn {
        device: DeviceId::from_u128(device),
        user,
        label: "Firefox".to_owned(),
        created_at,
        last_used_at: created_at,
        expires_at: 900,
        tokens,
    }
}

pub(crate) async fn tokens_rotate_from_the_current_one_only(store: Arc<dyn Store>) {
    let made = sign_in(1, ALICE, 10);
    store.create_sign_in(&made).await.unwrap();
    assert_eq!(store.sign_in(made.device).await.unwrap(), Some(made.clone()));
    let next = TokenFamily { current: [2; 32], previous: Some([1; 32]), rotated_at: 50 };
    assert!(!store.rotate_tokens(made.device, [9; 32], next, 1_000).await.unwrap());
    assert!(store.rotate_tokens(made.device, [1; 32], next, 1_000).await.unwrap());
    assert!(
        !store.rotate_tokens(made.device, [1; 32], next, 1_000).await.unwrap(),
        "another one is current now"
    );
    store.create_sign_in(&made).await.unwrap();
    let rotated = SignIn { tokens: next, last_used_at: 50, expires_at: 1_000, ..made };
    assert_eq!(store.sign_in(rotated.device).await.unwrap(), Some(rotated));
    assert!(!store.rotate_tokens(DeviceId::from_u128(9), [1; 32], next, 1_000).await.unwrap());
}

pub(crate) async fn sign_ins_end_alone_or_all_but_one(store: Arc<dyn Store>) {
    for (device, user, at) in [(1, ALICE, 10), (2, ALICE, 30), (3, ALICE, 20), (4, BOB, 5)] {
        store.create_sign_in(&sign_in(device, user, at)).await.unwrap();
    }
    let of_alice = async || {
        let found = store.sign_ins(ALICE).await.unwrap();
        found.iter().map(|sign_in| sign_in.device.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(of_alice().await, [2, 3, 1], "newest first");
    assert!(store.end_sign_in(DeviceId::from_u128(3)).await.unwrap());
    assert!(!store.end_sign_in(DeviceId::from_u128(3)).await.unwrap());
    assert_eq!(store.sign_in(DeviceId::from_u128(3)).await.unwrap(), None);
    let kept = DeviceId::from_u128(2);
    assert_eq!(store.end_sign_ins(ALICE, Some(kept)).await.unwrap(), [DeviceId::from_u128(1)]);
    assert_eq!(of_alice().await, [2]);
    assert_eq!(store.end_sign_ins(ALICE, None).await.unwrap(), [kept]);
    assert!(of_alice().await.is_empty());
    assert_eq!(store.sign_ins(BOB).await.unwrap().len(), 1);
}

pub(crate) async fn a_ticket_is_taken_once_and_in_time(store: Arc<dyn Store>) {
    let ticket = Ticket { user: ALICE, device: DeviceId::from_u128(1), expires_at: 100 };
    store.put_ticket([1; 32], ticket).await.unwrap();
    store.put_ticket([2; 32], ticket).await.unwrap();
    assert_eq!(store.take_ticket([9; 32], 50).await.unwrap(), None);
    assert_eq!(store.take_ticket([1; 32], 99).await.unwrap(), Some(ticket));
    assert_eq!(store.take_ticket([1; 32], 99).await.unwrap(), None);
    assert_eq!(store.take_ticket([2; 32], 100).await.unwrap(), None, "expired");
}

pub(crate) async fn signing_keys_go_but_never_the_newest(store: Arc<dyn Store>) {
    let key = |id: &str, created_at| SigningKey { key_id: id.to_owned(), private: vec![1, 2, 3], created_at };
    for (id, at) in [("a", 10), ("c", 30), ("b", 20), ("a", 99)] {
        store.put_signing_key(&key(id, at)).await.unwrap();
    }
    assert_eq!(
        store.signing_keys().await.unwrap(),
        [key("c", 30), key("b", 20), key("a", 10)],
        "newest first"
    );
    store.drop_signing_keys(20).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap().len(), 2);
    store.drop_signing_keys(1_000).await.unwrap();
    assert_eq!(store.signing_keys().await.unwrap(), [key("c", 30)]);
}
