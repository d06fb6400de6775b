//! The durable contract: what Rookery keeps, and what keeping it means. No actors, no sockets.
//!
//! In reading order:
//!
//! * [`log`]: a room's log as rows in buckets, every write of it conditional: the primitives that a database gives;
//! * [`owner`]: the protocol on top of them: claim, recover, append, resolve what is unknown, roll over;
//! * [`retention`]: which old buckets go, and in which order;
//! * [`erasure`]: how somebody's words are taken out of it;
//! * [`members`]: rooms and their members, derived from the log;
//! * [`reader`]: pages of the log for somebody, authorised and masked;
//! * [`accounts`], [`marks`], [`audit`]: people and their sign-ins, how far they have read, what was done;
//! * [`copy`]: everything from one store into another;
//! * [`folder`]: the data folder and its lock;
//! * [`memory`], [`sqlite`] and [`scylla`]: the implementations. All pass the suite in `tests/contract`.
//!
//! ```text
//!   room actor ──▶ owner ──▶ RoomLog ◀── reader ◀── history, catch-up
//!                              ▲
//!                    sqlite · scylla · memory
//! ```

pub mod accounts;
pub mod audit;
mod backoff;
pub mod copy;
pub mod erasure;
mod error;
pub mod folder;
mod listing;
pub mod log;
pub mod marks;
pub mod members;
pub mod memory;
pub mod owner;
pub mod reader;
pub mod retention;
pub mod scylla;
pub mod sqlite;
mod words;

pub use accounts::Accounts;
pub use audit::Audit;
pub use error::StoreError;
pub use log::RoomLog;
pub use marks::Marks;
pub use members::Members;

/// Everything that a node keeps.
pub trait Store: RoomLog + Members + Accounts + Marks + Audit {}

impl<T: RoomLog + Members + Accounts + Marks + Audit> Store for T {}

/// A part of a list, with what to ask for the next part; `None` at the end. The `limit` of every listing is taken into
/// `1 ..= 1000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// This part, in the list's order.
    pub items: Vec<T>,
    /// Opaque to everybody but the store that made it: text, at most 256 bytes.
    pub next: Option<String>,
}
