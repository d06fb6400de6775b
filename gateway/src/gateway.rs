//! The gateway as a whole: starts, counts, stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actors::{Chance, Clock, Rooms, Users};
use axum::Router;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Counters, SocketSettings,
    heartbeat::{Uptime, Wheel},
    limits::Addresses,
    listener::{self, Door},
    session::{Identifier, Roster, Shared},
    tls::{Certificates, TlsError},
};

/// How long those that are cut at the end of a stop have to go.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What a gateway is made of.
pub struct GatewayParts {
    /// Every room.
    pub rooms: Rooms,
    /// Every connected user.
    pub users: Users,
    /// Who judges credentials.
    pub identifier: Arc<dyn Identifier>,
    /// Answers everything that is not a socket.
    pub router: Router,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// Bounds and times.
    pub settings: SocketSettings,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate can't be used.
    #[error("can't speak TLS: {0}")]
    Tls(#[from] TlsError),
}

/// A gateway that runs. Stops with [`Self::stop`].
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
    /// Clocks and watchers, which outlive the sessions.
    background: TaskTracker,
    background_stop: CancellationToken,
}

impl Gateway {
    /// Listens.
    ///
    /// # Errors
    /// When the address is in use or the certificate is no good.
    #[expect(clippy::unused_async, reason = "tells callers that it needs a runtime")]
    pub async fn start(parts: GatewayParts) -> Result<Self, StartError> {
        let GatewayParts { rooms, users, identifier, router, clock, chance, settings } = parts;
        let at = settings.listen;
        let listen = |source| StartError::Listen { address: at, source };
        let certificates = settings.tls.clone().map(Certificates::load).transpose()?;
        let listener = listener::listen(&settings).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let uptime = Uptime::start();
        let wheel = Wheel::new(uptime);
        let connections = Addresses::new(settings.max_connections_per_address);
        let unidentified = Addresses::new(settings.max_unidentified_per_address);
        let (settings, counters, roster) = (Arc::new(settings), Arc::default(), Arc::<Roster>::default());
        let shared =
            Shared { rooms, users, identifier, clock, chance, settings, counters, uptime, wheel, roster };
        let gateway = Self {
            address,
            shared: Arc::new(shared),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            background: TaskTracker::new(),
            background_stop: CancellationToken::new(),
        };
        gateway.start_background(certificates.clone());
        let door = Door {
            shared: gateway.shared.clone(),
            router,
            certificates,
            connections,
            unidentified,
            tasks: gateway.tasks.clone(),
            stop: gateway.stop.clone(),
            abort: gateway.abort.clone(),
        };
        gateway.tasks.spawn(Arc::new(door).accept(listener));
        Ok(gateway)
    }

    fn start_background(&self, certificates: Option<Arc<Certificates>>) {
        let stop = || self.background_stop.clone();
        self.background.spawn(self.shared.wheel.clone().turn(stop()));
        if let Some(certificates) = certificates {
            self.background.spawn(certificates.watch(stop()));
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// Lets nobody in any more, tells every client when to come back, and waits for them to go: at most this long.
    pub async fn stop(self, deadline: Duration) {
        self.stop.cancel();
        self.tasks.close();
        self.shared.roster.stop(self.shared.settings.return_spread);
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some connections did not end in time: cutting them");
            self.abort.cancel();
            self.shared.roster.kill();
            // Whatever is left after it holds nothing that matters.
            let _ = tokio::time::timeout(LAST_MOMENT, self.tasks.wait()).await;
        }
        self.background_stop.cancel();
        self.background.close();
        self.background.wait().await;
    }
}

/// A gateway that is dropped without being stopped ends at once.
impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
        self.shared.roster.kill();
        self.background_stop.cancel();
    }
}
