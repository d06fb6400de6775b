//! Frame ↔ bytes. The WebSocket subprotocol chooses the encoding; the types are the same.

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    Body, ClientFrame, ErrorCode, Incarnation, RoomId, ServerFrame, WriterId,
    client::{HistoryFrom, RequestId},
    entry::BodyError,
    limits,
};

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON in text frames, the default.
    Json,
    /// MessagePack maps in binary frames.
    MessagePack,
}

impl Encoding {
    /// Both, for those who encode once per encoding.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The WebSocket subprotocol that stands for it.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "rookery.v1.json",
            Self::MessagePack => "rookery.v1.msgpack",
        }
    }

    /// The encoding that a subprotocol stands for.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.subprotocol() == name)
    }

    /// The bytes of a server's frame.
    pub fn encode_server(self, frame: &ServerFrame) -> Vec<u8> {
        self.encode(frame)
    }

    /// The bytes of a client's frame.
    pub fn encode_client(self, frame: &ClientFrame) -> Vec<u8> {
        self.encode(frame)
    }

    fn encode<T: Serialize>(self, frame: &T) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(frame).expect("frames have string keys and finite numbers"),
            Self::MessagePack => rmp_serde::to_vec_named(frame).expect("frames have known lengths"),
        }
    }

    /// Reads a client's frame. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// Says whether the frame was too large, of an unknown kind, or malformed, and which request it was if that much
    /// could be read.
    pub fn decode_client(self, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
        if bytes.len() > limits::FRAME_BYTES {
            return Err(DecodeError::TooLarge);
        }
        let frame = self.decode(bytes).map_err(|reason| self.explain(bytes, reason, is_client_kind))?;
        if largest_counter(&frame) > limits::MAX_COUNTER {
            let reason = format!("counters, positions and request ids are at most {}", limits::MAX_COUNTER);
            return Err(self.explain(bytes, reason, is_client_kind));
        }
        Ok(frame)
    }

    /// Reads a server's frame. Never panics, whatever the bytes. There is no size limit: clients trust their server.
    ///
    /// # Errors
    /// As [`Self::decode_client`].
    pub fn decode_server(self, bytes: &[u8]) -> Result<ServerFrame, DecodeError> {
        self.decode(bytes).map_err(|reason| self.explain(bytes, reason, is_server_kind))
    }

    fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Self::MessagePack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
                reader.set_max_depth(limits::BODY_DEPTH + 16);
                let frame = T::deserialize(&mut reader).map_err(|error| error.to_string())?;
                match IgnoredAny::deserialize(&mut reader) {
                    Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(frame),
                    Ok(_) | Err(_) => Err("bytes after the frame".to_owned()),
                }
            }
        }
    }

    fn explain(self, bytes: &[u8], reason: String, is_known: fn(&str) -> bool) -> DecodeError {
        let Ok(Head { kind, id }) = self.decode(bytes) else {
            return DecodeError::Invalid { id: None, reason };
        };
        let id = id.filter(|id| *id <= limits::MAX_COUNTER);
        if kind == "send"
            && let Ok(send) = self.decode::<SendHead>(bytes)
            && (1..=limits::MAX_COUNTER).contains(&send.n)
        {
            return send.explain(reason);
        }
        if is_known(&kind) {
            DecodeError::Invalid { id, reason }
        } else {
            DecodeError::Unsupported { id, kind }
        }
    }
}

/// What a `send` can be answered by, even if the rest of it can't be read.
#[derive(Deserialize)]
struct SendHead {
    room: RoomId,
    writer: WriterId,
    n: u64,
    #[serde(default)]
    body: Option<serde_json::Value>,
}

impl SendHead {
    fn explain(self, reason: String) -> DecodeError {
        let Self { room, writer, n, body } = self;
        let (code, reason) = match body.as_ref().map(Body::new) {
            Some(Err(error @ BodyError::TooLarge)) => (ErrorCode::TooLarge, error.to_string()),
            _ => (ErrorCode::Invalid, reason),
        };
        DecodeError::Send { room, writer, n, code, reason }
    }
}

/// The largest number in a frame that somebody may count on from.
fn largest_counter(frame: &ClientFrame) -> u64 {
    let life = |incarnation: Option<Incarnation>| incarnation.map_or(0, |Incarnation(life)| life);
    match frame {
        ClientFrame::Identify(identify) => {
            let positions = identify.resume.values().flat_map(|room| [room.after, life(room.incarnation)]);
            positions.chain(identify.id).max().unwrap_or(0)
        }
        ClientFrame::Open(open) => open.id.max(open.after.unwrap_or(0)).max(life(open.incarnation)),
        ClientFrame::Close(close) => close.id,
        ClientFrame::Send(send) => send.n.max(send.target.unwrap_or(0)),
        ClientFrame::History(history) => history.id.max(match history.from {
            Some(HistoryFrom::Before(seq) | HistoryFrom::After(seq) | HistoryFrom::Around(seq)) => seq,
            None => 0,
        }),
        ClientFrame::Read(read) => read.seq,
        ClientFrame::Refresh(refresh) => refresh.id,
        ClientFrame::Ping(ping) => ping.id.unwrap_or(0),
        ClientFrame::Typing(_) | ClientFrame::Watch(_) | ClientFrame::Unwatch(_) | ClientFrame::Status(_) => {
            0
        }
    }
}

/// What can be said of a frame whose kind or fields are not understood.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: Option<RequestId>,
}

/// A frame that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`limits::FRAME_BYTES`].
    #[error("a frame is at most {} bytes", limits::FRAME_BYTES)]
    TooLarge,
    /// Of a kind that this version does not know.
    #[error("unknown frame type {kind:?}")]
    Unsupported {
        /// The request's number, if it had one.
        id: Option<RequestId>,
        /// The kind.
        kind: String,
    },
    /// A `send` whose room and counter could be read, and not the rest: it can be refused by its name.
    #[error("{reason}")]
    Send {
        /// Where.
        room: RoomId,
        /// Whose counter.
        writer: WriterId,
        /// Which send.
        n: u64,
        /// `too_large` or `invalid`.
        code: ErrorCode,
        /// What is wrong, for people.
        reason: String,
    },
    /// Not a frame, or one with wrong fields.
    #[error("{reason}")]
    Invalid {
        /// The request's number, if it could be read.
        id: Option<RequestId>,
        /// What is wrong, for people.
        reason: String,
    },
}

const CLIENT_KINDS: &[&str] = &[
    "identify", "open", "close", "send", "history", "read", "typing", "watch", "unwatch", "status",
    "refresh", "ping",
];

const SERVER_KINDS: &[&str] = &[
    "welcome",
    "opened",
    "closed",
    "entries",
    "gap",
    "reset",
    "heads",
    "ack",
    "refused",
    "page",
    "read_mark",
    "typing",
    "presence",
    "status",
    "refreshed",
    "pong",
    "goodbye",
    "error",
];

/// The kinds of client frames that this version knows.
pub fn client_kinds() -> &'static [&'static str] {
    CLIENT_KINDS
}

/// The kinds of server frames that this version knows.
pub fn server_kinds() -> &'static [&'static str] {
    SERVER_KINDS
}

fn is_client_kind(kind: &str) -> bool {
    CLIENT_KINDS.contains(&kind)
}

fn is_server_kind(kind: &str) -> bool {
    SERVER_KINDS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_unsupported_and_keeps_its_number() {
        let error = Encoding::Json.decode_client(br#"{"type":"dance","id":7}"#).unwrap_err();
        assert_eq!(error, DecodeError::Unsupported { id: Some(7), kind: "dance".into() });
    }

    #[test]
    fn a_known_kind_with_wrong_fields_is_invalid_and_keeps_its_number() {
        let error = Encoding::Json.decode_client(br#"{"type":"open","id":7,"room":5}"#).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { id: Some(7), .. }), "{error:?}");
    }

    #[test]
    fn a_send_that_is_too_large_or_broken_can_still_be_refused_by_its_name() {
        let id = "0".repeat(32);
        let send = |body: &str| {
            format!(r#"{{"type":"send","room":"{id}","writer":"{id}","n":4,"kind":"message","body":{body}}}"#)
        };
        let large = send(&format!(r#"{{"text":"{}"}}"#, "x".repeat(limits::BODY_BYTES)));
        for (frame, expected) in [(large, ErrorCode::TooLarge), (send("7"), ErrorCode::Invalid)] {
            let error = Encoding::Json.decode_client(frame.as_bytes()).unwrap_err();
            assert!(matches!(error, DecodeError::Send { n: 4, code, .. } if code == expected), "{error:?}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let frame = Encoding::Json.decode_client(br#"{"type":"ping","id":1,"mood":"good"}"#).unwrap();
        assert_eq!(frame, ClientFrame::Ping(crate::client::Ping { id: Some(1) }));
    }

    #[test]
    fn a_counter_beyond_what_every_json_reader_keeps_exact_is_refused() {
        for (frame, id) in [
            (r#"{"type":"ping","id":9007199254740992}"#, None),
            (
                r#"{"type":"history","id":4,"room":"0000000000000000000000000000000a","from":{"after":18446744073709551615}}"#,
                Some(4),
            ),
            (
                r#"{"type":"identify","id":1,"resume":{"0000000000000000000000000000000a":{"after":9007199254740992}}}"#,
                Some(1),
            ),
        ] {
            let error = Encoding::Json.decode_client(frame.as_bytes()).unwrap_err();
            assert!(
                matches!(error, DecodeError::Invalid { id: told, .. } if told == id),
                "{frame}: {error:?}"
            );
        }
        assert!(Encoding::Json.decode_client(br#"{"type":"ping","id":9007199254740991}"#).is_ok());
    }

    #[test]
    fn bytes_after_a_frame_are_refused_in_both_encodings() {
        for encoding in Encoding::ALL {
            let frame = encoding.encode_client(&ClientFrame::Ping(crate::client::Ping { id: Some(1) }));
            for rest in [&[0xc1][..], &[0x01], &[0xd9], b"{}"] {
                let error = encoding.decode_client(&[&frame[..], rest].concat()).unwrap_err();
                assert!(matches!(error, DecodeError::Invalid { .. }), "{encoding:?} {rest:?}");
            }
        }
    }

    #[test]
    fn a_frame_nested_a_thousand_deep_is_refused_in_both_encodings() {
        let json = [b"[".repeat(1000), b"]".repeat(1000)].concat();
        assert!(Encoding::Json.decode_client(&json).is_err());
        let packed = [[0x91u8].repeat(60_000), vec![0xc0]].concat();
        assert!(Encoding::MessagePack.decode_client(&packed).is_err());
    }
}
