//! How connections come to be: an own listener and an own dialer, both with TLS and a time for everything.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor_cluster::NodeServerMessage;
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    actor::LinkMessage,
    shared::Shared,
    state::ConnectionId,
    stream::{Guarded, Wire, prepare},
    tls::{ANY_NODE, Identity},
};
use crate::NodeName;

/// Accepted connections at a time, those of links included: several times the nodes of a large cluster. The next ones wait
/// in the kernel's queue.
const ACCEPTED: usize = 256;

/// After an accept that failed: usually for want of file descriptors, which needs time.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts connections until the links stop.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(ACCEPTED));
    let numbers = AtomicU64::new(1);
    let stop = shared.stop.clone();
    while let Some(Ok(place)) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            Some(Ok((socket, from))) => {
                let connection = numbers.fetch_add(2, Ordering::Relaxed);
                let welcome = welcome(Arc::clone(&shared), connection, socket, from, place);
                shared.tasks.spawn(stop.clone().run_until_cancelled_owned(welcome));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection of another node was not accepted");
                tokio::time::sleep(BREATH).await;
            }
            None => break,
        }
    }
}

async fn welcome(
    shared: Arc<Shared>,
    connection: ConnectionId,
    socket: TcpStream,
    from: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let times = shared.settings.times;
    let acceptor = TlsAcceptor::from(shared.settings.tls.current().server);
    let handshake = async {
        prepare(&socket, times.close)?;
        in_time(times.connect, acceptor.accept(socket)).await
    };
    match handshake.await {
        Ok(stream) => {
            let stream = guard(&shared, connection, stream.into(), Some(place));
            open(&shared, stream, true);
        }
        Err(error) => {
            shared.totals.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%from, %error, "a connection was refused: its other end is not proven to be a node");
        }
    }
}

/// Dials a node, in a task.
pub(crate) fn spawn_dial(
    shared: &Arc<Shared>,
    connection: ConnectionId,
    name: NodeName,
    address: SocketAddr,
) {
    let (shared, stop) = (Arc::clone(shared), shared.stop.clone());
    let tasks = shared.tasks.clone();
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        match dial(&shared, &name, address).await {
            Ok(stream) => {
                let stream = guard(&shared, connection, stream, None);
                open(&shared, stream, false);
            }
            Err(error) => {
                shared.totals.dials_failed.fetch_add(1, Ordering::Relaxed);
                tracing::info!(peer = %name, %address, %error, "the node can't be reached");
                shared.tell(LinkMessage::DialFailed(connection));
            }
        }
    }));
}

async fn dial(shared: &Shared, name: &NodeName, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let times = shared.settings.times;
    let socket = in_time(times.connect, TcpStream::connect(address)).await?;
    prepare(&socket, times.close)?;
    // An id of digits alone is no DNS name: such a node needs the certificate for any.
    let server = ServerName::try_from(name.id().to_owned())
        .or_else(|_| ServerName::try_from(ANY_NODE))
        .map_err(io::Error::other)?;
    let connector = TlsConnector::from(shared.settings.tls.current().client);
    let stream = in_time(times.connect, connector.connect(server, socket)).await?;
    Ok(stream.into())
}

async fn in_time<T>(time: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took too long");
    timeout(time, what).await.map_err(late)?
}

fn guard(
    shared: &Shared,
    connection: ConnectionId,
    stream: TlsStream<TcpStream>,
    place: Option<OwnedSemaphorePermit>,
) -> Box<Guarded> {
    let identity = Identity::of(stream.get_ref().1.peer_certificates());
    let wire = Wire::new(connection, identity, place);
    shared.wires.insert(connection, Arc::clone(&wire));
    Box::new(Guarded { stream, wire, stall: shared.settings.times.close })
}

/// Makes a session of it. If the node server is gone, the stream is dropped, and the link actor finds that out.
fn open(shared: &Shared, stream: Box<Guarded>, is_server: bool) {
    if let Some(actors) = shared.actors.get() {
        let _ = actors.server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }
}
