//! How the server ends a socket: a number that tells the client whether and how to come back.

/// A WebSocket close code. 4000 to 4099: come back and resume; 4100 to 4199: sign in or refresh first;
/// 4200 to 4299: the client is at fault, and coming back unchanged will not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// The server or this node stops; the `goodbye` frame before it says when to come back.
    GoingAway,
    /// The client took nothing until the write deadline.
    Slow,
    /// No sign of life.
    HeartbeatLost,
    /// A fault of the server's.
    Internal,
    /// The server has too much to do.
    Overloaded,
    /// No `identify` in time.
    IdentifyTimeout,
    /// The credentials are no good.
    Unauthenticated,
    /// The access token ran out and was not refreshed.
    TokenExpired,
    /// This sign-in was ended.
    SignedOut,
    /// The account is disabled.
    Disabled,
    /// A frame that can't be understood at all, or one out of place.
    ProtocolError,
    /// A frame beyond the size limit.
    TooLarge,
    /// Too many frames or pings.
    Flood,
    /// Too many connections of one user or address.
    TooManyConnections,
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComeBack {
    /// Reconnect with backoff and resume.
    Resume,
    /// Refresh or sign in, then reconnect.
    Reauthenticate,
    /// Not without a change.
    No,
}

impl CloseCode {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::GoingAway,
        Self::Slow,
        Self::HeartbeatLost,
        Self::Internal,
        Self::Overloaded,
        Self::IdentifyTimeout,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::SignedOut,
        Self::Disabled,
        Self::ProtocolError,
        Self::TooLarge,
        Self::Flood,
        Self::TooManyConnections,
    ];

    /// The number in the close frame.
    pub const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 4000,
            Self::Slow => 4001,
            Self::HeartbeatLost => 4002,
            Self::Internal => 4003,
            Self::Overloaded => 4004,
            Self::IdentifyTimeout => 4100,
            Self::Unauthenticated => 4101,
            Self::TokenExpired => 4102,
            Self::SignedOut => 4103,
            Self::Disabled => 4104,
            Self::ProtocolError => 4200,
            Self::TooLarge => 4201,
            Self::Flood => 4202,
            Self::TooManyConnections => 4203,
        }
    }

    /// The code with this number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|candidate| candidate.code() == code)
    }

    /// The reason in the close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "going away: reconnect and resume",
            Self::Slow => "too slow: reconnect and resume",
            Self::HeartbeatLost => "no sign of life",
            Self::Internal => "internal error: reconnect and resume",
            Self::Overloaded => "overloaded: reconnect later",
            Self::IdentifyTimeout => "no identify in time",
            Self::Unauthenticated => "credentials refused",
            Self::TokenExpired => "access token expired",
            Self::SignedOut => "signed out",
            Self::Disabled => "account disabled",
            Self::ProtocolError => "protocol error",
            Self::TooLarge => "frame too large",
            Self::Flood => "too many frames",
            Self::TooManyConnections => "too many connections",
        }
    }

    /// What the client does next.
    pub const fn come_back(self) -> ComeBack {
        match self.code() {
            4000..4100 => ComeBack::Resume,
            4100..4200 => ComeBack::Reauthenticate,
            _ => ComeBack::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_code_and_a_number_finds_its_code() {
        assert!(CloseCode::ALL.iter().enumerate().all(|(place, code)| *code as usize == place));
        assert_eq!(CloseCode::ALL.len(), CloseCode::TooManyConnections as usize + 1);
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(CloseCode::from_code(1000), None);
    }

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        assert!(CloseCode::ALL.iter().all(|code| code.reason().len() <= 123));
    }
}
