//! Saying: repeats first, then rights and pace, then the queue.

use std::collections::VecDeque;

use protocol::{
    ErrorCode, Kind, Millis, Seq, UserId, WriterId,
    entry::{Durability, Role},
    limits,
    server::Ack,
};
use store::{
    StoreError,
    log::WriterMark,
    members::{MemberRecord, RoomRecord},
};

use super::{Output, Parked, RoomState, Send, Target, unavailable};
use crate::{
    room::{queue::Waiting, rights, writers::Standing},
    rooms::Draft,
    session::Refusal,
};

/// Sends of one writer that wait for an answer of the store: what a session may have unanswered.
const PARKED: usize = limits::WINDOW_SENDS * 2;
/// Saying.
impl RoomState {
    pub(super) fn send(&mut self, send: Send, now: Millis, out: &mut Vec<Output>) {
        if let Some(parked) = self.parked.get_mut(&send.draft.writer) {
            if parked.sends.len() < PARKED {
                parked.sends.push_back(send);
            } else {
                refuse(send, Refusal::new(ErrorCode::Overloaded, "too much waits").retry_after(1_000), out);
            }
            return;
        }
        match self.writers.standing(&send.draft) {
            Standing::Next => self.accept(send, now, out),
            Standing::NotLoaded if self.durability() == Durability::Ephemeral => {
                if self.writers.is_full() {
                    let refusal = Refusal::new(ErrorCode::Overloaded, "too many writers in this room");
                    return refuse(send, refusal.retry_after(60_000), out);
                }
                // Nobody but this memory could know it, so it can't be a repeat: the rights come first.
                if let Err(refusal) = self.check(&send.draft, now) {
                    return refuse(send, refusal, out);
                }
                self.writers.load(send.draft.writer, None);
                let writer = send.draft.writer;
                self.send(send, now, out);
                self.writers.forget_unused(writer);
            }
            Standing::NotLoaded => {
                out.push(Output::LoadWriter(send.draft.writer));
                self.park(send);
            }
            Standing::Waiting => {
                let same =
                    |waiting: &&mut Waiting| waiting.writer == send.draft.writer && waiting.n == send.draft.n;
                if let Some(waiting) = self.flight.iter_mut().chain(&mut self.queue).find(same) {
                    waiting.also_tell(send.reply);
                }
            }
            Standing::Done { seq, at } => {
                let ack = Ack { room: self.id, writer: send.draft.writer, n: send.draft.n, seq, at };
                out.push(Output::Ack { to: send.reply, ack });
            }
            Standing::Stored(seq) => {
                let mut refusal = Refusal::new(ErrorCode::Stored, "stored earlier; too old to compare");
                refusal.seq = seq;
                refusal.definite = false;
                refuse(send, refusal, out);
            }
            Standing::Conflict => {
                let mut refusal =
                    Refusal::new(ErrorCode::Conflict, "this counter was used for other content");
                refusal.definite = false;
                refuse(send, refusal, out);
            }
            Standing::OutOfOrder { expected } => {
                // In an ephemeral room a repeat may have been said in an earlier life: nobody can tell.
                let lost = self.durability() == Durability::Ephemeral && send.reply.is_repeat();
                let code = if lost { ErrorCode::Unknown } else { ErrorCode::OutOfOrder };
                let mut refusal = Refusal::new(code, "counters have no jumps");
                refusal.expected = Some(expected);
                refusal.definite = !lost;
                refuse(send, refusal, out);
            }
            Standing::Foreign => {
                refuse(send, Refusal::new(ErrorCode::Forbidden, "the writer belongs to another user"), out);
            }
        }
    }

    /// The writer's next send: accepted if rights, content and pace allow it. A refusal does not consume the counter.
    fn accept(&mut self, send: Send, now: Millis, out: &mut Vec<Output>) {
        if self.durability() == Durability::Ephemeral && send.reply.is_repeat() {
            let mut refusal =
                Refusal::new(ErrorCode::Unknown, "it may have been said before the room restarted");
            refusal.definite = false;
            return refuse(send, refusal, out);
        }
        match self.check(&send.draft, now) {
            Err(refusal) => refuse(send, refusal, out),
            Ok(Checked::Fine) => {
                self.writers.accept(&send.draft);
                if self.record.as_ref().is_some_and(|record| record.slow_mode_s > 0) {
                    self.last_sent.insert(send.draft.user, now);
                }
                self.enqueue_said(send, now);
            }
            Ok(Checked::AskTarget(target)) => {
                out.push(Output::LoadTarget { writer: send.draft.writer, target });
                self.park(send);
            }
        }
    }

    fn check(&self, draft: &Draft, now: Millis) -> Result<Checked, Refusal> {
        let record = self.living()?;
        let member = self.member(draft.user);
        rights::may_send(&member, now)?;
        if !draft.kind.is_sendable() {
            return Err(Refusal::new(ErrorCode::Unsupported, "clients do not send entries of this kind"));
        }
        if draft.kind.needs_target() != draft.target.is_some() {
            return Err(Refusal::new(
                ErrorCode::Invalid,
                "a reply, edit, deletion or reaction, and nothing else, has a target",
            ));
        }
        self.check_pace(record, &member, now)?;
        let Some(target) = draft.target else { return Ok(Checked::Fine) };
        let first = self.first_readable(record, &member);
        if target < first || target > self.head {
            return Err(Refusal::new(ErrorCode::NotFound, "no such entry to speak of"));
        }
        let by_right: fn(&MemberRecord, UserId) -> Result<(), Refusal> = match draft.kind {
            Kind::Deletion => rights::may_delete,
            Kind::Edit => rights::may_edit,
            Kind::Message | Kind::Reply | Kind::Reaction | Kind::Membership | Kind::Room | Kind::Other(_) => {
                return Ok(Checked::Fine);
            }
        };
        match self.target(draft.writer, target) {
            Some(Some(found))
                if draft.kind == Kind::Edit && (found.is_masked || self.is_withdrawn(target)) =>
            {
                Err(Refusal::new(ErrorCode::Invalid, "what was deleted is not changed"))
            }
            Some(Some(found)) if found.is_said => by_right(&member, found.author).map(|()| Checked::Fine),
            Some(Some(_)) => Err(Refusal::new(ErrorCode::Invalid, "only what people say is changed")),
            Some(None) => Err(Refusal::new(ErrorCode::NotFound, "no such entry to speak of")),
            None => Ok(Checked::AskTarget(target)),
        }
    }

    /// Whether a deletion of this entry is accepted already, durable or not: at the end of the queue it holds.
    fn is_withdrawn(&self, target: Seq) -> bool {
        let mut waiting = self.flight.iter().chain(&self.queue);
        waiting.any(|waiting| waiting.kind == Kind::Deletion && waiting.target == Some(target))
            || self.ring.iter().any(|entry| entry.kind == Kind::Deletion && entry.target == Some(target))
    }

    fn check_pace(&self, record: &RoomRecord, member: &MemberRecord, now: Millis) -> Result<(), Refusal> {
        let pause = Millis::from(record.slow_mode_s) * 1_000;
        if pause == 0 || member.role >= Role::Admin {
            return Ok(());
        }
        let next = self.last_sent.get(&member.user).map_or(0, |last| last + pause);
        if next > now {
            return Err(Refusal::new(ErrorCode::RateLimited, "slow mode").retry_after(next - now));
        }
        Ok(())
    }

    /// What is known of an entry: `None` if the store must be asked, `Some(None)` if there is none.
    fn target(&self, writer: WriterId, seq: Seq) -> Option<Option<Target>> {
        if let Some(entry) = self.ring.get(seq) {
            let (is_said, is_masked) = (is_said(&entry.kind), entry.masked.is_some());
            return Some(Some(Target { author: entry.from, is_said, is_masked }));
        }
        if self.durability() == Durability::Ephemeral {
            return Some(None);
        }
        let asked = self.parked.get(&writer)?.target.as_ref()?;
        (asked.0 == seq).then_some(asked.1)
    }

    fn enqueue_said(&mut self, send: Send, now: Millis) {
        self.end += 1;
        if self.durability() == Durability::Durable {
            self.log_end += 1;
        }
        let Draft { user, writer, n, kind, target, body, trace } = send.draft;
        self.queue.push_back(Waiting {
            seq: self.end,
            log_seq: self.log_end,
            at: now,
            from: user,
            writer,
            n,
            kind,
            target,
            body,
            change: None,
            replies: vec![send.reply],
            commands: Vec::new(),
            trace,
            permit: send.permit,
        });
    }

    fn park(&mut self, send: Send) {
        self.parked.entry(send.draft.writer).or_default().sends.push_front(send);
    }

    pub(super) fn writer_loaded(
        &mut self,
        writer: WriterId,
        mark: Result<Option<WriterMark>, StoreError>,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        match mark {
            Ok(mark) => {
                self.writers.load(writer, mark);
                self.unpark(writer, now, out);
            }
            Err(error) => self.refuse_parked(writer, &error, out),
        }
    }

    pub(super) fn target_loaded(
        &mut self,
        writer: WriterId,
        target: Seq,
        found: Result<Option<Target>, StoreError>,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        match found {
            Ok(found) => {
                if let Some(parked) = self.parked.get_mut(&writer) {
                    parked.target = Some((target, found));
                }
                self.unpark(writer, now, out);
            }
            Err(error) => self.refuse_parked(writer, &error, out),
        }
    }

    /// Goes on with a writer's sends until one has to wait again. The first one is decided with what was asked for it.
    fn unpark(&mut self, writer: WriterId, now: Millis, out: &mut Vec<Output>) {
        let Some(mut parked) = self.parked.remove(&writer) else { return };
        if let Some(asked) = parked.target.take()
            && let Some(first) = parked.sends.pop_front()
        {
            // Decided in the presence of the answer, which `target` looks for here.
            self.parked.insert(writer, Parked { sends: VecDeque::new(), target: Some(asked) });
            self.accept(first, now, out);
            self.parked.remove(&writer);
        }
        while let Some(send) = parked.sends.pop_front() {
            self.send(send, now, out);
            if let Some(again) = self.parked.get_mut(&writer) {
                again.sends.append(&mut parked.sends);
            }
        }
        self.writers.forget_unused(writer);
    }

    fn refuse_parked(&mut self, writer: WriterId, error: &StoreError, out: &mut Vec<Output>) {
        let Some(parked) = self.parked.remove(&writer) else { return };
        for send in parked.sends {
            refuse(send, unavailable(error), out);
        }
    }
}

enum Checked {
    Fine,
    AskTarget(Seq),
}

/// Whether an entry is something that people say, and so can be withdrawn or changed.
pub(crate) fn is_said(kind: &Kind) -> bool {
    kind.is_sendable() && *kind != Kind::Deletion
}

pub(super) fn refuse(send: Send, refusal: Refusal, out: &mut Vec<Output>) {
    out.push(Output::Refuse { to: send.reply, writer: send.draft.writer, n: send.draft.n, refusal });
}
