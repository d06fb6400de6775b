//! Nodes are what a test makes of them.

use std::net::TcpStream;

use rookery_test_cassandra::{Cluster, ClusterOptions};

#[test]
fn a_node_answers_until_its_cluster_is_dropped() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let address = cluster.node(0).address();
    TcpStream::connect(address).unwrap();
    drop(cluster);
    TcpStream::connect(address).unwrap_err();
}
