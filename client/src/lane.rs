//! One room's unanswered sends: which goes out next, what an answer means, what may be sent under another number.
//!
//! A number and its content stay together from the first time they were on a wire until the server has said
//! definitely that it will never be stored. Only then may the number serve another message.

use std::collections::VecDeque;

use protocol::{
    Body, ErrorCode, Kind, Seq, WriterId,
    server::{Ack, Refused},
};

/// Refusals of one message that leave its fate open, before the writer is retired.
const OPEN_REFUSALS: u32 = 5;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Its place in the record.
    pub(crate) message: usize,
    pub(crate) n: u64,
    pub(crate) kind: Kind,
    pub(crate) target: Option<Seq>,
    pub(crate) body: Body,
    /// On the wire of this socket, unanswered.
    in_flight: bool,
    /// Times that it was put on a wire and not definitely refused.
    fates: u32,
    /// Refusals that left its fate open.
    refusals: u32,
}

impl Pending {
    pub(crate) fn bytes(&self) -> usize {
        self.body.as_json().len()
    }

    /// Whether it was on a wire before, and may have been stored then.
    pub(crate) fn is_repeat(&self) -> bool {
        self.fates > 1
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Acked { message: usize, ack: Ack },
    Stored { message: usize, seq: Option<Seq> },
    Refused { message: usize, code: ErrorCode },
    Unknown { message: usize },
}

/// What the lane wants after an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) settled: Vec<Settled>,
    /// Nothing goes out before this many milliseconds have passed.
    pub(crate) wait_ms: Option<u64>,
    /// The counter is of no use any more: the caller gives another writer.
    pub(crate) retire: bool,
}

/// A room's sends in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Lane {
    writer: WriterId,
    /// The highest number that is in the log.
    base: u64,
    queue: VecDeque<Pending>,
    in_flight: usize,
    bytes_in_flight: usize,
}

impl Lane {
    pub(crate) fn new(writer: WriterId) -> Self {
        Self { writer, base: 0, queue: VecDeque::new(), in_flight: 0, bytes_in_flight: 0 }
    }

    pub(crate) fn writer(&self) -> WriterId {
        self.writer
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes of bodies in flight.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    pub(crate) fn push(&mut self, message: usize, kind: Kind, target: Option<Seq>, body: Body) {
        let n = self.queue.back().map_or(self.base, |last| last.n) + 1;
        self.queue.push_back(Pending {
            message,
            n,
            kind,
            target,
            body,
            in_flight: false,
            fates: 0,
            refusals: 0,
        });
    }

    /// The message that goes out next. None while answers are missing for what stands behind a refused one: the order
    /// on the wire would not be that of the numbers.
    pub(crate) fn peek(&self) -> Option<&Pending> {
        let place = self.next_place()?;
        Some(&self.queue[place])
    }

    fn next_place(&self) -> Option<usize> {
        let without_hole = self.queue.front()?.n <= self.base + 1;
        let first_idle = self.queue.iter().position(|pending| !pending.in_flight)?;
        (without_hole && first_idle == self.in_flight).then_some(first_idle)
    }

    /// Puts it on the wire.
    pub(crate) fn take(&mut self) -> Option<&Pending> {
        let place = self.next_place()?;
        let pending = &mut self.queue[place];
        pending.in_flight = true;
        pending.fates += 1;
        self.in_flight += 1;
        self.bytes_in_flight += pending.bytes();
        Some(&self.queue[place])
    }

    /// The socket is gone: everything unanswered goes out again, as it is.
    pub(crate) fn lost(&mut self) -> Verdict {
        for place in 0..self.queue.len() {
            self.land(place);
        }
        self.verdict(None)
    }

    pub(crate) fn acked(&mut self, ack: Ack) -> Verdict {
        let settled = self.remove(ack.n).map(|message| Settled::Acked { message, ack });
        self.base = self.base.max(ack.n);
        self.verdict(settled)
    }

    /// The sender's own entry came out of the log: an answer, too.
    pub(crate) fn seen(&mut self, n: u64, seq: Seq) -> Verdict {
        let settled = self.remove(n).map(|message| Settled::Stored { message, seq: Some(seq) });
        self.base = self.base.max(n);
        self.verdict(settled)
    }

    pub(crate) fn refused(&mut self, refused: &Refused) -> Verdict {
        let Some(place) = self.queue.iter().position(|pending| pending.n == refused.n && pending.in_flight)
        else {
            return Verdict::default();
        };
        self.land(place);
        let pending = &mut self.queue[place];
        let definite = refused.definite && pending.fates == 1;
        if definite {
            pending.fates = 0;
        }
        match refused.code {
            ErrorCode::Stored => {
                let settled =
                    self.remove(refused.n).map(|message| Settled::Stored { message, seq: refused.seq });
                self.base = self.base.max(refused.n);
                self.verdict(settled)
            }
            ErrorCode::Unknown => {
                let settled = self.remove(refused.n).map(|message| Settled::Unknown { message });
                self.verdict(settled)
            }
            // It has forgotten what it had answered: this counter is of no use any more.
            ErrorCode::OutOfOrder if refused.expected.is_some_and(|expected| expected <= self.base) => {
                Verdict { retire: true, ..Verdict::default() }
            }
            ErrorCode::OutOfOrder => self.verdict(None),
            code if code.is_transient() => {
                Verdict { wait_ms: Some(refused.retry_after_ms.unwrap_or(500)), ..self.verdict(None) }
            }
            code if definite => {
                let settled = self.remove(refused.n).map(|message| Settled::Refused { message, code });
                self.verdict(settled)
            }
            _ => self.open_refusal(place),
        }
    }

    /// A refusal that may not be the last word about this message.
    fn open_refusal(&mut self, place: usize) -> Verdict {
        let pending = &mut self.queue[place];
        pending.refusals += 1;
        if pending.refusals < OPEN_REFUSALS {
            return Verdict { wait_ms: Some(200), ..self.verdict(None) };
        }
        Verdict { retire: true, ..Verdict::default() }
    }

    /// Another writer takes over what was never on a wire, or definitely refused; the fate of the rest stays unknown.
    pub(crate) fn retire(&mut self, writer: WriterId) -> Vec<Settled> {
        self.lost();
        let (open, fresh): (VecDeque<_>, _) = self.queue.drain(..).partition(|pending| pending.fates > 0);
        *self = Self { queue: fresh, ..Self::new(writer) };
        self.renumber();
        open.into_iter().map(|pending| Settled::Unknown { message: pending.message }).collect()
    }

    fn verdict(&mut self, settled: Option<Settled>) -> Verdict {
        let hole = self.queue.front().is_some_and(|oldest| oldest.n > self.base + 1);
        let mut retire = false;
        if hole && self.in_flight == 0 {
            retire = self.queue.iter().any(|pending| pending.fates > 0);
            if !retire {
                self.renumber();
            }
        }
        Verdict { settled: settled.into_iter().collect(), wait_ms: None, retire }
    }

    fn renumber(&mut self) {
        for (pending, n) in self.queue.iter_mut().zip(self.base + 1..) {
            pending.n = n;
        }
    }

    fn remove(&mut self, n: u64) -> Option<usize> {
        let place = self.queue.iter().position(|pending| pending.n == n)?;
        self.land(place);
        self.queue.remove(place).map(|pending| pending.message)
    }

    fn land(&mut self, place: usize) {
        let pending = &mut self.queue[place];
        if pending.in_flight {
            pending.in_flight = false;
            self.in_flight -= 1;
            self.bytes_in_flight -= pending.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::RoomId;

    use super::*;

    const WRITER: WriterId = WriterId::from_u128(1);
    const ROOM: RoomId = RoomId::from_u128(2);

    fn lane(messages: usize) -> Lane {
        let mut lane = Lane::new(WRITER);
        for message in 0..messages {
            lane.push(message, Kind::Message, None, Body::text(&format!("message {message}")).unwrap());
        }
        lane
    }

    fn fly(lane: &mut Lane) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| lane.take().map(|pending| (pending.message, pending.n))).collect()
    }

    fn ack(n: u64) -> Ack {
        Ack { room: ROOM, writer: WRITER, n, seq: 100 + n, at: 0 }
    }

    fn refusal(n: u64, code: ErrorCode, expected: Option<u64>) -> Refused {
        let message = String::new();
        let retry_after_ms = code.is_transient().then_some(70);
        Refused {
            room: ROOM,
            writer: WRITER,
            n,
            code,
            message,
            definite: true,
            expected,
            seq: None,
            retry_after_ms,
        }
    }

    #[test]
    fn messages_are_numbered_from_one_and_settled_by_their_acks() {
        let mut lane = lane(2);
        assert_eq!(fly(&mut lane), [(0, 1), (1, 2)]);
        let verdict = lane.acked(ack(1));
        assert_eq!(verdict.settled, [Settled::Acked { message: 0, ack: ack(1) }]);
        assert_eq!((lane.len(), lane.in_flight()), (1, 1));
    }

    #[test]
    fn what_was_unanswered_goes_out_again_with_its_numbers() {
        let mut lane = lane(3);
        fly(&mut lane);
        lane.acked(ack(1));
        assert_eq!(lane.lost(), Verdict::default());
        assert_eq!(fly(&mut lane), [(1, 2), (2, 3)]);
    }

    #[test]
    fn a_refusal_for_now_holds_what_follows_until_all_are_answered() {
        let mut lane = lane(3);
        fly(&mut lane);
        assert_eq!(lane.refused(&refusal(1, ErrorCode::RateLimited, None)).wait_ms, Some(70));
        lane.push(3, Kind::Message, None, Body::text("later").unwrap());
        assert!(lane.peek().is_none(), "the second and third are still in flight");
        lane.refused(&refusal(2, ErrorCode::OutOfOrder, Some(1)));
        lane.refused(&refusal(3, ErrorCode::OutOfOrder, Some(1)));
        assert_eq!(fly(&mut lane), [(0, 1), (1, 2), (2, 3), (3, 4)]);
    }

    #[test]
    fn a_definitely_refused_number_serves_the_next_message() {
        let mut lane = lane(3);
        fly(&mut lane);
        let verdict = lane.refused(&refusal(1, ErrorCode::Muted, None));
        assert_eq!(verdict.settled, [Settled::Refused { message: 0, code: ErrorCode::Muted }]);
        lane.refused(&refusal(2, ErrorCode::OutOfOrder, Some(1)));
        assert!(lane.peek().is_none(), "the third may not move while it is in flight");
        lane.refused(&refusal(3, ErrorCode::OutOfOrder, Some(1)));
        assert_eq!(fly(&mut lane), [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_refusal_after_a_resend_is_not_the_last_word() {
        let mut lane = lane(1);
        fly(&mut lane);
        lane.lost();
        for _ in 1..OPEN_REFUSALS {
            fly(&mut lane);
            let verdict = lane.refused(&refusal(1, ErrorCode::Muted, None));
            assert_eq!((verdict.settled.len(), verdict.wait_ms, verdict.retire), (0, Some(200), false));
        }
        fly(&mut lane);
        assert!(lane.refused(&refusal(1, ErrorCode::Muted, None)).retire);
    }

    #[test]
    fn a_hole_behind_which_a_fate_is_open_retires_the_writer() {
        let mut lane = lane(3);
        lane.take();
        lane.take();
        lane.refused(&refusal(1, ErrorCode::Muted, None));
        assert!(lane.lost().retire, "the second may not move and can't stay");
        let writer = WriterId::from_u128(9);
        assert_eq!(lane.retire(writer), [Settled::Unknown { message: 1 }]);
        assert_eq!((lane.writer(), fly(&mut lane)), (writer, vec![(2, 1)]));
    }

    #[test]
    fn a_server_that_has_forgotten_an_ack_retires_the_writer() {
        let mut lane = lane(2);
        fly(&mut lane);
        lane.acked(ack(1));
        assert!(lane.refused(&refusal(2, ErrorCode::OutOfOrder, Some(1))).retire);
    }

    #[test]
    fn an_own_entry_out_of_the_log_is_an_answer() {
        let mut lane = lane(3);
        fly(&mut lane);
        lane.lost();
        assert_eq!(lane.seen(2, 8).settled, [Settled::Stored { message: 1, seq: Some(8) }]);
        // The first lies in a gap, as it seems: it goes out again, and is answered as a repeat.
        assert_eq!(fly(&mut lane), [(0, 1), (2, 3)]);
        assert_eq!((lane.acked(ack(1)).retire, lane.acked(ack(3)).retire, lane.len()), (false, false, 0));
    }

    #[test]
    fn a_repeat_that_is_stored_already_is_settled() {
        let mut lane = lane(2);
        fly(&mut lane);
        let stored = Refused { seq: Some(8), definite: false, ..refusal(1, ErrorCode::Stored, None) };
        assert_eq!(lane.refused(&stored).settled, [Settled::Stored { message: 0, seq: Some(8) }]);
        assert_eq!(lane.acked(ack(2)).settled.len(), 1);
    }
}
