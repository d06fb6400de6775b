//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`gossip`]: which nodes there are, and how they fare, over sealed datagrams;
//! * [`placement`]: which of them a room or a user lives on;
//! * [`presence`]: who is online, as every node knows it;
//! * [`link`]: messages between two nodes.

pub mod gossip;
pub mod link;
mod mix;
pub mod node_name;
pub mod placement;
pub mod presence;

pub use node_name::NodeName;
