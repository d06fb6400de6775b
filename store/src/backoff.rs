//! Waiting between tries, longer each time, and not all at the same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// How long to wait before the next try: 20 ms · 2^i up to a second, of which the upper half is left to chance.
#[derive(Debug)]
pub(crate) struct Backoff {
    seed: u64,
    tries: u32,
}

impl Backoff {
    /// The chance comes from `seed`, so that two who collide with different random ids wait differently.
    pub(crate) const fn new(seed: u128) -> Self {
        Self { seed: (seed >> 64) as u64 ^ seed as u64, tries: 0 }
    }

    /// Tries so far that were followed by a wait.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        let delay = self.next_delay();
        tokio::time::sleep(delay).await;
    }

    fn next_delay(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(6)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let chance = mix(self.seed.wrapping_add(u64::from(self.tries)));
        whole / 2 + (whole / 2).mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// One step of SplitMix64: spreads the bits of a counter.
fn mix(counter: u64) -> u64 {
    let mut bits = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_second_and_keep_at_least_their_half() {
        let mut backoff = Backoff::new(7);
        for whole in [20, 40, 80, 160, 320, 640, 1000, 1000, 1000] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(whole / 2) && delay <= Duration::from_millis(whole),
                "{delay:?}"
            );
        }
    }

    #[test]
    fn different_seeds_wait_differently() {
        assert_ne!(Backoff::new(1).next_delay(), Backoff::new(2).next_delay());
    }
}
