//! Gossip over one UDP socket, sealed.
//!
//! ```text
//! chitchat ── send ─▶ encode ─▶ seal ─▶ socket
//! chitchat ◀─ inbox ◀─ decode ◀─ open ◀─ socket     in a task of its own
//! ```
//!
//! Nothing that arrives can do more than raise a counter, and nothing waits on the way out: gossip repeats what was lost.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actors::{Chance, Clock};
use anyhow::{Context, anyhow};
use async_trait::async_trait;
use chitchat::{
    ChitchatEnvelope,
    transport::{RecvOutcome, SendOutcome, Socket, Transport},
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    codec::Codec,
    metrics::{Metrics, add, count},
    seal::{DATAGRAM, Opener, Rejected, Sealer},
    secrets::Keys,
};

/// Kernel buffer for what arrives, in bytes: several rounds of the longest messages from every peer. The kernel may grant
/// less.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Opened messages that wait for chitchat. It takes one in less than a millisecond, so this many wait only when the machine
/// is overloaded; then the next are dropped and gossip repeats them.
const INBOX: usize = 256;

/// Pause after an error of the socket, so that a lasting one doesn't keep the thread busy.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// The socket and what it is used with, kept over restarts of gossip: what was seen before a restart counts as replayed
/// after it.
pub(crate) struct Wire {
    socket: UdpSocket,
    opener: Mutex<Opener>,
    keys: watch::Receiver<Arc<Keys>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

/// Binds the socket of gossip.
///
/// # Errors
/// When the address is taken or not of this host.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let kind = socket2::Type::DGRAM;
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(listen), kind, Some(socket2::Protocol::UDP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

impl Wire {
    /// Gossip over a bound socket that others reach at `advertise`.
    pub(crate) fn new(
        socket: UdpSocket,
        advertise: SocketAddr,
        keys: watch::Receiver<Arc<Keys>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self { socket, opener: Mutex::new(Opener::new(advertise)), keys, metrics, clock, chance }
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.borrow().clone()
    }

    fn open(&self, datagram: &[u8]) -> Result<Option<Vec<u8>>, Rejected> {
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        opener.open(&self.keys(), self.clock.now(), datagram)
    }

    /// Sends datagrams without waiting. False when the socket took not all of them.
    fn send(&self, datagrams: &[Vec<u8>], to: SocketAddr) -> bool {
        datagrams.iter().all(|datagram| {
            let sent = self.socket.send_to(datagram, to).is_ok();
            if sent {
                count(&self.metrics.datagrams_out);
                add(&self.metrics.bytes_out, datagram.len());
            }
            sent
        })
    }
}

/// What chitchat opens: each opening is another sender on the same socket.
pub(crate) struct Sealed(pub(crate) Arc<Wire>);

#[async_trait]
impl Transport for Sealed {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (inbox, received) = mpsc::channel(INBOX);
        let receiving = tokio::net::UdpSocket::from_std(self.0.socket.try_clone()?)?;
        let receiver =
            Receiver { wire: self.0.clone(), socket: receiving, codec: Codec::open().await?, inbox };
        let [_, incarnation] = halves(self.0.chance.bits());
        Ok(Box::new(SealedSocket {
            wire: self.0.clone(),
            codec: Codec::open().await?,
            sealer: Sealer::new(incarnation),
            received,
            _receiver: AbortOnDropHandle::new(tokio::spawn(receiver.run())),
        }))
    }
}

fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, (bits & u128::from(u64::MAX)) as u64]
}

struct SealedSocket {
    wire: Arc<Wire>,
    codec: Codec,
    sealer: Sealer,
    received: mpsc::Receiver<RecvOutcome>,
    _receiver: AbortOnDropHandle<()>,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.wire.socket.local_addr().context("no address of the gossip socket")
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let num_bytes_sent = self.try_send(to, envelope).await;
        if num_bytes_sent.is_none() {
            count(&self.wire.metrics.unsent);
        }
        Ok(SendOutcome { num_bytes_sent: num_bytes_sent.unwrap_or(0) })
    }

    /// May be dropped while it waits: the message stays in the inbox.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.received.recv().await.ok_or_else(|| anyhow!("the receiver of gossip ended"))
    }
}

impl SealedSocket {
    async fn try_send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> Option<usize> {
        let bytes = self.codec.encode(envelope).await.ok()?;
        let datagrams = self.sealer.seal(&self.wire.keys(), to, self.wire.clock.now(), &bytes).ok()?;
        self.wire.send(&datagrams, to).then_some(bytes.len())
    }
}

/// The task that takes datagrams and makes messages of them.
struct Receiver {
    wire: Arc<Wire>,
    socket: tokio::net::UdpSocket,
    codec: Codec,
    inbox: mpsc::Sender<RecvOutcome>,
}

impl Receiver {
    async fn run(mut self) {
        // One byte more than a datagram has, so that a longer one is seen to be longer.
        let mut buffer = [0; DATAGRAM + 1];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => self.take(&buffer[..length], from).await,
                Err(_) => {
                    count(&self.wire.metrics.receive_errors);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    async fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        count(&self.wire.metrics.datagrams_in);
        add(&self.wire.metrics.bytes_in, datagram.len());
        let taken = match self.wire.open(datagram) {
            Ok(Some(message)) => self.deliver(&message, from).await,
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            self.wire.metrics.reject(reason);
        }
    }

    async fn deliver(&mut self, message: &[u8], from_addr: SocketAddr) -> Result<(), Rejected> {
        let envelope = self.codec.decode(message).await.map_err(|_| Rejected::Unreadable)?;
        let outcome = RecvOutcome { from_addr, envelope, num_bytes_received: message.len() };
        self.inbox.try_send(outcome).map_err(|_| Rejected::Overrun)
    }
}
