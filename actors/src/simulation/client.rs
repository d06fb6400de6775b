//! A client with its session and outbox: what the gateway does, in a few lines.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use protocol::{DeviceId, Encoding, Entry, RoomId, Seq, ServerFrame, SessionId, UserId, WriterId};

use crate::{
    Encode, Notice, Outbox, Session,
    session::{Class, Pushed, Refusal},
};

/// Frames as their JSON, without a header.
pub(crate) struct PlainJson;

impl Encode for PlainJson {
    fn encode(&self, frame: &ServerFrame, encoding: Encoding) -> Bytes {
        encoding.encode_server(frame).into()
    }
}

/// An outbox of a few frames, which the client empties when it reads.
#[derive(Default)]
pub(crate) struct FewFrames {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<Bytes>,
    notices: VecDeque<Notice>,
    unanswered: BTreeMap<u64, Said>,
    overflowed: bool,
}

/// A send that was not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) kind: protocol::Kind,
    pub(crate) target: Option<Seq>,
    pub(crate) text: String,
    pub(crate) attempt: u32,
}

const CAPACITY: usize = 4;
const RESERVE: usize = 12;

impl Outbox for FewFrames {
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn push(&self, frames: &[Bytes], class: Class) -> Pushed {
        let mut inner = self.inner.lock().unwrap();
        if inner.overflowed {
            return Pushed::Dead;
        }
        match class {
            Class::Stream if inner.frames.len() >= CAPACITY => return Pushed::Full,
            Class::Answer if inner.frames.len() >= CAPACITY + RESERVE => {
                inner.overflowed = true;
                return Pushed::Dead;
            }
            Class::Ephemeral if !inner.frames.is_empty() => return Pushed::Full,
            Class::Stream | Class::Answer | Class::Ephemeral => {}
        }
        for frame in frames {
            if let Ok(ServerFrame::Ack(ack)) = Encoding::Json.decode_server(frame) {
                assert!(
                    !inner.unanswered.contains_key(&ack.n),
                    "answered before the session made room: {ack:?}"
                );
            }
        }
        inner.frames.extend(frames.iter().cloned());
        Pushed::Taken
    }

    /// A dead one keeps what the client says again.
    fn settle(&self, _: RoomId, _: WriterId, n: u64) -> bool {
        let mut inner = self.inner.lock().unwrap();
        !inner.overflowed && inner.unanswered.remove(&n).is_some()
    }

    fn notify(&self, notice: Notice) {
        self.inner.lock().unwrap().notices.push_back(notice);
    }
}

/// What a client knows and wants.
pub(crate) struct Client {
    pub(crate) user: UserId,
    pub(crate) writer: WriterId,
    pub(crate) session: Session,
    pub(crate) outbox: Arc<FewFrames>,
    /// The next counter to use.
    pub(crate) next: u64,
    /// Whether it hears the room, and up to where. Everything up to there was received or named as a gap.
    pub(crate) at: Option<Seq>,
    /// The session reads the log from here.
    pub(crate) behind: Option<Seq>,
    /// Asked to hear and not answered.
    pub(crate) is_opening: bool,
    /// Bodies received, by position.
    pub(crate) received: BTreeMap<Seq, Entry>,
    /// `n` → position.
    pub(crate) acked: BTreeMap<u64, Seq>,
    /// What was said under each `n`.
    pub(crate) texts: BTreeMap<u64, String>,
    /// For the failure's message.
    pub(crate) last_refusal: Option<Refusal>,
    /// Not to be shown any more: their deletion was received.
    deleted: Vec<Seq>,
}

impl Client {
    pub(crate) fn new(number: u128, generation: u128) -> Self {
        let outbox = Arc::new(FewFrames::default());
        let user = UserId::from_u128(number);
        let session = Session {
            id: SessionId::from_u128(generation << 64 | number),
            user,
            device: DeviceId::from_u128(number),
            outbox: Arc::clone(&outbox) as Arc<dyn Outbox>,
        };
        Self {
            user,
            writer: WriterId::from_u128(1_000 + number),
            session,
            outbox,
            next: 1,
            at: None,
            behind: None,
            is_opening: false,
            received: BTreeMap::new(),
            acked: BTreeMap::new(),
            texts: BTreeMap::new(),
            last_refusal: None,
            deleted: Vec::new(),
        }
    }

    /// The connection is gone and made anew; what the client knows stays.
    pub(crate) fn reconnect(&mut self, number: u128, generation: u128) {
        let mut unanswered = std::mem::take(&mut self.outbox.inner.lock().unwrap().unanswered);
        unanswered.values_mut().for_each(|said| said.attempt = 1);
        let fresh = Self::new(number, generation);
        (self.session, self.outbox) = (fresh.session, fresh.outbox);
        self.outbox.inner.lock().unwrap().unanswered = unanswered;
        self.behind = None;
        self.is_opening = false;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.outbox.inner.lock().unwrap().overflowed
    }

    pub(crate) fn pending(&self) -> usize {
        self.outbox.inner.lock().unwrap().frames.len()
    }

    pub(crate) fn unanswered(&self) -> BTreeMap<u64, Said> {
        self.outbox.inner.lock().unwrap().unanswered.clone()
    }

    pub(crate) fn say(&mut self, n: u64, said: Said) {
        self.texts.insert(n, said.text.clone());
        self.outbox.inner.lock().unwrap().unanswered.insert(n, said);
    }

    /// Something that can be deleted.
    pub(crate) fn newest_message(&self) -> Option<Seq> {
        let is_message = |n: &u64| self.texts.get(n).is_some_and(|text| text.starts_with("message"));
        self.acked.iter().rev().find(|(n, _)| is_message(n)).map(|(_, seq)| *seq)
    }

    /// Everything unanswered, as its next attempt.
    pub(crate) fn again(&self) -> Vec<(u64, Said)> {
        let mut inner = self.outbox.inner.lock().unwrap();
        inner.unanswered.values_mut().for_each(|said| said.attempt += 1);
        inner.unanswered.iter().map(|(n, said)| (*n, said.clone())).collect()
    }

    pub(crate) fn has_notices(&self) -> bool {
        !self.outbox.inner.lock().unwrap().notices.is_empty()
    }

    pub(crate) fn take_notice(&self) -> Option<Notice> {
        self.outbox.inner.lock().unwrap().notices.pop_front()
    }

    /// Reads one frame.
    pub(crate) fn read(&mut self) -> bool {
        let Some(bytes) = self.outbox.inner.lock().unwrap().frames.pop_front() else { return false };
        let frame = Encoding::Json.decode_server(&bytes).unwrap();
        match frame {
            ServerFrame::Opened(opened) => {
                self.is_opening = false;
                self.at = Some(opened.after);
            }
            ServerFrame::Gap(gap) => {
                assert_eq!(self.at, Some(gap.after), "a gap begins where the stream stopped");
                self.at = Some(gap.upto);
            }
            ServerFrame::Entries(entries) => entries.entries.into_iter().for_each(|entry| self.see(entry)),
            ServerFrame::Ack(ack) => {
                assert!(self.texts.contains_key(&ack.n), "an ack for nothing");
                let before = self.acked.insert(ack.n, ack.seq);
                assert!(before.is_none_or(|seq| seq == ack.seq), "two answers to one send");
            }
            ServerFrame::Closed(_) => self.at = None,
            ServerFrame::Typing(_) | ServerFrame::Heads(_) | ServerFrame::Status(_) => {}
            other => panic!("unexpected {other:?}"),
        }
        true
    }

    pub(crate) fn see(&mut self, entry: Entry) {
        let at = self.at.expect("entries come after opened");
        assert_eq!(entry.seq, at + 1, "no gap and no repeat");
        assert!(entry.body.is_none() || !self.deleted.contains(&entry.seq), "a body after its deletion");
        self.at = Some(entry.seq);
        if let (protocol::Kind::Deletion, Some(target)) = (&entry.kind, entry.target) {
            self.deleted.push(target);
        }
        if let (Some(writer), Some(n)) = (entry.writer, entry.n)
            && writer == self.writer
        {
            self.acked.insert(n, entry.seq);
        }
        self.received.insert(entry.seq, entry);
    }
}
