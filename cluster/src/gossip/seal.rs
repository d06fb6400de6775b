//! How gossip is sealed: a message becomes datagrams that only members of the same cluster can make, read, or repeat.
//!
//! chitchat trusts whatever arrives, and one forged datagram ends its task. So every datagram proves by itself that it comes
//! from a member, before anything of it is kept:
//!
//! ```text
//!  0        1       2            10        18          26     27      28
//!  version  key id  incarnation  counter   timestamp   index  count   sealed part, 16-byte tag
//!           of the  of the       of        in ms       of this
//!           secret  sender       datagrams since 1970  fragment
//! ```
//!
//! Numbers are little-endian. The nonce is incarnation, counter and timestamp: an incarnation is 64 random bits, drawn when
//! a sender starts, and its counter never repeats. Authenticated beside the part are the whole header, the cluster's id and
//! the address the datagram is sent to, so that it can't be turned to another node or cluster.
//!
//! In reading order: [`Sealer`] makes datagrams; [`Opener`] takes them apart, with [`replay`] to refuse repetition and
//! [`assembly`] to join fragments. Both are plain state: time and chance are arguments.

pub(crate) mod assembly;
pub(crate) mod replay;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use chacha20poly1305::{
    XNonce,
    aead::{Aead, Payload},
};
use protocol::Millis;

use super::secrets::Keys;
use assembly::{Assembly, Fragment};
use replay::Replay;

const VERSION: u8 = 1;

const HEADER: usize = 28;

const TAG: usize = 16;

/// Longest datagram, in bytes: passes every network that carries IPv6 without being cut by it.
pub(crate) const DATAGRAM: usize = 1_200;

const PART: usize = DATAGRAM - HEADER - TAG;

/// Most fragments of one message: room for chitchat's 65,507 bytes.
pub(crate) const FRAGMENTS: usize = 64;

/// How far the clocks of two nodes may differ, and how long a datagram may be under way, in milliseconds.
pub(crate) const WINDOW_MS: u64 = 30_000;

/// Why a datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// No datagram of this format: too short, too long, or with impossible fragment numbers.
    Malformed,
    /// Of a version that this node doesn't speak.
    Version,
    /// Sealed with a secret that this node doesn't have.
    UnknownKey,
    /// More than 30 s older or newer than this node's clock.
    Stale,
    /// Not made by a member for this node: forged, damaged, of another cluster, or sent to another address.
    Forged,
    /// Seen before, or too far behind its sender's newest.
    Replayed,
    /// A fragment that doesn't fit those of the same message.
    Mismatched,
    /// No room: too many senders or too many unfinished messages.
    Crowded,
    /// Opened, but not a message that chitchat reads.
    Unreadable,
    /// Good, but chitchat was busy and its queue full.
    Overrun,
}

impl Rejected {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::Version,
        Self::UnknownKey,
        Self::Stale,
        Self::Forged,
        Self::Replayed,
        Self::Mismatched,
        Self::Crowded,
        Self::Unreadable,
        Self::Overrun,
    ];

    /// As metrics name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::UnknownKey => "unknown_key",
            Self::Stale => "stale",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Mismatched => "mismatched",
            Self::Crowded => "crowded",
            Self::Unreadable => "unreadable",
            Self::Overrun => "overrun",
        }
    }
}

/// A message of more than 64 fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a gossip message of {0} bytes is too long")]
pub(crate) struct TooLong(usize);

/// The part of a datagram that is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    key: u8,
    incarnation: u64,
    counter: u64,
    at: Millis,
    index: u8,
    count: u8,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION;
        bytes[1] = self.key;
        bytes[2..10].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.counter.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.at.to_le_bytes());
        bytes[26] = self.index;
        bytes[27] = self.count;
        bytes
    }

    fn read(datagram: &[u8]) -> Result<(Self, &[u8]), Rejected> {
        let (header, sealed) = datagram.split_first_chunk::<HEADER>().ok_or(Rejected::Malformed)?;
        if header[0] != VERSION {
            return Err(Rejected::Version);
        }
        let number = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[from..from + 8]);
            u64::from_le_bytes(bytes)
        };
        let (index, count) = (header[26], header[27]);
        let read = Self {
            key: header[1],
            incarnation: number(2),
            counter: number(10),
            at: number(18),
            index,
            count,
        };
        let plausible = index < count && usize::from(count) <= FRAGMENTS && read.counter >= u64::from(index);
        let sized = sealed.len() > TAG && datagram.len() <= DATAGRAM;
        if plausible && sized { Ok((read, sealed)) } else { Err(Rejected::Malformed) }
    }

    fn nonce(&self) -> XNonce {
        let mut nonce = XNonce::default();
        nonce.copy_from_slice(&self.bytes()[2..26]);
        nonce
    }

    /// What is authenticated beside the part.
    fn associated(&self, cluster: &str, to: SocketAddr) -> Vec<u8> {
        let mut bytes = self.bytes().to_vec();
        match to.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => bytes.extend(ip.octets()),
            std::net::IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(to.port().to_le_bytes());
        bytes.extend(cluster.as_bytes());
        bytes
    }
}

/// Seals what this node sends.
#[derive(Debug)]
pub(crate) struct Sealer {
    incarnation: u64,
    counter: u64,
}

impl Sealer {
    /// A sender with 64 fresh random bits for its name.
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, counter: 0 }
    }

    /// The datagrams of a message to the node at `to`.
    ///
    /// # Errors
    /// When the message is longer than 64 fragments hold.
    pub(crate) fn seal(
        &mut self,
        keys: &Keys,
        to: SocketAddr,
        now: Millis,
        message: &[u8],
    ) -> Result<Vec<Vec<u8>>, TooLong> {
        let parts = message.chunks(PART);
        let count = u8::try_from(parts.len()).ok().filter(|&count| usize::from(count) <= FRAGMENTS);
        let count = count.ok_or(TooLong(message.len()))?;
        Ok(parts
            .zip(0..)
            .filter_map(|(part, index)| self.datagram(keys, to, now, (index, count), part))
            .collect())
    }

    fn datagram(
        &mut self,
        keys: &Keys,
        to: SocketAddr,
        now: Millis,
        (index, count): (u8, u8),
        part: &[u8],
    ) -> Option<Vec<u8>> {
        let key = keys.sealing();
        let header = Header {
            key: key.id,
            incarnation: self.incarnation,
            counter: self.counter,
            at: now,
            index,
            count,
        };
        self.counter += 1;
        let aad = header.associated(&keys.cluster, to);
        let sealed = key.cipher.encrypt(&header.nonce(), Payload { msg: part, aad: &aad }).ok()?;
        Some([&header.bytes()[..], &sealed].concat())
    }
}

/// Opens what others send to this node.
#[derive(Debug)]
pub(crate) struct Opener {
    me: SocketAddr,
    replay: Replay,
    assembly: Assembly,
}

impl Opener {
    /// Opens what was sent to the address `me`.
    pub(crate) fn new(me: SocketAddr) -> Self {
        Self { me, replay: Replay::default(), assembly: Assembly::default() }
    }

    /// Takes a datagram, and gives the message that it completes.
    ///
    /// # Errors
    /// Why the datagram was refused. A refused datagram changes nothing, unless it was [`Rejected::Mismatched`] or
    /// [`Rejected::Crowded`]: those are known to come from a member, and won't be taken a second time.
    pub(crate) fn open(
        &mut self,
        keys: &Keys,
        now: Millis,
        datagram: &[u8],
    ) -> Result<Option<Vec<u8>>, Rejected> {
        let (header, sealed) = Header::read(datagram)?;
        let key = keys.opening(header.key).ok_or(Rejected::UnknownKey)?;
        if header.at.abs_diff(now) > WINDOW_MS {
            return Err(Rejected::Stale);
        }
        let aad = header.associated(&keys.cluster, self.me);
        let opened = key.cipher.decrypt(&header.nonce(), Payload { msg: sealed, aad: &aad });
        let part = opened.map_err(|_| Rejected::Forged)?;
        self.replay.take(header.incarnation, header.counter, header.at, now)?;
        let message = (header.incarnation, header.counter - u64::from(header.index));
        self.assembly.take(Fragment { message, index: header.index, count: header.count, part }, now)
    }
}
