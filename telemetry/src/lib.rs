//! Telemetry for the rest of Rookery: the trace context that every message between actors carries. A leaf: it imports
//! nothing of ours.

mod context;

pub use context::TraceContext;
