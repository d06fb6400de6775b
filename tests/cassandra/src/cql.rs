//! The few bytes of the native protocol, version 4, that are needed here.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Version, flags, stream (2), opcode, length of the body (4).
const HEADER: usize = 9;
/// The longest body that the protocol allows, in bytes.
const LONGEST_BODY: usize = 256 << 20;
/// The first byte of a request in version 4; an answer has the highest bit set.
const VERSION: u8 = 0x04;
/// A node that takes longer over a handshake is taken as one that does not answer.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(2);

const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const AUTHENTICATE: u8 = 0x03;
const OPTIONS: u8 = 0x05;
const SUPPORTED: u8 = 0x06;

/// One frame of the native protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    pub(crate) fn request(stream: i16, opcode: u8, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).expect("a body is shorter than 256 MiB");
        let mut bytes = vec![VERSION, 0];
        bytes.extend(stream.to_be_bytes());
        bytes.push(opcode);
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    /// The next frame, or none at the end of the connection.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER];
        match from.read_exact(&mut bytes[..1]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        from.read_exact(&mut bytes[1..])?;
        let length = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) as usize;
        if bytes[0] & 0x7f != VERSION || length > LONGEST_BODY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame of version 4"));
        }
        bytes.resize(HEADER + length, 0);
        from.read_exact(&mut bytes[HEADER..])?;
        Ok(Some(Self(bytes)))
    }

    /// What ties an answer to its request.
    pub(crate) fn stream(&self) -> i16 {
        i16::from_be_bytes([self.0[2], self.0[3]])
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.0[4]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How a node greets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    Ready,
    WantsPassword,
}

/// Connects, asks what the node can do and starts a session.
pub(crate) fn handshake(address: SocketAddr) -> io::Result<Greeting> {
    let mut socket = TcpStream::connect_timeout(&address, HANDSHAKE_PATIENCE)?;
    socket.set_read_timeout(Some(HANDSHAKE_PATIENCE))?;
    let mut ask = |opcode, body: &[u8]| {
        socket.write_all(Frame::request(0, opcode, body).bytes())?;
        Frame::read(&mut socket)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let unexpected =
        |frame: &Frame| io::Error::other(format!("answered with opcode {:#04x}", frame.opcode()));
    let supported = ask(OPTIONS, &[])?;
    if supported.opcode() != SUPPORTED {
        return Err(unexpected(&supported));
    }
    // A map of strings with one entry; lengths are two bytes.
    let started = ask(STARTUP, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0")?;
    match started.opcode() {
        READY => Ok(Greeting::Ready),
        AUTHENTICATE => Ok(Greeting::WantsPassword),
        _ => Err(unexpected(&started)),
    }
}
