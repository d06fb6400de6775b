//! Fragments become messages again, in bounded room.

use std::collections::HashMap;

use protocol::Millis;

use super::Rejected;

/// Unfinished messages at once. Each lives 2 s at most; a member sends a few per interval.
const MESSAGES: usize = 256;

/// Bytes of all unfinished messages: 64 of the longest.
const BYTES: usize = 4 * 1024 * 1024;

/// A message whose fragments don't arrive within this time is given up, in milliseconds. Gossip repeats itself sooner.
const EXPIRY_MS: u64 = 2_000;

/// A sender and the counter of its message's first datagram.
pub(crate) type MessageId = (u64, u64);

/// An authentic part of a message.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) message: MessageId,
    pub(crate) index: u8,
    pub(crate) count: u8,
    pub(crate) part: Vec<u8>,
}

/// The unfinished messages.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    messages: HashMap<MessageId, Unfinished>,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    began: Millis,
    parts: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

impl Assembly {
    /// Takes a fragment, and gives the message that it completes.
    ///
    /// # Errors
    /// When it contradicts others of the same message, or when there is no room.
    pub(crate) fn take(&mut self, fragment: Fragment, now: Millis) -> Result<Option<Vec<u8>>, Rejected> {
        if fragment.count == 1 {
            return Ok(Some(fragment.part));
        }
        self.make_room(&fragment, now)?;
        let count = usize::from(fragment.count);
        let unfinished = self.messages.entry(fragment.message).or_insert_with(|| Unfinished {
            began: now,
            parts: vec![None; count],
            bytes: 0,
        });
        let place = unfinished.parts.get_mut(usize::from(fragment.index));
        let Some(place) = place.filter(|place| place.is_none()) else { return Err(Rejected::Mismatched) };
        unfinished.bytes += fragment.part.len();
        self.bytes += fragment.part.len();
        *place = Some(fragment.part);
        Ok(self.finish(fragment.message))
    }

    fn make_room(&mut self, fragment: &Fragment, now: Millis) -> Result<(), Rejected> {
        let known = self.messages.get(&fragment.message);
        if known.is_some_and(|known| known.parts.len() != usize::from(fragment.count)) {
            return Err(Rejected::Mismatched);
        }
        let is_new = known.is_none();
        let fits = |this: &Self| {
            (!is_new || this.messages.len() < MESSAGES) && this.bytes + fragment.part.len() <= BYTES
        };
        if is_new || !fits(self) {
            self.expire(now, fragment.message);
        }
        if fits(self) { Ok(()) } else { Err(Rejected::Crowded) }
    }

    /// Gives up what waited too long, but not the message that a fragment just arrived for.
    fn expire(&mut self, now: Millis, keep: MessageId) {
        self.messages.retain(|id, message| *id == keep || now.abs_diff(message.began) <= EXPIRY_MS);
        self.bytes = self.messages.values().map(|message| message.bytes).sum();
    }

    fn finish(&mut self, id: MessageId) -> Option<Vec<u8>> {
        if self.messages.get(&id)?.parts.iter().any(Option::is_none) {
            return None;
        }
        let done = self.messages.remove(&id)?;
        self.bytes -= done.bytes;
        Some(done.parts.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(message: u64, index: u8, count: u8, bytes: usize) -> Fragment {
        Fragment { message: (1, message), index, count, part: vec![index; bytes] }
    }

    #[test]
    fn fragments_in_any_order_make_the_message() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(fragment(0, 2, 3, 1), 0), Ok(None));
        assert_eq!(assembly.take(fragment(0, 0, 3, 2), 0), Ok(None));
        assert_eq!(assembly.take(fragment(0, 1, 3, 1), 0), Ok(Some(vec![0, 0, 1, 2])));
        assert_eq!((assembly.bytes, assembly.messages.len()), (0, 0));
    }

    #[test]
    fn another_count_or_the_same_place_twice_is_refused() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(fragment(0, 0, 3, 1), 0), Ok(None));
        assert_eq!(assembly.take(fragment(0, 1, 2, 1), 0), Err(Rejected::Mismatched));
        assert_eq!(assembly.take(fragment(0, 0, 3, 1), 0), Err(Rejected::Mismatched));
    }

    #[test]
    fn room_is_bounded_and_comes_back_with_time() {
        let mut assembly = Assembly::default();
        for message in 0..MESSAGES as u64 {
            assert_eq!(assembly.take(fragment(message, 0, 2, 1), 0), Ok(None));
        }
        assert_eq!(assembly.take(fragment(9_999, 0, 2, 1), EXPIRY_MS), Err(Rejected::Crowded));
        assert_eq!(assembly.take(fragment(9_999, 0, 2, 1), EXPIRY_MS + 1), Ok(None));
        assert_eq!((assembly.bytes, assembly.messages.len()), (1, 1));

        let mut assembly = Assembly::default();
        let long = BYTES / 4;
        (0..4).for_each(|message| assert_eq!(assembly.take(fragment(message, 0, 2, long), 0), Ok(None)));
        assert_eq!(assembly.take(fragment(0, 1, 2, 1), 1), Err(Rejected::Crowded));
    }
}
