//! One client's socket, as cheap as it gets: frames are counted by what stands in them, not parsed.

use std::{io, net::SocketAddr, ops::Range, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use protocol::WriterId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Characters of a message's text: when it was sent, by whom, and filling.
pub(crate) const TEXT_CHARS: usize = 120;
const TIME_CHARS: usize = 16;
const SENDER_CHARS: usize = 8;
/// Numbers that fit into them.
const NUMBERS: u128 = 100_000_000;

/// The kind of a close frame.
pub(crate) const CLOSE: u8 = 8;

/// What stands before a message's text, and nowhere else.
const TEXT: &[u8] = br#"{"text":""#;

/// Where a socket belongs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// An access token; the bare server wants none.
    pub(crate) token: String,
    /// 32 hex digits.
    pub(crate) room: String,
}

/// Connects, says who it is, and waits until it hears the room. Gives what was read behind that as well.
pub(crate) async fn connect(address: SocketAddr, place: &Place) -> Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await.context("no connection")?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte, because frames may follow; it is not measured.
        let byte = stream.read_u8().await.context("the server hangs up")?;
        answer.push(byte);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", String::from_utf8_lossy(&answer));
    let Place { token, room } = place;
    let mut frames = frame(&format!(r#"{{"type":"identify","token":"{token}"}}"#));
    frames.extend(frame(&format!(r#"{{"type":"open","id":1,"room":"{room}"}}"#)));
    stream.write_all(&frames).await?;
    let rest = opened(&mut stream).await?;
    Ok((stream, rest))
}

/// Reads up to the answer that the room is open. Gives what was read behind it.
async fn opened(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the server hangs up");
        while let Some((kind, payload)) = first_frame(&bytes) {
            let (end, text) = (payload.end, String::from_utf8_lossy(&bytes[payload]).into_owned());
            bytes.drain(..end);
            if text.starts_with(r#"{"type":"opened""#) {
                return Ok(bytes);
            }
            let is_bad = kind == CLOSE
                || [r#"{"type":"error""#, r#"{"type":"closed""#].iter().any(|bad| text.starts_with(bad));
            ensure!(!is_bad, "the room does not open: {text}");
        }
    }
}

/// A client's text frame, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = text.len();
    let mut bytes = vec![0x81];
    match u16::try_from(length) {
        Ok(short @ 0..=125) => bytes.push(0x80 | short as u8),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// One who says something.
#[derive(Debug)]
pub(crate) struct Mouth {
    stream: Arc<TcpStream>,
    room: String,
    writer: WriterId,
    number: u32,
    said: u64,
}

impl Mouth {
    /// Its writer and number are new, because a room may still hold what an earlier crowd has said.
    pub(crate) fn new(stream: Arc<TcpStream>, place: &Place) -> Result<Self> {
        let writer = u128::from_be_bytes(random()?);
        let number = u32::try_from(writer % NUMBERS)?;
        Ok(Self { stream, room: place.room.clone(), writer: WriterId::from_u128(writer), number, said: 0 })
    }

    /// What tells its messages from those of others.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Says `count` messages, sent at `now`.
    pub(crate) async fn say(&mut self, now: u64, count: usize) -> Result<()> {
        let mut frames = Vec::with_capacity(count * 400);
        let filling = "x".repeat(TEXT_CHARS - TIME_CHARS - SENDER_CHARS);
        for _ in 0..count {
            self.said += 1;
            frames.extend(frame(&format!(
                r#"{{"type":"send","room":"{}","writer":"{}","n":{},"kind":"message","body":{{"text":"{now:016}{:08}{filling}"}}}}"#,
                self.room, self.writer, self.said, self.number,
            )));
        }
        write_all(&self.stream, &frames).await
    }
}

/// From the kernel, because two runs on one folder must not share a writer.
fn random() -> Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => bail!("the connection has ended"),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A server's frame: its kind, and where its payload lies.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (kind, short) = (bytes.first()? & 0xf, *bytes.get(1)?);
    let (header, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= header + length).then_some((kind, header..header + length))
}

/// A message in a frame: when it was sent, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) sent_at: u64,
    pub(crate) by: u32,
}

/// Finds the messages of a frame.
pub(crate) struct Scanner(memmem::Finder<'static>);

impl Default for Scanner {
    fn default() -> Self {
        Self(memmem::Finder::new(TEXT))
    }
}

impl Scanner {
    /// How many there are.
    pub(crate) fn count(&self, payload: &[u8]) -> u64 {
        self.0.find_iter(payload).count() as u64
    }

    /// Each of them.
    pub(crate) fn each<'a>(&'a self, payload: &'a [u8]) -> impl Iterator<Item = Heard> + 'a {
        self.0.find_iter(payload).filter_map(|at| {
            let text = payload.get(at + TEXT.len()..)?;
            let by = text.get(TIME_CHARS..TIME_CHARS + SENDER_CHARS)?;
            Some(Heard { sent_at: number(text.get(..TIME_CHARS)?), by: u32::try_from(number(by)).ok()? })
        })
    }
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_a_frame_of_entries() {
        let text = |at: u64, by: u32| format!(r#"{{"seq":1,"body":{{"text":"{at:016}{by:08}xx"}}}}"#);
        let payload = format!(r#"{{"type":"entries","entries":[{},{}]}}"#, text(17, 3), text(18, 4));
        let scanner = Scanner::default();
        assert_eq!(scanner.count(payload.as_bytes()), 2);
        let heard: Vec<_> = scanner.each(payload.as_bytes()).map(|heard| (heard.sent_at, heard.by)).collect();
        assert_eq!(heard, [(17, 3), (18, 4)]);
    }

    #[test]
    fn a_frame_is_whole_or_not_there() {
        let bytes = [0x81, 2, b'h', b'i', 0x89, 0, 0x81, 5];
        assert_eq!(first_frame(&bytes), Some((1, 2..4)));
        assert_eq!(first_frame(&bytes[4..]), Some((9, 2..2)));
        assert_eq!(first_frame(&bytes[6..]), None);
    }
}
