//! A node from start to stop, in the order of assembly.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actors::{Actors, World};
use anyhow::{Context, Result};
use cluster::Cluster;
use gateway::{
    Frames, Gateway, GatewayParts,
    auth::Auth,
    rest::{Health, RestParts, router},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{office::Office, server::AdminServer},
    cli::say,
    config::Config,
    fleet::Fleet,
    members::{self, Door},
    metrics::Metrics,
    settings,
    stores::Opened,
    world::{SystemChance, SystemClock},
};

/// Between two looks at whether the cluster still serves.
const READY_LOOK: Duration = Duration::from_millis(50);
/// From the signal to the end of everything that has not ended by itself.
const STOP: Duration = Duration::from_secs(15);
/// The part of it that rooms have to move to other servers.
const ROOMS_STOP: Duration = Duration::from_secs(5);
/// The part of it that clients have to say goodbye and requests to end.
const CLIENTS_STOP: Duration = Duration::from_secs(8);

/// Serves until a signal says stop.
///
/// # Errors
/// When something can't be opened. What was opened before it is closed.
pub(crate) async fn serve(mut config: Config) -> Result<()> {
    let mut signals = Signals::listen()?;
    config.listen.settle(free_port)?;
    let opened = Opened::open(&config).await?;
    let _lock = opened.lock(&config)?;
    let store = opened.store();
    let (clock, chance) = (Arc::new(SystemClock), Arc::new(SystemChance));
    let door = Door::new(&config.cluster, &*clock)?;
    let world = World {
        clock: clock.clone(),
        chance: chance.clone(),
        store: store.clone(),
        encode: Arc::new(Frames),
        peers: door.as_ref().map(Door::peers),
        settings: Arc::new(settings::actors(&config)),
    };
    let actors = Actors::start(world).await.context("the actors do not start")?;
    let (rooms, users) = (actors.rooms.clone(), actors.users.clone());
    let auth =
        Auth::start(store.clone(), clock.clone(), chance.clone(), settings::auth(&config.auth)?).await?;
    let auth = Arc::new(auth);
    let (health, tasks, stop) = (Health::default(), TaskTracker::new(), CancellationToken::new());
    let rest = RestParts {
        store: store.clone(),
        rooms: rooms.clone(),
        users: users.clone(),
        auth: auth.clone(),
        clock: clock.clone(),
        chance: chance.clone(),
        health: health.clone(),
        tasks: tasks.clone(),
        settings: settings::rest(&config),
    };
    let gateway = GatewayParts {
        rooms: rooms.clone(),
        users: users.clone(),
        identifier: auth.clone(),
        router: router(rest),
        clock: clock.clone(),
        chance: chance.clone(),
        settings: settings::sockets(&config)?,
    };
    let gateway = Gateway::start(gateway).await?;
    let cluster = match door {
        Some(door) => Some(door.join(&config, &actors, clock.clone(), chance.clone()).await?),
        None => None,
    };
    let fleet = Fleet {
        rooms: rooms.clone(),
        users,
        cluster: cluster.clone(),
        public: settings::public_url(&config.listen),
        stop: CancellationToken::new(),
    };
    let leaving = fleet.stop.clone();
    let seen = fleet.clone();
    let metrics = Metrics::new(gateway.counters(), opened.clone(), Box::new(move || seen.sight()));
    let metrics = Arc::new(metrics);
    let office =
        Office { store: store.clone(), auth, clock, chance, rooms: rooms.clone(), fleet: Some(fleet) };
    let admin =
        AdminServer { office, metrics, health: health.clone(), tasks: tasks.clone(), stop: stop.clone() };
    open_admin(&admin, &config).await?;
    health.set_started(true);
    // A server that the others don't let in is stopped as any other.
    let is_ready = tokio::select! {
        () = keep_ready(cluster.clone(), &health, &tasks, &leaving) => true,
        () = signals.next() => false,
    };
    if is_ready {
        tracing::info!(address = %gateway.local_addr(), folder = ?config.store.folder, "ready");
        say(&format!("Rookery is at {}/", settings::public_url(&config.listen)))?;
        tokio::select! {
            () = signals.next() => {}
            () = leaving.cancelled() => {}
        }
    }
    leaving.cancel();
    tracing::info!("stopping: another signal ends this at once");
    health.set_ready(false);
    let stopping = async {
        let deadline = Instant::now() + STOP;
        if let Some(cluster) = &cluster {
            members::drain(cluster, &rooms, Instant::now() + ROOMS_STOP).await;
        }
        gateway.stop(CLIENTS_STOP).await;
        stop.cancel();
        tasks.close();
        // What does not end in time is not durable, and was not acknowledged.
        let _ = timeout_at(deadline, tasks.wait()).await;
        actors.stop(deadline.saturating_duration_since(Instant::now())).await;
        if let Some(cluster) = &cluster {
            cluster.leave().await;
        }
        opened.close().await;
    };
    tokio::select! {
        () = stopping => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("another signal: ending at once"),
    }
    Ok(())
}

/// Ready from now on until this server leaves; in a cluster, as long as it says so. Comes back when this server is ready for
/// the first time, or leaves.
async fn keep_ready(
    cluster: Option<Cluster>,
    health: &Health,
    tasks: &TaskTracker,
    leaving: &CancellationToken,
) {
    let Some(cluster) = cluster else { return health.set_ready(true) };
    let (first, was_ready) = tokio::sync::oneshot::channel::<()>();
    let (health, leaving) = (health.clone(), leaving.clone());
    tasks.spawn(async move {
        let mut first = Some(first);
        loop {
            let is_ready = cluster.is_ready();
            health.set_ready(is_ready && !leaving.is_cancelled());
            if is_ready {
                drop(first.take());
            }
            tokio::select! {
                () = leaving.cancelled() => return health.set_ready(false),
                () = tokio::time::sleep(READY_LOOK) => {}
            }
        }
    });
    let _ = was_ready.await; // it is never sent: it ends
}

async fn open_admin(admin: &AdminServer, config: &Config) -> Result<()> {
    if let Some(path) = config.admin_socket() {
        admin.serve_socket(&path)?;
    }
    if let Some(address) = config.admin.address() {
        let address = admin.serve_tcp(address, &config.admin).await?;
        tracing::info!(%address, "health checks and metrics");
    }
    Ok(())
}

/// A free port in the place of port 0: links are made before anything listens. Somebody else may take it in between;
/// then starting fails, and says so.
fn free_port(address: SocketAddr) -> Result<SocketAddr> {
    if address.port() != 0 {
        return Ok(address);
    }
    let listener =
        TcpListener::bind(address).with_context(|| format!("listen.address {address} can't be used"))?;
    Ok(listener.local_addr()?)
}

/// What an operator's signals ask for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
