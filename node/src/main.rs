//! The binary `rookery`: reads the configuration, puts the parts together, starts and stops them. Decides nothing.
//!
//! In reading order:
//!
//! * `cli`: the commands;
//! * `config`: what an operator may choose, and `settings`: the same in the words of the parts;
//! * `serve`: a node from start to stop, in the order of assembly, and `stores`: what it keeps things in;
//! * `members`: this server among others, and `fleet`: what operators and metrics see of them;
//! * `world`: where time and chance come from;
//! * `admin`: what operators ask of a running or stopped server;
//! * `metrics`: what the parts count, for Prometheus.

mod admin;
mod cli;
mod config;
mod fleet;
mod members;
mod metrics;
mod serve;
mod settings;
mod stores;
mod world;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place that tells a person why the program ends")]
fn complain(error: &anyhow::Error) {
    eprintln!("rookery: {error:#}");
}
