//! A room log between an owner and a store that loses answers before and after the effect, delays, refuses, and carries
//! out copies of old requests at any later moment. What happens when comes from a seed.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use protocol::{Millis, RoomId, Seq, WriterId};
use rookery_store::{
    RoomLog, Store, StoreError,
    log::{Append, Appended, Cas, Kept, Row, Statics, WriterMark},
    members::Derived,
};

use crate::world::Chance;

/// The log with faults.
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    chance: Mutex<Chance>,
    late: Mutex<Vec<Request>>,
    healed: AtomicBool,
    pub(crate) fired: Fired,
}

/// How often each fault came about.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub(crate) lost_before: AtomicU64,
    pub(crate) lost_after: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) late_appends_applied: AtomicU64,
}

/// A conditional write that can be carried out again.
#[derive(Clone)]
enum Request {
    Create(RoomId, u64, Statics),
    TakeOver(RoomId, u64, u64, Option<Seq>, u64, u128),
    Append(Box<Append>),
}

enum Fate {
    Carried,
    LostBefore,
    LostAfter,
    Late,
    Doubled,
    Refused,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>, seed: u64) -> Self {
        let (late, healed, fired) = (Mutex::default(), AtomicBool::new(false), Fired::default());
        Self { inner, chance: Mutex::new(Chance(seed)), late, healed, fired }
    }

    /// From now on all is well, but for what is still under way: that is carried out now.
    pub(crate) async fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        while self.carry_out_a_late_one().await {}
    }

    fn below(&self, bound: u64) -> u64 {
        self.chance.lock().unwrap().below(bound)
    }

    fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    async fn delay(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }

    /// Carries out a request whose sender has long stopped waiting for it.
    async fn carry_out_a_late_one(&self) -> bool {
        let request = {
            let mut late = self.late.lock().unwrap();
            if late.is_empty() {
                return false;
            }
            let place = self.below(late.len() as u64) as usize;
            late.swap_remove(place)
        };
        self.fired.late.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Create(room, bucket, statics) => {
                self.inner.create_bucket(room, bucket, statics).await.unwrap();
            }
            Request::TakeOver(room, bucket, expected, last, epoch, owner) => {
                self.inner.take_over(room, bucket, expected, last, epoch, owner).await.unwrap();
            }
            Request::Append(append) => {
                if matches!(self.inner.append(&append).await.unwrap(), Cas::Applied(_)) {
                    self.fired.late_appends_applied.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        true
    }

    async fn fate(&self, request: Request) -> Fate {
        if self.is_healed() {
            return Fate::Carried;
        }
        self.delay().await;
        if self.below(6) == 0 {
            self.carry_out_a_late_one().await;
        }
        let fate = match self.below(20) {
            0 | 1 => Fate::LostBefore,
            2 | 3 => Fate::LostAfter,
            4 => Fate::Late,
            5 => Fate::Doubled,
            6 => Fate::Refused,
            _ => Fate::Carried,
        };
        let counter = match fate {
            Fate::LostBefore => Some(&self.fired.lost_before),
            Fate::LostAfter => Some(&self.fired.lost_after),
            Fate::Refused => Some(&self.fired.refused),
            Fate::Carried | Fate::Late | Fate::Doubled => None,
        };
        counter.map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        if matches!(fate, Fate::Late | Fate::Doubled) {
            self.late.lock().unwrap().push(request);
        }
        fate
    }

    async fn write<T>(
        &self,
        request: Request,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let unknown = || Err(StoreError::Unknown("no answer came".to_owned()));
        match self.fate(request).await {
            Fate::LostBefore | Fate::Late => unknown(),
            Fate::Refused => Err(StoreError::Unavailable("not now".to_owned())),
            Fate::LostAfter => {
                call.await?;
                unknown()
            }
            Fate::Carried | Fate::Doubled => call.await,
        }
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if !self.is_healed() {
            self.delay().await;
            if self.below(30) == 0 {
                return Err(StoreError::Unavailable("not now".to_owned()));
            }
        }
        call.await
    }
}

#[async_trait]
impl RoomLog for Faulty {
    async fn bucket_hint(&self, _room: RoomId) -> Result<u64, StoreError> {
        Ok(self.below(6))
    }

    async fn statics(&self, room: RoomId, bucket: u64) -> Result<Option<Statics>, StoreError> {
        self.read(self.inner.statics(room, bucket)).await
    }

    async fn create_bucket(&self, room: RoomId, bucket: u64, statics: Statics) -> Result<Cas, StoreError> {
        let request = Request::Create(room, bucket, statics);
        self.write(request, self.inner.create_bucket(room, bucket, statics)).await
    }

    async fn take_over(
        &self,
        room: RoomId,
        bucket: u64,
        expected_epoch: u64,
        expected_last: Option<Seq>,
        epoch: u64,
        owner: u128,
    ) -> Result<Cas, StoreError> {
        let request = Request::TakeOver(room, bucket, expected_epoch, expected_last, epoch, owner);
        let call = self.inner.take_over(room, bucket, expected_epoch, expected_last, epoch, owner);
        self.write(request, call).await
    }

    async fn append(&self, append: &Append) -> Result<Cas<Appended>, StoreError> {
        self.write(Request::Append(Box::new(append.clone())), self.inner.append(append)).await
    }

    async fn rows_after(
        &self,
        room: RoomId,
        after: Seq,
        upto: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.read(self.inner.rows_after(room, after, upto, limit)).await
    }

    async fn rows_before(&self, room: RoomId, before: Seq, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.read(self.inner.rows_before(room, before, limit)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Seq>, StoreError> {
        self.read(self.inner.heads(rooms)).await
    }

    async fn writer_mark(&self, room: RoomId, writer: WriterId) -> Result<Option<WriterMark>, StoreError> {
        self.read(self.inner.writer_mark(room, writer)).await
    }

    async fn writer_marks(
        &self,
        room: RoomId,
        after: Option<WriterId>,
        limit: usize,
    ) -> Result<Vec<WriterMark>, StoreError> {
        self.read(self.inner.writer_marks(room, after, limit)).await
    }

    async fn put_derived(&self, room: RoomId, derived: &Derived) -> Result<(), StoreError> {
        self.read(self.inner.put_derived(room, derived)).await
    }

    async fn erase(&self, room: RoomId, rows: &[Row]) -> Result<bool, StoreError> {
        self.read(self.inner.erase(room, rows)).await
    }

    async fn kept(&self, room: RoomId) -> Result<Kept, StoreError> {
        self.read(self.inner.kept(room)).await
    }

    async fn keep_from(&self, room: RoomId, oldest: u64) -> Result<(), StoreError> {
        self.read(self.inner.keep_from(room, oldest)).await
    }

    async fn empty_bucket(&self, room: RoomId, bucket: u64, now: Millis) -> Result<(), StoreError> {
        self.read(self.inner.empty_bucket(room, bucket, now)).await
    }
}
