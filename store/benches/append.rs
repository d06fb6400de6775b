//! What the embedded store does in a second: durable appends, one room after the other and many at once, and reads of
//! the newest page. Rows carry 200 bytes of text; every append is synced to the disk of the temporary folder.

#![allow(clippy::unwrap_used, missing_docs, reason = "a failure ends the measurement")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use protocol::{Body, Kind, RoomId, UserId, WriterId};
use rookery_store::{
    RoomLog,
    log::Row,
    members::Derived,
    owner::{AppendEnd, Batch, Ownership, claim},
    sqlite::{SqliteOptions, SqliteStore},
};
use tokio::{runtime::Runtime, task::JoinSet};

fn batch(owner: &Ownership, count: u64, write_id: u128) -> Batch {
    let body = Body::text(&"x".repeat(200)).unwrap();
    let row = |i| Row {
        seq: owner.head() + i,
        epoch: owner.epoch(),
        writer: WriterId::from_u128(1),
        n: owner.head() + i,
        from: UserId::from_u128(2),
        at: owner.head(),
        kind: Kind::Message,
        target: None,
        body: Some(body.clone()),
    };
    Batch { rows: (1..=count).map(row).collect(), write_id, derived: Derived::default() }
}

async fn claimed(store: &SqliteStore, room: u128) -> Ownership {
    let mut nonce = room << 64;
    let mut nonces = || {
        nonce += 1;
        nonce
    };
    claim(store, RoomId::from_u128(room), &mut nonces).await.unwrap().ownership
}

/// Appends of `rows` rows each, one after the other.
async fn append(store: &SqliteStore, mut owner: Ownership, appends: u64, rows: u64) -> Ownership {
    for write_id in 0..appends {
        let batch = batch(&owner, rows.min(owner.free_rows()), u128::from(write_id));
        let AppendEnd::Committed(next) = owner.append(store, batch).await else { panic!("not committed") };
        owner = next;
    }
    owner
}

fn open(folder: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(folder, SqliteOptions::default()).unwrap())
}

/// One room: the time of one append of `rows` rows.
fn one_room(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut owner = Some(runtime.block_on(claimed(&store, 1)));
    group.throughput(Throughput::Elements(rows));
    group.bench_function(format!("one room, {rows} rows an append"), |bencher| {
        bencher.iter_custom(|appends| {
            let begin = Instant::now();
            owner = owner.take().map(|owner| runtime.block_on(append(&store, owner, appends, rows)));
            begin.elapsed()
        });
    });
}

/// Many rooms at once: the time of one append in each of them.
fn many_rooms(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, rooms: u64, rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut owners = Vec::new();
    for room in 1..=u128::from(rooms) {
        owners.push(runtime.block_on(claimed(&store, room)));
    }
    group.throughput(Throughput::Elements(rooms * rows));
    group.bench_function(format!("{rooms} rooms at once, {rows} rows an append"), |bencher| {
        bencher.iter_custom(|appends| {
            let begin = Instant::now();
            let mut tasks = JoinSet::new();
            for owner in owners.drain(..) {
                let store = store.clone();
                tasks.spawn_on(async move { append(&store, owner, appends, rows).await }, runtime.handle());
            }
            owners.extend(runtime.block_on(tasks.join_all()));
            begin.elapsed()
        });
    });
}

fn newest_page(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let owner = runtime.block_on(async { append(&store, claimed(&store, 1).await, 40, 200).await });
    let room = owner.room();
    group.throughput(Throughput::Elements(1));
    group.bench_function("newest 50 rows", |bencher| {
        bencher.iter(|| {
            let rows = runtime.block_on(store.rows_before(room, u64::MAX, 50)).unwrap();
            assert_eq!(rows.len(), 50);
        });
    });
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("sqlite");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for rows in [1, 16, 256] {
        one_room(&mut group, &runtime, rows);
    }
    many_rooms(&mut group, &runtime, 64, 1);
    many_rooms(&mut group, &runtime, 64, 16);
    newest_page(&mut group, &runtime);
    group.finish();
}

criterion_group!(append_and_read, benches);
criterion_main!(append_and_read);
