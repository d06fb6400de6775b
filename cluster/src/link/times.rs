//! How long a link waits for what.

use std::time::Duration;

/// The times of all links of a node. The defaults are for a data centre; tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Between two heartbeats to a peer.
    pub heartbeat: Duration,
    /// After so long without a byte a link takes no messages, until it hears some.
    pub suspend: Duration,
    /// After so long without a byte, or with a write that makes no progress, a connection is closed.
    pub close: Duration,
    /// For the TCP connection and the TLS handshake, each.
    pub connect: Duration,
    /// For an open connection to become a link.
    pub authenticate: Duration,
    /// Before the second try to dial; doubles with each failure, with up to half taken off by chance.
    pub first_retry: Duration,
    /// The longest pause between two tries to dial.
    pub last_retry: Duration,
    /// Before a peer that speaks another version is dialled again.
    pub refused: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            suspend: Duration::from_secs(2),
            close: Duration::from_secs(12),
            connect: Duration::from_secs(3),
            authenticate: Duration::from_secs(5),
            first_retry: Duration::from_millis(100),
            last_retry: Duration::from_secs(5),
            refused: Duration::from_secs(30),
        }
    }
}

impl Times {
    /// Between two looks at the state of all links.
    pub(crate) fn tick(&self) -> Duration {
        (self.heartbeat / 5).max(Duration::from_millis(5))
    }
}
