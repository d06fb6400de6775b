//! Where time and chance come from. Everybody else is given them.

use actors::{Chance, Clock};
use protocol::Millis;

/// The system's wall clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is given")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(Millis::MAX))
    }
}

/// The operating system's randomness.
pub(crate) struct SystemChance;

impl Chance for SystemChance {
    fn bits(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers once it has started");
        u128::from_be_bytes(bytes)
    }
}
