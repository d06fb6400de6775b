//! Apache Cassandra for tests: real nodes, started from published jars, that always end with their test process.
//!
//! In reading order:
//!
//! * [`cluster`]: one to three nodes that a test starts, pauses, kills and restarts;
//! * [`process`]: one node's process, from its configuration to the moment it answers;
//! * [`config`]: what a node is configured with;
//! * [`block`]: loopback addresses and a folder that no other test process has;
//! * [`keeper`]: the thread that starts the processes, and why they end with it;
//! * [`proxy`]: a relay in front of a node that loses, delays and holds what it is told to;
//! * [`faults`]: what it does to which frame;
//! * [`cql`]: the few bytes of the native protocol that are needed here;
//! * [`error`]: what can go wrong.
//!
//! ```text
//! 127.77.0.0/24, locked by this test process      127.77.1.0/24, by another
//! ├── .1:29042  first node, the seed              └── …
//! ├── .2:29042  second node
//! ├── .3:29042  third node
//! └── .101:29042, .102:29042, …  proxies before them
//! ```
//!
//! A test that needs no more than a database takes [`shared`] and a keyspace of its own. A test that stops nodes or
//! configures them starts its own:
//!
//! ```no_run
//! use rookery_test_cassandra::{Cluster, ClusterOptions};
//!
//! let options = ClusterOptions { nodes: 3, yaml: "write_request_timeout: 500ms".into(), ..Default::default() };
//! let cluster = Cluster::start(options)?;
//! cluster.node(2).kill()?;
//! // … a driver, connected to cluster.contact_points() …
//! cluster.node(2).restart()?;
//! cluster.await_up()?;
//! # Ok::<(), rookery_test_cassandra::HarnessError>(())
//! ```
//!
//! What a client makes of a lost answer is tried with a [`Proxy`]:
//!
//! ```no_run
//! use rookery_test_cassandra::{Fault, Proxy, Request, Rule, shared};
//!
//! let proxy = Proxy::start(shared().expect("a node").node(0).address())?;
//! // … a driver, connected to proxy.address() …
//! proxy.inject(Rule::new(Fault::LoseAnswer).of(&[Request::Batch]).containing("a value of it"));
//! // … the store writes; the node has done it, the driver's connections are cut …
//! assert_eq!(proxy.counts().answers_lost, 1);
//! # Ok::<(), rookery_test_cassandra::HarnessError>(())
//! ```
//!
//! Everything here blocks; a test on a single-threaded runtime that has something else to do calls it through
//! `spawn_blocking`. A node takes 900 MB of memory and about 7 s to start. Linux only: the addresses are any of
//! 127.0.0.0/8, and the nodes are bound to their test process by `setpriv --pdeathsig`.

mod block;
mod cluster;
mod config;
mod cql;
mod error;
mod faults;
mod keeper;
mod process;
mod proxy;

pub use cluster::{Cluster, ClusterOptions, Node, shared};
pub use error::HarnessError;
pub use faults::{Counts, Fault, Request, Rule};
pub use proxy::Proxy;
