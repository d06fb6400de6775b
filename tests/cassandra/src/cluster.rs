//! One to three nodes that a test starts, pauses, kills and restarts.

use std::{net::SocketAddr, sync::OnceLock};

use crate::{
    HarnessError,
    block::Block,
    config::Identity,
    keeper::Keeper,
    process::{Installation, Process, START_PATIENCE, await_that},
    proxy,
};

/// The most nodes of a cluster: three replicas are what tests are about, and each node takes 900 MB.
const MOST_NODES: usize = 3;

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes, 1 to 3.
    pub nodes: usize,
    /// Lines for every node's `cassandra.yaml`. They replace the harness's own lines of the same key.
    ///
    /// With `authenticator: PasswordAuthenticator` clients sign in as `cassandra` with the password `cassandra`. With
    /// these, where the file holds a key in PKCS #8 and its certificates, both PEM, clients must use TLS:
    ///
    /// ```yaml
    /// client_encryption_options:
    ///   enabled: true
    ///   optional: false
    ///   ssl_context_factory: {class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}
    ///   keystore: /path/to/node.pem
    /// ```
    pub yaml: String,
    /// Whether the nodes tell drivers the addresses of their proxies instead of their own. A driver learns all nodes'
    /// addresses from one of them, and would go past the proxies otherwise. The test starts a [`Proxy`](crate::Proxy)
    /// before each node and gives the driver the proxies' addresses.
    pub behind_proxies: bool,
}

impl Default for ClusterOptions {
    /// One node, nothing unusual.
    fn default() -> Self {
        Self { nodes: 1, yaml: String::new(), behind_proxies: false }
    }
}

/// A running cluster. Its processes and its data are gone when it is dropped, and the processes when the test process
/// ends in whatever way.
#[derive(Debug)]
pub struct Cluster {
    processes: Vec<Process>,
    installation: Installation,
    keeper: Keeper,
    /// Dropped after the processes have ended, which [`Drop::drop`] sees to.
    _block: Block,
}

impl Cluster {
    /// Starts the nodes one after another, and returns when all answer CQL and see each other.
    ///
    /// # Errors
    ///
    /// When Java or the jars are missing and can't be fetched, or a node does not start; the error has the end of its
    /// log.
    ///
    /// # Panics
    ///
    /// When another number of nodes is asked for than 1 to 3.
    pub fn start(options: ClusterOptions) -> Result<Self, HarnessError> {
        let ClusterOptions { nodes, yaml, behind_proxies } = options;
        assert!((1..=MOST_NODES).contains(&nodes), "a cluster has 1 to {MOST_NODES} nodes, not {nodes}");
        let installation = Installation::find()?;
        let hosts = 1..=u8::try_from(nodes).expect("at most three");
        let block = Block::take(*hosts.end())?;
        let prepare = |(index, host)| {
            let address = block.address(host);
            let told_address = if behind_proxies { block.address(host + proxy::DISTANCE) } else { address };
            let identity = Identity { index, nodes, address, told_address, seed: block.address(1) };
            Process::prepare(identity, block.folder().join(format!("node{host}")), &yaml)
        };
        let processes = hosts.enumerate().map(prepare).collect::<Result<_, _>>()?;
        let keeper = Keeper::start().map_err(HarnessError::io("can't start a thread"))?;
        let cluster = Self { processes, installation, keeper, _block: block };
        for index in 0..nodes {
            cluster.node(index).restart()?;
        }
        cluster.await_up()?;
        Ok(cluster)
    }

    /// A node, by its number from 0.
    ///
    /// # Panics
    ///
    /// When there is none of that number.
    pub fn node(&self, index: usize) -> Node<'_> {
        Node { cluster: self, process: &self.processes[index] }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (0..self.processes.len()).map(|index| self.node(index))
    }

    /// Where the nodes answer CQL; all on the same port.
    pub fn contact_points(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(Process::address).collect()
    }

    /// Waits until all nodes that run and are not paused see each other as running.
    ///
    /// A node that was restarted answers before the others use it again, and one that was paused is avoided for some
    /// seconds more.
    ///
    /// # Errors
    ///
    /// When they do not within three minutes.
    pub fn await_up(&self) -> Result<(), HarnessError> {
        let active: Vec<&Process> = self.processes.iter().filter(|process| process.is_active()).collect();
        for one in &active {
            for other in active.iter().filter(|other| other.address() != one.address()) {
                if !await_that(START_PATIENCE, || one.sees(other))? {
                    return Err(one.not_ready(format!("does not see {}", other.address())));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &self.processes {
            // One that can't be killed ends with the keeper.
            let _ = process.kill();
        }
    }
}

/// A node of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    cluster: &'a Cluster,
    process: &'a Process,
}

impl Node<'_> {
    /// Where it answers CQL.
    pub fn address(self) -> SocketAddr {
        self.process.address()
    }

    /// Makes it stand still, with its connections open: what a client sees of a node that hangs. Returns when all its
    /// threads do.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(self) -> Result<(), HarnessError> {
        self.process.pause()
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(self) -> Result<(), HarnessError> {
        self.process.resume()
    }

    /// Ends it as a loss of power would; returns when it is gone. What it wrote to files stays. Nothing happens to a
    /// node that is gone already.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(self) -> Result<(), HarnessError> {
        self.process.kill()
    }

    /// Starts it again with the data it had, and returns when it answers CQL; a node that runs is killed before. The
    /// other nodes may not use it yet: [`Cluster::await_up`] waits for that.
    ///
    /// # Errors
    ///
    /// When it does not come to answer; the error has the end of its log.
    pub fn restart(self) -> Result<(), HarnessError> {
        let Cluster { processes, installation, keeper, .. } = self.cluster;
        self.process.kill()?;
        let log_lengths = processes.iter().map(Process::log_length).collect();
        self.process.start(keeper, installation, log_lengths)?;
        self.process.await_ready()
    }

    /// The last lines it logged, over all its lives.
    pub fn log_tail(self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}

/// The one-node cluster that all tests of a process share, started when the first asks for it. It is never dropped; its
/// process ends with the test process.
///
/// Each test takes a keyspace of its own, and none stops the node.
///
/// # Errors
///
/// As [`Cluster::start`], the same for all who ask.
pub fn shared() -> Result<&'static Cluster, &'static HarnessError> {
    static SHARED: OnceLock<Result<Cluster, HarnessError>> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(ClusterOptions::default())).as_ref()
}
