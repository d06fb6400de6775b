//! What a CQL database takes, on nodes that this program starts: conditional writes and messages a second over 1 to 1,000
//! warm rooms, each message in a write of its own and in groups; latency under half of that load beside a bare driver;
//! how long a room takes to start; bytes on disk and CPU time.
//!
//! `cargo bench -p rookery-store --bench cql -- [--nodes 3] [--seconds 10]`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people"
)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use protocol::{Body, Kind, RoomId, UserId, WriterId};
use rookery_store::{
    RoomLog,
    log::{GROUP_ROWS, Row},
    members::Derived,
    owner::{AppendEnd, Batch, Ownership, claim},
    scylla::{Replication, ScyllaOptions, ScyllaStore, migrate},
};
use rookery_test_cassandra::{Cluster, ClusterOptions};
use scylla::{
    client::session_builder::SessionBuilder,
    statement::batch::{Batch as CqlBatch, BatchType},
};
use tokio::sync::Notify;

/// Bytes of a message's text.
const TEXT_BYTES: usize = 200;
/// Messages that may wait in a room; further ones are not offered.
const WAITING: usize = 1024;
/// Messages a second that no database on a small machine takes.
const TOO_MANY: u64 = 60_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    let (nodes, seconds) = (number("--nodes", 1), number("--seconds", 10));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Box::pin(run(usize::try_from(nodes).unwrap(), Duration::from_secs(seconds))));
}

async fn run(nodes: usize, time: Duration) {
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start(ClusterOptions { nodes, ..Default::default() }));
    let cluster = cluster.await.unwrap().unwrap();
    let options = ScyllaOptions {
        contact_points: cluster.contact_points().iter().map(ToString::to_string).collect(),
        replication: Replication::Simple(u32::try_from(nodes).unwrap()),
        conditional_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
        ..ScyllaOptions::default()
    };
    migrate(&options, 1, &mut |_| {}).await.unwrap();
    println!("{nodes} node(s), a copy on each; messages of {TEXT_BYTES} bytes; {} s a run\n", time.as_secs());
    let bare = bare_driver(&options, time).await;
    println!("bare driver, one conditional batch of one row after another: {bare}\n");
    println!("| rooms | group commit | writes/s | messages/s | p50 | p99 | CPU a write |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut first = 1;
    for rooms in [1, 10, 100, 1000] {
        let store = Arc::new(ScyllaStore::open(&options).await.unwrap());
        let started = start_rooms(&store, first, rooms).await;
        first += rooms as u128;
        let (owners, starts) = started;
        let single = Load { group: 1, rate: TOO_MANY, time };
        let (result, owners) = single.run(&store, owners).await;
        println!("| {rooms} | no | {result} |");
        let grouped = Load { group: GROUP_ROWS, rate: TOO_MANY, time };
        let (result, owners) = grouped.run(&store, owners).await;
        println!("| {rooms} | yes | {result} |");
        let half = Load { group: GROUP_ROWS, rate: (result.messages / 2).max(1), time };
        let (result, _) = half.run(&store, owners).await;
        println!("| {rooms} | yes, half of that load | {result} |");
        println!(
            "| {rooms} | claim to first ack | | | {:.1} ms | {:.1} ms | |",
            starts.at(50),
            starts.at(99)
        );
    }
    if nodes == 1 {
        bytes_on_disk(&cluster, &options).await;
    }
}

/// Milliseconds, sorted.
struct Times(Vec<f64>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }

    fn at(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(place).copied().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, {} of them", self.at(50), self.at(99), self.0.len())
    }
}

/// The driver alone: what no store can be better than.
async fn bare_driver(options: &ScyllaOptions, time: Duration) -> Times {
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let table = format!("{}.bare", options.keyspace);
    let columns = "room blob, seq bigint, last_seq bigint static, body text, PRIMARY KEY (room, seq)";
    session.query_unpaged(format!("CREATE TABLE {table} ({columns})"), ()).await.unwrap();
    let first = format!("INSERT INTO {table} (room, last_seq) VALUES (0x01, 0) IF NOT EXISTS");
    session.query_unpaged(first, ()).await.unwrap();
    let update = format!("UPDATE {table} SET last_seq = ? WHERE room = 0x01 IF last_seq = ?");
    let insert = format!("INSERT INTO {table} (room, seq, body) VALUES (0x01, ?, ?)");
    let (update, insert) = (session.prepare(update).await.unwrap(), session.prepare(insert).await.unwrap());
    let mut batch = CqlBatch::new(BatchType::Unlogged);
    batch.append_statement(update);
    batch.append_statement(insert);
    let (text, end) = ("x".repeat(TEXT_BYTES), Instant::now() + time);
    let (mut times, mut seq) = (Vec::new(), 0_i64);
    while Instant::now() < end {
        let begun = Instant::now();
        session.batch(&batch, ((seq + 1, seq), (seq + 1, text.as_str()))).await.unwrap();
        times.push(begun.elapsed());
        seq += 1;
    }
    Times::new(times)
}

/// Claims rooms and appends one message to each, a few at a time.
async fn start_rooms(store: &Arc<ScyllaStore>, first: u128, rooms: usize) -> (Vec<Ownership>, Times) {
    use futures_util::StreamExt;
    let started: Vec<(Ownership, Duration)> = futures_util::stream::iter(0..rooms as u128)
        .map(|number| async move {
            let begun = Instant::now();
            let mut nonce = (first + number) << 32;
            let mut nonces = || {
                nonce += 1;
                nonce
            };
            let found = claim(&**store, RoomId::from_u128(first + number), &mut nonces).await.unwrap();
            (append(store, found.ownership, 1).await, begun.elapsed())
        })
        .buffer_unordered(4)
        .collect()
        .await;
    let (owners, times): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    (owners, Times::new(times))
}

async fn append(store: &Arc<ScyllaStore>, owner: Ownership, count: u64) -> Ownership {
    let row = |place: u64| Row {
        seq: owner.head() + place,
        epoch: owner.epoch(),
        writer: WriterId::from_u128(7),
        n: owner.head() + place,
        from: UserId::from_u128(1),
        at: 1_700_000_000_000,
        kind: Kind::Message,
        target: None,
        body: Some(Body::text(&"x".repeat(TEXT_BYTES)).unwrap()),
    };
    let write_id = (owner.room().as_u128() << 64) | u128::from(owner.head() + 1);
    let batch = Batch { rows: (1..=count).map(row).collect(), write_id, derived: Derived::default() };
    match owner.append(&**store, batch).await {
        AppendEnd::Committed(owner) => owner,
        end => panic!("{end:?}"),
    }
}

/// So many messages a second over all rooms, in groups of at most so many.
struct Load {
    group: usize,
    rate: u64,
    time: Duration,
}

struct Measured {
    writes: u64,
    messages: u64,
    times: Times,
    cpu: Duration,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.times.at(50), self.times.at(99));
        let cpu = self.cpu.as_micros();
        write!(f, "{} | {} | {p50:.1} ms | {p99:.1} ms | {cpu} µs", self.writes, self.messages)
    }
}

/// What was answered so far.
#[derive(Default)]
struct Done {
    writes: AtomicU64,
    messages: AtomicU64,
}

/// A room's messages that wait, by when they came.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Instant>>,
    came: Notify,
}

impl Load {
    /// Rates are of a second, the CPU time is of this process, the load's making included.
    async fn run(&self, store: &Arc<ScyllaStore>, owners: Vec<Ownership>) -> (Measured, Vec<Ownership>) {
        let queues: Arc<Vec<Queue>> = Arc::new(owners.iter().map(|_| Queue::default()).collect());
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let (begun, cpu) = (Instant::now(), cpu_time());
        let rooms = owners.into_iter().enumerate().map(|(place, owner)| {
            let (store, queues, over, done) = (store.clone(), queues.clone(), over.clone(), done.clone());
            let group = self.group as u64;
            tokio::spawn(async move { talk(&store, owner, &queues[place], group, &over, &done).await })
        });
        let rooms: Vec<_> = rooms.collect();
        self.offer(&queues).await;
        over.store(true, Relaxed);
        queues.iter().for_each(|queue| queue.came.notify_one());
        let (elapsed, cpu) = (begun.elapsed(), cpu_time() - cpu);
        // What is answered later belongs to no second of the run.
        let (written, messages) = (done.writes.load(Relaxed), done.messages.load(Relaxed));
        let (mut owners, mut times) = (Vec::new(), Vec::new());
        for room in rooms {
            let (owner, theirs) = room.await.unwrap();
            owners.push(owner);
            times.extend(theirs);
        }
        let second = |count: u64| (count as f64 / elapsed.as_secs_f64()) as u64;
        let messages = second(messages);
        let cpu = cpu / u32::try_from(written.max(1)).unwrap();
        (Measured { writes: second(written), messages, times: Times::new(times), cpu }, owners)
    }

    async fn offer(&self, queues: &[Queue]) {
        let (begun, mut offered, mut place) = (Instant::now(), 0, 0);
        while begun.elapsed() < self.time {
            let due = (begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
            for _ in offered..due {
                let queue = &queues[place % queues.len()];
                place += 1;
                let mut waiting = queue.waiting.lock().unwrap();
                if waiting.len() < WAITING {
                    waiting.push_back(Instant::now());
                    queue.came.notify_one();
                }
            }
            offered = due;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn talk(
    store: &Arc<ScyllaStore>,
    mut owner: Ownership,
    queue: &Queue,
    group: u64,
    over: &AtomicBool,
    done: &Done,
) -> (Ownership, Vec<Duration>) {
    let mut times = Vec::new();
    while !over.load(Relaxed) {
        if queue.waiting.lock().unwrap().is_empty() {
            queue.came.notified().await;
            continue;
        }
        let turn = match store.turn_now() {
            Some(turn) => turn,
            None => store.turn().await,
        };
        let most = usize::try_from(group.min(owner.free_rows())).unwrap();
        let came: Vec<Instant> = {
            let mut waiting = queue.waiting.lock().unwrap();
            let count = most.min(waiting.len());
            waiting.drain(..count).collect()
        };
        owner = append(store, owner, came.len() as u64).await;
        drop(turn);
        done.writes.fetch_add(1, Relaxed);
        done.messages.fetch_add(came.len() as u64, Relaxed);
        times.extend(came.iter().map(Instant::elapsed));
    }
    (owner, times)
}

/// What this process has used of the CPUs.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime, in hundredths of a second on Linux.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A restart writes what was in memory to the disk; then the database tells what it takes.
async fn bytes_on_disk(cluster: &Cluster, options: &ScyllaOptions) {
    tokio::task::block_in_place(|| {
        cluster.node(0).kill().unwrap();
        cluster.node(0).restart().unwrap();
    });
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap();
    let query = format!(
        "SELECT mebibytes FROM system_views.disk_usage WHERE keyspace_name = '{}' AND table_name = 'room_log'",
        options.keyspace
    );
    let found = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let (mebibytes,) = found.first_row::<(i64,)>().unwrap();
    let query = format!("SELECT DISTINCT room, bucket, last_seq FROM {}.room_log", options.keyspace);
    let found = session.query_iter(query, ()).await.unwrap();
    let mut rows = found.rows_stream::<(Vec<u8>, i64, i64)>().unwrap();
    let mut messages = 0;
    use futures_util::StreamExt;
    while let Some(row) = rows.next().await {
        let (_, bucket, last) = row.unwrap();
        messages += last - bucket * 4096;
    }
    let bytes = (mebibytes << 20) / messages.max(1);
    println!("\non disk, compressed: {mebibytes} MiB for {messages} messages, {bytes} bytes each");
}
