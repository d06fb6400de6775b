//! Every bound that a client can run into, in one place. The server may be configured tighter where `welcome` says so.

use serde::{Deserialize, Serialize};

/// Largest client frame, as bytes on the wire. Larger ones end the connection with
/// [`crate::CloseCode::TooLarge`].
pub const FRAME_BYTES: usize = 64 * 1024;
/// Largest entry body, as bytes of compact JSON.
pub const BODY_BYTES: usize = 16 * 1024;
/// Deepest nesting of an entry body.
pub const BODY_DEPTH: usize = 16;
/// Longest name of an entry kind.
pub const KIND_BYTES: usize = 32;
/// Most rooms that one session may have open, that is hear whole.
pub const OPEN_ROOMS: usize = 50;
/// Most rooms that one `identify` may resume.
pub const RESUME_ROOMS: usize = 1_000;
/// Most entries that answer one open or resume of a room before a `gap` is named.
pub const RESUME_ENTRIES: usize = 100;
/// Most entries in one history page.
pub const PAGE_ENTRIES: usize = 200;
/// Entries in a history page when the request does not say.
pub const PAGE_DEFAULT: usize = 50;
/// Most sends that a session may have unanswered.
pub const WINDOW_SENDS: usize = 32;
/// Most bytes of bodies that a session may have unanswered.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// Most users whose presence one session watches.
pub const WATCHED_USERS: usize = 500;
/// Largest counter, request id or position: 2^53 - 1, exact in every JSON reader.
pub const MAX_COUNTER: u64 = (1 << 53) - 1;
/// Longest access token or ticket in bytes.
pub const TOKEN_BYTES: usize = 4 * 1024;
/// Longest user name in characters.
pub const USER_NAME_CHARS: usize = 32;
/// Longest display or full name in characters.
pub const DISPLAY_NAME_CHARS: usize = 64;
/// Longest room name in characters.
pub const ROOM_NAME_CHARS: usize = 64;
/// Longest room topic in characters.
pub const TOPIC_CHARS: usize = 256;
/// Longest slow mode in seconds: six hours.
pub const SLOW_MODE_S: u32 = 6 * 60 * 60;
/// Shortest and longest password in bytes.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// What `welcome` tells of the limits in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest client frame in bytes.
    pub frame_bytes: usize,
    /// Largest entry body in bytes of JSON.
    pub body_bytes: usize,
    /// Most open rooms.
    pub open_rooms: usize,
    /// Most unanswered sends.
    pub window_sends: usize,
    /// Most unanswered bytes of bodies.
    pub window_bytes: usize,
    /// Most entries a page.
    pub page_entries: usize,
    /// Most watched users.
    pub watched_users: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: FRAME_BYTES,
            body_bytes: BODY_BYTES,
            open_rooms: OPEN_ROOMS,
            window_sends: WINDOW_SENDS,
            window_bytes: WINDOW_BYTES,
            page_entries: PAGE_ENTRIES,
            watched_users: WATCHED_USERS,
        }
    }
}
