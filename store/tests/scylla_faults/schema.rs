//! Making the tables, and looking at them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rookery_store::{
    StoreError,
    scylla::{Migrated, SCHEMA_VERSION, ScyllaOptions, ScyllaStore, migrate},
};

use crate::keyspaces::{Keyspace, session};

async fn fresh(keyspace: &str) -> ScyllaOptions {
    let known = Keyspace::take().await;
    ScyllaOptions { keyspace: keyspace.to_owned(), ..known.options().clone() }
}

#[tokio::test]
async fn tables_are_made_once_and_their_making_is_shown() {
    let options = fresh("made_once").await;
    let error = ScyllaStore::open(&options).await.unwrap_err();
    assert!(matches!(error, StoreError::OlderSchema { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("rookery migrate"), "{error}");
    let told = AtomicUsize::new(0);
    let mut progress = |_: &str| {
        told.fetch_add(1, Ordering::Relaxed);
    };
    let made = migrate(&options, 1, &mut progress).await.unwrap();
    assert_eq!(made, Migrated { from: 0, to: SCHEMA_VERSION });
    assert!(told.load(Ordering::Relaxed) > 10, "each table is told");
    let again = migrate(&options, 2, &mut |_| {}).await.unwrap();
    assert_eq!(again, Migrated { from: SCHEMA_VERSION, to: SCHEMA_VERSION });
    ScyllaStore::open(&options).await.unwrap();
}

#[tokio::test]
async fn the_tables_of_a_later_version_are_left_alone() {
    let options = fresh("later").await;
    migrate(&options, 1, &mut |_| {}).await.unwrap();
    let newer = "UPDATE later.schema_version SET version = 99 WHERE slot = 0 IF EXISTS";
    session(&options).await.query_unpaged(newer, ()).await.unwrap();
    let newer = StoreError::NewerSchema { found: 99, known: SCHEMA_VERSION };
    assert_eq!(ScyllaStore::open(&options).await.unwrap_err(), newer);
    assert_eq!(migrate(&options, 2, &mut |_| {}).await.unwrap_err(), newer);
}

#[tokio::test]
async fn a_migration_under_way_keeps_others_out() {
    let options = fresh("locked").await;
    let session = session(&options).await;
    for statement in [
        "CREATE KEYSPACE locked WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE locked.schema_lock (slot int PRIMARY KEY, holder blob)",
        "INSERT INTO locked.schema_lock (slot, holder) VALUES (0, 0x77) IF NOT EXISTS",
    ] {
        session.query_unpaged(statement, ()).await.unwrap();
    }
    let error = migrate(&options, 1, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    session.query_unpaged("DELETE FROM locked.schema_lock WHERE slot = 0 IF EXISTS", ()).await.unwrap();
    migrate(&options, 1, &mut |_| {}).await.unwrap();
    let left = session.query_unpaged("SELECT holder FROM locked.schema_lock", ()).await.unwrap();
    assert_eq!(left.into_rows_result().unwrap().rows_num(), 0, "the lock is given back");
}

#[tokio::test]
async fn two_migrations_at_once_make_one() {
    let options = fresh("at_once").await;
    let (mut quiet, mut silent) = (|_: &str| {}, |_: &str| {});
    let (one, other) = tokio::join!(migrate(&options, 1, &mut quiet), migrate(&options, 2, &mut silent));
    for outcome in [&one, &other] {
        assert!(matches!(outcome, Ok(_) | Err(StoreError::InUse(_))), "{outcome:?}");
    }
    assert!(one.is_ok() || other.is_ok());
    ScyllaStore::open(&options).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_told() {
    let options =
        ScyllaOptions { contact_points: vec!["127.0.0.1:1".to_owned()], ..ScyllaOptions::default() };
    let error = ScyllaStore::open(&options).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable(_)) && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );
}
