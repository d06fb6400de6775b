//! Frames as a socket takes them: WebSocket header and payload in one piece. A server's frames are not masked, so the
//! same bytes serve every socket of one encoding.

use actors::Encode;
use bytes::{BufMut, Bytes, BytesMut};
use protocol::{Encoding, ServerFrame};

/// Final fragment, of this kind.
const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;

/// The longest header of a frame that is not masked.
const HEADER_BYTES: usize = 10;

/// Encodes server frames: text for JSON, binary for MessagePack.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frames;

impl Encode for Frames {
    fn encode(&self, frame: &ServerFrame, encoding: Encoding) -> Bytes {
        let kind = match encoding {
            Encoding::Json => TEXT,
            Encoding::MessagePack => BINARY,
        };
        whole(kind, &encoding.encode_server(frame))
    }
}

fn whole(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_u8(FIN | kind);
    match payload.len() {
        length @ 0..=125 => bytes.put_u8(length as u8),
        length @ 126..=0xffff => {
            bytes.put_u8(126);
            bytes.put_u16(length as u16);
        }
        length => {
            bytes.put_u8(127);
            bytes.put_u64(length as u64);
        }
    }
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Whether one of these whole, unmasked control frames is a close frame. Control frames have short lengths.
pub(crate) fn has_close(mut frames: &[u8]) -> bool {
    while let [kind, length, rest @ ..] = frames {
        if kind & 0xf == CLOSE {
            return true;
        }
        frames = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use protocol::server::Pong;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;

    use super::*;

    #[test]
    fn payloads_of_every_length_class_are_read_back_by_tungstenite() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x10000, 70_000] {
            let payload = vec![b'x'; length];
            let bytes = whole(TEXT, &payload);
            let mut socket = FrameSocket::new(std::io::Cursor::new(bytes.to_vec()));
            let frame = socket.read(None).unwrap().unwrap();
            assert!(frame.header().is_final && frame.header().mask.is_none());
            assert_eq!(frame.into_payload().len(), length);
            assert_eq!(socket.into_inner().1.len(), 0, "nothing is left over");
        }
    }

    #[test]
    fn json_is_text_and_message_pack_is_binary() {
        let frame = ServerFrame::Pong(Pong { id: Some(1), server_time: 2 });
        let json = Frames.encode(&frame, Encoding::Json);
        assert_eq!(json[0], 0x81);
        assert_eq!(&json[2..], br#"{"type":"pong","id":1,"server_time":2}"#);
        let packed = Frames.encode(&frame, Encoding::MessagePack);
        assert_eq!(packed[0], 0x82);
        assert_eq!(&packed[2..], Encoding::MessagePack.encode_server(&frame));
    }

    #[test]
    fn a_close_frame_is_found_behind_other_control_frames() {
        let ping = [0x89, 2, b'h', b'i'];
        let close = [0x88, 2, 0x0f, 0xa0];
        assert!(has_close(&[&ping[..], &close[..]].concat()));
        assert!(!has_close(&[&ping[..], &ping[..]].concat()));
        assert!(!has_close(&[]));
    }
}
