//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`placement`]: which node a room or a user lives on.

mod mix;
pub mod node_name;
pub mod placement;

pub use node_name::NodeName;
