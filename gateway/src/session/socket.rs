//! A WebSocket and its outbox: events in, frames out, and the end of it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actors::{Encode, Notice, Outbox, session::Class};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, Stream};
use protocol::{ClientFrame, CloseCode, DecodeError, Encoding, ServerFrame};
use tokio_tungstenite::tungstenite::{
    Error as WebSocketError, Message, error::CapacityError, protocol::CloseFrame,
};

use crate::{
    Counters, Frames, SocketSettings,
    outbox::{Signal, SocketOutbox},
    stream::{SocketStream, Transport, WebSocket},
};

/// What a socket has to tell.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame of the client's, or why it can't be read.
    Frame(Result<ClientFrame, DecodeError>),
    /// A ping or pong.
    Control,
    /// From an actor.
    Notice(Notice),
    /// The alarm rang.
    Tick,
    /// The gateway stops; come back after this time.
    Stop(Duration),
    /// It is over.
    Ended(Ending),
}

/// How a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server says why.
    Close(CloseCode),
    /// The client has gone, or can't be told anything.
    Gone,
    /// The client takes nothing: what the kernel holds for it is thrown away.
    Cut,
}

/// What the latest look at a socket has written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    pub(super) written: usize,
    /// Something waits that the socket does not take.
    pub(super) is_blocked: bool,
}

/// A WebSocket.
pub(super) struct Socket {
    web: WebSocket,
    outbox: Arc<SocketOutbox>,
    settings: Arc<SocketSettings>,
    counters: Arc<Counters>,
    flow: Flow,
}

impl Socket {
    pub(super) async fn open(
        transport: Transport,
        early: Bytes,
        encoding: Encoding,
        settings: Arc<SocketSettings>,
        counters: Arc<Counters>,
    ) -> Box<Self> {
        let outbox = Arc::new(SocketOutbox::new(transport.writer(), encoding, settings.outbox_bytes));
        let web = SocketStream::open(transport, early, outbox.clone()).await;
        counters.sockets.add(1);
        Box::new(Self { web, outbox, settings, counters, flow: Flow::default() })
    }

    pub(super) fn outbox(&self) -> &Arc<SocketOutbox> {
        &self.outbox
    }

    pub(super) fn settings(&self) -> &SocketSettings {
        &self.settings
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// Says something that catch-up would not repeat.
    pub(super) fn say(&self, frame: &ServerFrame) {
        let code = match frame {
            ServerFrame::Error(error) => Some(error.code),
            ServerFrame::Refused(refused) => Some(refused.code),
            _ => None,
        };
        if let Some(code) = code {
            self.counters.refusals(code).add(1);
        }
        let bytes = Frames.encode(frame, self.outbox.encoding());
        // Full or dead: the outbox ends the session.
        let _ = self.outbox.push(&[bytes], Class::Answer);
    }

    /// Asks the client for a sign of life.
    pub(super) fn ping(&mut self) {
        // It goes to the outbox, which takes it at once or ends the session.
        let _ = self.web.feed(Message::Ping(Bytes::new())).now_or_never();
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll(context)).await
    }

    /// Writes what is pending, and looks for the next event.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        // What an earlier look has written says nothing of this one.
        self.flow.written = 0;
        if let Poll::Ready(signal) = self.outbox.poll_signal(context) {
            return Poll::Ready(match signal {
                Signal::Dead => Event::Ended(Ending::Gone),
                Signal::Stop(after) => Event::Stop(after),
                Signal::End(code) => Event::Ended(Ending::Close(code)),
                Signal::Tick => Event::Tick,
                Signal::Notice(notice) => Event::Notice(notice),
            });
        }
        // TLS may hold back what the outbox has given away.
        let was_blocked = std::mem::take(&mut self.flow).is_blocked;
        if was_blocked || self.outbox.has_pending() {
            let (written, done) = self.web.get_mut().poll_flush_outbox(context);
            self.flow = Flow { written, is_blocked: done.is_pending() };
        }
        self.poll_read(context)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            let Poll::Ready(read) = pin!(&mut self.web).poll_next(context) else { return Poll::Pending };
            return Poll::Ready(match read {
                Some(Ok(Message::Text(text))) => self.frame(Encoding::Json, text.as_bytes()),
                Some(Ok(Message::Binary(bytes))) => self.frame(Encoding::MessagePack, &bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Event::Control,
                // tungstenite answers it at the next look, which finds the end.
                Some(Ok(Message::Close(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Event::Ended(ending(&error)),
                None => Event::Ended(Ending::Gone),
            });
        }
    }

    fn frame(&self, encoding: Encoding, bytes: &[u8]) -> Event {
        self.counters.frames_in.add(1);
        self.counters.bytes_in.add(bytes.len() as u64);
        if encoding != self.outbox.encoding() {
            return Event::Ended(Ending::Close(CloseCode::ProtocolError));
        }
        Event::Frame(encoding.decode_client(bytes))
    }

    /// Adds up what was written, and gives back what an idle connection does not need.
    pub(super) fn settle_accounts(&self) {
        let tally = self.outbox.settle_accounts();
        self.counters.frames_out.add(tally.frames);
        self.counters.bytes_out.add(tally.bytes);
        self.counters.slow_drops.add(tally.dropped);
    }

    /// Ends it: says why if that can be said, writes what is pending, and waits for the client's half, all within the
    /// deadline.
    pub(super) async fn end(mut self: Box<Self>, ending: Ending) {
        let deadline = self.settings.close_timeout;
        let farewell = async {
            match ending {
                Ending::Close(code) => self.say_close(code).await,
                Ending::Gone => self.flush_and_shut_down().await,
                Ending::Cut => self.cut(),
            }
        };
        // Past it the client is not told.
        let _ = tokio::time::timeout(deadline, farewell).await;
    }

    fn cut(&self) {
        self.counters.closes(CloseCode::Slow).add(1);
        self.web.get_ref().reset_on_drop();
    }

    async fn say_close(&mut self, code: CloseCode) {
        self.counters.closes(code).add(1);
        let frame = CloseFrame { code: code.code().into(), reason: code.reason().into() };
        // It goes to the outbox, or the connection is dead already.
        let _ = self.web.close(Some(frame)).await;
        self.flush_and_shut_down().await;
        poll_fn(|context| self.web.get_mut().poll_discard(context)).await;
    }

    async fn flush_and_shut_down(&mut self) {
        poll_fn(|context| self.web.get_mut().poll_flush_outbox(context).1).await;
        poll_fn(|context| self.web.get_mut().poll_shut_down(context)).await;
    }
}

impl Drop for Socket {
    /// Whoever still holds the outbox writes nothing more, and the socket is closed.
    fn drop(&mut self) {
        self.settle_accounts();
        self.outbox.kill();
    }
}

/// How a socket ends that tungstenite gives up on.
fn ending(error: &WebSocketError) -> Ending {
    match error {
        WebSocketError::Capacity(CapacityError::MessageTooLong { .. }) => Ending::Close(CloseCode::TooLarge),
        WebSocketError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )
        | WebSocketError::Io(_)
        | WebSocketError::ConnectionClosed
        | WebSocketError::AlreadyClosed => Ending::Gone,
        _ => Ending::Close(CloseCode::ProtocolError),
    }
}
