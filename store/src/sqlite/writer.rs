//! The one thread that writes: takes what waits, runs it in one transaction, syncs once, answers.
//!
//! An answer is given after the commit, never before. A piece of work that fails is rolled back alone; a commit that
//! fails is the answer to the whole group.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{SqliteStats, codec::Fault};
use crate::StoreError;

/// Most pieces of work of one transaction. Bounds how long the first of them waits for the last.
const GROUP: usize = 256;
/// Silence after which the writer moves the write-ahead log into the database.
const IDLE: Duration = Duration::from_millis(250);
/// Pages (of 4 KiB) in the write-ahead log after which it is moved even under load: 32 MiB.
pub(super) const CHECKPOINT_PAGES: u32 = 8192;
/// Size to which the write-ahead log shrinks after it has grown beyond.
pub(super) const LOG_BYTES: u32 = 64 << 20;

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
}

enum Message {
    Run(Box<dyn Work>),
    Stop,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    largest_group: AtomicU64,
    failures: AtomicU64,
}

impl Writer {
    /// `capacity` pieces of work may wait.
    pub(super) fn start(db: Connection, capacity: usize) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(capacity);
        let counters = Arc::new(Counters::default());
        let of_thread = counters.clone();
        let thread = thread::Builder::new().name("store-writer".to_owned());
        let thread = thread.spawn(move || serve(&db, &waiting, &of_thread))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)), counters })
    }

    /// Runs `work` in a transaction and answers once that is durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task = Task { work: Some(work), outcome: None, reply };
        self.queue.try_send(Message::Run(Box::new(task))).map_err(|error| {
            StoreError::Unavailable(match error {
                TrySendError::Full(_) => "too many writes are waiting".to_owned(),
                TrySendError::Disconnected(_) => "the store is closed".to_owned(),
            })
        })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store closed meanwhile".to_owned())))
    }

    /// Finishes what waits and ends the thread.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Fails only if the thread has ended already.
            let _ = self.queue.send(Message::Stop);
            if thread.join().is_err() {
                tracing::error!("the store's writer panicked");
            }
        }
    }

    pub(super) fn stats(&self) -> SqliteStats {
        SqliteStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            writes: self.counters.writes.load(Ordering::Relaxed),
            largest_group: self.counters.largest_group.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }
}

/// A piece of work with somebody who waits for it.
trait Work: Send {
    /// Does it, once, and keeps the answer.
    fn run(&mut self, db: &Connection) -> Result<(), StoreError>;
    /// Passes on what the work said, or why the whole group failed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<W, T> {
    work: Option<W>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Work for Task<W, T>
where
    W: FnOnce(&Connection) -> Result<T, Fault> + Send,
    T: Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match self.outcome.insert(work(db).map_err(Fault::without_effect)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome =
            self.outcome.unwrap_or_else(|| Err(StoreError::Unavailable("not carried out".to_owned())));
        // Whoever stopped waiting has an unknown outcome, and knows it.
        let _ = self.reply.send(committed.and(outcome));
    }
}

fn serve(db: &Connection, queue: &Receiver<Message>, counters: &Counters) {
    let mut group: Vec<Box<dyn Work>> = Vec::with_capacity(GROUP);
    let mut dirty = false;
    let mut open = true;
    while open {
        match next(db, queue, &mut dirty) {
            Some(Message::Run(work)) => group.push(work),
            Some(Message::Stop) | None => break,
        }
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(Message::Run(work)) => group.push(work),
                Ok(Message::Stop) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        let committed = commit(db, &mut group);
        count(counters, group.len() as u64, committed.is_ok());
        if let Err(error) = &committed {
            tracing::error!(%error, writes = group.len(), "a group of writes failed");
        }
        dirty = true;
        for work in group.drain(..) {
            work.answer(committed.clone());
        }
    }
    checkpoint(db, "PRAGMA wal_checkpoint(TRUNCATE)");
}

fn count(counters: &Counters, writes: u64, committed: bool) {
    if !committed {
        counters.failures.fetch_add(1, Ordering::Relaxed);
        return;
    }
    counters.commits.fetch_add(1, Ordering::Relaxed);
    counters.writes.fetch_add(writes, Ordering::Relaxed);
    counters.largest_group.fetch_max(writes, Ordering::Relaxed);
}

/// The next message; moves the write-ahead log into the database in a silence after writes.
fn next(db: &Connection, queue: &Receiver<Message>, dirty: &mut bool) -> Option<Message> {
    if *dirty {
        match queue.recv_timeout(IDLE) {
            Ok(message) => return Some(message),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                checkpoint(db, "PRAGMA wal_checkpoint(PASSIVE)");
                *dirty = false;
            }
        }
    }
    queue.recv().ok()
}

fn checkpoint(db: &Connection, pragma: &str) {
    // The log stays valid without it, it only grows.
    if let Err(error) = db.query_row(pragma, [], |_| Ok(())) {
        tracing::warn!(%error, "could not move the write-ahead log into the database");
    }
}

/// One transaction over a group. An error is the answer to all of them.
fn commit(db: &Connection, group: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
    let outcome = transaction(db, group);
    if outcome.is_err() && !db.is_autocommit() {
        // If this fails too, the next transaction can't begin, and nothing of this one is ever committed.
        let _ = statement(db, "ROLLBACK");
    }
    outcome
}

fn transaction(db: &Connection, group: &mut [Box<dyn Work>]) -> Result<(), StoreError> {
    statement(db, "BEGIN IMMEDIATE").map_err(Fault::without_effect)?;
    for work in group {
        run(db, work.as_mut()).map_err(Fault::without_effect)?;
    }
    statement(db, "COMMIT").map_err(Fault::at_commit)
}

/// One piece of work within the transaction; an error only if the transaction itself is over.
fn run(db: &Connection, work: &mut dyn Work) -> Result<(), Fault> {
    statement(db, "SAVEPOINT work")?;
    if let Err(error) = work.run(db) {
        if db.is_autocommit() {
            // SQLite rolls everything back by itself when the disk fails, and may when it is full.
            return Err(error.into());
        }
        statement(db, "ROLLBACK TO work")?;
    }
    statement(db, "RELEASE work")
}

fn statement(db: &Connection, sql: &str) -> Result<(), Fault> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}
