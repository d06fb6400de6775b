//! What the links tell of themselves.

use std::{sync::atomic::Ordering, time::Duration};

use super::{peer::Peer, shared::Shared, state::LinkPhase};

/// One peer. Counts are over all sessions of its life, bytes of the current one.
#[derive(Debug, Clone)]
pub struct LinkStats {
    /// Text form of its name.
    pub name: String,
    /// How far the link has come.
    pub phase: LinkPhase,
    /// Bytes read from its connection, after TLS.
    pub bytes_in: u64,
    /// Bytes written to it, before TLS.
    pub bytes_out: u64,
    /// Messages that the handler took.
    pub messages_in: u64,
    /// Messages that were taken for it.
    pub messages_out: u64,
    /// Bytes that wait here.
    pub queued: usize,
    /// Bytes under way that it has not handled yet.
    pub outstanding: u64,
    /// Droppable messages that were not taken, or dropped later.
    pub dropped: u64,
    /// Needed messages that were not taken.
    pub refused: u64,
    /// How often the link went up.
    pub sessions: u64,
    /// From a heartbeat to its answer, less the time that it waited there.
    pub rtt: Option<Duration>,
}

/// All peers that live, and what belongs to none.
#[derive(Debug, Clone, Default)]
pub struct LinksStats {
    /// In the order of their names.
    pub peers: Vec<LinkStats>,
    /// Frames that could not be read.
    pub unreadable: u64,
    /// Frames of sessions that were over.
    pub stale: u64,
    /// Greetings in a version that this build doesn't speak.
    pub other_version: u64,
    /// Accepted connections whose other end did not prove to be a node.
    pub handshakes_failed: u64,
    /// Dials that led to no connection.
    pub dials_failed: u64,
    /// Connections that were closed from here.
    pub closed: u64,
    /// Messages that were too long.
    pub oversized: u64,
}

pub(super) fn stats(shared: &Shared) -> LinksStats {
    let mut peers: Vec<_> = shared.peers.iter().map(|peer| of(&peer)).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let totals = &shared.totals;
    LinksStats {
        peers,
        unreadable: totals.unreadable.load(Ordering::Relaxed),
        stale: totals.stale.load(Ordering::Relaxed),
        other_version: totals.other_version.load(Ordering::Relaxed),
        handshakes_failed: totals.handshakes_failed.load(Ordering::Relaxed),
        dials_failed: totals.dials_failed.load(Ordering::Relaxed),
        closed: totals.closed.load(Ordering::Relaxed),
        oversized: totals.oversized.load(Ordering::Relaxed),
    }
}

fn of(peer: &Peer) -> LinkStats {
    let (gauges, counters) = (peer.gauges(), &peer.counters);
    LinkStats {
        name: peer.name.to_string(),
        phase: peer.phase(),
        bytes_in: counters.bytes_in.load(Ordering::Relaxed),
        bytes_out: counters.bytes_out.load(Ordering::Relaxed),
        messages_in: counters.messages_in.load(Ordering::Relaxed),
        messages_out: counters.messages_out.load(Ordering::Relaxed),
        queued: gauges.queued,
        outstanding: gauges.outstanding,
        dropped: counters.dropped.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        sessions: counters.sessions.load(Ordering::Relaxed),
        rtt: gauges.rtt,
    }
}
