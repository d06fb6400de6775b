//! Making durable, then visible.

use protocol::{ErrorCode, Kind, entry::Durability, server::Ack};
use store::{StoreError, members::RoomRecord};
use telemetry::TraceContext;

use super::{Delivery, Output, RoomState, saying::refuse};
use crate::{
    room::queue::{self, Waiting},
    session::Refusal,
};
/// Making durable, then visible.
impl RoomState {
    /// Appends the next group of what waits, if that needs no log or it is the room's turn.
    pub(super) fn append_waiting(&mut self, has_turn: bool, out: &mut Vec<Output>) {
        while self.is_owner && self.flight.is_empty() {
            let Some(first) = self.queue.front() else { return };
            let durability = self.durability();
            let is_logged = durability == Durability::Durable || first.change.is_some();
            if is_logged && !has_turn {
                if !std::mem::replace(&mut self.is_turn_asked, true) {
                    out.push(Output::AskTurn);
                }
                return;
            }
            self.flight = queue::take_group(&mut self.queue, durability);
            if is_logged {
                let (rows, derived) = queue::rows_and_derived(&self.flight, self.epoch, durability);
                out.push(Output::Append { rows, derived });
                return;
            }
            self.commit(out);
        }
    }

    pub(super) fn commit(&mut self, out: &mut Vec<Output>) {
        let group = std::mem::take(&mut self.flight);
        let Some(last) = group.last() else { return };
        self.head = last.seq;
        let mut delivery = Delivery {
            entries: Vec::with_capacity(group.len()),
            acks: Vec::new(),
            ends: last.change.as_ref().and_then(|change| change.ends),
            deleted: last.change.as_ref().is_some_and(|change| change.deleted),
            trace: group.iter().map(|waiting| waiting.trace).find(TraceContext::is_some).unwrap_or_default(),
        };
        let mut after = Vec::new();
        for waiting in group {
            self.commit_one(waiting, &mut delivery, &mut after);
        }
        out.push(Output::Deliver(delivery));
        out.append(&mut after);
        if self.record.as_ref().is_some_and(|record| record.deleted) && self.is_idle() {
            out.push(Output::Retire);
        }
    }

    fn commit_one(&mut self, waiting: Waiting, delivery: &mut Delivery, after: &mut Vec<Output>) {
        let entry = waiting.entry();
        if let (Kind::Deletion, Some(target)) = (&waiting.kind, waiting.target) {
            self.ring.mask(target);
        }
        self.ring.push(entry.clone());
        delivery.entries.push(entry);
        if waiting.n > 0 {
            self.writers.commit(waiting.writer, waiting.n, waiting.seq, waiting.at);
        }
        let ack =
            Ack { room: self.id, writer: waiting.writer, n: waiting.n, seq: waiting.seq, at: waiting.at };
        delivery.acks.extend(waiting.replies.into_iter().map(|reply| (reply, ack)));
        if let Some(change) = waiting.change {
            if let Some(member) = change.member {
                after.push(Output::Member { user: member.user, state: member.state, head: waiting.seq });
            }
            let record = RoomRecord { applied_seq: waiting.log_seq, ..change.room };
            after.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Ok(record.clone()) }),
            );
        } else if let Some(record) = &self.record {
            after.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Ok(record.clone()) }),
            );
        }
    }

    /// The store has definitely refused: so does the room, and ends. What it believed of the queue is void.
    pub(super) fn give_up(&mut self, error: &StoreError, out: &mut Vec<Output>) {
        let refusal = unavailable(error);
        let unanswered = std::mem::take(&mut self.flight).into_iter().chain(std::mem::take(&mut self.queue));
        for waiting in unanswered {
            for to in waiting.replies {
                out.push(Output::Refuse {
                    to,
                    writer: waiting.writer,
                    n: waiting.n,
                    refusal: refusal.clone(),
                });
            }
            out.extend(
                waiting.commands.into_iter().map(|to| Output::Done { to, result: Err(refusal.clone()) }),
            );
        }
        for send in std::mem::take(&mut self.parked).into_values().flat_map(|parked| parked.sends) {
            refuse(send, refusal.clone(), out);
        }
        out.push(Output::Retire);
    }
}

/// The store did not do it, for certain.
pub(crate) fn unavailable(error: &StoreError) -> Refusal {
    let message = match error {
        StoreError::Full(_) => "the server's disk is full",
        _ => "the store is away",
    };
    Refusal::new(ErrorCode::Unavailable, message).retry_after(1_000)
}
