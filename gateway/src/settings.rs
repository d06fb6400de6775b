//! Every bound and time of the sockets. Filled by the node from its configuration; nothing here reads the environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::limits::{Network, Rate};

/// Settings of the gateway's sockets.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// Where to listen. Default 127.0.0.1, port 8080; port 0 takes any.
    pub listen: SocketAddr,
    /// Certificate and key; without them the gateway speaks plain HTTP. Default none.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may open a socket, exact: `https://chat.example`. A page of the host that it connects to
    /// may always. Default none.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: Vec<Network>,

    /// Connections waiting to be accepted. Default 4,096: a reconnect storm overflows the usual 128.
    pub backlog: u32,
    /// Most TCP connections. Default 200,000. Beyond it new ones are dropped at once.
    pub max_connections: usize,
    /// Most TCP connections of one address (IPv6: one /64). Default 512.
    pub max_connections_per_address: u32,
    /// Most sockets of one address that are not identified yet. Default 64.
    pub max_unidentified_per_address: u32,
    /// The kernel's send buffer, in bytes, so that the bound on a slow reader is ours. Default 64 KiB; with
    /// less than a segment, which is 64 KiB on loopback, each buffer waits for a delayed acknowledgement.
    pub send_buffer: usize,
    /// Deadline of a TLS handshake. Default 5 s.
    pub tls_handshake: Duration,
    /// Deadline of a request's headers. Default 5 s.
    pub header_timeout: Duration,
    /// Deadline of the `identify` frame and of the answer to it. Default 5 s.
    pub identify_timeout: Duration,

    /// What one client may leave unread in the server's memory, in bytes. Default 256 KiB, at least 128 KiB.
    pub outbox_bytes: usize,
    /// A client that takes nothing for this long, while something waits for it, is cut off. Default 30 s.
    pub write_deadline: Duration,
    /// The server's ping. Default 25 s, spread by a tenth. No sign of life for twice as long ends the session.
    pub heartbeat: Duration,
    /// A token that ran out may be refreshed for this much longer. Default 30 s.
    pub expiry_grace: Duration,
    /// Sends that are not answered for this long are sent to the room again. Default 5 s.
    pub answer_timeout: Duration,
    /// Longest wait for a page, a read mark or a look-up. Default 10 s; then `unavailable`.
    pub work_timeout: Duration,
    /// Longest wait for the client's half of a close. Default 3 s.
    pub close_timeout: Duration,

    /// Frames of one session. Default 50 a second, 100 at once.
    pub frames: Rate,
    /// Pings of one session, of both kinds. Default 10 a second, 20 at once.
    pub pings: Rate,
    /// Pages of history that one session may ask for. Default 10 a second, 30 at once.
    pub history: Rate,
    /// Rooms that one session may open. Default 10 a second, 60 at once.
    pub opens: Rate,
    /// Frames beyond the limits before the session is closed as a flood. Default 5 a second, 100 at once.
    pub abuse: Rate,
    /// Over how long a stop spreads the clients' return. Default 10 s.
    pub return_spread: Duration,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            backlog: 4_096,
            max_connections: 200_000,
            max_connections_per_address: 512,
            max_unidentified_per_address: 64,
            send_buffer: 64 * 1024,
            tls_handshake: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            identify_timeout: Duration::from_secs(5),
            outbox_bytes: 256 * 1024,
            write_deadline: Duration::from_secs(30),
            heartbeat: Duration::from_secs(25),
            expiry_grace: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(5),
            work_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            frames: Rate { per_second: 50, burst: 100 },
            pings: Rate { per_second: 10, burst: 20 },
            history: Rate { per_second: 10, burst: 30 },
            opens: Rate { per_second: 10, burst: 60 },
            abuse: Rate { per_second: 5, burst: 100 },
            return_spread: Duration::from_secs(10),
        }
    }
}

/// Where certificate and key are. Both are read again when they change.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}
