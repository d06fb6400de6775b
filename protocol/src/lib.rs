//! Everything that a client of Rookery sees on the wire, and nothing else: no sockets, no clocks, no storage.
//!
//! In reading order:
//!
//! * [`ids`]: who and what a frame speaks of;
//! * [`entry`]: what a room's log consists of;
//! * [`client`] and [`server`]: the frames, one enum a direction;
//! * [`error`] and [`close`]: how the server says no, and how it ends a socket;
//! * [`codec`]: frame ↔ bytes, as JSON text or MessagePack;
//! * [`limits`]: every bound that a client can run into.
//!
//! Each frame is pinned by a file in `protocol/fixtures/`, read by the tests of this crate and of the TypeScript SDK.
//! Unknown fields are ignored everywhere; an unknown frame kind is answered `unsupported`, so versions can mix.

pub mod client;
pub mod close;
pub mod codec;
pub mod entry;
pub mod error;
pub mod ids;
pub mod limits;
pub mod server;
mod value;

pub use client::ClientFrame;
pub use close::CloseCode;
pub use codec::{DecodeError, Encoding};
pub use entry::{Body, Entry, Kind};
pub use error::ErrorCode;
pub use ids::{DeviceId, Incarnation, InviteId, RoomId, SessionId, UserId, WriterId};
pub use server::ServerFrame;

/// Version of the frames in this crate, told in `welcome`. It rises when an old client would misread a frame.
pub const PROTOCOL_VERSION: u32 = 1;

/// A position in a room's log. The first entry is 1; 0 means "before everything". Stays below 2^53.
pub type Seq = u64;

/// Milliseconds since the Unix epoch, by the server's clock.
pub type Millis = u64;
