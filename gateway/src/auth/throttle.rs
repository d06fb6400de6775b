//! Slows down who guesses passwords: after a few free failures the wait doubles with each further one.
//!
//! An attempt counts as failed until it is known to have succeeded, so that a hundred guesses at once are a hundred
//! failures and not one. Counted in this node's memory alone.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
};

use protocol::Millis;

/// Places for counters. Accounts or addresses are hashed to one with a key that nobody outside knows, so memory is
/// bounded whatever strangers do; two that meet in one place share their failures.
const PLACES: u64 = 1 << 16;

/// How lenient a throttle is.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Failures without a wait.
    pub free: u32,
    /// The wait after the first failure beyond them, in milliseconds.
    pub first_ms: Millis,
    /// The longest wait, in milliseconds.
    pub longest_ms: Millis,
    /// Failures are forgotten when there was none for this long, in milliseconds.
    pub forget_ms: Millis,
}

impl Backoff {
    /// For one account: five free, then 1 s, 2 s, … 5 minutes. Longer would let strangers lock owners out.
    pub const ACCOUNT: Self =
        Self { free: 5, first_ms: 1_000, longest_ms: 5 * 60_000, forget_ms: 60 * 60_000 };
    /// For one address, behind which an office may sit: thirty free, then 1 s, 2 s, … 15 minutes.
    pub const ADDRESS: Self =
        Self { free: 30, first_ms: 1_000, longest_ms: 15 * 60_000, forget_ms: 60 * 60_000 };

    fn wait(&self, failures: u32) -> Millis {
        match failures.checked_sub(self.free) {
            None | Some(0) => 0,
            Some(beyond) => {
                let doubled = self.first_ms.saturating_mul(1u64 << (beyond - 1).min(40));
                doubled.min(self.longest_ms)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Millis,
}

/// Counters of failures by key.
pub(crate) struct Throttle {
    backoff: Backoff,
    places: Mutex<HashMap<u64, Failures>>,
    hasher: RandomState,
}

impl Throttle {
    /// Without failures.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, places: Mutex::default(), hasher: RandomState::new() }
    }

    /// Begins an attempt, which counts as failed from now on. Otherwise the milliseconds to wait.
    pub(crate) fn attempt(&self, key: &impl Hash, now: Millis) -> Result<(), Millis> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = places.entry(self.place(key)).or_insert(Failures { count: 0, last: now });
        if now.saturating_sub(failures.last) >= self.backoff.forget_ms {
            failures.count = 0;
        }
        let passed = now.saturating_sub(failures.last);
        let wait = self.backoff.wait(failures.count);
        if passed < wait {
            return Err(wait - passed);
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        Ok(())
    }

    /// The attempt succeeded: the failures before it are forgiven.
    pub(crate) fn forgive(&self, key: &impl Hash) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place(key));
    }

    /// The attempt was no failure: it alone is taken back.
    pub(crate) fn take_back(&self, key: &impl Hash) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = places.get_mut(&self.place(key)) {
            failures.count = failures.count.saturating_sub(1);
        }
    }

    fn place(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key) % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENIENT: Backoff = Backoff { free: 2, first_ms: 1_000, longest_ms: 3_000, forget_ms: 60_000 };

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_is_told() {
        let throttle = Throttle::new(LENIENT);
        assert_eq!(throttle.attempt(&"ann", 0), Ok(()));
        assert_eq!(throttle.attempt(&"ann", 0), Ok(()));
        assert_eq!(throttle.attempt(&"ann", 0), Ok(()), "as many waits as failures beyond the free ones");
        assert_eq!(throttle.attempt(&"ann", 400), Err(600));
        assert_eq!(throttle.attempt(&"ann", 1_000), Ok(()));
        assert_eq!(throttle.attempt(&"ann", 1_000), Err(2_000));
        assert_eq!(throttle.attempt(&"ann", 3_000), Ok(()));
        assert_eq!(throttle.attempt(&"ann", 3_000), Err(3_000), "never longer than the longest");
    }

    #[test]
    fn a_refused_attempt_does_not_lengthen_the_wait() {
        let throttle = Throttle::new(LENIENT);
        for _ in 0..3 {
            assert_eq!(throttle.attempt(&"ann", 0), Ok(()));
        }
        for _ in 0..10 {
            assert_eq!(throttle.attempt(&"ann", 0), Err(1_000));
        }
    }

    #[test]
    fn success_forgives_and_time_forgets() {
        let throttle = Throttle::new(LENIENT);
        for _ in 0..3 {
            throttle.attempt(&"ann", 0).unwrap();
        }
        throttle.forgive(&"ann");
        assert_eq!(throttle.attempt(&"ann", 0), Ok(()));
        for at in [0, 0, 1_000, 3_000] {
            throttle.attempt(&"ann", at).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(throttle.attempt(&"ann", 63_000), Ok(()), "forgotten after a minute of quiet");
        }
    }

    #[test]
    fn one_persons_failures_are_not_anothers() {
        let throttle = Throttle::new(LENIENT);
        for _ in 0..3 {
            throttle.attempt(&"ann", 0).unwrap();
        }
        assert!(throttle.attempt(&"ann", 0).is_err());
        assert!((0..20).any(|other| throttle.attempt(&other, 0).is_ok()));
    }
}
