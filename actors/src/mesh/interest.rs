//! Which nodes hear which rooms that are placed here. A lease: who does not tell it again hears nothing after a while.

use std::time::Duration;

use dashmap::{DashMap, mapref::entry::Entry};
use protocol::RoomId;
use tokio::time::Instant;

use crate::PeerId;

/// Between two times that a node tells which rooms it hears.
pub(crate) const RENEW: Duration = Duration::from_secs(5);
/// How long once counts: two of them may be lost.
const LEASE: Duration = Duration::from_secs(18);

/// Rooms and their listening nodes. As many entries as rooms with listeners elsewhere, times nodes.
#[derive(Default)]
pub(crate) struct Interest(DashMap<RoomId, Vec<Listener>>);

#[derive(Debug, Clone, Copy)]
struct Listener {
    peer: PeerId,
    until: Instant,
}

impl Interest {
    /// A node hears a room, for a while.
    pub(crate) fn listen(&self, room: RoomId, peer: PeerId, now: Instant) {
        let until = now + LEASE;
        let mut listeners = self.0.entry(room).or_default();
        match listeners.iter_mut().find(|listener| listener.peer == peer) {
            Some(listener) => listener.until = until,
            None => listeners.push(Listener { peer, until }),
        }
    }

    /// It hears it no more.
    pub(crate) fn unlisten(&self, room: RoomId, peer: PeerId) {
        if let Entry::Occupied(mut listeners) = self.0.entry(room) {
            listeners.get_mut().retain(|listener| listener.peer != peer);
            if listeners.get().is_empty() {
                listeners.remove();
            }
        }
    }

    /// Who hears a room.
    pub(crate) fn of(&self, room: RoomId) -> Vec<PeerId> {
        let listeners = self.0.get(&room);
        listeners.map(|all| all.iter().map(|listener| listener.peer).collect()).unwrap_or_default()
    }

    /// A node is gone; gives the rooms that it heard.
    pub(crate) fn forget(&self, peer: PeerId) -> Vec<RoomId> {
        self.drop_where(|listener| listener.peer == peer).into_iter().map(|(room, _)| room).collect()
    }

    /// Ends leases; gives whose.
    pub(crate) fn expire(&self, now: Instant) -> Vec<(RoomId, PeerId)> {
        self.drop_where(|listener| listener.until <= now)
    }

    fn drop_where(&self, is_out: impl Fn(&Listener) -> bool) -> Vec<(RoomId, PeerId)> {
        let mut out = Vec::new();
        self.0.retain(|room, listeners| {
            let gone = listeners.iter().filter(|listener| is_out(listener));
            out.extend(gone.map(|listener| (*room, listener.peer)));
            listeners.retain(|listener| !is_out(listener));
            !listeners.is_empty()
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId::from_u128(1);

    #[test]
    fn a_lease_that_is_not_renewed_ends() {
        let (interest, now) = (Interest::default(), Instant::now());
        let (one, two) = (PeerId::of("one", 1), PeerId::of("two", 1));
        interest.listen(ROOM, one, now);
        interest.listen(ROOM, two, now);
        interest.listen(ROOM, one, now + RENEW);
        assert_eq!(interest.expire(now + LEASE), [(ROOM, two)]);
        assert_eq!(interest.of(ROOM), [one]);
        assert_eq!(interest.expire(now + RENEW + LEASE), [(ROOM, one)]);
        assert!(interest.of(ROOM).is_empty());
    }

    #[test]
    fn whoever_is_gone_hears_nothing() {
        let (interest, now) = (Interest::default(), Instant::now());
        let (one, two) = (PeerId::of("one", 1), PeerId::of("two", 1));
        interest.listen(ROOM, one, now);
        interest.listen(ROOM, two, now);
        assert_eq!(interest.forget(one), [ROOM]);
        interest.unlisten(ROOM, two);
        assert!(interest.of(ROOM).is_empty());
    }
}
