//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`gossip`]: which nodes there are, and how they fare, over sealed datagrams;
//! * [`placement`]: which of them a room or a user lives on;
//! * [`presence`]: who is online, as every node knows it;
//! * [`link`]: messages between two nodes;
//! * [`cluster`]: all of it put together, and [`peering`]: what rooms and users ask of it.

pub mod cluster;
pub mod gossip;
pub mod link;
mod mix;
pub mod node_name;
pub mod peering;
pub mod placement;
pub mod presence;

pub use cluster::{Cluster, ClusterSettings};
pub use node_name::NodeName;
pub use peering::Peering;
