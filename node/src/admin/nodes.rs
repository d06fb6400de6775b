//! Which nodes there are, what lives where, and taking this one out.

use actors::Users;
use anyhow::{Context, Result, bail};
use cluster::NodeName;
use protocol::RoomId;
use serde_json::{Value, json};

use super::office::{Lines, Office, PAGE, tell};
use crate::fleet::Fleet;

impl Office {
    pub(super) async fn nodes(&self, lines: &Lines) -> Result<()> {
        for node in self.fleet()?.sight().nodes() {
            tell(lines, node).await?;
        }
        Ok(())
    }

    pub(super) async fn place(&self, room: RoomId, lines: &Lines) -> Result<()> {
        let fleet = self.fleet()?;
        self.store.room(room).await?.with_context(|| format!("there is no room {room}"))?;
        let home = fleet.home_of_room(room);
        let line = json!({
            "room": room, "node": home.node(), "here": home.is_here(), "active_here": fleet.rooms.is_active(room),
        });
        tell(lines, line).await
    }

    /// Reads as many heads at once as a page holds.
    pub(super) async fn active_rooms(&self, lines: &Lines) -> Result<()> {
        let rooms = self.fleet()?.rooms.all_active();
        for page in rooms.chunks(PAGE) {
            let ids: Vec<RoomId> = page.iter().map(|(room, _)| *room).collect();
            let heads = self.store.heads(&ids).await?;
            for ((room, epoch), head) in page.iter().zip(heads) {
                tell(lines, json!({ "room": room, "head": head, "epoch": epoch })).await?;
            }
        }
        Ok(())
    }

    /// How many are where; of one, where.
    pub(super) async fn users(&self, user: Option<&str>, lines: &Lines) -> Result<()> {
        let fleet = self.fleet()?;
        let Some(user) = user else { return self.count_users(fleet, lines).await };
        let user = self.find(user).await?;
        let home = fleet.home_of_user(user.user);
        let line = json!({
            "user": user.user, "name": user.name, "node": home.node(), "here": home.is_here(),
        });
        tell(lines, line).await
    }

    async fn count_users(&self, fleet: &Fleet, lines: &Lines) -> Result<()> {
        for node in fleet.sight().nodes() {
            let told = ["node", "this", "sessions", "users"];
            let line: Value = told.iter().map(|key| ((*key).to_owned(), node[key].clone())).collect();
            tell(lines, line).await?;
        }
        Ok(())
    }

    /// Begins it: the server stops as by a signal, its rooms first.
    pub(super) async fn drain(&self, node: Option<&str>, lines: &Lines) -> Result<()> {
        let fleet = self.fleet()?;
        let sight = fleet.sight();
        if let Some(node) = node {
            only_me(node, sight.me())?;
        }
        let name = sight.me().map(NodeName::to_string);
        self.note("node.drained", name.as_deref().unwrap_or("this server, which is alone")).await?;
        tell(lines, json!({ "node": name, "state": "draining" })).await?;
        fleet.stop.cancel();
        Ok(())
    }

    fn fleet(&self) -> Result<&Fleet> {
        self.fleet.as_ref().context("that is asked of a server that runs: ask without --offline")
    }

    /// Connected users; none when nothing is served.
    pub(super) fn connected(&self) -> Option<&Users> {
        self.fleet.as_ref().map(|fleet| &fleet.users)
    }
}

/// Only a node itself can be told to go.
fn only_me(asked: &str, me: Option<&NodeName>) -> Result<()> {
    match me {
        None => bail!("this server is alone and has no name: drain it without one"),
        Some(me) if asked == me.id() || asked == me.to_string() => Ok(()),
        Some(me) => bail!("this is {me}: ask {asked} itself, with its own --config"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_drains_itself_only() {
        let me = NodeName::new("a", 7).unwrap();
        for asked in ["a", "a.7"] {
            only_me(asked, Some(&me)).unwrap();
        }
        for asked in ["b", "a.6", ""] {
            assert!(only_me(asked, Some(&me)).unwrap_err().to_string().contains("itself"), "{asked}");
        }
        assert!(only_me("a", None).unwrap_err().to_string().contains("alone"));
    }
}
