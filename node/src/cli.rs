//! The commands.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use actors::Chance;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use telemetry::LogFormat;
use tokio::runtime::{Builder, Runtime};

use crate::{
    admin::{caller, request::Request},
    config::{self, Config, DEFAULTS},
    serve, stores,
    world::SystemChance,
};

/// A distributed chat backend.
#[derive(Debug, Parser)]
#[command(name = "rookery", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until it is told to stop.
    Serve {
        /// Configuration file; without one, defaults and environment count.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Print the default configuration, commented.
    Config,
    /// Read a configuration file and say what is wrong with it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Ask something of the running server, or of a store that nobody has open.
    Admin {
        /// Configuration file of the server.
        #[arg(long)]
        config: Option<PathBuf>,
        /// No server runs: open the store itself.
        #[arg(long)]
        offline: bool,
        #[command(subcommand)]
        request: Request,
    },
    /// Make the tables of a database, or bring them to this version. Servers only look at them.
    Migrate {
        /// Configuration file of the servers.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            Command::Serve { config } => start(config.as_deref()),
            Command::Config => say(DEFAULTS.trim_end()),
            Command::CheckConfig { file } => {
                Config::load(Some(&file))?;
                say(&format!("{} is a valid configuration", file.display()))
            }
            Command::Admin { config, offline, request } => {
                let config = Config::load(config.as_deref())?;
                runtime()?.block_on(caller::run(&config, request, offline))
            }
            Command::Migrate { config } => {
                let config = Config::load(config.as_deref())?;
                runtime()?.block_on(stores::migrate(&config, SystemChance.bits()))
            }
            Command::Version => say(concat!("rookery ", env!("CARGO_PKG_VERSION"))),
        }
    }
}

fn start(file: Option<&Path>) -> Result<()> {
    let config = Config::load(file)?;
    let format = match config.log.format {
        config::LogFormat::Auto => LogFormat::Auto,
        config::LogFormat::Human => LogFormat::Human,
        config::LogFormat::Json => LogFormat::Json,
    };
    telemetry::start_logs(&config.log.level, format).with_context(|| {
        format!("log.level is {:?}: allowed are a level or a list by part", config.log.level)
    })?;
    let runtime = runtime()?;
    let served = runtime.block_on(serve::serve(config));
    // Blocking work that hangs, such as a disk, does not keep the process.
    runtime.shutdown_background();
    served
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("the runtime does not start")
}

/// Prints a line for a person or a script.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output is closed")
}
