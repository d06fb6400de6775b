//! Several nodes as one system. Sole owner of chitchat and ractor_cluster.
//!
//! In reading order:
//!
//! * [`node_name`]: what a node is called;
//! * [`placement`]: which node a room or a user lives on;
//! * [`presence`]: who is there, known on every node.

mod mix;
pub mod node_name;
pub mod placement;
pub mod presence;

pub use node_name::NodeName;
