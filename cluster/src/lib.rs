//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`gossip`]: which nodes there are, and what each says of itself.

pub mod gossip;
pub mod node_name;

pub use node_name::NodeName;
