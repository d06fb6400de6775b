//! The commands, and the lines that answer them.

use std::{fmt, path::PathBuf};

use clap::Subcommand;
use protocol::RoomId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an operator asks for.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Make an account. The password is asked for, or read from standard input.
    CreateUser {
        /// 3 to 32 of a to z, 0 to 9, `_`, `.`, `-`.
        name: String,
        #[arg(skip)]
        password: Secret,
    },
    /// Give somebody a new password and sign them out everywhere. It is asked for, or read from standard input.
    ResetPassword {
        /// Name or id.
        user: String,
        #[arg(skip)]
        password: Secret,
    },
    /// Shut an account: nobody signs in, all its sockets close.
    Disable {
        /// Name or id.
        user: String,
    },
    /// Open it again.
    Enable {
        /// Name or id.
        user: String,
    },
    /// Sign somebody out everywhere.
    Revoke {
        /// Name or id.
        user: String,
    },
    /// Enabled accounts by name.
    ListUsers {
        /// Only names that begin so.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// All rooms, also deleted ones.
    ListRooms,
    /// A room's log, one entry a line, with writers and numbers.
    ExportRoom {
        /// Its id.
        room: RoomId,
    },
    /// Choose what is kept of a room: without options everything, whatever the server's default is.
    SetRetention {
        /// Its id.
        room: RoomId,
        /// Remove what is older than this many days.
        #[arg(long)]
        max_age_days: Option<u32>,
        /// Keep the newest so many entries.
        #[arg(long)]
        max_entries: Option<u64>,
        /// Take an earlier choice back: the server's default counts again.
        #[arg(long, conflicts_with_all = ["max_age_days", "max_entries"])]
        default: bool,
    },
    /// Remove what is not to be kept, now; of all rooms without one.
    Retain {
        /// Its id.
        room: Option<RoomId>,
    },
    /// Erase somebody: shut the account, empty its profile, and take everything they have said out of every room. For good.
    EraseUser {
        /// Name or id.
        user: String,
        /// Yes, for good.
        #[arg(long)]
        yes: bool,
    },
    /// Copy everything into another store, and compare. No server may run on either. Begun again, it goes on.
    CopyStore {
        /// Configuration file of the other store.
        to: PathBuf,
    },
    /// What was done to accounts and by administrators, newest first.
    Audit {
        /// Most lines.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// The nodes of the cluster as the asked one sees them, and how it is linked with them. A server alone lists itself.
    Nodes,
    /// The node on which a room is placed, and whether it is active on the asked one.
    Where {
        /// Its id.
        room: RoomId,
    },
    /// The rooms that are active on the asked node.
    Rooms,
    /// How many users are connected on each node, or which node knows all sockets of one user.
    Users {
        /// Name or id.
        user: Option<String>,
    },
    /// Take the asked node out: its rooms move to the others, then it stops as by SIGTERM.
    Drain {
        /// Its name, to be sure that it is this one.
        node: Option<String>,
    },
}

impl Request {
    /// The password that the command needs and that is no argument, since arguments are seen by others.
    pub(crate) fn password(&mut self) -> Option<&mut Secret> {
        match self {
            Self::CreateUser { password, .. } | Self::ResetPassword { password, .. } => Some(password),
            _ => None,
        }
    }
}

/// A password on its way.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// One of what was asked for.
    Item(Value),
    /// The end: all of it was told, and done.
    Done(bool),
    /// The end: why not.
    Error(String),
}
