//! What operators ask of a server.
//!
//! In reading order:
//!
//! * `request`: the commands, as `rookery admin` sends them;
//! * `office`: carries them out, on a running server or on a store that nobody else has open;
//! * `upkeep`: of it, removing what is not to be kept, and `nodes`: which nodes there are, and what lives where;
//! * `server`: HTTP over a Unix socket, and over TCP for health checks, metrics and the page in `page.html`;
//! * `caller`: the other end of the socket;
//! * `copying`: from one store into another, without a server.
//!
//! ```text
//!   rookery admin ──POST /admin, one request──▶ server ──▶ office ──▶ store, sockets of users
//!                 ◀─ a JSON line each item, then {"done":true} or {"error":…} ─┘
//! ```

pub(crate) mod caller;
mod copying;
mod nodes;
pub(crate) mod office;
pub(crate) mod request;
pub(crate) mod server;
mod upkeep;
