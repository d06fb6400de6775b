//! How often somebody may ask, by token buckets.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use actors::Clock;
use governor::{Quota, RateLimiter, clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore};
use protocol::ErrorCode;

use crate::rest::problem::Problem;

/// Buckets of one rate. Keys are hashed to one with a key that nobody outside knows, so memory is bounded whatever
/// strangers do; two that meet in one bucket share it.
const BUCKETS: u64 = 1 << 16;

/// So many at once, and so many a second for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerSecond {
    /// Sustained.
    pub sustained: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl PerSecond {
    /// The rate; 0 counts as 1.
    pub const fn new(sustained: u32, burst: u32) -> Self {
        Self { sustained: at_least_one(sustained), burst: at_least_one(burst) }
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Governor's time is ours.
#[derive(Clone)]
struct WallClock(Arc<dyn Clock>);

impl clock::Clock for WallClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now())
    }
}

/// Token buckets by key.
pub(crate) struct Rate {
    buckets: RateLimiter<u64, HashMapStateStore<u64>, WallClock, NoOpMiddleware<Duration>>,
    clock: WallClock,
    hasher: RandomState,
}

impl Rate {
    /// All buckets full.
    pub(crate) fn new(rate: PerSecond, clock: Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(rate.sustained).allow_burst(rate.burst);
        let clock = WallClock(clock);
        let buckets = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        Self { buckets, clock, hasher: RandomState::new() }
    }

    /// Takes one; otherwise says when to come back.
    pub(crate) fn take(&self, key: &impl Hash) -> Result<(), Problem> {
        let bucket = self.hasher.hash_one(key) % BUCKETS;
        self.buckets.check_key(&bucket).map_err(|not_until| {
            let wait = not_until.wait_time_from(clock::Clock::now(&self.clock));
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            Problem::new(ErrorCode::RateLimited, "too many requests").retry_after(millis.max(1))
        })
    }
}

/// All rates.
pub(crate) struct Rates {
    /// Everything from one address.
    pub(crate) addresses: Rate,
    /// What is open to strangers and costs, from one address: new accounts and sign-ins.
    pub(crate) strangers: Rate,
    /// Everything of one user.
    pub(crate) users: Rate,
}
