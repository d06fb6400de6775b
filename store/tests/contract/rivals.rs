//! Two owners who both believe in themselves, over a log with faults: no false acknowledgement, no hole, no double, and
//! every unknown outcome resolves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    task::Poll,
};

use protocol::{Seq, WriterId};
use rookery_store::{
    Store,
    log::{BUCKET_ROWS, Row, WriterMark},
    owner::{AppendEnd, ClaimError, Ownership, claim},
};

use crate::{
    check::checked_rows,
    faults::Faulty,
    world::{Chance, ROOM, batch, claimed, message},
};

const CLIENTS: u64 = 24;

/// Those who send: each repeats its send, to either owner, until one says that it is stored.
#[derive(Default)]
struct Clients {
    next: HashMap<WriterId, u64>,
    stored: HashMap<(WriterId, u64), Seq>,
}

impl Clients {
    fn next(&self, writer: WriterId) -> u64 {
        self.next.get(&writer).copied().unwrap_or(1)
    }

    fn told_stored(&mut self, writer: WriterId, n: u64, seq: Option<Seq>) {
        let next = self.next.entry(writer).or_insert(1);
        *next = (n + 1).max(*next);
        if let Some(seq) = seq {
            let first = *self.stored.entry((writer, n)).or_insert(seq);
            assert_eq!(first, seq, "one send has one place");
        }
    }
}

/// What came about in a run, to be sure that it tested something.
#[derive(Debug, Default)]
struct Seen {
    claims: u64,
    contended: u64,
    fenced: u64,
    fenced_committed: u64,
    refused: u64,
    dropped: u64,
    duplicates: u64,
}

struct Rival<'a> {
    log: &'a Faulty,
    clients: &'a Mutex<Clients>,
    seen: &'a Mutex<Seen>,
    chance: Chance,
    ownership: Option<Ownership>,
    marks: HashMap<WriterId, WriterMark>,
}

impl Rival<'_> {
    async fn run(mut self, steps: u64) {
        for _ in 0..steps {
            match self.ownership.take() {
                None => self.claim().await,
                // A crash: nothing is resumed from memory.
                Some(_) if self.chance.below(60) == 0 => {}
                Some(ownership) => self.send_something(ownership).await,
            }
        }
    }

    async fn claim(&mut self) {
        let mut nonces = self.chance.clone();
        self.chance.number();
        match claim(self.log, ROOM, &mut || nonces.nonce()).await {
            Ok(found) => {
                self.seen.lock().unwrap().claims += 1;
                self.marks = found.marks.into_iter().map(|mark| (mark.writer, mark)).collect();
                self.ownership = Some(found.ownership);
            }
            Err(ClaimError::Contended) => self.seen.lock().unwrap().contended += 1,
            Err(ClaimError::Store(error)) => assert!(is_a_fault(&error), "{error}"),
        }
    }

    /// The newest send of a writer that is known to be stored, or `None` if the store can't say now.
    async fn mark(&mut self, writer: WriterId) -> Option<WriterMark> {
        if !self.marks.contains_key(&writer) {
            use rookery_store::RoomLog;
            let found = self.log.writer_mark(ROOM, writer).await.ok()?;
            self.marks.insert(writer, found.unwrap_or(WriterMark { writer, n: 0, seq: 0 }));
        }
        self.marks.get(&writer).copied()
    }

    async fn accept(&mut self, ownership: &Ownership) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..=self.chance.below(16).min(ownership.free_rows() - 1) {
            let writer = WriterId::from_u128(u128::from(1 + self.chance.below(CLIENTS)));
            let Some(mark) = self.mark(writer).await else { continue };
            let n = self.clients.lock().unwrap().next(writer);
            if n <= mark.n {
                self.seen.lock().unwrap().duplicates += 1;
                self.clients.lock().unwrap().told_stored(writer, n, (n == mark.n).then_some(mark.seq));
            } else if n == mark.n + 1 && rows.iter().all(|row| row.writer != writer) {
                let seq = ownership.head() + rows.len() as u64 + 1;
                rows.push(Row { writer, ..message(seq, ownership.epoch(), n) });
            }
        }
        rows
    }

    async fn send_something(&mut self, ownership: Ownership) {
        let rows = self.accept(&ownership).await;
        if rows.is_empty() {
            self.ownership = Some(ownership);
            return;
        }
        let append = ownership.append(self.log, batch(rows.clone(), &mut self.chance));
        let patience = if self.chance.below(30) == 0 { self.chance.below(8) } else { u64::MAX };
        let Some(end) = give_up_after(patience, append).await else {
            self.seen.lock().unwrap().dropped += 1;
            return;
        };
        let mut seen = self.seen.lock().unwrap();
        match end {
            AppendEnd::Committed(ownership) => {
                self.stored(&rows);
                self.ownership = Some(ownership);
            }
            AppendEnd::Refused(ownership, _) => {
                seen.refused += 1;
                self.ownership = Some(ownership);
            }
            AppendEnd::Fenced { committed } => {
                seen.fenced += 1;
                if committed {
                    seen.fenced_committed += 1;
                    self.stored(&rows);
                }
            }
            AppendEnd::Broken(reason) => panic!("the log is broken: {reason}"),
        }
    }

    fn stored(&mut self, rows: &[Row]) {
        let mut clients = self.clients.lock().unwrap();
        for row in rows {
            clients.told_stored(row.writer, row.n, Some(row.seq));
            self.marks.extend(row.mark().map(|mark| (mark.writer, mark)));
        }
    }
}

/// Drops a future that has been polled so many times without an end.
async fn give_up_after<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(end) => Poll::Ready(Some(end)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

fn is_a_fault(error: &rookery_store::StoreError) -> bool {
    use rookery_store::StoreError::{Unavailable, Unknown};
    matches!(error, Unavailable(_) | Unknown(_))
}

async fn duel(store: Arc<dyn Store>, seed: u64, steps: u64) {
    let log = Faulty::new(store.clone(), seed);
    let (clients, seen) = (Mutex::new(Clients::default()), Mutex::new(Seen::default()));
    let rival = |place: u64| Rival {
        log: &log,
        clients: &clients,
        seen: &seen,
        chance: Chance(seed ^ (place << 32)),
        ownership: None,
        marks: HashMap::new(),
    };
    tokio::join!(rival(1).run(steps), rival(2).run(steps));
    log.heal().await;

    let last = claimed(&log, ROOM, &mut Chance(!seed)).await;
    let rows = checked_rows(&*store, ROOM).await;
    assert_eq!(last.ownership.head(), rows.len() as u64);
    let clients = clients.into_inner().unwrap();
    for ((writer, n), seq) in &clients.stored {
        let row = &rows[*seq as usize - 1];
        assert_eq!(
            (row.writer, row.n),
            (*writer, *n),
            "seed {seed}: an acknowledged send is where it was said to be"
        );
    }
    for (writer, next) in &clients.next {
        let newest = rows.iter().filter(|row| row.writer == *writer).map(|row| row.n).max().unwrap_or(0);
        assert!(newest + 1 >= *next, "seed {seed}: an acknowledged send is missing");
        let mark = store.writer_mark(ROOM, *writer).await.unwrap().map_or(0, |mark| mark.n);
        assert_eq!(mark, newest, "seed {seed}: marks are up to date after a claim");
    }
    assert_exercised(&log, &seen.into_inner().unwrap(), rows.len() as u64);
}

/// A run in which a fault never came about has not tested it.
fn assert_exercised(log: &Faulty, seen: &Seen, rows: u64) {
    assert!(rows > BUCKET_ROWS, "rolled over");
    for (what, count) in [
        ("claims", seen.claims),
        ("fenced", seen.fenced),
        ("fenced after the effect", seen.fenced_committed),
        ("refused", seen.refused),
        ("dropped", seen.dropped),
        ("duplicates", seen.duplicates),
        ("lost before", log.fired.lost_before.load(Ordering::Relaxed)),
        ("lost after", log.fired.lost_after.load(Ordering::Relaxed)),
        ("late", log.fired.late.load(Ordering::Relaxed)),
        ("late and applied", log.fired.late_appends_applied.load(Ordering::Relaxed)),
    ] {
        assert!(count > 0, "{what}: not exercised, {seen:?}");
    }
}

pub(crate) async fn two_owners_over_a_faulty_log_never_lie(store: Arc<dyn Store>) {
    duel(store, 0x5eed, 1_200).await;
}

#[tokio::test(start_paused = true)]
async fn two_owners_never_lie_whatever_the_schedule() {
    for seed in 1..=6 {
        duel(crate::world::memory().await.store(), seed, 2_500).await;
    }
}
