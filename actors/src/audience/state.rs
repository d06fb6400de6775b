//! Who hears a room here, and how far each has been served. Pushes to outboxes, never waits.
//!
//! No code per session sees the stream, so contiguity is kept here: a member is given a batch only if it goes on where
//! that member was left. Otherwise, or when its outbox is full, it is *behind*: it reads the log by itself and comes
//! back.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{
    ErrorCode, Kind, RoomId, Seq, ServerFrame, SessionId, UserId,
    entry::Mask,
    server::{Ack, Reset, Typing},
};

use super::{
    Hello,
    flight::{Flight, Framer, answer, push_ack, settle},
    tail::{Tail, size},
};
use crate::{
    Encode, Notice,
    room::{
        ReplyTo,
        ring::{erase, is_said_by, is_withdrawn},
        state::{Admit, Delivery},
    },
    session::{Class, Pushed, Session},
};

/// Bytes of bodies in one frame; a single larger group goes alone.
const FRAME_BYTES: usize = 64 * 1024;

/// One room's listeners on this node.
pub(crate) struct AudienceState {
    framer: Framer,
    epoch: u64,
    /// The newest entry that was flushed.
    head: Seq,
    tail: Tail,
    members: Vec<Member>,
    index: HashMap<SessionId, usize>,
    pending: VecDeque<Delivery>,
}

struct Member {
    session: Session,
    /// The last entry pushed to it.
    at: Seq,
    /// Whether the stream goes on for it; otherwise it reads the log.
    is_live: bool,
}

impl AudienceState {
    pub(crate) fn new(room: RoomId, encode: Arc<dyn Encode>, hello: Hello) -> Self {
        let mut tail = Tail::default();
        hello.recent.into_iter().for_each(|entry| tail.push(entry));
        Self {
            framer: Framer { room, incarnation: hello.incarnation, encode },
            epoch: hello.epoch,
            head: hello.head,
            tail,
            members: Vec::new(),
            index: HashMap::new(),
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Another actor orders the room now. What its log has beyond what was flushed here reaches the members by
    /// catch-up, where their rights are looked at again. Nothing may be pending.
    pub(crate) fn hello(&mut self, hello: Hello) {
        if hello.epoch < self.epoch {
            return; // of an owner that does not know yet that it was followed
        }
        self.epoch = hello.epoch;
        if hello.incarnation != self.framer.incarnation {
            self.framer.incarnation = hello.incarnation;
            self.head = hello.head;
            self.reset_all();
        } else if hello.head > self.head {
            self.miss(hello.head);
        }
        self.tail.clear();
        hello.recent.into_iter().for_each(|entry| self.tail.push(entry));
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest entry that was flushed.
    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// Up to which entry something is missing before this group. Only between nodes groups are lost.
    pub(crate) fn lacks(&self, epoch: u64, delivery: &Delivery) -> Option<Seq> {
        let end = self.pending.iter().rev().find_map(|waiting| waiting.entries.last());
        let end = end.map_or(self.head, |entry| entry.seq);
        let first = delivery.entries.first()?.seq;
        (epoch >= self.epoch && first > end + 1).then_some(first - 1)
    }

    /// The room has come to `head`, and what of that is not here is lost. Nothing may be pending.
    pub(crate) fn heard(&mut self, epoch: u64, head: Seq) {
        if epoch == self.epoch && head > self.head {
            self.miss(head);
        }
    }

    /// Takes a committed group; it is pushed at the next flush. A deletion masks its target in what is not flushed.
    pub(crate) fn collect(&mut self, epoch: u64, delivery: Delivery) {
        if epoch < self.epoch {
            return;
        }
        for deletion in delivery.entries.iter().filter(|entry| entry.kind == Kind::Deletion) {
            let pending = self.pending.iter_mut().flat_map(|waiting| &mut waiting.entries);
            for entry in
                pending.filter(|entry| deletion.target.is_some_and(|target| is_withdrawn(entry, target)))
            {
                entry.body = None;
                entry.masked = Some(Mask::Deleted);
            }
        }
        self.pending.push_back(delivery);
    }

    /// Groups up to `head` were too much to keep: everybody reads them in the log. Nothing may be pending.
    pub(crate) fn skip(&mut self, head: Seq, acks: Vec<(ReplyTo, Ack)>) {
        for (reply, ack) in acks {
            match reply {
                ReplyTo::Once(reply) => _ = reply.send(Ok((ack.seq, ack.at))),
                ReplyTo::Session { session, .. } => answer(&*self.framer.encode, &session, ack),
            }
        }
        self.miss(head);
    }

    /// Entries below this one are kept no more; whoever would need them reads the log, which names what is gone.
    pub(crate) fn forget(&mut self, below: Seq) {
        self.tail.drop_below(below);
    }

    /// What this user has said is shown no more, neither out of the tail nor of what is not flushed.
    pub(crate) fn forget_words(&mut self, user: UserId) {
        self.tail.erase(user);
        let pending = self.pending.iter_mut().flat_map(|waiting| &mut waiting.entries);
        pending.filter(|entry| is_said_by(entry, user)).for_each(erase);
    }

    fn miss(&mut self, head: Seq) {
        self.tail.clear();
        self.head = self.head.max(head);
        let room = self.framer.room;
        self.members
            .iter_mut()
            .filter(|member| member.is_live)
            .for_each(|member| member.fall_behind(room, head));
    }
}

/// Flushing.
impl AudienceState {
    /// The next batch to push: all that waits, up to a bound, cut where somebody's membership ends.
    pub(crate) fn take_flight(&mut self) -> Option<Flight> {
        let first = self.pending.pop_front()?;
        let mut bytes = bytes_of(&first);
        let mut flight = Flight::new(first);
        while !flight.is_cut() {
            let Some(next) = self.pending.front() else { break };
            bytes += bytes_of(next);
            if bytes > FRAME_BYTES {
                break;
            }
            flight.take(self.pending.pop_front()?);
        }
        Some(flight)
    }

    /// Pushes a flight to the next `most` members; `true` when all were served.
    pub(crate) fn push_some(&mut self, flight: &mut Flight, most: usize) -> bool {
        let upto = flight.next.saturating_add(most).min(self.members.len());
        for member in &mut self.members[flight.next..upto] {
            member.serve(&self.framer, flight);
        }
        flight.next = upto;
        upto == self.members.len()
    }

    /// After the last push: answers those who do not listen, and lets go of those who may not listen any more.
    pub(crate) fn land(&mut self, flight: Flight) {
        for (session, acks) in flight.acks.into_values() {
            acks.into_iter().for_each(|ack| answer(&*self.framer.encode, &session, ack));
        }
        self.head = flight.last;
        for entry in flight.entries {
            if let (Kind::Deletion, Some(target)) = (&entry.kind, entry.target) {
                self.tail.cut(target);
            }
            self.tail.push(entry);
        }
        flight.dead.into_iter().for_each(|session| self.leave(session));
        if let Some((user, code)) = flight.ends {
            self.evict(|session| session.user == user, code);
        }
        if flight.deleted {
            self.evict(|_| true, ErrorCode::NotFound);
        }
    }

    /// All at once.
    #[cfg(test)]
    pub(crate) fn flush(&mut self) {
        while let Some(mut flight) = self.take_flight() {
            self.push_some(&mut flight, usize::MAX);
            self.land(flight);
        }
    }

    /// Tells everybody but `user` that they are typing.
    pub(crate) fn typing(&self, user: UserId) {
        let mut frames = super::flight::Encoded::default();
        let frame = ServerFrame::Typing(Typing { room: self.framer.room, user });
        for member in self.members.iter().filter(|member| member.is_live && member.session.user != user) {
            let encoding = member.session.outbox.encoding();
            let bytes = frames.get(encoding, || self.framer.encode.encode(&frame, encoding));
            let _ = member.session.outbox.push(&[bytes], Class::Ephemeral); // may drop: it is typing
        }
    }
}

/// Coming and going.
impl AudienceState {
    /// The room lets a session in. Nothing may be pending.
    pub(crate) fn admit(&mut self, epoch: u64, admit: Admit) {
        let Admit { session, reset, opened, gap, start, mut unanswered } = admit;
        unanswered.answered();
        if epoch < self.epoch {
            // An answer of an earlier owner: the session asks again.
            session.outbox.notify(Notice::AudienceEnded { room: self.framer.room, at: start });
            return;
        }
        let encoding = session.outbox.encoding();
        let told =
            [reset.map(ServerFrame::Reset), Some(ServerFrame::Opened(opened)), gap.map(ServerFrame::Gap)];
        let frames: Vec<Bytes> =
            told.into_iter().flatten().map(|frame| self.framer.encode.encode(&frame, encoding)).collect();
        if session.outbox.push(&frames, Class::Answer) != Pushed::Taken {
            return; // the outbox ends the session
        }
        session.outbox.notify(Notice::Opened { room: self.framer.room });
        self.leave(session.id);
        self.index.insert(session.id, self.members.len());
        self.members.push(Member { session, at: start, is_live: false });
        let newest = self.members.len() - 1;
        self.go_live(newest);
    }

    /// A session that was behind has read the log up to `at`. Nothing may be pending.
    pub(crate) fn rejoin(&mut self, session: &Session, at: Seq) {
        match self.index.get(&session.id) {
            Some(&index) => {
                self.members[index].at = at;
                self.go_live(index);
            }
            None => session.outbox.notify(Notice::AudienceEnded { room: self.framer.room, at }),
        }
    }

    /// Gives a member what the tail has after its position; then the stream goes on for it.
    fn go_live(&mut self, index: usize) {
        let member = &mut self.members[index];
        if member.at >= self.head {
            member.is_live = true;
            return;
        }
        let encoding = member.session.outbox.encoding();
        let Some(frame) = self.tail.after(member.at, &self.framer, encoding) else {
            return member.fall_behind(self.framer.room, self.head);
        };
        match member.session.outbox.push(&[frame], Class::Stream) {
            Pushed::Taken => {
                member.at = self.head;
                member.is_live = true;
            }
            Pushed::Full => member.fall_behind(self.framer.room, self.head),
            Pushed::Dead => {
                let session = member.session.id;
                self.leave(session);
            }
        }
    }

    pub(crate) fn leave(&mut self, session: SessionId) {
        let Some(index) = self.index.remove(&session) else { return };
        self.members.swap_remove(index);
        if let Some(moved) = self.members.get(index) {
            self.index.insert(moved.session.id, index);
        }
    }

    /// Whether a session hears the room, or may come back to it.
    #[cfg(test)]
    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.index.contains_key(&session)
    }

    fn evict(&mut self, is_out: impl Fn(&Session) -> bool, code: ErrorCode) {
        let out: Vec<Session> = self
            .members
            .iter()
            .map(|member| &member.session)
            .filter(|session| is_out(session))
            .cloned()
            .collect();
        for session in out {
            self.leave(session.id);
            session.outbox.notify(Notice::Shut { room: self.framer.room, id: None, code });
        }
    }

    /// The room's actor ended: what was sent to it may be lost.
    pub(crate) fn room_ended(&self) {
        for member in &self.members {
            member.session.outbox.notify(Notice::RoomEnded { room: self.framer.room });
        }
    }

    /// A new life of an ephemeral room: positions of the old one mean nothing.
    fn reset_all(&mut self) {
        let Framer { room, incarnation, encode } = &self.framer;
        let reset = ServerFrame::Reset(Reset { room: *room, head: self.head, incarnation: *incarnation });
        let mut dead = Vec::new();
        for member in &mut self.members {
            if !member.is_live {
                // It reads what is no more: it opens the room again, and is told so.
                let notice = Notice::AudienceEnded { room: *room, at: member.at };
                member.session.outbox.notify(notice);
                dead.push(member.session.id);
                continue;
            }
            let frame = encode.encode(&reset, member.session.outbox.encoding());
            member.at = self.head;
            member.is_live = true;
            if member.session.outbox.push(&[frame], Class::Answer) != Pushed::Taken {
                dead.push(member.session.id);
            }
        }
        dead.into_iter().for_each(|session| self.leave(session));
    }
}

/// When the audience ends otherwise than empty, its members open the room again where they were left.
impl Drop for AudienceState {
    fn drop(&mut self) {
        for member in &self.members {
            member.session.outbox.notify(Notice::AudienceEnded { room: self.framer.room, at: member.at });
        }
    }
}

impl Member {
    fn serve(&mut self, framer: &Framer, flight: &mut Flight) {
        let acks = match flight.acks.is_empty() {
            true => Vec::new(),
            false => flight.acks.remove(&self.session.id).map(|(_, acks)| acks).unwrap_or_default(),
        };
        // Behind, or ahead because it has read the log: answered apart, unless it saw its own entries there.
        if !self.is_live || self.at >= flight.last {
            return self.answer(framer, acks);
        }
        let outbox = &*self.session.outbox;
        let encoding = outbox.encoding();
        let Some(frame) = flight.frame_for(framer, self.at, encoding) else {
            self.fall_behind(framer.room, flight.last);
            return self.answer(framer, acks);
        };
        // Before the push: whoever has all answers may send as much again at once.
        let acks: Vec<Ack> = acks.into_iter().filter(|ack| settle(outbox, ack)).collect();
        let pushed = if acks.is_empty() {
            outbox.push(&[frame], Class::Stream)
        } else {
            let answers = acks.iter().map(|ack| framer.ack(*ack, encoding));
            outbox.push(&std::iter::once(frame).chain(answers).collect::<Vec<_>>(), Class::Stream)
        };
        match pushed {
            Pushed::Taken => self.at = flight.last,
            Pushed::Full => {
                self.fall_behind(framer.room, flight.last);
                acks.into_iter().for_each(|ack| push_ack(&*framer.encode, &self.session, ack));
            }
            Pushed::Dead => flight.dead.push(self.session.id),
        }
    }

    /// In the outbox's reserve, which holds the answers to all that a session may have unanswered.
    fn answer(&self, framer: &Framer, acks: Vec<Ack>) {
        acks.into_iter().for_each(|ack| answer(&*framer.encode, &self.session, ack));
    }

    fn fall_behind(&mut self, room: RoomId, head: Seq) {
        self.is_live = false;
        self.session.outbox.notify(Notice::Behind { room, at: self.at, head });
    }
}

fn bytes_of(delivery: &Delivery) -> usize {
    delivery.entries.iter().map(size).sum()
}
