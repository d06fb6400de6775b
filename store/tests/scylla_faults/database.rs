//! A node that tests may pause, kill and cut off, one test at a time.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use rookery_store::scylla::{ScyllaOptions, ScyllaStore, migrate};
use rookery_test_cassandra::{Cluster, ClusterOptions, Node, Proxy};
use tokio::sync::{Mutex, MutexGuard};

/// The node with its proxy, for the test that holds it.
pub(crate) struct Database {
    cluster: &'static Cluster,
    pub(crate) proxy: Proxy,
    _alone: MutexGuard<'static, ()>,
}

impl Database {
    pub(crate) async fn take() -> Self {
        static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let alone = ALONE.lock().await;
        let options = ClusterOptions { behind_proxies: true, ..ClusterOptions::default() };
        let cluster = CLUSTER.get_or_init(|| Cluster::start(options).expect("a database"));
        let proxy = Proxy::start(cluster.contact_points()[0]).expect("a proxy");
        Self { cluster, proxy, _alone: alone }
    }

    pub(crate) fn node(&self) -> Node<'static> {
        self.cluster.node(0)
    }

    /// A new keyspace, seen through the proxy.
    pub(crate) async fn options(&self, keyspace: &str) -> ScyllaOptions {
        let options = ScyllaOptions {
            contact_points: vec![self.proxy.address().to_string()],
            keyspace: keyspace.to_owned(),
            conditional_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            ..ScyllaOptions::default()
        };
        let patient = ScyllaOptions { request_timeout: Duration::from_secs(20), ..options.clone() };
        migrate(&patient, 1, &mut |_| {}).await.expect("tables");
        options
    }

    pub(crate) async fn store(&self, keyspace: &str) -> (ScyllaStore, ScyllaOptions) {
        let options = self.options(keyspace).await;
        (ScyllaStore::open(&options).await.expect("a store"), options)
    }
}
