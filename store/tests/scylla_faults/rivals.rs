//! Two nodes that both believe that they own a room, for many seconds.

use std::{sync::Mutex, time::Duration};

use rookery_store::scylla::ScyllaStore;

use crate::{
    database::Database,
    talk::{Talker, Told, assert_log, for_a_while},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_write_one_log() {
    let database = Database::take().await;
    let (one, options) = database.store("rivals").await;
    let other = ScyllaStore::open(&options).await.unwrap();
    let told = Mutex::new(Told::default());
    let talker = |store, writer| Talker { store, writer, told: &told };
    let time = Duration::from_secs(12);
    let (first, second) = (talker(&one, 1), talker(&other, 2));
    tokio::join!(first.talk(for_a_while(time)), second.talk(for_a_while(time)));
    let told = told.into_inner().unwrap();
    assert!(told.fenced > 2, "each learned that the other had the room: {} times", told.fenced);
    for writer in [1, 2] {
        assert!(told.acked.keys().any(|(by, _)| *by == writer), "both were heard");
    }
    assert_log(&options, &told).await;
}
