//! The stream under a session: buffered, counted, and with an end. ractor_cluster itself waits for ever for a peer that is
//! silent or takes nothing, and does two reads a frame.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{state::ConnectionId, tls::Identity};

/// Bytes read at once: four batches, so that a busy link costs a read per batch or less.
const READ_BUFFER: usize = 128 * 1024;

/// Leads the label of our connections, by which their sessions are known again. Others came to the library's own listener.
const LABEL: &str = "link ";

/// What is known of an open connection. Shared by the stream and the link; when only the link holds it, the stream is gone.
pub(crate) struct Wire {
    pub(crate) connection: ConnectionId,
    pub(crate) inbound: bool,
    /// Whom the peer's certificate speaks for.
    pub(crate) identity: Identity,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Ends the stream in both directions.
    pub(crate) closed: CancellationToken,
    permit: Option<OwnedSemaphorePermit>,
}

impl Wire {
    /// `permit` is held as long as the connection: an accepted one takes a place.
    pub(crate) fn new(
        connection: ConnectionId,
        identity: Identity,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            inbound: permit.is_some(),
            identity,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            closed: CancellationToken::new(),
            permit,
        })
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let holds = self.permit.is_some();
        f.debug_struct("Wire").field("connection", &self.connection).field("permit", &holds).finish()
    }
}

/// The number of the connection that has this label, if it is ours.
pub(crate) fn connection_of(label: &str) -> Option<ConnectionId> {
    label.strip_prefix(LABEL)?.parse().ok()
}

/// What both ends of a connection ask of their socket.
///
/// # Errors
/// When the system refuses an option.
pub(crate) fn prepare(socket: &TcpStream, stall: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // The kernel gives up what a peer does not acknowledge, too: a stream that is blocked in the kernel is freed.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_user_timeout(Some(stall))?;
    #[cfg(not(target_os = "linux"))]
    let _ = stall;
    Ok(())
}

/// A TLS connection on its way into a session.
pub(crate) struct Guarded {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) wire: Arc<Wire>,
    /// How long nothing may be read, or a write make no progress.
    pub(crate) stall: Duration,
}

impl ClusterBidiStream for Guarded {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        let reader = Reader { half: read, watch: Watch::new(&self.wire, self.stall) };
        let writer = Writer { half: write, watch: Watch::new(&self.wire, self.stall) };
        (Box::new(BufReader::with_capacity(READ_BUFFER, reader)), Box::new(writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(format!("{LABEL}{}", self.wire.connection))
    }
}

/// Counts the time without progress in one direction.
struct Watch {
    wire: Arc<Wire>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Watch {
    fn new(wire: &Arc<Wire>, stall: Duration) -> Self {
        let closed = Box::pin(wire.closed.clone().cancelled_owned());
        Self { wire: Arc::clone(wire), stall, timer: Box::pin(sleep(stall)), waiting: false, closed }
    }

    /// Passes on what came of an operation, unless it has waited for too long or the connection is to end.
    fn check<T>(&mut self, cx: &mut Context<'_>, came: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if came.is_ready() {
            self.waiting = false;
            let closed = self.wire.closed.is_cancelled();
            return if closed { Poll::Ready(Err(aborted())) } else { came };
        }
        if !std::mem::replace(&mut self.waiting, true) {
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(aborted()));
        }
        let stalled = || io::Error::new(io::ErrorKind::TimedOut, "the peer is silent or takes nothing");
        self.timer.as_mut().poll(cx).map(|()| Err(stalled()))
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the link was closed")
}

struct Reader {
    half: ReadHalf<TlsStream<TcpStream>>,
    watch: Watch,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let came = Pin::new(&mut self.half).poll_read(cx, buffer);
        let read = (buffer.filled().len() - before) as u64;
        self.watch.wire.bytes_in.fetch_add(read, Ordering::Relaxed);
        self.watch.check(cx, came)
    }
}

struct Writer {
    half: WriteHalf<TlsStream<TcpStream>>,
    watch: Watch,
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let came = Pin::new(&mut self.half).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = came {
            self.watch.wire.bytes_out.fetch_add(written as u64, Ordering::Relaxed);
        }
        self.watch.check(cx, came)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let came = Pin::new(&mut self.half).poll_flush(cx);
        self.watch.check(cx, came)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let came = Pin::new(&mut self.half).poll_shutdown(cx);
        self.watch.check(cx, came)
    }
}
