//! This server among others: from the configuration to a cluster that is joined, drained and left.

use std::{path::Path, sync::Arc, time::Duration};

use actors::{Actors, Chance, Clock, Peers};
use anyhow::{Context, Result, bail};
use cluster::{
    Cluster, ClusterSettings, NodeName, Peering,
    gossip::{Load, Role, Secret, Secrets},
    link::{Tls, TlsFiles},
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    config::{self, Config},
    settings,
};

/// Between two looks at whether everything has moved away.
const LOOK: Duration = Duration::from_millis(10);

/// What there is of the cluster before the actors run.
pub(crate) struct Door {
    name: NodeName,
    peering: Arc<Peering>,
}

impl Door {
    /// The door of a server that is one of several; none for one alone.
    pub(crate) fn new(config: &config::Cluster, clock: &dyn Clock) -> Result<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let id = if config.node.is_empty() { host_name()? } else { config.node.clone() };
        // In microseconds, as far as the clock tells: each start is a life of its own.
        let name = NodeName::new(&id, clock.now() * 1_000).context("cluster.node")?;
        let peering = Peering::new(&name);
        Ok(Some(Self { name, peering }))
    }

    /// What the actors ask.
    pub(crate) fn peers(&self) -> Arc<dyn Peers> {
        Arc::clone(&self.peering) as _
    }

    /// Goes in.
    pub(crate) async fn join(
        self,
        config: &Config,
        actors: &Actors,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Result<Cluster> {
        let own = &config.cluster;
        let roles = own.roles.iter().map(|role| match role {
            config::Role::Rooms => Role::Rooms,
            config::Role::Gateway => Role::Gateway,
        });
        let cluster = ClusterSettings {
            gossip: own.gossip(),
            link: own.link(),
            advertise: own.advertise()?,
            seeds: own.seeds.clone(),
            cluster_id: own.id.clone(),
            secrets: secrets(own)?,
            interval: Duration::from_millis(own.interval_ms.into()),
            roles: roles.collect(),
            public: Some(settings::public_url(&config.listen)),
            zone: Some(own.zone.clone()).filter(|zone| !zone.is_empty()),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            tls: tls(own, self.name.id())?,
            clock,
            chance,
            name: self.name,
        };
        let (rooms, users) = (actors.rooms.clone(), actors.users.clone());
        let busy = Box::new(move || Load {
            sessions: users.sockets() as u64,
            users: users.homed() as u64,
            rooms: rooms.active() as u64,
            busy: 0,
        });
        let joined = Cluster::join(cluster, self.peering, actors.inbound.clone(), busy).await;
        joined.context("cluster.enabled is true")
    }
}

/// Moves every room to the others, as far as there is time.
pub(crate) async fn drain(cluster: &Cluster, rooms: &actors::Rooms, deadline: Instant) {
    cluster.drain();
    let moved = async {
        while rooms.active() > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout_at(deadline, moved).await.is_err() {
        tracing::warn!(rooms = rooms.active(), "rooms are left: the others claim them");
    }
}

fn secrets(config: &config::Cluster) -> Result<Secrets> {
    let current = secret("cluster.secret_file", &config.secret_file)?;
    let mut secrets = Secrets::only(current);
    if !config.previous_secret_file.as_os_str().is_empty() {
        secrets.also = Some(secret("cluster.previous_secret_file", &config.previous_secret_file)?);
    }
    Ok(secrets)
}

/// The file's content without white space around it. Its name on the wire is a byte of its hash.
fn secret(key: &str, file: &Path) -> Result<Secret> {
    let text = std::fs::read(file).with_context(|| format!("{key} is {}", file.display()))?;
    let bytes = text.trim_ascii();
    Secret::new(blake3::hash(bytes).as_bytes()[0], bytes)
        .with_context(|| format!("{key} is {}", file.display()))
}

fn tls(config: &config::Cluster, id: &str) -> Result<Tls> {
    if !config.development_tls.as_os_str().is_empty() {
        tracing::warn!(folder = ?config.development_tls, "links use certificates that the servers made by themselves");
        return Tls::development(&config.development_tls, id).context("cluster.development_tls");
    }
    let files =
        TlsFiles { certificate: config.certificate.clone(), key: config.key.clone(), ca: config.ca.clone() };
    Tls::from_files(files).context("cluster.certificate, cluster.key and cluster.ca")
}

fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    if name.is_empty() {
        bail!("cluster.node is empty, and the host has no name");
    }
    Ok(name)
}
