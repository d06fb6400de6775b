//! Requests to rooms elsewhere that somebody waits for: rare, so they are JSON inside their message.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use protocol::{ErrorCode, Millis, Seq, UserId, client::HistoryFrom, server::Page};
use serde::{Deserialize, Serialize};
use store::{erasure::Erased, members::RoomRecord};
use tokio::sync::oneshot;

use crate::{
    PeerId,
    rooms::{Command, Draft, NewRoom, Retained},
    session::Refusal,
};

/// What is asked of a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Say something.
    Post(Draft),
    /// Make the room.
    Create(NewRoom),
    /// Do something to it.
    Command { by: UserId, command: Command },
    /// What it still holds, if it is ephemeral.
    Recent { user: UserId, from: Option<HistoryFrom>, limit: usize },
    /// Let old entries go.
    Retain,
    /// Take somebody's words out.
    Erase { user: UserId },
}

impl Request {
    /// Whether asking again does no harm when nobody knows what came of the first time.
    pub(crate) fn is_repeatable(&self) -> bool {
        // A room that was made by the first try is somebody else's to the second.
        !matches!(self, Self::Create(_))
    }

    /// Whether it takes as long as it takes.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self, Self::Retain | Self::Erase { .. })
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is in the room.
    Posted(Seq, Millis),
    /// The room as it is now.
    Room(Box<RoomRecord>),
    /// A page.
    Page(Page),
    /// What was removed.
    Retained(Retained),
    /// What was erased.
    Erased(Erased),
}

/// How a call to another node ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Called {
    /// The room has answered.
    Answered(Result<Answer, Refusal>),
    /// Nobody did anything: the room is not there.
    Moved,
}

/// Calls that wait for their answer. Each waits in a task with a deadline, and takes itself out.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: DashMap<u64, Waiting>,
    next: AtomicU64,
}

struct Waiting {
    peer: PeerId,
    reply: oneshot::Sender<Called>,
}

/// A call that waits; forgotten when dropped.
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    pub(crate) id: u64,
    pub(crate) answer: oneshot::Receiver<Called>,
}

impl Calls {
    pub(crate) fn begin(&self, peer: PeerId) -> Call<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.waiting.insert(id, Waiting { peer, reply });
        Call { calls: self, id, answer }
    }

    /// An answer came.
    pub(crate) fn answered(&self, peer: PeerId, id: u64, called: Called) {
        if let Some((_, waiting)) = self.waiting.remove_if(&id, |_, waiting| waiting.peer == peer) {
            let _ = waiting.reply.send(called); // whoever asked has stopped waiting
        }
    }

    /// The link to a peer is lost, and with it what was on its way.
    pub(crate) fn lost(&self, peer: PeerId) {
        self.waiting.retain(|_, waiting| waiting.peer != peer);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.waiting.remove(&self.id);
    }
}

/// Nobody knows what came of it.
pub(crate) fn unknown() -> Refusal {
    let mut refusal = Refusal::new(ErrorCode::Unknown, "no answer came; it may have happened");
    refusal.definite = false;
    refusal
}
