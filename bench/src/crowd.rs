//! Many sockets of one load. They read into one buffer, and what they hear is counted together.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Buf;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    net::TcpStream,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    socket::{self, CLOSE, Mouth, Place, Scanner, first_frame},
    tally::Tally,
};

/// Sockets that connect and open their room at the same time.
const CONNECTING: usize = 64;
/// Bytes that one read takes at most.
const READ: usize = 256 * 1024;
/// Longest wait for a room to be opened, and for messages.
const PATIENCE: Duration = Duration::from_secs(120);

const TEXT: u8 = 1;
const PING: u8 = 9;

/// Sockets, and the tasks that read them. They end with the value.
pub(crate) struct Crowd {
    pub(crate) tally: Arc<Tally>,
    streams: Vec<Arc<TcpStream>>,
    readers: Vec<AbortHandle>,
}

/// How the sockets of a crowd behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Every how manieth socket looks at the latency of what it hears.
    pub(crate) looks: usize,
    /// How many sockets, the first of each room, keep this many messages on their way.
    pub(crate) senders: usize,
    pub(crate) window: usize,
    /// Most sockets that connect in a second.
    pub(crate) per_second: u32,
}

impl Default for Manner {
    fn default() -> Self {
        Self { looks: 1, senders: 0, window: 0, per_second: u32::MAX }
    }
}

struct Ear {
    stream: Arc<TcpStream>,
    tally: Arc<Tally>,
    shared: Arc<Shared>,
    looks: bool,
    /// Its voice, if it answers what it hears of its own.
    mouth: Option<Mouth>,
    /// The beginning of a frame whose end was not read yet.
    rest: Vec<u8>,
}

struct Shared {
    scanner: Scanner,
    space: Mutex<Vec<u8>>,
}

impl Crowd {
    /// Connects a socket for each place, and waits until all hear their rooms.
    pub(crate) async fn connect(address: SocketAddr, places: &[Place], manner: Manner) -> Result<Self> {
        let began = Instant::now();
        let due = |index: usize| Duration::from_secs_f64(index as f64 / f64::from(manner.per_second));
        let connecting = places.iter().enumerate().map(|(index, place)| async move {
            sleep(due(index).saturating_sub(began.elapsed())).await;
            timeout(PATIENCE, socket::connect(address, place)).await.context("no answer")?
        });
        let connected: Vec<_> = stream::iter(connecting).buffered(CONNECTING).try_collect().await?;
        let shared = Arc::new(Shared { scanner: Scanner::default(), space: Mutex::new(vec![0; READ]) });
        let mut crowd = Self { tally: Arc::default(), streams: Vec::new(), readers: Vec::new() };
        let mut senders = std::collections::HashMap::<&str, usize>::new();
        for (index, (place, (stream, rest))) in places.iter().zip(connected).enumerate() {
            let stream = Arc::new(stream);
            crowd.streams.push(stream.clone());
            let of_room = senders.entry(&place.room).or_default();
            *of_room += 1;
            let mouth = match *of_room <= manner.senders {
                true => Some(Mouth::new(stream.clone(), place)?),
                false => None,
            };
            let (tally, shared) = (crowd.tally.clone(), shared.clone());
            let ear = Ear { stream, tally, shared, looks: index % manner.looks == 0, mouth, rest };
            crowd.readers.push(tokio::spawn(ear.listen(manner.window)).abort_handle());
        }
        Ok(crowd)
    }

    /// The voice of this socket.
    pub(crate) fn mouth(&self, index: usize, place: &Place) -> Result<Mouth> {
        Mouth::new(self.streams[index].clone(), place)
    }

    /// This socket reads no more.
    pub(crate) fn deafen(&self, index: usize) {
        self.readers[index].abort();
    }

    /// This socket reads again.
    pub(crate) fn listen_again(&self, index: usize) {
        let shared = Arc::new(Shared { scanner: Scanner::default(), space: Mutex::new(vec![0; READ]) });
        let (stream, tally) = (self.streams[index].clone(), self.tally.clone());
        let ear = Ear { stream, tally, shared, looks: false, mouth: None, rest: Vec::new() };
        tokio::spawn(ear.listen(0));
    }

    /// Waits until this many messages were heard, in all.
    pub(crate) async fn heard(&self, count: u64) -> Result<()> {
        wait_for("messages", || (self.tally.heard.load(Relaxed), count))
            .await
            .with_context(|| format!("the server says {:?}", self.tally.first_odd().unwrap_or_default()))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

/// Waits until the first number has reached the second.
async fn wait_for(what: &str, count: impl Fn() -> (u64, u64)) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (there, wanted) = count();
        if there >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{there} of {wanted} {what} after {PATIENCE:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

impl Ear {
    /// Reads until the socket ends; says as much as it hears of its own.
    async fn listen(mut self, window: usize) {
        if let Some(mouth) = &mut self.mouth {
            let _ = mouth.say(self.tally.now(), window).await; // it ended: reading says so
        }
        while let Ok(own) = self.read().await {
            if let Some(mouth) = self.mouth.as_mut().filter(|_| own > 0 && window > 0) {
                let _ = mouth.say(self.tally.now(), own).await; // as above
            }
        }
        self.tally.ended.fetch_add(1, Relaxed);
    }

    /// Takes what is there. Gives how many of its own messages were in it.
    async fn read(&mut self) -> io::Result<usize> {
        self.stream.readable().await?;
        let shared = self.shared.clone();
        let mut space = shared.space.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match self.stream.try_read(&mut space) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        if self.rest.is_empty() {
            let (own, left) = self.take(&space[..taken])?;
            self.rest.extend(&space[taken - left..taken]);
            return Ok(own);
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend(&space[..taken]);
        let (own, left) = self.take(&bytes)?;
        bytes.drain(..bytes.len() - left);
        // An empty one gives its memory back.
        self.rest = if bytes.is_empty() { Vec::new() } else { bytes };
        Ok(own)
    }

    /// Takes whole frames. Gives how many own messages were in them, and how many bytes are left.
    fn take(&self, mut bytes: &[u8]) -> io::Result<(usize, usize)> {
        let mut own = 0;
        while let Some((kind, payload)) = first_frame(bytes) {
            match kind {
                TEXT => own += self.text(&bytes[payload.clone()]),
                // Empty, as the server's are.
                PING => _ = self.stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0])?,
                CLOSE => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => self.tally.odd(&bytes[payload.clone()]),
            }
            bytes.advance(payload.end);
        }
        Ok((own, bytes.len()))
    }

    fn text(&self, payload: &[u8]) -> usize {
        let Shared { scanner, .. } = &*self.shared;
        let name = payload.get(9..).unwrap_or_default();
        if !name.starts_with(b"entries") && !name.starts_with(b"send") {
            self.other(name, payload);
            return 0;
        }
        if !self.looks && self.mouth.is_none() {
            self.tally.heard.fetch_add(scanner.count(payload), Relaxed);
            return 0;
        }
        let (now, mut count, mut own) = (self.tally.now(), 0, 0);
        let number = self.mouth.as_ref().map(Mouth::number);
        let mut latencies = Vec::new();
        for heard in scanner.each(payload) {
            count += 1;
            own += usize::from(Some(heard.by) == number);
            latencies.push(u32::try_from(now.saturating_sub(heard.sent_at)).unwrap_or(u32::MAX));
        }
        self.tally.heard.fetch_add(count, Relaxed);
        if self.looks && self.tally.is_measuring() {
            self.tally.took(&latencies);
        }
        own
    }

    fn other(&self, name: &[u8], payload: &[u8]) {
        const USUAL: [&[u8]; 5] = [b"ack", b"heads", b"status", b"presence", b"page"];
        if !USUAL.iter().any(|usual| name.starts_with(usual)) {
            self.tally.odd(payload);
        }
    }
}
