//! `rookery admin copy-store`: from one store into another, while no server runs on either.

use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use protocol::RoomId;
use serde_json::json;
use store::copy::{Copied, Progress, copy};

use super::caller::print;
use crate::{config::Config, stores::Opened};

/// Tells each room as it is done, then the whole.
pub(super) async fn run(from: &Config, to: &Path) -> Result<()> {
    let target = Config::load(Some(to)).with_context(|| format!("{}", to.display()))?;
    let from = Opened::open(from).await.context("the store that is copied")?.store();
    let to = Opened::open(&target).await.context("the store that it is copied into")?.store();
    let mut lines = Lines(Ok(()));
    let copied = copy(&*from, &*to, &mut lines).await?;
    lines.0?;
    let Copied { accounts, sign_ins, rooms, entries, members, acts, checksum } = copied;
    print(&json!({
        "accounts": accounts,
        "sign_ins": sign_ins,
        "rooms": rooms,
        "entries": entries,
        "members": members,
        "acts": acts,
        "checksum": format!("{checksum:08x}"),
        "same": true,
    }))
}

/// Prints while it can; what can't be printed stops nothing.
struct Lines(Result<()>);

#[async_trait]
impl Progress for Lines {
    async fn room(&mut self, room: RoomId, entries: u64) {
        if self.0.is_ok() {
            self.0 = print(&json!({ "room": room, "entries": entries }));
        }
    }
}
