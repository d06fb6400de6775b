//! Numbers spread evenly: not a secret, not against an adversary, but the same on every node and in every version.

/// Maps every number to another, so that any bit of the input changes half of the output (SplitMix64's finish).
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The upper and the lower half of an id.
pub(crate) const fn halves(id: u128) -> [u64; 2] {
    [(id >> 64) as u64, id as u64]
}

/// Chance from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_same_in_every_version() {
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(halves(1 << 64 | 2), [1, 2]);
    }

    #[test]
    fn one_bit_changes_about_half_of_the_others() {
        let changed = |bit: u64| (mix(77) ^ mix(77 ^ (1 << bit))).count_ones();
        assert!((0..64).all(|bit| (16..48).contains(&changed(bit))));
    }
}
