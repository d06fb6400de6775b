//! A server that does nothing but fan out: the limit of this machine for one write a delivery.
//!
//! tokio-tungstenite reads; whoever reads a message writes it, framed once, to every socket of the room from the same
//! loop. No history, no order between senders, no bound on a slow reader. What a socket does not take at once waits in
//! its own buffer for its own task.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    sync::Notify,
};
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::say;

/// tungstenite's buffer for reading, as small as Rookery's.
const READ_BUFFER: usize = 4 * 1024;
/// The kernel's send buffer, as Rookery's.
const SEND_BUFFER: u32 = 64 * 1024;
const BACKLOG: u32 = 4_096;

type Room = Arc<Mutex<Vec<Arc<Member>>>>;
type Rooms = Arc<Mutex<HashMap<String, Room>>>;

struct Member {
    socket: Arc<TcpStream>,
    /// What the socket did not take.
    pending: Mutex<Vec<u8>>,
    blocked: Notify,
}

/// Serves until the process ends.
pub(crate) async fn serve() -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(BACKLOG)?;
    say(&format!("http://{}", listener.local_addr()?));
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let rooms = rooms.clone();
        // A connection that fails is its client's business.
        tokio::spawn(async move { drop(serve_one(stream, rooms).await) });
    }
}

async fn serve_one(stream: TcpStream, rooms: Rooms) -> Result<()> {
    stream.set_nodelay(true)?;
    let socket = Arc::new(stream);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let mut web = accept_async_with_config(Shared(socket.clone()), Some(config)).await?;
    let member = Arc::new(Member { socket, pending: Mutex::default(), blocked: Notify::new() });
    let mut room = Room::default();
    loop {
        let message = tokio::select! {
            message = web.next() => message,
            () = member.flush() => None,
        };
        let Some(Ok(Message::Text(text))) = message else { break };
        if text.starts_with(r#"{"type":"open""#) {
            room = enter(&rooms, &text).context("no room")?;
            lock(&room).push(member.clone());
            member.push(&frame(r#"{"type":"opened"}"#));
        } else if text.starts_with(r#"{"type":"send""#) {
            let frame = frame(&text);
            lock(&room).iter().for_each(|member| member.push(&frame));
        }
    }
    lock(&room).retain(|other| !Arc::ptr_eq(other, &member));
    Ok(())
}

fn enter(rooms: &Rooms, text: &str) -> Option<Room> {
    let (_, rest) = text.split_once(r#""room":""#)?;
    let (name, _) = rest.split_once('"')?;
    Some(lock(rooms).entry(name.to_owned()).or_default().clone())
}

/// A server's text frame.
fn frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length => {
            bytes.push(126);
            // Longer than any message of a measurement.
            bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    /// Writes at once, or as soon as the socket takes more. A socket that fails is found by its reader.
    fn push(&self, frame: &[u8]) {
        let mut pending = lock(&self.pending);
        let taken = if pending.is_empty() { self.socket.try_write(frame).unwrap_or(0) } else { 0 };
        if taken < frame.len() {
            pending.extend(&frame[taken..]);
            self.blocked.notify_one();
        }
    }

    /// Writes what waits, for as long as the connection lives.
    async fn flush(&self) {
        loop {
            // It may have been dropped while it waited for the socket: what is pending comes first.
            while !lock(&self.pending).is_empty() {
                if self.socket.writable().await.is_err() {
                    return;
                }
                let mut pending = lock(&self.pending);
                match self.socket.try_write(&pending) {
                    Ok(taken) => _ = pending.drain(..taken),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
            self.blocked.notified().await;
        }
    }
}

/// A socket that is read here and written by everybody.
struct Shared(Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|count| buffer.advance(count))),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
