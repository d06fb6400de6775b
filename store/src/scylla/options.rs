//! How a ScyllaDB or Cassandra store is reached.

use std::{path::PathBuf, time::Duration};

/// How copies are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So many copies on any nodes: for one data centre only.
    Simple(u32),
    /// So many copies in each data centre.
    Network(Vec<(String, u32)>),
}

/// Who we are to the database.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Role name.
    pub user: String,
    /// Never logged.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Encrypted connections. The server's certificate is always verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM certificates of the authorities that sign the servers' certificates.
    pub ca_file: PathBuf,
    /// PEM certificate chain to show to the servers, with [`Self::key_file`].
    pub certificate_file: Option<PathBuf>,
    /// PEM private key.
    pub key_file: Option<PathBuf>,
    /// The host name that every server's certificate has to be for. Without it, each has to be for its address.
    pub server_name: Option<String>,
}

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScyllaOptions {
    /// `host` or `host:port` of some nodes; the others are learned from them.
    pub contact_points: Vec<String>,
    /// Where the tables are: letters, digits and underscores.
    pub keyspace: String,
    /// For a keyspace that is made.
    pub replication: Replication,
    /// Requests stay in it. Without one, all nodes are taken for near.
    pub local_data_centre: Option<String>,
    /// Without them no log-in is tried.
    pub credentials: Option<Credentials>,
    /// Without it connections are in the clear.
    pub tls: Option<TlsOptions>,
    /// Connections to each node of Cassandra (with ScyllaDB: to each shard), at least 1.
    pub connections: usize,
    /// Appends that are under way at once at most, at least 1; fewer while the database is slow.
    pub appends_in_flight: usize,
    /// For a connection to come about.
    pub connect_timeout: Duration,
    /// For a conditional write; longer than the database's own.
    pub conditional_timeout: Duration,
    /// For everything else.
    pub request_timeout: Duration,
}

impl Default for ScyllaOptions {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "rookery".to_owned(),
            replication: Replication::Simple(1),
            local_data_centre: None,
            credentials: None,
            tls: None,
            connections: 1,
            appends_in_flight: 64,
            connect_timeout: Duration::from_secs(2),
            conditional_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(2),
        }
    }
}
