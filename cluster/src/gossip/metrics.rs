//! What gossip counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::seal::Rejected;

/// Counters and gauges of gossip. Counters only grow; all may be read at any time.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Gauge: lives that gossip holds for alive, this one included.
    pub live: AtomicU64,
    /// Gauge: lives that gossip holds for dead and still remembers.
    pub dead: AtomicU64,
    /// Gauge: lives that gossip remembers at all. Above 300, something is starting again and again.
    pub known: AtomicU64,
    /// Gauge: how late the last turn of the loop was, in microseconds.
    pub late_us: AtomicU64,
    /// Gauge: how long a node may be silent before it counts as dead, in milliseconds; the longest of all peers.
    pub detection_ms: AtomicU64,
    /// Datagrams received, good and bad.
    pub datagrams_in: AtomicU64,
    /// Datagrams sent.
    pub datagrams_out: AtomicU64,
    /// Bytes of the datagrams received.
    pub bytes_in: AtomicU64,
    /// Bytes of the datagrams sent.
    pub bytes_out: AtomicU64,
    /// Messages that were not sent, or not whole: the socket was full, or no way led there.
    pub unsent: AtomicU64,
    /// Errors of the receiving socket.
    pub receive_errors: AtomicU64,
    /// Times that the gossip task ended and began anew.
    pub restarts: AtomicU64,
    /// Times that another node's keys had to be fetched from the first. Stays 0: no key is ever deleted.
    pub catch_ups: AtomicU64,
    /// Values of other nodes that the receiver of events had no room for.
    pub values_dropped: AtomicU64,
    /// Changes of membership that the receiver of events had no room for; the view has them.
    pub changes_dropped: AtomicU64,
    rejected: [AtomicU64; Rejected::ALL.len()],
}

impl Metrics {
    /// Datagrams refused for this reason.
    pub fn rejected(&self, reason: Rejected) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn reject(&self, reason: Rejected) {
        count(&self.rejected[reason as usize]);
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// As many more.
pub(crate) fn add(counter: &AtomicU64, many: usize) {
    counter.fetch_add(many as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_counter() {
        let metrics = Metrics::default();
        for (place, reason) in Rejected::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            metrics.reject(reason);
            assert_eq!(metrics.rejected(reason), 1);
        }
    }
}
