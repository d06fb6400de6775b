//! Taking somebody's words out of the room: the store's part, what waits in the queue, and what the room remembers.

use std::collections::VecDeque;

use protocol::{ErrorCode, Seq, UserId, entry::Durability};
use store::erasure::{self, EraseError};

use super::{Output, RoomState, unavailable};
use crate::{
    room::{Answer, ring},
    session::Refusal,
};

/// Those whose words go, one after the other; bounded by the room's admission.
#[derive(Debug, Default)]
pub(super) struct Erasing {
    run: Option<Run>,
    waiting: VecDeque<(UserId, Answer<erasure::Erased>)>,
}

#[derive(Debug)]
struct Run {
    user: UserId,
    reply: Answer<erasure::Erased>,
    /// The log is looked through up to here; `None` before the first look.
    upto: Option<Seq>,
    /// The store is at it.
    is_away: bool,
    sum: erasure::Erased,
}

impl Erasing {
    pub(super) fn is_idle(&self) -> bool {
        self.run.is_none() && self.waiting.is_empty()
    }
}

impl RoomState {
    /// Somebody's words are to go.
    pub(super) fn erase(&mut self, user: UserId, reply: Answer<erasure::Erased>, out: &mut Vec<Output>) {
        self.erasing.waiting.push_back((user, reply));
        self.go_on_erasing(out);
    }

    /// The store has looked through a part of the log.
    pub(super) fn erased(&mut self, part: Result<erasure::Erased, EraseError>, out: &mut Vec<Output>) {
        let Some(run) = &mut self.erasing.run else { return };
        run.is_away = false;
        match part {
            Ok(part) => {
                run.sum.erased += part.erased;
                run.sum.already += part.already;
                self.go_on_erasing(out);
            }
            Err(error) => {
                let refusal = match error {
                    EraseError::Fenced => Refusal::new(ErrorCode::Unavailable, "another owner has the room"),
                    EraseError::Store(error) => unavailable(&error),
                };
                self.end_run(Err(refusal), out);
            }
        }
    }

    /// Begins, goes on, waits for what is not durable yet, or ends: whatever is next.
    pub(super) fn go_on_erasing(&mut self, out: &mut Vec<Output>) {
        if self.erasing.run.is_none()
            && let Some((user, reply)) = self.erasing.waiting.pop_front()
        {
            let sum = erasure::Erased::default();
            self.erasing.run = Some(Run { user, reply, upto: None, is_away: false, sum });
        }
        let Some(run) = self.erasing.run.as_ref().filter(|run| !run.is_away) else { return };
        let (user, upto) = (run.user, run.upto);
        if self.has_waiting(user) {
            return; // goes on when that is durable
        }
        let more = match (self.durability(), upto) {
            (Durability::Ephemeral, _) => None,
            (Durability::Durable, None) => Some(0),
            (Durability::Durable, Some(upto)) => Some(upto).filter(|upto| self.may_have_said(user, *upto)),
        };
        self.forget_words(user, out);
        match (more, &mut self.erasing.run) {
            (Some(after), Some(run)) => {
                run.upto = Some(self.head);
                run.is_away = true;
                out.push(Output::Erase { user, after, upto: self.head });
            }
            _ => self.end_run(Ok(()), out),
        }
    }

    fn end_run(&mut self, result: Result<(), Refusal>, out: &mut Vec<Output>) {
        if let Some(run) = self.erasing.run.take() {
            out.push(Output::Erased { to: run.reply, result: result.map(|()| run.sum) });
        }
        if !self.erasing.waiting.is_empty() {
            self.go_on_erasing(out);
        }
    }

    fn has_waiting(&self, user: UserId) -> bool {
        self.flight.iter().chain(&self.queue).any(|waiting| waiting.from == user && waiting.change.is_none())
    }

    /// Whether they may have said something above `upto` since: what the ring does not hold has to be looked for.
    fn may_have_said(&self, user: UserId, upto: Seq) -> bool {
        if self.head <= upto {
            return false;
        }
        let is_held = self.ring.first().is_some_and(|first| first <= upto + 1);
        !is_held || self.ring.iter().any(|entry| entry.seq > upto && ring::is_said_by(entry, user))
    }

    /// Before the store is asked, and whenever there was more: whoever hears the room from now on is not given it.
    fn forget_words(&mut self, user: UserId, out: &mut Vec<Output>) {
        self.ring.erase(user);
        self.writers.forget_content(user);
        out.push(Output::ForgetWords { user });
    }
}
