//! The door: accepts, speaks TLS and HTTP, and tells an upgrade from a request. Everything that a stranger can make it
//! wait for has a deadline, and waits in a task of its own.

mod address;
mod upgrade;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::upgrade::{Refusal, Upgrade};
use crate::{
    ClientAddress, Counters, SocketSettings,
    limits::{Addresses, Permit},
    session::{self, Arrival, Shared},
    stream::Transport,
    tls::Certificates,
};

/// Where sockets are opened; everything else is the router's.
pub const SOCKET_PATH: &str = "/v1/socket";

/// Bytes of a request's headers, and of what is read ahead.
const HEADER_BYTES: usize = 8 * 1024;

/// Rest after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Deadline of hyper's half of an upgrade, which only writes the response.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything behind the door.
pub(crate) struct Door {
    pub(crate) shared: Arc<Shared>,
    pub(crate) router: Router,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) connections: Arc<Addresses>,
    pub(crate) unidentified: Arc<Addresses>,
    pub(crate) tasks: TaskTracker,
    /// No more connections, no more requests on those that are open.
    pub(crate) stop: CancellationToken,
    /// The time for that is over.
    pub(crate) abort: CancellationToken,
}

/// A connection that was let in, whatever became of it.
struct Guest {
    counters: Arc<Counters>,
    address: IpAddr,
    /// Proxies are not counted; the sockets of their clients are.
    permit: Option<Permit>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.counters.connections.leave();
    }
}

/// Listens, with a backlog that a reconnect storm does not overflow.
pub(crate) fn listen(settings: &SocketSettings) -> io::Result<TcpListener> {
    let address = settings.listen;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

impl Door {
    /// Accepts until it is stopped.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "can't accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Dropping the socket turns it away.
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let counters = &self.shared.counters;
        let Some(guest) = self.guest(peer.ip().to_canonical()) else {
            counters.turned_away.add(1);
            return;
        };
        if let Err(error) = prepare(&socket, &self.shared.settings) {
            tracing::debug!(%error, "the connection was gone at once");
            return;
        }
        let serving = self.clone().serve(socket, Arc::new(guest));
        let abort = self.abort.clone();
        self.tasks.spawn(async move { abort.run_until_cancelled(serving).await });
    }

    fn guest(&self, address: IpAddr) -> Option<Guest> {
        let Shared { settings, counters, .. } = &*self.shared;
        if counters.connections.get() >= settings.max_connections as u64 {
            return None;
        }
        let is_proxy = settings.trusted_proxies.iter().any(|proxy| proxy.contains(address));
        let permit = if is_proxy { None } else { Some(self.connections.admit(address)?) };
        counters.connections.enter();
        Some(Guest { counters: counters.clone(), address, permit })
    }

    async fn serve(self: Arc<Self>, socket: TcpStream, guest: Arc<Guest>) {
        let Some(certificates) = self.certificates.clone() else {
            return self.serve_http(socket, guest).await;
        };
        let handshake = certificates.accept(socket);
        match tokio::time::timeout(self.shared.settings.tls_handshake, handshake).await {
            Ok(Ok(stream)) => self.serve_http(stream, guest).await,
            Ok(Err(_)) | Err(_) => self.shared.counters.turned_away.add(1),
        }
    }

    async fn serve_http<S>(self: Arc<Self>, stream: S, guest: Arc<Guest>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stop = self.stop.clone();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.shared.settings.header_timeout)
            .max_buf_size(HEADER_BYTES);
        let service = service_fn(move |request| self.clone().answer(request, guest.clone()));
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        // What goes wrong on a connection is its client's business.
        let _ = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        guest: Arc<Guest>,
    ) -> Result<Response<Body>, Infallible> {
        let proxies = &self.shared.settings.trusted_proxies;
        let address = address::client(guest.address, request.headers(), proxies);
        if request.uri().path() == SOCKET_PATH {
            return Ok(self.upgrade(request, address, guest).unwrap_or_else(|refusal| {
                self.shared.counters.upgrades_refused.add(1);
                refusal.response()
            }));
        }
        request.extensions_mut().insert(ClientAddress(address));
        self.router.clone().oneshot(request.map(Body::new)).await
    }

    /// Answers an upgrade, and serves the socket that comes of it.
    fn upgrade(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        address: IpAddr,
        guest: Arc<Guest>,
    ) -> Result<Response<Body>, Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "the server stops"));
        }
        let on_upgrade = hyper::upgrade::on(&mut request);
        let request = request.map(drop);
        let upgrade = upgrade::judge(&request, &self.shared.settings)?;
        let full = Refusal(StatusCode::TOO_MANY_REQUESTS, "too many sockets that are not identified");
        let permit = self.unidentified.admit(address).ok_or(full)?;
        let through_proxy = match guest.permit {
            Some(_) => None,
            None => {
                let full = Refusal(StatusCode::TOO_MANY_REQUESTS, "too many sockets");
                Some(self.connections.admit(address).ok_or(full)?)
            }
        };
        let Upgrade { response, encoding, ticket } = upgrade;
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            if let Some((transport, early)) = Box::pin(transport(on_upgrade)).await {
                let arrival = Arrival { transport, early, encoding, ticket, permit };
                session::run(shared, arrival).await;
            }
            drop((guest, through_proxy));
        });
        Ok(response.map(|()| Body::empty()))
    }
}

/// The socket itself, out of hyper's hands, with what hyper had read of it.
async fn transport(on_upgrade: OnUpgrade) -> Option<(Transport, bytes::Bytes)> {
    let upgraded = tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await.ok()?.ok()?;
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Some((Transport::Plain(Arc::new(parts.io.into_inner())), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    Some((Transport::Tls(Box::new(parts.io.into_inner())), parts.read_buf))
}

fn prepare(socket: &TcpStream, settings: &SocketSettings) -> io::Result<()> {
    // With Nagle's algorithm a small frame waits some 40 ms for the one before to be acknowledged.
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_send_buffer_size(settings.send_buffer)
}

/// Whether an accept failed because of whom it would have accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
