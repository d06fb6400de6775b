//! The sends of a session that no room has answered. They are sent again, in order, when the room's actor ends or no
//! answer comes; a room recognises a repeat.

use std::time::Duration;

use actors::{rooms::Draft, session::Refusal};
use protocol::{ErrorCode, RoomId, WriterId, limits};

/// One unanswered send.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered {
    pub(crate) room: RoomId,
    pub(crate) draft: Draft,
    /// The session's tries of it; answers to all but the latest are dropped.
    pub(crate) attempt: u32,
    /// When the latest try was, on the session's clock.
    pub(crate) sent_at: Duration,
}

impl Unanswered {
    fn is(&self, room: RoomId, writer: WriterId, n: u64) -> bool {
        self.room == room && self.draft.writer == writer && self.draft.n == n
    }

    fn bytes(&self) -> usize {
        self.draft.body.as_json().len()
    }
}

/// Tries of a send that overtakes another before its client is told: more than rooms move in the time of a send.
const OVERTAKEN: u32 = 8;

/// What became of a send at the window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It may go to the room.
    New,
    /// The same send waits for its answer, which will be told once.
    Waiting,
    /// Another content waits under the same counter.
    Conflict,
    /// As many or as much as allowed waits already.
    Full,
}

/// What a refusal means to the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// To be told, as it is now.
    Told(Refusal),
    /// Of an earlier try, or answered already.
    Stale,
    /// It came to the room before an earlier one that waits, too: both are to be sent again, in order.
    Overtook,
}

/// At most [`limits::WINDOW_SENDS`] sends and [`limits::WINDOW_BYTES`] of bodies, in the order of arrival; beyond
/// them a send is refused with `too_many`.
#[derive(Debug, Default)]
pub(crate) struct Window {
    sends: Vec<Unanswered>,
    bytes: usize,
}

impl Window {
    /// Remembers a send before its first try.
    pub(crate) fn enter(&mut self, room: RoomId, draft: &Draft, now: Duration) -> Entered {
        if let Some(waiting) = self.sends.iter().find(|send| send.is(room, draft.writer, draft.n)) {
            let same = waiting.draft.kind == draft.kind
                && waiting.draft.target == draft.target
                && waiting.draft.body == draft.body;
            return if same { Entered::Waiting } else { Entered::Conflict };
        }
        let send = Unanswered { room, draft: draft.clone(), attempt: 1, sent_at: now };
        let bytes = self.bytes + send.bytes();
        if self.sends.len() >= limits::WINDOW_SENDS || bytes > limits::WINDOW_BYTES {
            return Entered::Full;
        }
        self.bytes = bytes;
        self.sends.push(send);
        Entered::New
    }

    /// The room has it. `false` if nothing waited.
    pub(crate) fn settle(&mut self, room: RoomId, writer: WriterId, n: u64) -> bool {
        self.take(room, writer, n).is_some()
    }

    /// The room refuses it.
    pub(crate) fn refuse(
        &mut self,
        room: RoomId,
        writer: WriterId,
        n: u64,
        attempt: u32,
        refusal: Refusal,
    ) -> Answered {
        let latest = self.sends.iter().any(|send| send.is(room, writer, n) && send.attempt == attempt);
        if !latest {
            return Answered::Stale;
        }
        // The earlier one was on its way to where the room was before.
        let missing = |send: &Unanswered| refusal.expected.is_some_and(|next| send.is(room, writer, next));
        if refusal.code == ErrorCode::OutOfOrder
            && attempt < OVERTAKEN
            && self.sends.iter().any(|send| send.draft.n < n && missing(send))
        {
            return Answered::Overtook;
        }
        self.take(room, writer, n);
        // An earlier try may still be stored, or already is.
        let definite = refusal.definite && attempt == 1;
        Answered::Told(Refusal { definite, ..refusal })
    }

    /// The room's unanswered sends, each with its next try, in the order of their counters.
    pub(crate) fn again(&mut self, room: RoomId, now: Duration) -> Vec<Unanswered> {
        let mut again: Vec<Unanswered> = self
            .sends
            .iter_mut()
            .filter(|send| send.room == room)
            .map(|send| {
                send.attempt += 1;
                send.sent_at = now;
                send.clone()
            })
            .collect();
        again.sort_by_key(|send| (send.draft.writer, send.draft.n));
        again
    }

    /// Rooms that have not answered a send since `before`.
    pub(crate) fn late(&self, before: Duration) -> Vec<RoomId> {
        let mut rooms: Vec<RoomId> =
            self.sends.iter().filter(|send| send.sent_at <= before).map(|send| send.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }

    /// When the oldest latest try was.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.sends.iter().map(|send| send.sent_at).min()
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        if self.sends.is_empty() {
            self.sends = Vec::new();
        }
    }

    fn take(&mut self, room: RoomId, writer: WriterId, n: u64) -> Option<Unanswered> {
        let place = self.sends.iter().position(|send| send.is(room, writer, n))?;
        let send = self.sends.remove(place);
        self.bytes -= send.bytes();
        Some(send)
    }
}

/// What a session says for the window when it takes no more. Not definite: an earlier connection may have tried the
/// same counter.
pub(crate) fn full() -> Refusal {
    let message = format!(
        "at most {} sends and {} bytes may be unanswered",
        limits::WINDOW_SENDS,
        limits::WINDOW_BYTES
    );
    Refusal { definite: false, ..Refusal::new(ErrorCode::TooMany, message) }
}

#[cfg(test)]
mod tests {
    use protocol::{Body, Kind, UserId};
    use telemetry::TraceContext;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn room(number: u128) -> RoomId {
        RoomId::from_u128(number)
    }

    fn writer() -> WriterId {
        WriterId::from_u128(7)
    }

    fn draft(n: u64, text: &str) -> Draft {
        Draft {
            user: UserId::from_u128(1),
            writer: writer(),
            n,
            kind: Kind::Message,
            target: None,
            body: Body::text(text).unwrap(),
            trace: TraceContext::NONE,
        }
    }

    fn refusal() -> Refusal {
        Refusal::new(ErrorCode::Muted, "muted")
    }

    #[test]
    fn what_overtook_an_unanswered_send_is_sent_again_behind_it() {
        let mut window = Window::default();
        window.enter(room(1), &draft(1, "a"), NOW);
        window.enter(room(1), &draft(2, "b"), NOW);
        let expects = |n| Refusal { expected: Some(n), ..Refusal::new(ErrorCode::OutOfOrder, "") };
        assert_eq!(window.refuse(room(1), writer(), 2, 1, expects(1)), Answered::Overtook);
        let again = window.again(room(1), NOW);
        assert_eq!(
            again.iter().map(|send| (send.draft.n, send.attempt)).collect::<Vec<_>>(),
            [(1, 2), (2, 2)]
        );
        assert_eq!(window.refuse(room(1), writer(), 2, 1, expects(1)), Answered::Stale);
        // The room lacks one that this session never had.
        assert!(matches!(window.refuse(room(1), writer(), 2, 2, expects(0)), Answered::Told(_)));
    }

    #[test]
    fn an_answer_is_awaited_once() {
        let mut window = Window::default();
        assert_eq!(window.enter(room(1), &draft(1, "a"), NOW), Entered::New);
        assert!(!window.settle(room(2), writer(), 1));
        assert!(window.settle(room(1), writer(), 1));
        assert!(!window.settle(room(1), writer(), 1));
    }

    #[test]
    fn the_same_send_waits_once_and_another_content_conflicts() {
        let mut window = Window::default();
        assert_eq!(window.enter(room(1), &draft(1, "a"), NOW), Entered::New);
        assert_eq!(window.enter(room(1), &draft(1, "a"), NOW), Entered::Waiting);
        assert_eq!(window.enter(room(1), &draft(1, "b"), NOW), Entered::Conflict);
    }

    #[test]
    fn the_window_is_bounded_in_sends_and_in_bytes() {
        let mut window = Window::default();
        for n in 1..=limits::WINDOW_SENDS as u64 {
            assert_eq!(window.enter(room(1), &draft(n, "a"), NOW), Entered::New);
        }
        assert_eq!(window.enter(room(1), &draft(33, "a"), NOW), Entered::Full);
        assert!(window.settle(room(1), writer(), 5));
        assert_eq!(window.enter(room(1), &draft(33, "a"), NOW), Entered::New);

        let mut window = Window::default();
        let large = "x".repeat(limits::BODY_BYTES - 100);
        let taken = (1..=32).take_while(|n| window.enter(room(1), &draft(*n, &large), NOW) == Entered::New);
        assert_eq!(taken.count(), limits::WINDOW_BYTES / (limits::BODY_BYTES - 100 + 11));
    }

    #[test]
    fn sends_go_again_in_the_order_of_their_counters_and_leave_other_rooms_alone() {
        let mut window = Window::default();
        for (place, n) in [(1, 3), (2, 1), (1, 1), (1, 2)] {
            window.enter(room(place), &draft(n, "a"), NOW);
        }
        let again: Vec<_> =
            window.again(room(1), 2 * NOW).iter().map(|send| (send.draft.n, send.attempt)).collect();
        assert_eq!(again, [(1, 2), (2, 2), (3, 2)]);
        assert_eq!(window.oldest(), Some(NOW), "the other room's");
        assert_eq!(window.late(NOW), [room(2)]);
    }

    #[test]
    fn a_refusal_of_an_earlier_try_is_stale_and_one_of_a_later_try_is_not_definite() {
        let mut window = Window::default();
        window.enter(room(1), &draft(1, "a"), NOW);
        window.again(room(1), NOW);
        assert_eq!(window.refuse(room(1), writer(), 1, 1, refusal()), Answered::Stale);
        let told = window.refuse(room(1), writer(), 1, 2, refusal());
        assert_eq!(told, Answered::Told(Refusal { definite: false, ..refusal() }));
        assert_eq!(window.refuse(room(1), writer(), 1, 2, refusal()), Answered::Stale);
    }

    #[test]
    fn the_first_refusal_of_a_first_try_stays_definite() {
        let mut window = Window::default();
        window.enter(room(1), &draft(1, "a"), NOW);
        assert_eq!(window.refuse(room(1), writer(), 1, 1, refusal()), Answered::Told(refusal()));
        assert_eq!(window.oldest(), None);
    }
}
