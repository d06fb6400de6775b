//! Owners that append as fast as they are answered, and what holds of their log whatever happened.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use protocol::{Body, Kind, RoomId, Seq, UserId, WriterId};
use rookery_store::{
    RoomLog,
    log::{BUCKET_ROWS, Row},
    members::Derived,
    owner::{AppendEnd, Batch, Ownership, claim},
    scylla::{ScyllaOptions, ScyllaStore},
};

use crate::keyspaces::session;

pub(crate) const ROOM: RoomId = RoomId::from_u128(0xb0);
const ALICE: UserId = UserId::from_u128(0xa1);

/// What somebody was told to be stored, and what happened on the way.
#[derive(Default, Debug)]
pub(crate) struct Told {
    pub(crate) acked: BTreeMap<(u128, u64), Seq>,
    pub(crate) claims: u64,
    pub(crate) fenced: u64,
    pub(crate) refused: u64,
}

/// A client whose sends one owner after another stores.
pub(crate) struct Talker<'a> {
    pub(crate) store: &'a ScyllaStore,
    pub(crate) writer: u128,
    pub(crate) told: &'a Mutex<Told>,
}

impl Talker<'_> {
    /// Claims, appends, and claims again whenever it is fenced, until `is_over`.
    pub(crate) async fn talk(&self, mut is_over: impl FnMut(&Told) -> bool) {
        let mut number = 0_u64;
        let mut ownership: Option<(Ownership, u64)> = None;
        while !is_over(&self.told.lock().unwrap()) {
            number += 1;
            ownership = match ownership.take() {
                None => self.claim(number).await,
                Some((owner, sent)) => self.append(owner, sent, number).await,
            };
        }
    }

    async fn claim(&self, number: u64) -> Option<(Ownership, u64)> {
        let mut nonce = (self.writer << 64) | u128::from(number) << 32;
        let mut nonces = || {
            nonce += 1;
            nonce
        };
        let Ok(found) = claim(self.store, ROOM, &mut nonces).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return None;
        };
        self.told.lock().unwrap().claims += 1;
        let writer = WriterId::from_u128(self.writer);
        let recent = found.marks.iter().find(|mark| mark.writer == writer).map(|mark| mark.n);
        let sent = match recent {
            Some(n) => n,
            None => self.store.writer_mark(ROOM, writer).await.ok()?.map_or(0, |mark| mark.n),
        };
        Some((found.ownership, sent))
    }

    async fn append(&self, owner: Ownership, sent: u64, number: u64) -> Option<(Ownership, u64)> {
        let count = (1 + number % 20).min(owner.free_rows());
        let rows: Vec<Row> = (1..=count).map(|i| self.row(&owner, i, sent + i)).collect();
        let write_id = (self.writer << 64) | u128::from(number);
        let batch = Batch { rows: rows.clone(), write_id, derived: Derived::default() };
        let end = owner.append(self.store, batch).await;
        let mut told = self.told.lock().unwrap();
        let mut stored = |rows: &[Row]| {
            told.acked.extend(rows.iter().map(|row| ((self.writer, row.n), row.seq)));
        };
        match end {
            AppendEnd::Committed(owner) => {
                stored(&rows);
                Some((owner, sent + count))
            }
            AppendEnd::Refused(owner, _) => {
                told.refused += 1;
                Some((owner, sent))
            }
            AppendEnd::Fenced { committed } => {
                if committed {
                    stored(&rows);
                }
                told.fenced += 1;
                None
            }
            AppendEnd::Broken(reason) => panic!("the log is broken: {reason}"),
        }
    }

    fn row(&self, owner: &Ownership, place: u64, n: u64) -> Row {
        Row {
            seq: owner.head() + place,
            epoch: owner.epoch(),
            writer: WriterId::from_u128(self.writer),
            n,
            from: ALICE,
            at: 1_000 + n,
            kind: Kind::Message,
            target: None,
            body: Some(Body::text(&format!("{} said {n}", self.writer)).unwrap()),
        }
    }
}

/// A condition for [`Talker::talk`].
pub(crate) fn for_a_while(time: Duration) -> impl FnMut(&Told) -> bool {
    let end = Instant::now() + time;
    move |_| Instant::now() >= end
}

/// A row as it lies there.
type Stored = (i64, i64, Vec<u8>, i64);

/// The log, looked up by plain CQL in a session of its own: dense, each send once and in order, epochs never falling, and
/// everything acknowledged where it was said to be. Gives its length.
pub(crate) async fn assert_log(options: &ScyllaOptions, told: &Told) -> u64 {
    let rows = stored_rows(options).await;
    let mut seen: HashSet<(Vec<u8>, i64)> = HashSet::new();
    let mut last: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    let mut epoch = 0;
    for ((seq, e, writer, n), expected) in rows.iter().zip(1..) {
        assert_eq!(*seq, expected, "the log has no holes");
        assert!(*e >= epoch, "the epoch falls at {seq}");
        epoch = *e;
        assert!(seen.insert((writer.clone(), *n)), "send {n} is stored twice");
        let before = last.insert(writer.clone(), *n).unwrap_or(0);
        assert_eq!(*n, before + 1, "a writer's sends are in order at {seq}");
    }
    for ((writer, n), seq) in &told.acked {
        let (_, _, by, stored) = &rows[*seq as usize - 1];
        assert_eq!(
            (by.as_slice(), *stored),
            (&writer.to_be_bytes()[..], *n as i64),
            "an acknowledged send is there"
        );
    }
    rows.len() as u64
}

async fn stored_rows(options: &ScyllaOptions) -> Vec<Stored> {
    let session = session(options).await;
    let mut rows = Vec::new();
    for bucket in 0_i64.. {
        let query = format!(
            "SELECT seq, e, writer, n FROM {}.room_log WHERE room = ? AND bucket = ? ORDER BY seq ASC",
            options.keyspace
        );
        let found = session.query_unpaged(query, (ROOM.to_bytes(), bucket)).await.unwrap();
        let found = found.into_rows_result().unwrap();
        // A bucket without rows shows as one row of nothing but its key.
        type Columns = (Option<i64>, Option<i64>, Option<Vec<u8>>, Option<i64>);
        let part: Vec<Columns> = found.rows().unwrap().map(Result::unwrap).collect();
        let before = rows.len();
        rows.extend(part.into_iter().filter_map(|(seq, e, writer, n)| Some((seq?, e?, writer?, n?))));
        if rows.len() < before + BUCKET_ROWS as usize {
            break;
        }
    }
    rows
}
