//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`link`]: messages between two nodes.

pub mod link;
pub mod node_name;

pub use node_name::NodeName;
