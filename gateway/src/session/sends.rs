//! What the client says, on its way to a room: the window in front of it, and the tries it takes.

use actors::{Notice, rooms::Draft, session::Refusal};
use protocol::{ErrorCode, RoomId, WriterId, client::Send};
use telemetry::TraceContext;

use super::{
    Seat,
    state::{Now, refused_send},
};
use crate::outbox::{Answered, Entered, Unanswered, window_full};

impl Seat {
    /// Gives a send to its room, unless it waits for an answer already or there is no room for another.
    pub(super) fn send(&self, now: Now, send: Send) -> Option<Told> {
        let Send { room, writer, n, kind, target, body, traceparent } = send;
        let trace = traceparent.and_then(|header| TraceContext::parse(&header)).unwrap_or(TraceContext::NONE);
        let draft = Draft { user: self.session.user, writer, n, kind, target, body, trace };
        let refuse = |refusal| Some(Told { room, writer, n, refusal });
        match self.outbox.window(|window| window.enter(room, &draft, now.uptime)) {
            Entered::New => {}
            Entered::Waiting => return None,
            Entered::Full => return refuse(window_full()),
            Entered::Conflict => return refuse(conflict()),
        }
        if let Err(wait) = self.allowance.take(now.wall) {
            self.outbox.window(|window| window.settle(room, writer, n));
            return refuse(too_often(wait));
        }
        self.try_send(Unanswered { room, draft, attempt: 1, sent_at: now.uptime })
    }

    /// Gives the room's unanswered sends to it again, in order.
    pub(super) fn send_again(&self, now: Now, room: RoomId) -> Vec<Told> {
        let again = self.outbox.window(|window| window.again(room, now.uptime));
        self.shared.counters.resends.add(again.len() as u64);
        again.into_iter().filter_map(|send| self.try_send(send)).collect()
    }

    /// The same for rooms that have not answered for too long.
    pub(super) fn send_again_late(&self, now: Now) -> Vec<Told> {
        let Some(before) = now.uptime.checked_sub(self.shared.settings.answer_timeout) else {
            return Vec::new();
        };
        let late = self.outbox.window(|window| window.late(before));
        late.into_iter().flat_map(|room| self.send_again(now, room)).collect()
    }

    fn try_send(&self, send: Unanswered) -> Option<Told> {
        let Unanswered { room, draft, attempt, .. } = send;
        let (writer, n) = (draft.writer, draft.n);
        let refusal = self.shared.rooms.send(room, draft, &self.session, attempt).err()?;
        self.refused(room, writer, n, attempt, refusal)
    }

    /// A room's refusal, unless the session has tried again since.
    pub(super) fn refused(
        &self,
        room: RoomId,
        writer: WriterId,
        n: u64,
        attempt: u32,
        refusal: Refusal,
    ) -> Option<Told> {
        match self.outbox.window(|window| window.refuse(room, writer, n, attempt, refusal)) {
            Answered::Told(refusal) => Some(Told { room, writer, n, refusal }),
            Answered::Overtook => {
                // The session looks at it before long, and then sends all of the room again.
                self.session.outbox.notify(Notice::RoomEnded { room });
                None
            }
            Answered::Stale => None,
        }
    }
}

/// A refusal that the client is to be told.
pub(super) struct Told {
    room: RoomId,
    writer: WriterId,
    n: u64,
    refusal: Refusal,
}

impl Told {
    pub(super) fn frame(self) -> protocol::ServerFrame {
        refused_send(self.room, self.writer, self.n, self.refusal)
    }
}

/// Neither is definite: an earlier connection may have tried the same counter.
fn conflict() -> Refusal {
    let refusal = Refusal::new(ErrorCode::Conflict, "another content waits under this counter");
    Refusal { definite: false, ..refusal }
}

fn too_often(wait: u64) -> Refusal {
    let refusal = Refusal::new(ErrorCode::RateLimited, "too many sends").retry_after(wait);
    Refusal { definite: false, ..refusal }
}
