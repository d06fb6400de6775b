//! What can go wrong.

use std::{io, net::SocketAddr};

/// Why there is no cluster, or why a node does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// No Java, no jars, or nothing to fetch them with. The text says what to install.
    #[error("Cassandra can't be run here: {0}")]
    Setup(String),
    /// All blocks of loopback addresses are taken.
    #[error(
        "no free loopback addresses: clusters left over, or something listens on port {0} of all addresses"
    )]
    NoAddresses(u16),
    /// A node did not come to answer.
    #[error("node {node} {why}; the end of its log:\n{log}")]
    NotReady {
        /// Where it should have answered.
        node: SocketAddr,
        /// What it did instead.
        why: String,
        /// The last lines it logged.
        log: String,
    },
    /// Something was asked of a node that has ended or was killed.
    #[error("node {0} does not run")]
    NotRunning(SocketAddr),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The refusal.
        source: io::Error,
    },
}

impl HarnessError {
    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
