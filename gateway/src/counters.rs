//! What the gateway counts, for metrics. Sessions count for themselves and add up now and then, so that no cache line
//! is fought over for each delivery.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use protocol::{CloseCode, ErrorCode};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// How much it is.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is given back.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one.
    pub fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Takes one away.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How much it is.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the gateway has seen since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// TCP connections that are open, whatever they speak.
    pub connections: Gauge,
    /// WebSocket sessions that are identified.
    pub sessions: Gauge,
    /// WebSockets opened.
    pub sockets: Counter,
    /// TCP connections turned away at the door, by a limit.
    pub turned_away: Counter,
    /// Upgrades refused: handshake, origin or limit.
    pub upgrades_refused: Counter,
    /// Client frames read.
    pub frames_in: Counter,
    /// Bytes of client frames, without WebSocket headers.
    pub bytes_in: Counter,
    /// Frames given to sockets. Added up on each heartbeat and at a session's end.
    pub frames_out: Counter,
    /// Bytes given to sockets, WebSocket headers included. Added up as [`Self::frames_out`].
    pub bytes_out: Counter,
    /// Ephemeral frames dropped because the client was slow.
    pub slow_drops: Counter,
    /// Pages read to catch up.
    pub catch_up_pages: Counter,
    /// Sends that sessions sent again by themselves.
    pub resends: Counter,
    refusals: [Counter; ErrorCode::ALL.len() + 1],
    closes: [Counter; CloseCode::ALL.len()],
}

impl Counters {
    /// `refused` and `error` frames with this code.
    pub fn refusals(&self, code: ErrorCode) -> &Counter {
        &self.refusals[code as usize]
    }

    /// Sockets that the server closed with this code.
    pub fn closes(&self, code: CloseCode) -> &Counter {
        &self.closes[code as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for code in ErrorCode::ALL.iter().chain([&ErrorCode::Other]) {
            counters.refusals(*code).add(1);
            assert_eq!(counters.refusals(*code).get(), 1, "{code:?}");
        }
        for code in CloseCode::ALL {
            counters.closes(*code).add(1);
            assert_eq!(counters.closes(*code).get(), 1, "{code:?}");
        }
    }
}
