//! Measures a server from outside: what an idle connection costs, what a delivery costs, how much it carries.
//!
//! It starts the real binary on a free port of this machine, with a folder of its own and limits out of the way, and
//! reads the server's CPU time and memory from `/proc`. Everything ends by itself. In reading order:
//!
//! * [`idle`], [`fanout`], [`saturate`], [`stopped`]: what is measured;
//! * [`town`]: accounts, rooms and members, made over REST before anything is measured;
//! * [`field`]: who is compared with whom, [`contest`]: round by round in turn, and what comes of it;
//! * [`crowd`]: many sockets of one load, [`socket`]: one of them, [`tally`]: what they have heard;
//! * [`bare`]: a server that does nothing but fan out: the limit of the machine, not a product;
//! * [`server`] and [`process`]: processes, and what they use.
//!
//! ```text
//!   contest ──▶ round: crowd ──sends──▶ server (rookery | bare) ──▶ crowd ──▶ tally
//!                 └── CPU and memory of the server, before and after ── /proc
//! ```

mod bare;
mod contest;
mod crowd;
mod fanout;
mod field;
mod idle;
mod process;
mod saturate;
mod server;
mod socket;
mod stopped;
mod tally;
mod town;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// Measures Rookery from outside.
#[derive(Debug, Parser)]
#[command(name = "rookery-bench", version)]
struct Cli {
    /// The server's binary; without one, target/release/rookery is built. Given twice, `fanout` and `saturate` compare
    /// the builds.
    #[arg(long, global = true)]
    rookery: Vec<PathBuf>,
    /// A key of the server's configuration, such as store.synchronous=normal.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Memory of an idle connection.
    Idle(idle::Options),
    /// CPU and latency of a delivery when there is little to do.
    Fanout(fanout::Options),
    /// Deliveries a second when there is no end of them.
    Saturate(saturate::Options),
    /// Memory for a reader that has stopped reading.
    Stopped(stopped::Options),
    /// The server that others are compared with; serves until it is killed.
    #[command(hide = true)]
    Bare,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Bare) {
        // As many threads as the server that it is compared with.
        return Builder::new_multi_thread().enable_all().build()?.block_on(bare::serve());
    }
    process::raise_descriptor_limit();
    let builds = server::builds(cli.rookery)?;
    // One thread is enough for the clients, and leaves the rest of the machine to the server.
    let runtime = Builder::new_current_thread().enable_all().build().context("the runtime does not start")?;
    runtime.block_on(async {
        match cli.command {
            Command::Idle(options) => idle::run(&builds[0], &cli.settings, &options).await,
            Command::Fanout(options) => fanout::run(&builds, &cli.settings, &options).await,
            Command::Saturate(options) => saturate::run(&builds, &cli.settings, &options).await,
            Command::Stopped(options) => stopped::run(&builds[0], &cli.settings, &options).await,
            Command::Bare => Ok(()),
        }
    })
}

/// Prints a line of a report.
#[expect(clippy::print_stdout, reason = "reports go to who started the program")]
fn say(line: &str) {
    println!("{line}");
}
