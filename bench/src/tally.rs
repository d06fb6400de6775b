//! What a crowd has heard.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Counts of all sockets of a crowd. They live on one thread: nothing is fought over.
#[derive(Debug)]
pub(crate) struct Tally {
    began: Instant,
    is_measuring: AtomicBool,
    /// Entries heard, ever.
    pub(crate) heard: AtomicU64,
    /// Sockets that have ended.
    pub(crate) ended: AtomicU64,
    /// Frames that a measurement should not see: refusals, gaps, errors.
    pub(crate) odd: AtomicU64,
    first_odd: Mutex<Option<String>>,
    /// Microseconds from send to receipt, of the sockets that look.
    latencies: Mutex<Vec<u32>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            is_measuring: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            odd: AtomicU64::new(0),
            first_odd: Mutex::default(),
            latencies: Mutex::default(),
        }
    }
}

impl Tally {
    /// Microseconds since the crowd was made: what its messages carry.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Latencies count from now on, or no more.
    pub(crate) fn measure(&self, is_measuring: bool) {
        self.is_measuring.store(is_measuring, Relaxed);
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.is_measuring.load(Relaxed)
    }

    pub(crate) fn took(&self, latencies: &[u32]) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(latencies);
    }

    pub(crate) fn odd(&self, frame: &[u8]) {
        self.odd.fetch_add(1, Relaxed);
        let mut first = self.first_odd.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| String::from_utf8_lossy(&frame[..frame.len().min(300)]).into_owned());
    }

    /// The first frame that a measurement should not see.
    pub(crate) fn first_odd(&self) -> Option<String> {
        self.first_odd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latency that this share of all does not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.is_empty() {
            return f64::NAN;
        }
        let rank = ((latencies.len() - 1) as f64 * share).round() as usize;
        let (_, at, _) = latencies.select_nth_unstable(rank);
        f64::from(*at) / 1_000.0
    }
}
