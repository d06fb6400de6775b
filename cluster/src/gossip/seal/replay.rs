//! Which datagrams of a sender have been seen, so that each counts once.

use std::collections::HashMap;

use protocol::Millis;

use super::{Rejected, WINDOW_MS};

/// Datagrams that may overtake one another: more than two messages of the longest kind to each of three peers.
const REACH: u64 = 1_024;

const WORDS: usize = (REACH / 64) as usize;

/// Senders remembered at once, 150 bytes each: every life of a node is one, and only members get this far. When it is full
/// and nobody can be forgotten, newcomers are refused until somebody has been silent for 30 s.
const SENDERS: usize = 4_096;

/// What was seen of every sender.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    senders: HashMap<u64, Seen>,
}

/// What was seen of one sender: a ring of bits, that of `counter` at `counter` modulo [`REACH`].
#[derive(Debug, Clone, Default)]
struct Seen {
    newest: u64,
    bits: [u64; WORDS],
    /// The latest timestamp: everything before it is stale once this is.
    at: Millis,
}

impl Replay {
    /// Takes note of an authentic datagram.
    ///
    /// # Errors
    /// When it was seen before or may have been, or when there is no room for its sender.
    pub(crate) fn take(
        &mut self,
        sender: u64,
        counter: u64,
        at: Millis,
        now: Millis,
    ) -> Result<(), Rejected> {
        if !self.senders.contains_key(&sender) && self.senders.len() >= SENDERS {
            // What these senders could repeat is refused for its age.
            self.senders.retain(|_, seen| seen.at.saturating_add(WINDOW_MS) >= now);
            if self.senders.len() >= SENDERS {
                return Err(Rejected::Crowded);
            }
        }
        self.senders.entry(sender).or_default().take(counter, at)
    }
}

impl Seen {
    fn take(&mut self, counter: u64, at: Millis) -> Result<(), Rejected> {
        if counter > self.newest {
            self.advance(counter);
        } else if self.newest - counter >= REACH {
            return Err(Rejected::Replayed);
        }
        let (word, bit) = Self::place(counter);
        if self.bits[word] & bit != 0 {
            return Err(Rejected::Replayed);
        }
        self.bits[word] |= bit;
        self.at = self.at.max(at);
        Ok(())
    }

    /// Moves the window up, and empties the places that now mean other counters.
    fn advance(&mut self, to: u64) {
        if to - self.newest >= REACH {
            self.bits = [0; WORDS];
        } else {
            for counter in self.newest + 1..=to {
                let (word, bit) = Self::place(counter);
                self.bits[word] &= !bit;
            }
        }
        self.newest = to;
    }

    fn place(counter: u64) -> (usize, u64) {
        let place = (counter % REACH) as usize;
        (place / 64, 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_counter_is_taken_once_and_never_when_it_lies_far_back(counters in prop::collection::vec(0_u64..4_000, 1..400)) {
            let (mut seen, mut taken, mut newest) = (Seen::default(), HashSet::new(), 0);
            for counter in counters {
                newest = newest.max(counter);
                let expected = newest - counter < REACH && taken.insert(counter);
                prop_assert_eq!(seen.take(counter, 0).is_ok(), expected, "{}", counter);
            }
        }
    }

    #[test]
    fn the_senders_are_bounded_and_the_silent_ones_make_room() {
        let mut replay = Replay::default();
        for sender in 0..SENDERS as u64 {
            assert_eq!(replay.take(sender, 0, 1_000, 1_000), Ok(()));
        }
        assert_eq!(replay.take(u64::MAX, 0, 1_000, 1_000), Err(Rejected::Crowded));
        let later = 1_001 + WINDOW_MS;
        assert_eq!(replay.take(u64::MAX, 0, later, later), Ok(()));
        assert_eq!(replay.senders.len(), 1);
    }

    #[test]
    fn the_last_counters_there_are_do_no_harm() {
        let mut seen = Seen::default();
        assert_eq!(seen.take(u64::MAX, 0), Ok(()));
        assert_eq!(seen.take(u64::MAX, 0), Err(Rejected::Replayed));
        assert_eq!(seen.take(u64::MAX - 1, 0), Ok(()));
    }
}
