//! A small client of Rookery that remembers what it saw, and the check of that memory against the log.
//!
//! It knows the protocol and nothing of the server, so that tests and load generators see what any client sees.
//! In reading order:
//!
//! * [`record`]: what a client asked, was told and saw, in the order in which it happened;
//! * [`lane`]: one room's unanswered sends: window, resend, renumbering;
//! * [`state`]: a client's decisions, without socket or clock: frames in, frames out;
//! * [`net`] and [`rest`]: sockets and requests, plain or over TLS;
//! * [`client`]: the handle, and the task that connects, resumes and comes back;
//! * [`check`]: is what everybody saw what the log says?
//!
//! ```text
//!   Client ──send, open──▶ state ◀── frames ── driver ◀──▶ one WebSocket
//!                            │
//!                            ▼
//!                          Record ──┐
//!   another client's Record ────────┼──▶ check ──▶ violations
//!   the room's log ─────────────────┘
//! ```

pub mod check;
pub mod client;
mod driver;
mod lane;
pub mod net;
pub mod record;
pub mod rest;
mod state;

pub use client::{Client, Settings};
pub use record::Record;
pub use rest::Rest;
