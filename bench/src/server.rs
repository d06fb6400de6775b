//! Server processes: started on a free port, ended with their value.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server has to end after it was asked to.
const STOP: Duration = Duration::from_secs(20);

/// Limits out of the way, and nothing that a client waits for.
const CONFIGURATION: &str = r#"
[listen]
address = "127.0.0.1:0"
[auth]
access_token_minutes = 600
[limits]
connections_per_address = 100000
unidentified_per_address = 100000
sockets_per_user = 100000
user_sends_per_second = 1000
user_sends_burst = 1000000000
frames_per_second = 1000000
frames_burst = 1000000
requests_per_address_per_second = 1000000
requests_per_address_burst = 1000000
requests_per_user_per_second = 1000000
requests_per_user_burst = 1000000
sign_ins_per_address_per_second = 1000000
sign_ins_per_address_burst = 1000000
[admin]
socket = "off"
[log]
level = "warn"
format = "human"
"#;

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// The binaries to measure: those that were named, or the one of this workspace, built now.
pub(crate) fn builds(named: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return Ok(named);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "rookery",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not start: name the server's binary with --rookery")?;
    ensure!(built.status.success(), "the server does not build");
    let mut artifacts = built.stdout.split(|byte| *byte == b'\n').filter_map(|line| {
        let artifact: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(PathBuf::from(artifact.get("executable")?.as_str()?))
    });
    Ok(vec![artifacts.next_back().context("cargo names no binary")?])
}

impl Server {
    /// A Rookery with its data in `folder`. `settings` are keys of its configuration, `KEY=VALUE`.
    pub(crate) fn rookery(binary: &Path, folder: &Path, settings: &[String]) -> Result<Self> {
        let configuration = folder.join("rookery.toml");
        std::fs::write(&configuration, CONFIGURATION)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&configuration);
        command.env("ROOKERY__STORE__FOLDER", folder.join("data"));
        for setting in settings {
            let (key, value) = setting.split_once('=').context("a setting is KEY=VALUE")?;
            command.env(format!("ROOKERY__{}", key.replace('.', "__").to_uppercase()), value);
        }
        Self::start(command).with_context(|| format!("{} does not start", binary.display()))
    }

    /// The bare server: this program, as another process.
    pub(crate) fn bare() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare");
        Self::start(command).context("the bare server does not start")
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        // A server that fails closes its output.
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().rsplit_once("http://").map(|(_, rest)| rest.trim_end_matches('/'));
        match address.and_then(|address| address.parse().ok()) {
            Some(address) => Ok(Self { child, address }),
            None => {
                let _ = child.kill(); // it has ended, or is of no use
                let _ = child.wait();
                bail!("it said {line:?} instead of its address")
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
