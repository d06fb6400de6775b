//! Where the server is, and a WebSocket to it.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use protocol::{ClientFrame, DecodeError, Encoding, ServerFrame};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{client::IntoClientRequest, http::HeaderValue},
};

pub use tokio_tungstenite::tungstenite::Message;

/// Longest wait for a connection or a handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection, plain or over TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server's address and how to trust it. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

impl Server {
    /// The server at an `http://` URL.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn at(url: &str) -> Result<Self> {
        let rest =
            url.strip_prefix("http://").with_context(|| format!("{url} does not begin with http://"))?;
        let (host, port) = host_and_port(rest, 80)?;
        Ok(Self { host, port, tls: None })
    }

    /// The server at an `https://` URL, trusted if its certificate is signed by one in this PEM file.
    ///
    /// # Errors
    /// When it is no such URL, or the file holds no certificate.
    pub fn at_tls(url: &str, roots: &Path) -> Result<Self> {
        let rest =
            url.strip_prefix("https://").with_context(|| format!("{url} does not begin with https://"))?;
        let (host, port) = host_and_port(rest, 443)?;
        let mut store = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(roots).context("the root certificates can't be read")?
        {
            store.add(certificate.context("not a certificate")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { host, port, tls: Some(Arc::new(config)) })
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A fresh connection.
    ///
    /// # Errors
    /// When there is none within five seconds.
    pub async fn connect(&self) -> Result<Box<dyn Stream>> {
        let connecting = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port));
        let stream = timeout(CONNECT, connecting).await.context("no connection in time")??;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        Ok(Box::new(timeout(CONNECT, handshake).await.context("no TLS handshake in time")??))
    }
}

fn host_and_port(rest: &str, default: u16) -> Result<(String, u16)> {
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '@', '?']) {
        bail!("{rest} is not a host with an optional port");
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Ok((host.to_owned(), port.parse().context("no port")?)),
        _ => Ok((authority.to_owned(), default)),
    }
}

/// What comes out of a socket.
#[derive(Debug)]
pub enum Received {
    /// A frame.
    Frame(Box<ServerFrame>),
    /// A frame that this client can't read.
    Unreadable(DecodeError),
    /// A ping or pong.
    Alive,
    /// The end, with the close code and its reason if there was a close frame.
    End(Option<(u16, String)>),
}

/// One WebSocket. Sends what it is told, also what no sane client would.
pub struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    encoding: Encoding,
}

impl Socket {
    /// Connects and upgrades. `query` is what follows the path, such as `?ticket=…`.
    ///
    /// # Errors
    /// When the server is not there or refuses the upgrade.
    pub async fn connect(server: &Server, encoding: Encoding, query: &str) -> Result<Self> {
        let stream = server.connect().await?;
        let mut request = format!("ws://{}/v1/socket{query}", server.authority()).into_client_request()?;
        let subprotocol = HeaderValue::from_static(encoding.subprotocol());
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        let (stream, _) =
            timeout(CONNECT, client_async(request, stream)).await.context("no upgrade in time")??;
        Ok(Self { stream, encoding })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<()> {
        let bytes = self.encoding.encode_client(frame);
        let message = match self.encoding {
            Encoding::Json => Message::text(String::from_utf8(bytes)?),
            Encoding::MessagePack => Message::binary(bytes),
        };
        self.send_raw(message).await
    }

    /// Sends a WebSocket message as it is.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_raw(&mut self, message: Message) -> Result<()> {
        Ok(self.stream.send(message).await?)
    }

    /// Writes bytes past the WebSocket layer: headers may lie, frames may end early.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        let stream = self.stream.get_mut();
        stream.write_all(bytes).await?;
        Ok(stream.flush().await?)
    }

    /// Waits for the next thing. Safe to drop.
    pub async fn receive(&mut self) -> Received {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => self.decode(text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => self.decode(&bytes),
            Some(Ok(Message::Close(frame))) => {
                Received::End(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Received::Alive,
            Some(Err(_)) | None => Received::End(None),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Received {
        match self.encoding.decode_server(bytes) {
            Ok(frame) => Received::Frame(Box::new(frame)),
            Err(error) => Received::Unreadable(error),
        }
    }

    /// Says goodbye, and waits a little for the answer.
    pub async fn close(mut self) {
        let closing = async {
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        // A server that does not answer is left alone: the connection ends with this value.
        let _ = timeout(Duration::from_secs(1), closing).await;
    }
}
