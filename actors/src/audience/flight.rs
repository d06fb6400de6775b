//! A batch on its way to the members of an audience: encoded at most once per encoding.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use protocol::{
    Encoding, Entry, ErrorCode, Incarnation, RoomId, Seq, ServerFrame, SessionId, UserId,
    server::{Ack, Entries},
};

use crate::{
    Encode, Outbox,
    room::{ReplyTo, state::Delivery},
    session::{Class, Session},
};

/// Turns a room's entries and answers into frames.
#[derive(Clone)]
pub(crate) struct Framer {
    pub(crate) room: RoomId,
    pub(crate) incarnation: Incarnation,
    pub(crate) encode: Arc<dyn Encode>,
}

impl Framer {
    pub(crate) fn entries(&self, entries: Vec<Entry>, encoding: Encoding) -> Bytes {
        let frame = ServerFrame::Entries(Entries { room: self.room, incarnation: self.incarnation, entries });
        self.encode.encode(&frame, encoding)
    }

    pub(crate) fn ack(&self, ack: Ack, encoding: Encoding) -> Bytes {
        self.encode.encode(&ServerFrame::Ack(ack), encoding)
    }
}

/// Acknowledges a send to a session that does not hear it in the room's stream.
pub(crate) fn answer(encode: &dyn Encode, session: &Session, ack: Ack) {
    if settle(&*session.outbox, &ack) {
        push_ack(encode, session, ack);
    }
}

/// The session waits no more. Always before the client can hear it, which may then send the next one.
pub(crate) fn settle(outbox: &dyn Outbox, ack: &Ack) -> bool {
    outbox.settle(ack.room, ack.writer, ack.n)
}

/// Answers a settled send in the outbox's reserve.
pub(crate) fn push_ack(encode: &dyn Encode, session: &Session, ack: Ack) {
    let frame = encode.encode(&ServerFrame::Ack(ack), session.outbox.encoding());
    // Full or dead: the outbox ends the connection, and the send is repeated on the next one.
    let _ = session.outbox.push(&[frame], Class::Answer);
}

/// Bytes that are the same for all who want them in one encoding.
#[derive(Default)]
pub(crate) struct Encoded {
    json: Option<Bytes>,
    message_pack: Option<Bytes>,
}

impl Encoded {
    pub(crate) fn get(&mut self, encoding: Encoding, make: impl FnOnce() -> Bytes) -> Bytes {
        let slot = match encoding {
            Encoding::Json => &mut self.json,
            Encoding::MessagePack => &mut self.message_pack,
        };
        slot.get_or_insert_with(make).clone()
    }
}

/// A batch on its way.
pub(crate) struct Flight {
    pub(crate) entries: Vec<Entry>,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    frame: Encoded,
    /// Who waits for which answers; taken out as members are served.
    pub(crate) acks: HashMap<SessionId, (Session, Vec<Ack>)>,
    pub(crate) ends: Option<(UserId, ErrorCode)>,
    pub(crate) deleted: bool,
    /// The next member to serve.
    pub(crate) next: usize,
    pub(crate) dead: Vec<SessionId>,
}

impl Flight {
    /// A flight that begins with this group; requests that wait for their answer alone get it now.
    pub(crate) fn new(first: Delivery) -> Self {
        let mut flight = Self {
            entries: Vec::new(),
            first: first.entries.first().map_or(0, |entry| entry.seq),
            last: 0,
            frame: Encoded::default(),
            acks: HashMap::new(),
            ends: None,
            deleted: false,
            next: 0,
            dead: Vec::new(),
        };
        flight.take(first);
        flight
    }

    /// Adds the next group.
    pub(crate) fn take(&mut self, delivery: Delivery) {
        self.last = delivery.entries.last().map_or(self.last, |entry| entry.seq);
        self.entries.extend(delivery.entries);
        self.ends = delivery.ends;
        self.deleted = delivery.deleted;
        for (reply, ack) in delivery.acks {
            match reply {
                ReplyTo::Once(reply) => _ = reply.send(Ok((ack.seq, ack.at))),
                ReplyTo::Session { session, .. } => {
                    self.acks.entry(session.id).or_insert_with(|| (session, Vec::new())).1.push(ack);
                }
            }
        }
    }

    /// Whether nobody may be added behind it.
    pub(crate) fn is_cut(&self) -> bool {
        self.ends.is_some() || self.deleted
    }

    /// The frame for a member that has everything up to `at`; `None` if it lacks something before this flight.
    pub(crate) fn frame_for(&mut self, framer: &Framer, at: Seq, encoding: Encoding) -> Option<Bytes> {
        if at + 1 < self.first {
            return None;
        }
        if at + 1 == self.first {
            let entries = &self.entries;
            return Some(self.frame.get(encoding, || framer.entries(entries.clone(), encoding)));
        }
        let rest = self.entries.iter().filter(|entry| entry.seq > at).cloned().collect();
        Some(framer.entries(rest, encoding))
    }
}
