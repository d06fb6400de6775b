//! The domain: rooms, the people in them, and who hears what. Runs without sockets, database or cluster.
//!
//! In reading order:
//!
//! * [`session`]: what a connection is to the actors: an [`Outbox`] to push to, and notices that only it can act on;
//! * [`rooms`]: the handle to every room, wherever it lives; `room` puts its messages in order;
//! * `audience`: the sessions of this node that hear a room;
//! * [`users`]: the handle to every connected user; `user` knows their sessions and status;
//! * `presence` and `heads`: who is there, and how far rooms have come that are not open;
//! * [`peers`]: what a cluster gives; `mesh`: rooms and users on other nodes.
//!
//! ```text
//!   root ─┬─ rooms ───── room …        one writer a room: orders, appends, admits
//!         ├─ audiences ─ audience …    encodes once, pushes to each outbox
//!         ├─ users ───── user …        sessions, status, limits; passive after 30 s
//!         ├─ presence                  statuses and who watches them
//!         └─ heads                     news of rooms that are not open, once a second
//! ```
//!
//! Messages between actors are casts; nobody waits for an answer. Each carries the trace context of what caused it.

mod admission;
mod audience;
#[cfg(feature = "bench")]
pub mod bench;
mod children;
mod heads;
#[cfg(test)]
mod live_tests;
mod mesh;
pub mod peers;
mod presence;
mod room;
pub mod rooms;
pub mod session;
#[cfg(test)]
mod simulation;
mod start;
mod user;
pub mod users;
pub mod world;

pub use mesh::inbound::Inbound;
pub use peers::{PeerId, Peers};
pub use rooms::Rooms;
pub use session::{Encode, Notice, Outbox, Session};
pub use start::Actors;
pub use users::Users;
pub use world::{Chance, Clock, World};
