//! The handle to a client that connects, resumes, sends and comes back by itself.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use protocol::{Body, Encoding, Kind, RoomId, Seq, WriterId};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    driver,
    record::{Outcome, Record},
    rest::Rest,
    state::State,
};

/// Messages that wait in one client before [`Client::try_send`] refuses: a client that sends faster than its server
/// takes is told so instead of growing.
pub const WAITING: usize = 4_096;

/// What a client is given.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where, and signed in as whom.
    pub rest: Rest,
    /// How frames are written.
    pub encoding: Encoding,
    /// Who counts sends; random, used by no other client.
    pub writer: WriterId,
    /// Where chance begins: the jitter of reconnects.
    pub seed: u64,
    /// Shortest and longest wait before a reconnect.
    pub backoff: (Duration, Duration),
}

impl Settings {
    /// The usual waits: 100 ms to 5 s.
    pub fn new(rest: Rest, writer: WriterId) -> Self {
        let backoff = (Duration::from_millis(100), Duration::from_secs(5));
        // The halves of a random writer are random numbers too.
        Self { rest, encoding: Encoding::Json, writer, seed: writer.as_u128() as u64, backoff }
    }
}

/// The client waits as many sends as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING} messages of this client wait already")]
pub struct Busy;

/// A running client. Ends with its value.
pub struct Client {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What handle and driver share.
pub(crate) struct Shared {
    state: Mutex<State>,
    begun: Instant,
    /// Rises with every change of the state.
    pub(crate) changed: watch::Sender<u64>,
    /// There is something to send.
    pub(crate) poke: Notify,
    /// The socket is to be dropped.
    pub(crate) cut: Notify,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.begun + at
    }
}

impl Client {
    /// Starts a client; it connects by itself. `begun` is the zero of all times in its record.
    pub fn start(settings: Settings, begun: Instant) -> Self {
        let state = State::new(settings.rest.session().user.id, settings.writer);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            begun,
            changed: watch::Sender::new(0),
            poke: Notify::new(),
            cut: Notify::new(),
        });
        let task = tokio::spawn(driver::run(settings, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Hears a room whole, from now on and over all reconnects.
    pub fn open(&self, room: RoomId) {
        self.shared.state().open(room);
        self.shared.poke.notify_one();
    }

    /// Hears it no more.
    pub fn close(&self, room: RoomId) {
        self.shared.state().close(room);
        self.shared.poke.notify_one();
    }

    /// Says something; gives its place in [`Record::messages`].
    ///
    /// # Errors
    /// When too much waits already.
    pub fn try_send(&self, room: RoomId, kind: Kind, target: Option<Seq>, body: Body) -> Result<usize, Busy> {
        let mut state = self.shared.state();
        if state.unsettled() >= WAITING {
            return Err(Busy);
        }
        let message = state.send(room, kind, target, body);
        drop(state);
        self.shared.poke.notify_one();
        Ok(message)
    }

    /// What became of a message so far.
    pub fn outcome(&self, message: usize) -> Outcome {
        self.shared.state().record.messages[message].outcome
    }

    /// Messages without an answer.
    pub fn unsettled(&self) -> usize {
        self.shared.state().unsettled()
    }

    /// The last entry that arrived of a room.
    pub fn position(&self, room: RoomId) -> Option<Seq> {
        self.shared.state().position(room)
    }

    /// Drops the socket without a word; the client comes back.
    pub fn cut(&self) {
        self.shared.cut.notify_one();
    }

    /// Waits until a session stands. Ends never if none ever does: callers set a deadline.
    pub async fn connected(&self) {
        self.until(|state| state.is_connected()).await;
    }

    /// Waits until a room's stream runs.
    pub async fn live(&self, room: RoomId) {
        self.until(|state| state.is_live(room)).await;
    }

    /// Waits until every message has an answer.
    pub async fn settled(&self) {
        self.until(|state| state.unsettled() == 0).await;
    }

    /// Waits until a message has an answer.
    pub async fn answered(&self, message: usize) -> Outcome {
        self.until(|state| state.record.messages[message].outcome != Outcome::Open).await;
        self.outcome(message)
    }

    /// Waits until a room's stream has come to `seq` and no named gap is left to fill.
    pub async fn caught_up(&self, room: RoomId, seq: Seq) {
        self.until(|state| state.position(room).is_some_and(|at| at >= seq) && !state.has_gap(room)).await;
    }

    /// What it waits for, for people who read a failed test.
    pub fn waiting(&self) -> String {
        self.shared.state().waiting(self.shared.now())
    }

    /// What it has seen so far.
    pub fn record(&self) -> Record {
        self.shared.state().record.clone()
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !holds(&self.shared.state()) {
            changed.changed().await.expect("the sender lives as long as this handle");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
