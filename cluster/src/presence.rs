//! Who is there, known on every node: each node writes down its own users, and reads those of all others.
//!
//! Nothing here knows gossip, sockets or clocks: a thread that owns them feeds two machines and carries what they give.
//!
//! ```text
//!   users' actors ── change ──▶ Ring ── flush ──▶ values p/000…p/127, p/head ──▶ gossip
//!                                │ ▲                                               │
//!                       answer   │ │ request        links                     values of others
//!                                ▼ │                                               ▼
//!                            other nodes ◀── Ask ── Directory ◀── alive, heard, lost, left
//!                                                       │
//!   presence actor ◀────────────────────────── Shown ───┘
//! ```
//!
//! Once per gossip interval: [`Ring::flush`], its values to gossip, and the flush to [`Directory::flushed`]. Whenever
//! something happened or its time has come: [`Directory::poll`].
//!
//! * A user has no heartbeat: the lease of a user's presence is the liveness of the node that says it.
//! * One user has one home and so one record. While a home moves there may be two: the newer is shown, by the clocks of
//!   the nodes that wrote them, and of two as new the more noticeable (do not disturb, online, away, invisible). When one
//!   goes the other is shown, so a wrong clock shows a wrong status only while a user moves.
//! * All times are milliseconds. Those of records are since 1970. `now` is since 1970 too, by a clock that does not go
//!   back: the wall clock at the start plus a monotonic one.
//!
//! In reading order: `record` (a user's status in 24 bytes), `wire` (formats and their bounds), [`Ring`], `table` (all
//! users of all nodes), `column` (how far one node's users are known), [`Directory`].

mod column;
mod directory;
mod news;
mod record;
mod ring;
#[cfg(test)]
mod simulation;
mod table;
mod wire;

pub use directory::{Directory, Output, Poll, Tally};
pub use ring::{Answer, Flush, HEAD_KEY, Ring, SLOTS};
pub use wire::{LONGEST_PAGE, Malformed};
