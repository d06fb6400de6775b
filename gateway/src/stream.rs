//! The stream under tungstenite. It reads from the socket; what it is given to write are whole control frames, which go
//! through the outbox like everything else, so that nothing overtakes anything.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actors::session::Pushed;
use bytes::{Buf, Bytes};
use protocol::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

use crate::outbox::{Flushed, Left, SocketOutbox, Writer};

/// tungstenite's buffer for reading, in bytes: some ten usual frames. It stays with the connection for good, so it is
/// small; a larger frame borrows more.
const READ_BUFFER: usize = 2 * 1024;

/// Bytes that tungstenite may hold for writing: it writes at once, so this never fills.
const WRITE_BUFFER: usize = 4 * 1024;

/// A WebSocket over a [`SocketStream`].
pub(crate) type WebSocket = WebSocketStream<SocketStream>;

/// What carries the bytes.
pub(crate) enum Transport {
    /// A socket that the outbox writes to as well.
    Plain(Arc<TcpStream>),
    /// TLS, which only its owner can write.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// What an outbox may write to.
    pub(crate) fn writer(&self) -> Option<Arc<dyn Writer>> {
        match self {
            Self::Plain(socket) => Some(socket.clone()),
            Self::Tls(_) => None,
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => return Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        loop {
            ready!(socket.poll_read_ready(context))?;
            match socket.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// What tungstenite reads from and writes to.
pub(crate) struct SocketStream {
    transport: Transport,
    /// What was read behind the upgrade's request.
    early: Bytes,
    outbox: Arc<SocketOutbox>,
}

impl SocketStream {
    /// The WebSocket after its handshake, with what was read already.
    pub(crate) async fn open(transport: Transport, early: Bytes, outbox: Arc<SocketOutbox>) -> WebSocket {
        // Nothing of hyper's buffer, kept alive, would still be all of it.
        let early = if early.is_empty() { Bytes::new() } else { early };
        let stream = Self { transport, early, outbox };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(limits::FRAME_BYTES))
            .max_frame_size(Some(limits::FRAME_BYTES));
        WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
    }

    /// Writes what the outbox holds. Ready when nothing is left or the connection is dead; gives the bytes written
    /// either way.
    pub(crate) fn poll_flush_outbox(&mut self, context: &mut Context<'_>) -> (usize, Poll<()>) {
        match &mut self.transport {
            Transport::Plain(socket) => flush_plain(socket, &self.outbox, context),
            Transport::Tls(stream) => flush_tls(stream, &self.outbox, context),
        }
    }

    /// Reads and forgets, after a close: unread bytes would make the kernel reset the connection before the client has
    /// read why it was closed. Ready at the end of the stream.
    pub(crate) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(self.transport.poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shut_down(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.transport {
            Transport::Plain(socket) => {
                // The other side may be gone already.
                let _ = socket2::SockRef::from(socket.as_ref()).shutdown(std::net::Shutdown::Write);
                Poll::Ready(())
            }
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context).map(drop),
        }
    }

    /// Makes the kernel forget what it still holds for a client that takes nothing.
    pub(crate) fn reset_on_drop(&self) {
        // Without it the bytes time out by themselves, later.
        let _ = socket2::SockRef::from(self.transport.socket()).set_linger(Some(Duration::ZERO));
    }
}

fn flush_plain(socket: &TcpStream, outbox: &SocketOutbox, context: &mut Context<'_>) -> (usize, Poll<()>) {
    let mut written = 0;
    loop {
        match socket.poll_write_ready(context) {
            Poll::Pending => return (written, Poll::Pending),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                outbox.kill();
                return (written, Poll::Ready(()));
            }
        }
        let flushed: Flushed = outbox.flush();
        written += flushed.written;
        if matches!(flushed.left, Left::Nothing | Left::Dead) {
            return (written, Poll::Ready(()));
        }
    }
}

fn flush_tls(
    stream: &mut TlsStream<TcpStream>,
    outbox: &SocketOutbox,
    context: &mut Context<'_>,
) -> (usize, Poll<()>) {
    let mut written = 0;
    let left = loop {
        let flushed = outbox.flush_through(|slices| {
            match Pin::new(&mut *stream).poll_write_vectored(context, slices) {
                Poll::Ready(result) => result,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        written += flushed.written;
        if flushed.left != Left::More {
            break flushed.left;
        }
    };
    match (Pin::new(stream).poll_flush(context), left) {
        (Poll::Ready(Err(_)), _) => {
            outbox.kill();
            (written, Poll::Ready(()))
        }
        (Poll::Ready(Ok(())), Left::Nothing | Left::Dead) => (written, Poll::Ready(())),
        (Poll::Ready(Ok(())) | Poll::Pending, _) => (written, Poll::Pending),
    }
}

impl AsyncRead for SocketStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return self.transport.poll_read(context, buffer);
        }
        let count = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..count]);
        self.early.advance(count);
        if self.early.is_empty() {
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SocketStream {
    /// Whole frames: tungstenite buffers none, and all that it offers is taken.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        match self.outbox.push_control(frames) {
            Pushed::Taken => Poll::Ready(Ok(frames.len())),
            Pushed::Full | Pushed::Dead => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut_down(context).map(Ok)
    }
}
