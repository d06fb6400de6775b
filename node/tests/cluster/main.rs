//! Three nodes of the real binary beside one database, while one of them fails.
//!
//! * [`support`]: nodes, people on all of them who talk without a pause, and what must hold in the end;
//! * [`order`]: nobody fails;
//! * [`failing`]: a node is killed or frozen;
//! * [`coming_and_going`]: nodes are started and stopped as operators do it;
//! * [`strangers`]: nodes that are not to be let in.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "../black_box/support.rs"]
#[allow(dead_code, reason = "the other tests of the binary use the rest")]
mod server;

mod coming_and_going;
mod failing;
mod order;
mod strangers;
mod support;
