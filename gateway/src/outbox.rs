//! The write half of a socket, shared by its session and by everyone who has something to say to it.
//!
//! ```text
//!   audience ──push──▶ ┌────────┐ ──try_write──▶ socket      nothing pending: at once, from the caller
//!   audience ──push──▶ │ outbox │
//!   tungstenite ─────▶ └────────┘ ◀──flush────── session     something pending: the session is woken once and
//!                                                            writes all of it when the socket is writable
//! ```
//!
//! An idle system pays one system call a delivery and no wake-up, and a busy one coalesces by itself. Over TLS there is
//! no socket that others may write to: then everything is queued, and the session writes through TLS.
//!
//! It also holds what the actors tell the session ([`notices`]), and the sends that no room has answered yet
//! ([`window`]).

mod notices;
mod queue;
#[cfg(test)]
mod tests;
mod window;

use std::{
    io::{self, IoSlice},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use actors::{
    Notice, Outbox,
    session::{Class, Pushed},
};
use bytes::Bytes;
use protocol::{CloseCode, Encoding, RoomId, WriterId};
use tokio::net::TcpStream;

pub(crate) use self::window::{Answered, Entered, Unanswered, Window, full as window_full};
use self::{notices::Notices, queue::Queue};
use crate::frames;

/// Bytes of answers that catch-up would not repeat, beyond the outbox's bound. Past them the connection is cut: the
/// client resumes, and sends again what was not answered.
const ANSWER_RESERVE: usize = 8 * 1024;

/// Bytes of pings, pongs and the close frame, beyond that. Past them the connection is cut.
const CONTROL_RESERVE: usize = 1024;

/// Pending bytes beyond which ephemeral frames are dropped: about a hundred typing signs.
const EPHEMERAL_PENDING: usize = 16 * 1024;

/// Most bytes that one flush writes under the lock, so that a large backlog does not hold up an audience.
const FLUSH_BYTES: usize = 128 * 1024;

/// Frames in one vectored write.
const SLICES: usize = 64;

/// What takes bytes from any thread without waiting.
pub trait Writer: Send + Sync + 'static {
    /// Writes what fits; `WouldBlock` when nothing does.
    ///
    /// # Errors
    /// As a socket's. Any but `WouldBlock` ends the connection.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Writer for TcpStream {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, slices)
    }
}

/// The way to one client.
pub struct SocketOutbox {
    encoding: Encoding,
    capacity: usize,
    inner: Mutex<Inner>,
    alarm: AtomicU32,
}

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody is welcomed yet: frames wait, so that `welcome` comes first.
    Held,
    /// To the socket.
    Open,
    /// A close frame is on its way; nothing follows it.
    Closing,
    /// Nowhere.
    Dead,
}

struct Inner {
    way: Way,
    /// `None` over TLS, and when dead.
    writer: Option<Arc<dyn Writer>>,
    queue: Queue,
    notices: Notices,
    window: Window,
    /// The session task, when it waits.
    waker: Option<Waker>,
    tick: bool,
    stop: Option<Duration>,
    end: Option<CloseCode>,
    told_dead: bool,
    tally: Tally,
}

/// What was pushed since the session last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// Ephemeral frames dropped.
    pub(crate) dropped: u64,
}

/// What reaches the session through its outbox.
#[derive(Debug, PartialEq)]
pub(crate) enum Signal {
    /// Nothing can be written any more.
    Dead,
    /// The gateway stops; the client shall come back after this time.
    Stop(Duration),
    /// The outbox wants an end.
    End(CloseCode),
    /// The alarm rang.
    Tick,
    /// From an actor.
    Notice(Notice),
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Bytes written.
    pub(crate) written: usize,
    /// Where that leaves the outbox.
    pub(crate) left: Left,
}

/// What a flush leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// As much as the socket did not take.
    Blocked,
    /// More than one flush writes.
    More,
    /// The connection is dead.
    Dead,
}

impl SocketOutbox {
    /// An outbox that holds at most `capacity` bytes. Without a writer everything is queued for
    /// [`Self::flush_through`]. Frames wait until [`Self::release`].
    pub(crate) fn new(writer: Option<Arc<dyn Writer>>, encoding: Encoding, capacity: usize) -> Self {
        let inner = Inner {
            way: Way::Held,
            writer,
            queue: Queue::default(),
            notices: Notices::default(),
            window: Window::default(),
            waker: None,
            tick: false,
            stop: None,
            end: None,
            told_dead: false,
            tally: Tally::default(),
        };
        Self { encoding, capacity, inner: Mutex::new(inner), alarm: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `first` before everything that waited, and lets it go.
    pub(crate) fn release(&self, first: Option<Bytes>) {
        let waker = {
            let mut inner = self.lock();
            if inner.way != Way::Held {
                return;
            }
            inner.way = Way::Open;
            if let Some(first) = first {
                inner.count(std::slice::from_ref(&first));
                inner.queue.push_front(first);
            }
            inner.write_queue();
            inner.wake_if_pending()
        };
        wake(waker);
    }

    /// Pushes control frames: tungstenite's. A close frame among them ends what can be pushed.
    pub(crate) fn push_control(&self, bytes: &[u8]) -> Pushed {
        let frames = [Bytes::copy_from_slice(bytes)];
        let closing = frames::has_close(bytes);
        let (pushed, waker) = {
            let mut inner = self.lock();
            if inner.way == Way::Held && closing {
                // There will be no welcome to wait for.
                inner.way = Way::Open;
                inner.write_queue();
            }
            let limit = self.capacity + ANSWER_RESERVE + CONTROL_RESERVE;
            let pushed = inner.push(&frames, limit);
            match pushed {
                Pushed::Full => inner.die(),
                Pushed::Taken if closing => inner.close(),
                Pushed::Taken | Pushed::Dead => {}
            }
            (pushed, inner.wake_if_pending())
        };
        wake(waker);
        if pushed == Pushed::Taken { pushed } else { Pushed::Dead }
    }

    /// Writes what is pending to the socket that others write to as well.
    pub(crate) fn flush(&self) -> Flushed {
        let mut inner = self.lock();
        let written = inner.write_queue();
        inner.flushed(written)
    }

    /// Writes what is pending by `write`, which answers as a socket does.
    pub(crate) fn flush_through(
        &self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        let mut inner = self.lock();
        let written = inner.write_queue_by(&mut write);
        inner.flushed(written)
    }

    /// Whether something waits to be written.
    pub(crate) fn has_pending(&self) -> bool {
        let inner = self.lock();
        inner.way != Way::Held && !inner.queue.is_empty()
    }

    /// Whether frames still go out, and at most half of what may be pending is.
    pub(crate) fn is_calm(&self) -> bool {
        let inner = self.lock();
        matches!(inner.way, Way::Held | Way::Open) && inner.queue.bytes() <= self.capacity / 2
    }

    /// What the session should know, or its waker is kept.
    pub(crate) fn poll_signal(&self, context: &Context<'_>) -> Poll<Signal> {
        let mut inner = self.lock();
        if let Some(signal) = inner.signal() {
            return Poll::Ready(signal);
        }
        match &inner.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            Some(_) | None => inner.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// The unanswered sends.
    pub(crate) fn window<T>(&self, act: impl FnOnce(&mut Window) -> T) -> T {
        act(&mut self.lock().window)
    }

    /// The session's alarm rings, if it is still the one that was set.
    pub(crate) fn ring(&self, alarm: u32) {
        if self.alarm.load(Relaxed) == alarm {
            self.signal(|inner| inner.tick = true);
        }
    }

    /// A new alarm; those before it ring no more.
    pub(crate) fn set_alarm(&self) -> u32 {
        self.alarm.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// The gateway stops; the client shall come back after this time.
    pub(crate) fn stop(&self, after: Duration) {
        self.signal(|inner| inner.stop = Some(after));
    }

    /// Nothing is written any more.
    pub(crate) fn kill(&self) {
        self.signal(Inner::die);
    }

    fn signal(&self, act: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.lock();
            act(&mut inner);
            inner.waker.take()
        };
        wake(waker);
    }

    /// What was pushed since the last time. Gives back memory that an idle connection has no use for.
    pub(crate) fn settle_accounts(&self) -> Tally {
        let mut inner = self.lock();
        inner.queue.shrink();
        inner.notices.shrink();
        inner.window.shrink();
        std::mem::take(&mut inner.tally)
    }
}

impl Outbox for SocketOutbox {
    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn push(&self, frames: &[Bytes], class: Class) -> Pushed {
        let (pushed, waker) = {
            let mut inner = self.lock();
            let limit = match class {
                Class::Stream => self.capacity,
                Class::Answer => self.capacity + ANSWER_RESERVE,
                Class::Ephemeral if inner.queue.bytes() > EPHEMERAL_PENDING => 0,
                Class::Ephemeral => self.capacity,
            };
            let pushed = inner.push(frames, limit);
            match (pushed, class) {
                (Pushed::Full, Class::Answer) => inner.die(),
                (Pushed::Full, Class::Ephemeral) => inner.tally.dropped += frames.len() as u64,
                (Pushed::Full, Class::Stream) | (Pushed::Taken | Pushed::Dead, _) => {}
            }
            (pushed, inner.wake_if_pending())
        };
        wake(waker);
        pushed
    }

    fn settle(&self, room: RoomId, writer: WriterId, n: u64) -> bool {
        self.lock().window.settle(room, writer, n)
    }

    fn notify(&self, notice: Notice) {
        self.signal(|inner| {
            if inner.way != Way::Dead && inner.notices.push(notice).is_err() {
                inner.end = Some(CloseCode::Internal);
            }
        });
    }
}

impl Inner {
    /// All frames or none. What the socket does not take at once is queued.
    fn push(&mut self, frames: &[Bytes], limit: usize) -> Pushed {
        if matches!(self.way, Way::Closing | Way::Dead) {
            return Pushed::Dead;
        }
        let total: usize = frames.iter().map(Bytes::len).sum();
        if self.queue.bytes() + total > limit {
            return Pushed::Full;
        }
        self.count(frames);
        let taken = if self.way == Way::Open && self.queue.is_empty() { self.write_now(frames) } else { 0 };
        if self.way == Way::Dead {
            return Pushed::Dead;
        }
        self.queue.extend_after(frames, taken);
        Pushed::Taken
    }

    /// Writes frames that need not be queued. Gives the bytes written.
    fn write_now(&mut self, frames: &[Bytes]) -> usize {
        let Some(writer) = self.writer.clone() else { return 0 };
        let mut written = 0;
        for frames in frames.chunks(SLICES) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, frame) in slices.iter_mut().zip(frames) {
                *slice = IoSlice::new(frame);
            }
            let offered: usize = frames.iter().map(Bytes::len).sum();
            let taken = match writer.try_write_vectored(&slices[..frames.len()]) {
                Ok(taken) if taken > 0 => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Ok(_) | Err(_) => {
                    self.die();
                    0
                }
            };
            written += taken;
            if taken < offered || written >= FLUSH_BYTES {
                break;
            }
        }
        written
    }

    /// Writes what is queued to the shared socket, if there is one.
    fn write_queue(&mut self) -> usize {
        let Some(writer) = self.writer.clone() else { return 0 };
        self.write_queue_by(&mut |slices| writer.try_write_vectored(slices))
    }

    /// Writes what is queued. Gives the bytes written.
    fn write_queue_by(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> usize {
        let mut written = 0;
        while !self.queue.is_empty() && written < FLUSH_BYTES {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.fill(&mut slices);
            match write(&slices[..count]) {
                Ok(0) => self.die(),
                Ok(taken) => {
                    written += taken;
                    self.queue.advance(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.die(),
            }
        }
        written
    }

    fn flushed(&self, written: usize) -> Flushed {
        let left = match self.way {
            Way::Dead => Left::Dead,
            Way::Held | Way::Open | Way::Closing if self.queue.is_empty() => Left::Nothing,
            Way::Held | Way::Open | Way::Closing if written >= FLUSH_BYTES => Left::More,
            Way::Held | Way::Open | Way::Closing => Left::Blocked,
        };
        Flushed { written, left }
    }

    fn count(&mut self, frames: &[Bytes]) {
        self.tally.frames += frames.len() as u64;
        self.tally.bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
    }

    /// The close frame is queued or written.
    fn close(&mut self) {
        if self.way != Way::Dead {
            self.way = Way::Closing;
        }
    }

    /// Lets go of the socket: it closes with the session, whoever else still holds the outbox.
    fn die(&mut self) {
        self.way = Way::Dead;
        self.writer = None;
        self.queue = Queue::default();
    }

    /// Whom to wake after a push: the session, if it has something to write or the connection died.
    fn wake_if_pending(&mut self) -> Option<Waker> {
        let to_do = match self.way {
            Way::Held => false,
            Way::Open | Way::Closing => !self.queue.is_empty(),
            Way::Dead => !self.told_dead,
        };
        if to_do { self.waker.take() } else { None }
    }

    fn signal(&mut self) -> Option<Signal> {
        if self.way == Way::Dead && !self.told_dead {
            self.told_dead = true;
            return Some(Signal::Dead);
        }
        if let Some(after) = self.stop.take() {
            return Some(Signal::Stop(after));
        }
        if let Some(code) = self.end.take() {
            return Some(Signal::End(code));
        }
        if std::mem::take(&mut self.tick) {
            return Some(Signal::Tick);
        }
        self.notices.pop().map(Signal::Notice)
    }
}

/// Outside the lock, so that the woken session does not wait for it.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
