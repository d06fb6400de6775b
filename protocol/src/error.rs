//! One vocabulary of refusals for frames (`refused`, `error`) and REST (problem+json).

use serde::{Deserialize, Serialize};

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is malformed or breaks a stated rule.
    Invalid,
    /// This version does not know the frame, kind or option.
    Unsupported,
    /// No valid credentials.
    Unauthenticated,
    /// The token was good and is not any more: refresh.
    Expired,
    /// Known, and not allowed.
    Forbidden,
    /// There is no such thing, or it is not for these eyes.
    NotFound,
    /// Only for members of the room.
    NotAMember,
    /// Banned from the room.
    Banned,
    /// May read, not send.
    Muted,
    /// The other one does not want to hear from this user.
    Blocked,
    /// The account is disabled.
    Disabled,
    /// The name or address is in use.
    Taken,
    /// The state does not allow it; or a used counter came again with other content.
    Conflict,
    /// A send left out a counter; `expected` says where to go on.
    OutOfOrder,
    /// A repeat of something already in the log that can no longer be compared; `seq` if it is known.
    Stored,
    /// Nobody can say whether it happened (ephemeral rooms only).
    Unknown,
    /// Too often; `retry_after_ms` says when.
    RateLimited,
    /// The server has too much to do; `retry_after_ms` says when.
    Overloaded,
    /// Larger than a limit.
    TooLarge,
    /// More of something than a limit allows at once.
    TooMany,
    /// The invitation does not exist, has expired or is used up.
    InviteInvalid,
    /// Something behind the server is away; nothing happened; try again.
    Unavailable,
    /// A fault of the server's.
    Internal,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// Every code that this version sends.
    pub const ALL: &[Self] = &[
        Self::Invalid,
        Self::Unsupported,
        Self::Unauthenticated,
        Self::Expired,
        Self::Forbidden,
        Self::NotFound,
        Self::NotAMember,
        Self::Banned,
        Self::Muted,
        Self::Blocked,
        Self::Disabled,
        Self::Taken,
        Self::Conflict,
        Self::OutOfOrder,
        Self::Stored,
        Self::Unknown,
        Self::RateLimited,
        Self::Overloaded,
        Self::TooLarge,
        Self::TooMany,
        Self::InviteInvalid,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The HTTP status that goes with it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated | Self::Expired => 401,
            Self::Forbidden
            | Self::NotAMember
            | Self::Banned
            | Self::Muted
            | Self::Blocked
            | Self::Disabled => 403,
            Self::NotFound => 404,
            Self::Taken | Self::Conflict | Self::OutOfOrder | Self::Stored | Self::TooMany => 409,
            Self::InviteInvalid => 410,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Unsupported => 501,
            Self::Overloaded | Self::Unavailable => 503,
            Self::Unknown | Self::Internal | Self::Other => 500,
        }
    }

    /// Whether the same request may succeed later without a change.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_code_but_that_of_later_versions() {
        assert!(ErrorCode::ALL.iter().enumerate().all(|(place, code)| *code as usize == place));
        assert_eq!(ErrorCode::ALL.len(), ErrorCode::Other as usize);
    }
}
