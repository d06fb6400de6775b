//! What to do with a refresh token that is shown: the decision alone, from state to verdict.
//!
//! The tokens of one sign-in are a *family*, one of them current. Showing the current one rotates it. An honest client
//! may show the one before it again: two tabs refresh together, or the answer to a rotation was lost. For a while, and
//! as long as nobody has used the successor, such a repeat gets the same successor. Anything else is an old token in
//! two hands, and nobody can say which hand is the owner's: the family ends.

use protocol::Millis;
use store::accounts::TokenFamily;

/// How long a token that was rotated away may be shown again, in milliseconds.
pub const REPEAT_MS: Millis = 60_000;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The token counts: put its successor in its place.
    Rotate,
    /// An honest repeat: give the same successor again.
    Repeat,
    /// An old token: end the sign-in and close its sockets.
    Reuse,
}

/// Judges the token whose hash is `shown`.
///
/// "While its successor is unused" needs no flag: using the successor rotates it, and then the token shown is no
/// longer the previous one. A clock that runs behind the one that wrote `rotated_at` counts as no time passed.
pub fn decide(family: &TokenFamily, shown: [u8; 32], now: Millis) -> Decision {
    if shown == family.current {
        Decision::Rotate
    } else if family.previous == Some(shown) && now.saturating_sub(family.rotated_at) <= REPEAT_MS {
        Decision::Repeat
    } else {
        Decision::Reuse
    }
}

/// The family after a rotation.
pub fn rotated(shown: [u8; 32], successor: [u8; 32], now: Millis) -> TokenFamily {
    TokenFamily { current: successor, previous: Some(shown), rotated_at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];
    const C: [u8; 32] = [3; 32];
    const THEN: Millis = 1_000_000;

    fn fresh() -> TokenFamily {
        TokenFamily { current: A, previous: None, rotated_at: THEN }
    }

    #[test]
    fn the_current_token_rotates_however_old_it_is() {
        assert_eq!(decide(&fresh(), A, THEN), Decision::Rotate);
        assert_eq!(decide(&fresh(), A, THEN + 30 * 86_400_000), Decision::Rotate);
    }

    #[test]
    fn the_token_before_it_is_repeated_for_a_minute_and_not_longer() {
        let family = rotated(A, B, THEN);
        assert_eq!(decide(&family, A, THEN), Decision::Repeat);
        assert_eq!(decide(&family, A, THEN + REPEAT_MS), Decision::Repeat);
        assert_eq!(decide(&family, A, THEN + REPEAT_MS + 1), Decision::Reuse);
    }

    #[test]
    fn once_the_successor_was_used_the_old_token_is_reuse() {
        let family = rotated(B, C, THEN);
        assert_eq!(decide(&family, A, THEN), Decision::Reuse);
        assert_eq!(decide(&family, B, THEN), Decision::Repeat);
        assert_eq!(decide(&family, C, THEN), Decision::Rotate);
    }

    #[test]
    fn a_token_that_never_was_in_the_family_is_reuse() {
        assert_eq!(decide(&fresh(), C, THEN), Decision::Reuse);
    }

    #[test]
    fn a_clock_that_runs_behind_signs_nobody_out() {
        assert_eq!(decide(&rotated(A, B, THEN), A, THEN - 5_000), Decision::Repeat);
    }
}
