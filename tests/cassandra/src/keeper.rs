//! The thread that starts the processes, and why they end with it.
//!
//! The kernel kills a process whose `pdeathsig` is set when the *thread* that started it ends: a test's thread ends
//! long before a cluster that tests share. So each cluster has a thread that does nothing but start its processes, and
//! which ends when the cluster is dropped or the whole test process is killed.

use std::{
    io,
    process::{Child, Command},
    sync::mpsc::{self, SyncSender},
    thread,
};

/// Commands on their way to the thread: none waits in between, whoever starts one waits for its answer anyway.
const COMMANDS: usize = 0;

struct Start {
    command: Command,
    answer: SyncSender<io::Result<Child>>,
}

/// The handle of the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Keeper(SyncSender<Start>);

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel::<Start>(COMMANDS);
        thread::Builder::new().name("cassandra-keeper".to_owned()).spawn(move || {
            for Start { mut command, answer } in receiver {
                // Whoever asked waits for it, and else the child ends with this thread.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self(sender))
    }

    /// Starts a process.
    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = mpsc::sync_channel(1);
        let gone = |_| io::Error::other("the thread that starts processes has ended");
        self.0.send(Start { command, answer }).map_err(|_| gone(mpsc::RecvError))?;
        answered.recv().map_err(gone)?
    }
}

/// A command whose process is killed as soon as the thread that started it ends.
pub(crate) fn bound_command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c"]);
    // The parent may have ended before the signal was set: then the shell has another parent, and nothing is started.
    command.arg(r#"[ "$PPID" = "$0" ] && exec "$@""#).arg(std::process::id().to_string()).arg(program);
    command
}
