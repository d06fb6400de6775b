//! chitchat's codec, which it keeps to itself: borrowed through its own socket.
//!
//! chitchat exchanges values with its transport, and only its own UDP socket makes bytes of them. So that socket is aimed at
//! a neighbour on the loopback interface: what it sends there is the encoding, and what the neighbour sends it is decoded. A
//! step takes microseconds, since the kernel delivers at once.
//!
//! The neighbour hears chitchat's socket alone. chitchat's socket can't be made to hear the neighbour alone, so what comes
//! from another address is thrown away after it was decoded; only processes on this host can send it there.

use std::{net::Ipv4Addr, net::SocketAddr, time::Duration};

use anyhow::Context;
use chitchat::{
    ChitchatEnvelope,
    transport::{RecvOutcome, Socket, UdpSocket as Chitchat},
};
use tokio::{net::UdpSocket, time::timeout};

/// A loopback step that takes this long went wrong.
const STEP: Duration = Duration::from_millis(50);

/// Longest message that chitchat makes, in bytes.
const LONGEST: usize = 65_507;

/// One pair of sockets.
pub(crate) struct Codec {
    chitchat: Chitchat,
    chitchat_at: SocketAddr,
    neighbour: UdpSocket,
    neighbour_at: SocketAddr,
    buffer: Box<[u8]>,
}

impl Codec {
    /// Opens a pair.
    ///
    /// # Errors
    /// When there are no sockets left.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let chitchat = Chitchat::open(any).await?;
        let chitchat_at = chitchat.local_addr()?;
        let neighbour = UdpSocket::bind(any).await?;
        neighbour.connect(chitchat_at).await?;
        let neighbour_at = neighbour.local_addr()?;
        Ok(Self { chitchat, chitchat_at, neighbour, neighbour_at, buffer: vec![0; LONGEST].into() })
    }

    /// The bytes of a message.
    ///
    /// # Errors
    /// When the loopback interface failed. The next message is not mistaken for this one.
    pub(crate) async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        let bytes = timeout(STEP, self.encoded(envelope)).await.context("encoding takes too long");
        match bytes.and_then(|bytes| bytes) {
            Ok(bytes) => Ok(bytes),
            Err(error) => self.renew(error).await,
        }
    }

    /// The message of authentic bytes.
    ///
    /// # Errors
    /// When they are no message, or the loopback interface failed. The next message is not mistaken for this one.
    pub(crate) async fn decode(&mut self, bytes: &[u8]) -> anyhow::Result<ChitchatEnvelope> {
        let envelope = timeout(STEP, self.decoded(bytes)).await.context("no message of chitchat");
        match envelope.and_then(|envelope| envelope) {
            Ok(envelope) => Ok(envelope),
            Err(error) => self.renew(error).await,
        }
    }

    async fn encoded(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        self.chitchat.send(self.neighbour_at, envelope).await?;
        let length = self.neighbour.recv(&mut self.buffer).await?;
        Ok(self.buffer[..length].to_vec())
    }

    async fn decoded(&mut self, bytes: &[u8]) -> anyhow::Result<ChitchatEnvelope> {
        self.neighbour.send_to(bytes, self.chitchat_at).await?;
        loop {
            let RecvOutcome { from_addr, envelope, .. } = self.chitchat.recv().await?;
            if from_addr == self.neighbour_at {
                return Ok(envelope);
            }
        }
    }

    /// After a failure something may still be under way between the sockets: takes new ones.
    async fn renew<T>(&mut self, error: anyhow::Error) -> anyhow::Result<T> {
        *self = Self::open().await?;
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    fn envelope() -> ChitchatEnvelope {
        ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster }
    }

    #[tokio::test]
    async fn a_message_is_encoded_and_read_back_also_after_junk() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(envelope()).await.unwrap();
        assert_eq!(codec.decode(&bytes).await.unwrap(), envelope());
        assert!(codec.decode(b"junk").await.is_err());
        assert_eq!(codec.decode(&bytes).await.unwrap(), envelope());
        assert_eq!(codec.encode(envelope()).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn what_others_on_this_host_send_is_not_taken() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(envelope()).await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&bytes, codec.chitchat_at).await.unwrap();
        stranger.send_to(&bytes, codec.neighbour_at).await.unwrap();
        assert!(codec.decode(b"junk").await.is_err(), "the stranger's message is none of ours");
    }
}
