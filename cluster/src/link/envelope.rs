//! What two nodes say to each other, as bytes.
//!
//! A frame is `version u8 · kind u8 · to u64 · rest`; numbers are little-endian. `to` is the number that its receiver gave to
//! the session: what belongs to a session that is over matches none, and is dropped. A greeting is read the same way in
//! all versions, so that two nodes that don't understand each other can say so.
//!
//! ```text
//! greeting   to (0: not known yet) · number u64 · name u8 + text · build u8 + text
//! pulse      to · sent_at u64 µs · echo u64 µs · held u32 µs · consumed u64 bytes · answer u8
//! batch      to · { class u8 (1: droppable, 2: traced) · [trace 25] · length u32 · payload }*
//! ```

use actors::peers::Worth;
use bytes::{Buf, BufMut, Bytes};
use telemetry::TraceContext;

/// What this build speaks. Raised when a frame changes its layout.
pub(crate) const VERSION: u8 = 1;

/// Version, kind and receiver's number.
pub(crate) const HEADER: usize = 10;

/// Class, trace context and length: at most so much goes in front of a payload.
pub(crate) const ENTRY: usize = 1 + TraceContext::LENGTH + 4;

/// A frame is never longer: the session reads 2 MiB at once at most, and all behind a frame waits for it.
pub(crate) const LONGEST_FRAME: usize = 1024 * 1024;

/// The longest message, in bytes.
pub const LONGEST_PAYLOAD: usize = LONGEST_FRAME - HEADER - ENTRY;

const GREETING: u8 = 1;
const PULSE: u8 = 2;
const BATCH: u8 = 3;
const DROPPABLE: u8 = 1;
const TRACED: u8 = 2;

/// The first words on a session: who speaks, and how it wants to be addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The number that the other side gave to this session; 0 while it isn't known.
    pub(crate) to: u64,
    /// The number under which the sender reads frames of this session.
    pub(crate) number: u64,
    /// Text form of the sender's name.
    pub(crate) name: String,
    /// The sender's build, for the log.
    pub(crate) build: String,
}

/// A heartbeat that carries what has been consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) to: u64,
    /// The sender's clock, in microseconds since its links started.
    pub(crate) sent_at: u64,
    /// `sent_at` of the last pulse that the sender heard, 0 for none.
    pub(crate) echo: u64,
    /// Microseconds since it heard that.
    pub(crate) held: u32,
    /// Bytes of batches of this session that the sender has handled.
    pub(crate) consumed: u64,
    /// Whether a pulse is wanted at once.
    pub(crate) answer: bool,
}

/// A frame, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Greeting(Greeting),
    /// A greeting in a version that this build does not speak.
    Stranger {
        version: u8,
        greeting: Greeting,
    },
    Pulse(Pulse),
    /// The entries are read one by one with [`next_entry`].
    Batch {
        to: u64,
        entries: Bytes,
    },
}

/// What can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a frame of {0} bytes is cut short")]
    Short(usize),
    #[error("a frame of unknown version {0}")]
    Version(u8),
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a greeting without a name")]
    Text,
}

impl Greeting {
    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let mut frame = header(version, GREETING, self.to, 64);
        frame.put_u64_le(self.number);
        for text in [&self.name, &self.build] {
            let length = text.len().min(usize::from(u8::MAX));
            frame.put_u8(u8::try_from(length).unwrap_or(u8::MAX));
            frame.put_slice(&text.as_bytes()[..length]);
        }
        frame
    }

    fn decode(to: u64, mut rest: Bytes) -> Result<Self, Unreadable> {
        need(&rest, 8)?;
        let number = rest.get_u64_le();
        let name = text(&mut rest)?;
        let build = text(&mut rest)?;
        Ok(Self { to, number, name, build })
    }
}

impl Pulse {
    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let mut frame = header(version, PULSE, self.to, 29);
        frame.put_u64_le(self.sent_at);
        frame.put_u64_le(self.echo);
        frame.put_u32_le(self.held);
        frame.put_u64_le(self.consumed);
        frame.put_u8(u8::from(self.answer));
        frame
    }

    fn decode(to: u64, mut rest: Bytes) -> Result<Self, Unreadable> {
        need(&rest, 29)?;
        Ok(Self {
            to,
            sent_at: rest.get_u64_le(),
            echo: rest.get_u64_le(),
            held: rest.get_u32_le(),
            consumed: rest.get_u64_le(),
            answer: rest.get_u8() != 0,
        })
    }
}

/// Reads a frame, as one who speaks `ours`. The payloads of a batch stay where they are.
pub(crate) fn decode(frame: Vec<u8>, ours: u8) -> Result<Frame, Unreadable> {
    let mut rest = Bytes::from(frame);
    need(&rest, HEADER)?;
    let (version, kind, to) = (rest.get_u8(), rest.get_u8(), rest.get_u64_le());
    match kind {
        GREETING => {
            let greeting = Greeting::decode(to, rest)?;
            Ok(if version == ours {
                Frame::Greeting(greeting)
            } else {
                Frame::Stranger { version, greeting }
            })
        }
        _ if version != ours => Err(Unreadable::Version(version)),
        PULSE => Pulse::decode(to, rest).map(Frame::Pulse),
        BATCH => Ok(Frame::Batch { to, entries: rest }),
        other => Err(Unreadable::Kind(other)),
    }
}

/// The beginning of a batch, with room for `capacity` bytes of entries.
pub(crate) fn batch(version: u8, to: u64, capacity: usize) -> Vec<u8> {
    header(version, BATCH, to, capacity)
}

/// Bytes that a message takes in a batch.
pub(crate) fn entry_length(payload: usize, trace: &TraceContext) -> usize {
    1 + if trace.is_some() { TraceContext::LENGTH } else { 0 } + 4 + payload
}

/// Appends a message to a batch. `payload` is at most [`LONGEST_PAYLOAD`] long.
pub(crate) fn put_entry(frame: &mut Vec<u8>, worth: Worth, trace: &TraceContext, payload: &[u8]) {
    let class = match worth {
        Worth::Needed => 0,
        Worth::Droppable => DROPPABLE,
    };
    if trace.is_some() {
        frame.put_u8(class | TRACED);
        frame.put_slice(&trace.to_bytes());
    } else {
        frame.put_u8(class);
    }
    frame.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
}

/// Takes the next message out of a batch; `None` at its end.
pub(crate) fn next_entry(entries: &mut Bytes) -> Result<Option<(TraceContext, Bytes)>, Unreadable> {
    if entries.is_empty() {
        return Ok(None);
    }
    let class = entries.get_u8();
    let mut trace = TraceContext::NONE;
    if class & TRACED != 0 {
        need(entries, TraceContext::LENGTH)?;
        let mut bytes = [0; TraceContext::LENGTH];
        entries.copy_to_slice(&mut bytes);
        trace = TraceContext::from_bytes(&bytes);
    }
    need(entries, 4)?;
    let length = entries.get_u32_le() as usize;
    need(entries, length)?;
    Ok(Some((trace, entries.split_to(length))))
}

fn header(version: u8, kind: u8, to: u64, rest: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + rest);
    frame.put_u8(version);
    frame.put_u8(kind);
    frame.put_u64_le(to);
    frame
}

fn need(rest: &Bytes, bytes: usize) -> Result<(), Unreadable> {
    if rest.len() < bytes { Err(Unreadable::Short(rest.len())) } else { Ok(()) }
}

fn text(rest: &mut Bytes) -> Result<String, Unreadable> {
    need(rest, 1)?;
    let length = usize::from(rest.get_u8());
    need(rest, length)?;
    String::from_utf8(rest.split_to(length).to_vec()).map_err(|_| Unreadable::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn traced() -> TraceContext {
        TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap()
    }

    #[test]
    fn a_batch_is_read_without_copying() {
        let mut frame = batch(VERSION, 7, 100);
        put_entry(&mut frame, Worth::Needed, &TraceContext::NONE, b"one");
        put_entry(&mut frame, Worth::Droppable, &traced(), b"");
        let length = HEADER + entry_length(3, &TraceContext::NONE) + entry_length(0, &traced());
        assert_eq!(frame.len(), length);
        let within = frame.as_ptr_range();
        let Ok(Frame::Batch { to: 7, mut entries }) = decode(frame, VERSION) else { panic!("a batch") };
        let (trace, payload) = next_entry(&mut entries).unwrap().unwrap();
        assert!(!trace.is_some() && &payload[..] == b"one" && within.contains(&payload.as_ptr()));
        let (trace, payload) = next_entry(&mut entries).unwrap().unwrap();
        assert!(trace == traced() && payload.is_empty());
        assert_eq!(next_entry(&mut entries), Ok(None));
    }

    #[test]
    fn greetings_and_pulses_are_read_back_and_another_version_is_named() {
        let greeting = Greeting { to: 1, number: 2, name: "a.3".into(), build: "0.1".into() };
        assert_eq!(decode(greeting.encode(VERSION), VERSION), Ok(Frame::Greeting(greeting.clone())));
        let stranger = Frame::Stranger { version: 9, greeting: greeting.clone() };
        assert_eq!(decode(greeting.encode(9), VERSION), Ok(stranger));
        let pulse = Pulse { to: 1, sent_at: 2, echo: 3, held: 4, consumed: 5, answer: true };
        assert_eq!(decode(pulse.encode(VERSION), VERSION), Ok(Frame::Pulse(pulse)));
        assert_eq!(decode(pulse.encode(9), VERSION), Err(Unreadable::Version(9)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, kind in 0_u8..4) {
            let mut frame = vec![VERSION, kind];
            frame.extend(bytes);
            if let Ok(Frame::Batch { mut entries, .. }) = decode(frame, VERSION) {
                while let Ok(Some(_)) = next_entry(&mut entries) {}
            }
        }
    }
}
