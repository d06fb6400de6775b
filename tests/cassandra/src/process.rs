//! One node's process, from its configuration to the moment it answers.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{
    HarnessError,
    block::CQL_PORT,
    config::{self, Identity},
    cql::{Greeting, handshake},
    keeper::{Keeper, bound_command},
};

/// How long a node may take to start: it is 7 s on two free cores, and these are seldom free.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(180);
/// How often something that can only be looked at is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a log an error shows.
const SHOWN_LINES: usize = 40;
/// The fetching script, which also looks for Java.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/cassandra");

/// Java and Cassandra's jars.
#[derive(Debug)]
pub(crate) struct Installation {
    java: String,
    jars: PathBuf,
    /// The jar that measures objects' sizes; Java wants it by name.
    agent: PathBuf,
}

impl Installation {
    /// Finds both; fetches the jars if nobody did before.
    pub(crate) fn find() -> Result<Self, HarnessError> {
        let output = Command::new("sh").arg(SCRIPT).stdin(Stdio::null()).output();
        let output = output.map_err(HarnessError::io(format!("can't run {SCRIPT}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let (Some((java, jars)), true) = (said.trim_end().split_once('\n'), output.status.success()) else {
            let refusal = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(HarnessError::Setup(refusal));
        };
        let jars = PathBuf::from(jars);
        let entries =
            fs::read_dir(&jars).map_err(HarnessError::io(format!("can't read {}", jars.display())))?;
        let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let is_agent =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jamm-"));
        let agent = paths.find(is_agent);
        let agent =
            agent.ok_or_else(|| HarnessError::Setup(format!("no jamm-*.jar in {}", jars.display())))?;
        Ok(Self { java: java.to_owned(), jars, agent })
    }
}

/// A node's process, in whatever state; it can have several lives.
#[derive(Debug)]
pub(crate) struct Process {
    identity: Identity,
    folder: PathBuf,
    life: Mutex<Option<Life>>,
}

/// The time between a start and an end.
#[derive(Debug)]
struct Life {
    child: Child,
    is_paused: bool,
    /// How long each node's log was when this life began, this one's included.
    log_lengths: Vec<u64>,
}

impl Process {
    /// Writes the configuration. Nothing runs yet.
    pub(crate) fn prepare(identity: Identity, folder: PathBuf, yaml: &str) -> Result<Self, HarnessError> {
        let write = || {
            let conf = folder.join("conf");
            fs::create_dir_all(&conf)?;
            fs::create_dir_all(folder.join("tmp"))?;
            fs::write(conf.join("cassandra.yaml"), config::yaml(&identity, &folder, yaml))?;
            fs::write(conf.join("logback.xml"), config::LOGBACK)?;
            fs::write(folder.join("log"), "")
        };
        write().map_err(HarnessError::io(format!("can't write to {}", folder.display())))?;
        Ok(Self { identity, folder, life: Mutex::new(None) })
    }

    /// Where it answers CQL.
    pub(crate) fn address(&self) -> SocketAddr {
        (self.identity.address, CQL_PORT).into()
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        // Each change of it is one assignment, so that a panic leaves it whole.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it; it does not answer yet. `log_lengths` as in [`Life`].
    pub(crate) fn start(
        &self,
        keeper: &Keeper,
        installation: &Installation,
        log_lengths: Vec<u64>,
    ) -> Result<(), HarnessError> {
        let mut command = bound_command(&installation.java);
        command.args(config::arguments(
            &self.identity,
            &self.folder,
            &installation.jars,
            &installation.agent,
        ));
        let start = || {
            let log = OpenOptions::new().append(true).open(self.log_file())?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.folder);
            keeper.spawn(command)
        };
        let child = start().map_err(HarnessError::io("can't start Java with setpriv, of util-linux"))?;
        *self.life() = Some(Life { child, is_paused: false, log_lengths });
        Ok(())
    }

    /// Waits until it answers CQL.
    pub(crate) fn await_ready(&self) -> Result<(), HarnessError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(life) = &mut *self.life()
                && let Ok(Some(status)) = life.child.try_wait()
            {
                return Err(self.not_ready(format!("ended, {status}")));
            }
            if self.is_ready()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.not_ready(format!("did not answer within {} s", START_PATIENCE.as_secs())));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn is_ready(&self) -> Result<bool, HarnessError> {
        let log = self.log_since(self.log_length_at_start(self)?);
        let Some(listens) = log.lines().find(|line| line.contains("Starting listening for CQL clients"))
        else {
            return Ok(false);
        };
        if listens.contains("(encrypted)") {
            // It would take a client's half of TLS to ask more.
            return Ok(TcpStream::connect_timeout(&self.address(), LOOK_EVERY).is_ok());
        }
        // The first node of a new cluster makes the account that a client signs in with, and listens before.
        let has_account = || self.log_since(0).contains("Created default superuser role");
        Ok(match handshake(self.address()) {
            Ok(Greeting::Ready) => true,
            Ok(Greeting::WantsPassword) => self.identity.index > 0 || has_account(),
            Err(_) => false,
        })
    }

    /// What to tell of a node that did not get so far.
    pub(crate) fn not_ready(&self, why: String) -> HarnessError {
        HarnessError::NotReady { node: self.address(), why, log: self.log_tail(SHOWN_LINES) }
    }

    fn not_running(&self) -> HarnessError {
        HarnessError::NotRunning(self.address())
    }

    /// Whether it runs and is not paused.
    pub(crate) fn is_active(&self) -> bool {
        self.life().as_mut().is_some_and(|life| !life.is_paused && matches!(life.child.try_wait(), Ok(None)))
    }

    /// Stops its clock; returns when all its threads stand still.
    pub(crate) fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP, true, WaitIdOptions::STOPPED)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT, false, WaitIdOptions::CONTINUED)
    }

    fn signal(&self, signal: Signal, pauses: bool, effect: WaitIdOptions) -> Result<(), HarnessError> {
        let mut life = self.life();
        let life = life.as_mut().ok_or_else(|| self.not_running())?;
        if !matches!(life.child.try_wait(), Ok(None)) {
            return Err(self.not_running());
        }
        if life.is_paused == pauses {
            return Ok(());
        }
        let pid = Pid::from_child(&life.child);
        let act = || {
            kill_process(pid, signal)?;
            // The end counts too, so that this does not wait for ever, and is left for `Child` to see.
            waitid(WaitId::Pid(pid), effect | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        };
        act().map_err(|error| HarnessError::io(format!("can't send {signal:?}"))(error.into()))?;
        life.is_paused = pauses;
        Ok(())
    }

    /// Ends it as a loss of power would; returns when it is gone. Nothing happens to one that is gone already.
    pub(crate) fn kill(&self) -> Result<(), HarnessError> {
        let Some(mut life) = self.life().take() else { return Ok(()) };
        let mut end = || {
            life.child.kill()?;
            life.child.wait()
        };
        end().map(drop).map_err(HarnessError::io(format!("can't kill {}", self.address())))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len())
    }

    fn log_length_at_start(&self, of: &Self) -> Result<u64, HarnessError> {
        let life = self.life();
        let life = life.as_ref().ok_or_else(|| self.not_running())?;
        Ok(life.log_lengths[of.identity.index])
    }

    fn log_since(&self, length: u64) -> String {
        read_from(&self.log_file(), length).unwrap_or_default()
    }

    /// The last lines it logged, over all its lives.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let log = self.log_since(0);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Whether it thinks that the other runs, by what it said since both began their lives.
    pub(crate) fn sees(&self, other: &Self) -> Result<bool, HarnessError> {
        let since = self.log_length_at_start(self)?.max(other.log_length_at_start(self)?);
        let log = self.log_since(since);
        let (up, down) = (format!("/{}:", other.identity.address), " is now ");
        let last = log.lines().rfind(|line| line.contains(&up) && line.contains(down));
        Ok(last.is_some_and(|line| line.ends_with(" is now UP")))
    }
}

fn read_from(path: &Path, start: u64) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Looks again and again until something holds; false when it does not in time.
pub(crate) fn await_that(
    patience: Duration,
    mut holds: impl FnMut() -> Result<bool, HarnessError>,
) -> Result<bool, HarnessError> {
    let deadline = Instant::now() + patience;
    while !holds()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}
