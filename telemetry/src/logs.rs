//! The process's log: lines on standard error, for people or as JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts the log with this filter, such as `info` or `info,rookery_gateway=debug`. Does nothing if a log was started
/// before. A panic becomes a line of it, too.
///
/// # Errors
/// When the filter can't be read.
pub fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    // What the actor library says is for its own authors, and its spans would hang on every line of ours.
    let filter = EnvFilter::builder().parse(format!("ractor=warn,ractor_cluster=warn,{filter}"))?;
    let on_terminal = io::stderr().is_terminal();
    let human = format == LogFormat::Human || format == LogFormat::Auto && on_terminal;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    // Somebody else's log stays in place: the first one wins.
    let _ = if human {
        lines.with_ansi(on_terminal).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(place, reason, "panicked");
    }));
    Ok(())
}
