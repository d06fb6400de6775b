//! The CQL store while its database is paused, killed, slow, cut off and contended: nothing acknowledged is lost, nothing
//! is stored twice, and every unknown outcome resolves.
//!
//! * [`database`]: a node that these tests may do anything to, behind a proxy;
//! * [`talk`]: owners that append as fast as they are answered, and what is checked of their log afterwards;
//! * [`outages`], [`rivals`], [`accounts`], [`schema`], [`access`]: the cases.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod access;
mod accounts;
mod database;
#[path = "../keyspaces/mod.rs"]
mod keyspaces;
mod outages;
mod rivals;
mod schema;
mod talk;
