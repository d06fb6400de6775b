//! Telemetry for the rest of Rookery: the trace context that every message between actors carries, and the process's
//! log. A leaf: it imports nothing of ours.

mod context;
mod logs;

pub use context::TraceContext;
pub use logs::{LogFormat, start as start_logs};
