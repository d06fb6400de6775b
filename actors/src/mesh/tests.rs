//! Several nodes in one process, over one store: the real actors, links that lose and cut, views that differ, and clients
//! that do what sessions do. Time is tokio's own, paused: it jumps to the next thing that happens.

mod net;
mod rooms;
mod storm;
mod users;
