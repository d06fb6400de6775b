//! The real binary, seen from outside: by its clients, its operators and its enemies.
//!
//! * [`support`]: a server in a folder of its own, and people who talk to it;
//! * [`crash`]: killed at random moments under load, nothing acknowledged is lost, doubled or reordered;
//! * [`sends`]: what writers and numbers mean;
//! * [`stopped`]: a reader that reads nothing for 100 MB;
//! * [`strangers`]: input that no sane client sends;
//! * [`lifecycle`]: start, stop, TLS;
//! * [`moving`]: from one store into another;
//! * [`admin`]: what operators ask;
//! * [`upkeep`]: what they have removed is gone, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod admin;
mod crash;
mod lifecycle;
mod moving;
mod sends;
mod stopped;
mod strangers;
mod support;
mod upkeep;
