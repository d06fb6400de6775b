//! Everything about an untrusted peer: sockets, REST, credentials, limits, slowness. Knows no storage and no cluster.
//!
//! In reading order:
//!
//! * [`gateway`]: starts and stops it all;
//! * [`listener`]: accepts, speaks TLS ([`tls`]) and HTTP, and tells an upgrade from a request;
//! * [`session`]: one WebSocket, from `identify` to its close: its state decides, the rest acts;
//! * [`outbox`]: the write half of a socket, which the actors write to directly; [`stream`] its read half;
//! * [`auth`]: who somebody is;
//! * [`rest`]: what is not live, and [`web`]: the web client;
//! * [`frames`]: frame → the bytes that sockets take;
//! * [`limits`], [`heartbeat`], [`settings`], [`counters`]: what all sockets share.
//!
//! ```text
//!   accept ─ TLS ─ HTTP ─┬─ router (REST, web client)
//!                        └─ upgrade ─▶ session task ──open, send, …──▶ actors
//!                                        ▲   │ flush                      │ push
//!                                        │   ▼                            ▼
//!                             tungstenite│ socket ◀──────────────────── outbox
//! ```

pub mod auth;
pub mod counters;
pub mod frames;
pub mod gateway;
mod heartbeat;
pub mod limits;
pub mod listener;
pub mod outbox;
pub mod rest;
pub mod session;
pub mod settings;
mod stream;
pub mod tls;
mod web;

pub use counters::Counters;
pub use frames::Frames;
pub use gateway::{Gateway, GatewayParts, StartError};
pub use session::Identifier;
pub use settings::{SocketSettings, TlsFiles};

/// Where a client is, as an extension of its requests: set by the listener, which knows the trusted proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub std::net::IpAddr);
