//! The newest entries of a room, in memory: they answer joins without the store, and say who wrote what.

use std::collections::VecDeque;

use protocol::{Entry, Kind, Seq, UserId, client::HistoryFrom, entry::Mask};

/// Entries held at most.
pub(crate) const RING_ENTRIES: usize = 100;
/// Bytes of bodies held at most; the newest entry is held however large.
pub(crate) const RING_BYTES: usize = 256 * 1024;

/// Consecutive entries, oldest first. A deletion masks its target here too.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    /// Adds the next entry and drops the oldest ones past the bounds.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > RING_ENTRIES || (self.bytes > RING_BYTES && self.entries.len() > 1) {
            if let Some(dropped) = self.entries.pop_front() {
                self.bytes -= size(&dropped);
            }
        }
    }

    /// Withholds the bodies of `target` and of its edits from now on.
    pub(crate) fn mask(&mut self, target: Seq) {
        for entry in self.entries.iter_mut().filter(|entry| is_withdrawn(entry, target)) {
            self.bytes -= size(entry);
            entry.body = None;
            entry.masked = Some(Mask::Deleted);
        }
    }

    /// Empties what this user has said, deleted or not.
    pub(crate) fn erase(&mut self, user: UserId) {
        for entry in self.entries.iter_mut().filter(|entry| is_said_by(entry, user)) {
            self.bytes -= size(entry);
            erase(entry);
        }
    }

    /// Lets go of everything below `first`.
    pub(crate) fn drop_below(&mut self, first: Seq) {
        while self.entries.front().is_some_and(|entry| entry.seq < first) {
            if let Some(dropped) = self.entries.pop_front() {
                self.bytes -= size(&dropped);
            }
        }
    }

    /// The entry with this number, if it is held.
    pub(crate) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.index_of(seq).map(|index| &self.entries[index])
    }

    /// All held entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The oldest held entry's number.
    pub(crate) fn first(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// At most `limit` entries from there, as far as they are held.
    pub(crate) fn page(&self, from: Option<HistoryFrom>, limit: usize) -> Vec<Entry> {
        let (above, below, newest) = match from {
            None => (0, Seq::MAX, true),
            Some(HistoryFrom::Before(seq)) => (0, seq, true),
            Some(HistoryFrom::After(seq)) => (seq, Seq::MAX, false),
            Some(HistoryFrom::Around(seq)) => (seq.saturating_sub(limit as u64 / 2 + 1), Seq::MAX, false),
        };
        let within = || self.entries.iter().filter(|entry| entry.seq > above && entry.seq < below);
        let skipped = if newest { within().count().saturating_sub(limit) } else { 0 };
        within().skip(skipped).take(limit).cloned().collect()
    }

    fn index_of(&self, seq: Seq) -> Option<usize> {
        let index = usize::try_from(seq.checked_sub(self.first()?)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }
}

/// Whether a deletion of `target` withholds this entry: it is the target, or another content of it.
pub(crate) fn is_withdrawn(entry: &Entry, target: Seq) -> bool {
    entry.seq == target || (entry.kind == Kind::Edit && entry.target == Some(target))
}

/// Whether erasing what `user` has said empties this entry.
pub(crate) fn is_said_by(entry: &Entry, user: UserId) -> bool {
    let stays = matches!(entry.kind, Kind::Membership | Kind::Room) || entry.masked == Some(Mask::Erased);
    entry.from == user && !stays
}

/// The entry as it is shown after its erasure.
pub(crate) fn erase(entry: &mut Entry) {
    entry.body = None;
    entry.masked = Some(Mask::Erased);
}

fn size(entry: &Entry) -> usize {
    entry.body.as_ref().map_or(0, |body| body.as_json().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Body;

    fn entry(seq: Seq, text: &str) -> Entry {
        Entry {
            seq,
            at: 0,
            from: UserId::from_u128(1),
            kind: Kind::Message,
            target: None,
            body: Some(Body::text(text).unwrap()),
            masked: None,
            writer: None,
            n: None,
        }
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_size() {
        let mut ring = Ring::default();
        (1..=150).for_each(|seq| ring.push(entry(seq, "x")));
        assert_eq!((ring.first(), ring.iter().count()), (Some(51), RING_ENTRIES));
        let large = "y".repeat(15 * 1024);
        (151..=200).for_each(|seq| ring.push(entry(seq, &large)));
        assert!(ring.bytes <= RING_BYTES && ring.get(200).is_some() && ring.get(151).is_none());
    }

    #[test]
    fn what_is_kept_no_more_is_held_no_more() {
        let mut ring = Ring::default();
        (1..=9).for_each(|seq| ring.push(entry(seq, "x")));
        ring.drop_below(4);
        assert_eq!((ring.first(), ring.get(3).is_some(), ring.get(4).is_some()), (Some(4), false, true));
        ring.drop_below(99);
        assert_eq!((ring.first(), ring.bytes), (None, 0));
    }

    #[test]
    fn what_was_erased_is_held_no_more_and_membership_stays() {
        let mut ring = Ring::default();
        let bob = UserId::from_u128(2);
        ring.push(Entry { kind: Kind::Membership, ..entry(1, "alice joins") });
        ring.push(entry(2, "alice's"));
        ring.push(Entry { from: bob, ..entry(3, "bob's") });
        ring.push(entry(4, "alice's, deleted"));
        ring.mask(4);
        ring.erase(UserId::from_u128(1));
        let masks: Vec<_> = ring.iter().map(|entry| (entry.masked, entry.body.is_some())).collect();
        let erased = (Some(Mask::Erased), false);
        assert_eq!(masks, [(None, true), erased, (None, true), erased]);
        ring.erase(UserId::from_u128(1));
        ring.drop_below(9);
        assert_eq!(ring.bytes, 0, "each body is counted once");
    }

    #[test]
    fn a_masked_entry_has_no_body() {
        let mut ring = Ring::default();
        (5..=7).for_each(|seq| ring.push(entry(seq, "secret")));
        ring.mask(6);
        ring.mask(99);
        ring.push(Entry { kind: Kind::Edit, target: Some(6), ..entry(8, "secret too") });
        ring.mask(6);
        assert!(ring.get(8).unwrap().body.is_none(), "nor do its edits");
        assert_eq!(ring.get(6).and_then(|entry| entry.masked), Some(Mask::Deleted));
        assert!(ring.get(6).unwrap().body.is_none() && ring.get(7).unwrap().body.is_some());
    }
}
