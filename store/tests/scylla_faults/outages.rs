//! One owner, and a database that does not answer, or answers nobody.

use std::{sync::Mutex, time::Duration};

use rookery_store::{
    RoomLog,
    scylla::{ScyllaOptions, ScyllaStore},
};
use rookery_test_cassandra::{Fault, Request, Rule};

use crate::{
    database::Database,
    talk::{ROOM, Talker, Told, assert_log, for_a_while},
};

/// How long an outage lasts: longer than the time-outs of all involved.
const OUTAGE: Duration = Duration::from_secs(3);

/// Talks while `outage` happens, and a while longer; the log has grown since.
async fn talk_through(keyspace: &str, outage: impl AsyncFnOnce(&Database)) -> Told {
    let database = Database::take().await;
    let (store, options) = database.store(keyspace).await;
    let told = Mutex::new(Told::default());
    let talker = Talker { store: &store, writer: 7, told: &told };
    talker.talk(|told| told.acked.len() >= 50).await;
    let before = told.lock().unwrap().acked.len();
    let over = Mutex::new(false);
    tokio::join!(talker.talk(|_| *over.lock().unwrap()), async {
        outage(&database).await;
        *over.lock().unwrap() = true;
    });
    let after = told.lock().unwrap().acked.len();
    talker.talk(|told| told.acked.len() >= after + 50).await;
    let told = told.into_inner().unwrap();
    assert!(after >= before);
    let rows = assert_log(&options, &told).await;
    assert_eq!(rows, told.acked.len() as u64, "with one writer everything there was acknowledged");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_database_delays_and_loses_nothing() {
    talk_through("paused", async |database| {
        database.node().pause().unwrap();
        tokio::time::sleep(OUTAGE).await;
        database.node().resume().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_nothing() {
    talk_through("killed", async |database| {
        let node = database.node();
        tokio::task::spawn_blocking(move || {
            node.kill().unwrap();
            node.restart().unwrap();
        })
        .await
        .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_requests_and_lost_answers_are_told_apart() {
    let told = talk_through("lost", async |database| {
        for round in 0..6 {
            let fault = if round % 2 == 0 { Fault::LoseAnswer } else { Fault::LoseRequest };
            let seen = database.proxy.counts();
            database.proxy.inject(Rule::new(fault).of(&[Request::Batch]));
            loop {
                let now = database.proxy.counts();
                if now.answers_lost + now.requests_lost > seen.answers_lost + seen.requests_lost {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .await;
    assert_eq!(told.fenced, 0, "nobody else was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lets_nobody_in_is_told_and_left_in_peace() {
    let told = talk_through("refused", async |database| {
        database.proxy.refuse();
        tokio::time::sleep(OUTAGE).await;
        database.proxy.accept();
    })
    .await;
    assert_eq!(told.claims, 3, "one a talk: the owner stayed the owner through the outage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_outs_shorter_than_the_databases_are_survived() {
    let database = Database::take().await;
    let (patient, options) = database.store("hasty").await;
    let hasty = ScyllaOptions { conditional_timeout: Duration::from_millis(4), ..options.clone() };
    let store = ScyllaStore::open(&hasty).await.unwrap();
    let told = Mutex::new(Told::default());
    let talker = Talker { store: &store, writer: 7, told: &told };
    talker.talk(for_a_while(Duration::from_secs(5))).await;
    let calm = Talker { store: &patient, ..talker };
    calm.talk(for_a_while(Duration::from_secs(1))).await;
    let told = told.into_inner().unwrap();
    assert!(!told.acked.is_empty());
    assert_log(&options, &told).await;
    assert!(patient.statics(ROOM, 0).await.unwrap().is_some());
}
