//! Names are unique whatever becomes of requests and answers, and of those who ask.

use protocol::UserId;
use rookery_store::{
    Accounts, StoreError,
    accounts::{NewUser, UserRecord},
    scylla::{ScyllaOptions, ScyllaStore},
};
use rookery_test_cassandra::{Fault, Request, Rule};

use crate::{database::Database, keyspaces::session};

fn account(id: u128, name: &str, created_at: u64) -> UserRecord {
    UserRecord {
        user: UserId::from_u128(id),
        name: name.to_owned(),
        display_name: name.to_owned(),
        full_name: None,
        email: Some(format!("{name}@example.org")),
        colour: "#aabbcc".to_owned(),
        password_hash: "$argon2id$".to_owned(),
        disabled: false,
        created_at,
    }
}

/// Asks until the answer is definite.
async fn create(store: &ScyllaStore, user: &UserRecord) -> NewUser {
    loop {
        match store.create_user(user).await {
            Ok(outcome) => return outcome,
            Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_made_once_whatever_is_lost() {
    let database = Database::take().await;
    let (store, _) = database.store("accounts").await;
    // What stands in the statements that are hit: the account, the key of its name, that of its address.
    let hits: [&[u8]; 3] = [b"$argon2id$", b"\0\0\0\x04name", b"\0\0\0\x05email"];
    let faults = [Fault::LoseAnswer, Fault::LoseRequest];
    for (id, (hit, fault)) in (1..).zip(hits.iter().flat_map(|hit| faults.map(|fault| (*hit, fault)))) {
        let before = database.proxy.counts();
        database.proxy.inject(Rule::new(fault).of(&[Request::Execute]).containing(hit));
        let user = account(id, &format!("person{id}"), 1_000);
        assert_eq!(create(&store, &user).await, NewUser::Created, "{id}");
        let lost = |counts: &rookery_test_cassandra::Counts| counts.answers_lost + counts.requests_lost;
        assert!(lost(&database.proxy.counts()) > lost(&before), "the fault of {id} came about");
        database.proxy.clear();
        assert_eq!(store.user(user.user).await.unwrap(), Some(user.clone()));
        let rival = account(1_000 + id, &user.name, 1_000);
        assert_eq!(create(&store, &rival).await, NewUser::NameTaken);
        assert_eq!(store.user(rival.user).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_a_name_one_gets_it() {
    let database = Database::take().await;
    let (store, _) = database.store("wanted").await;
    let users: Vec<_> = (1..=8).map(|id| account(id, "wanted", 1_000)).collect();
    let outcomes = futures_util::future::join_all(users.iter().map(|user| create(&store, user))).await;
    let created: Vec<_> = outcomes.iter().filter(|outcome| **outcome == NewUser::Created).collect();
    assert_eq!(created.len(), 1, "{outcomes:?}");
    let holder = store.user_by_name("Wanted").await.unwrap().unwrap();
    let place = outcomes.iter().position(|outcome| *outcome == NewUser::Created).unwrap();
    assert_eq!(holder, users[place]);
}

/// What a maker leaves that dies before the account is one.
async fn abandon(options: &ScyllaOptions, id: u128, name: &str, created_at: i64) {
    let (session, id) = (session(options).await, id.to_be_bytes());
    let account = format!(
        "INSERT INTO {}.account (user, name, display_name, full_name, email, colour, password_hash, disabled, created_at,
         ready) VALUES (?, ?, '', '', '', '', '', false, ?, false) IF NOT EXISTS",
        options.keyspace
    );
    session.query_unpaged(account, (id, name, created_at)).await.unwrap();
    let key = format!(
        "INSERT INTO {}.account_key (what, key, user) VALUES ('name', ?, ?) IF NOT EXISTS",
        options.keyspace
    );
    session.query_unpaged(key, (name, id)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_taken_for_nobody_is_free_after_a_while() {
    let database = Database::take().await;
    let (store, options) = database.store("abandoned").await;
    abandon(&options, 1, "ghost", 1_000_000).await;
    let soon = account(2, "ghost", 1_000_000 + 60_000);
    assert_eq!(create(&store, &soon).await, NewUser::NameTaken, "its maker may still be at it");
    let late = account(3, "ghost", 1_000_000 + 11 * 60_000);
    assert_eq!(create(&store, &late).await, NewUser::Created);
    assert_eq!(store.user_by_name("ghost").await.unwrap(), Some(late));
    let ghost = account(1, "ghost", 1_000_000);
    assert_eq!(create(&store, &ghost).await, NewUser::NameTaken, "its maker comes back and learns of it");
}
