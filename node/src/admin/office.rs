//! Carries out what operators ask for. Everything that changes something is noted in the audit log.

use std::sync::Arc;

use actors::{Chance, Clock, Rooms, users::SignedOut};
use anyhow::{Context, Result, bail};
use gateway::auth::Auth;
use protocol::{CloseCode, RoomId, UserId, limits};
use serde_json::{Value, json};
use store::{
    Listing, Store,
    accounts::{NewUser, UserRecord},
    audit::AuditRecord,
};
use tokio::sync::mpsc;

use super::request::{Line, Request};
use crate::{fleet::Fleet, settings};

/// Lines that wait for a slow reader; then reading the store waits too.
pub(crate) const LINES: usize = 64;
/// Items of a list that are read at once.
pub(super) const PAGE: usize = 200;
/// Shortest user name, as in REST.
const NAME_CHARS_LEAST: usize = 3;
const COLOUR: &str = "#0061a4";

/// What commands need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    /// Every room: what changes a log is done by its owner.
    pub(crate) rooms: Rooms,
    /// This server and the others; none when nothing is served.
    pub(crate) fleet: Option<Fleet>,
}

/// Where items go.
pub(crate) type Lines = mpsc::Sender<Line>;

impl Office {
    /// Carries out a request; tells items, then the end.
    pub(crate) async fn serve(&self, request: Request, lines: Lines) {
        let end = match self.carry_out(request, &lines).await {
            Ok(()) => Line::Done(true),
            Err(error) => Line::Error(format!("{error:#}")),
        };
        // Nobody listens any more: nothing is left to do.
        let _ = lines.send(end).await;
    }

    async fn carry_out(&self, request: Request, lines: &Lines) -> Result<()> {
        match request {
            Request::CreateUser { name, password } => self.create_user(&name, &password.0, lines).await,
            Request::ResetPassword { user, password } => self.reset_password(&user, &password.0).await,
            Request::Disable { user } => self.set_disabled(&user, true).await,
            Request::Enable { user } => self.set_disabled(&user, false).await,
            Request::Revoke { user } => self.revoke(&user).await,
            Request::ListUsers { prefix } => self.list_users(&prefix, lines).await,
            Request::ListRooms => self.list_rooms(lines).await,
            Request::ExportRoom { room } => self.export(room, lines).await,
            Request::SetRetention { room, max_age_days, max_entries, default } => {
                let policy = (!default).then(|| settings::retention(max_age_days, max_entries));
                self.set_retention(room, policy, lines).await
            }
            Request::Retain { room } => self.retain(room, lines).await,
            Request::EraseUser { user, yes } => self.erase_user(&user, yes, lines).await,
            Request::CopyStore { .. } => {
                bail!("a store is copied while no server runs: ask without --offline")
            }
            Request::Audit { limit } => self.audit(limit, lines).await,
            Request::Nodes => self.nodes(lines).await,
            Request::Where { room } => self.place(room, lines).await,
            Request::Rooms => self.active_rooms(lines).await,
            Request::Users { user } => self.users(user.as_deref(), lines).await,
            Request::Drain { node } => self.drain(node.as_deref(), lines).await,
        }
    }

    async fn create_user(&self, name: &str, password: &str, lines: &Lines) -> Result<()> {
        let name = name.to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
        if !(NAME_CHARS_LEAST..=limits::USER_NAME_CHARS).contains(&name.len()) || !name.chars().all(allowed) {
            bail!(
                "{name:?} is no user name: allowed are {NAME_CHARS_LEAST} to {} of a to z, 0 to 9, _ . and -",
                limits::USER_NAME_CHARS
            );
        }
        let user = UserRecord {
            user: UserId::from_u128(self.chance.bits()),
            display_name: name.clone(),
            name,
            full_name: None,
            email: None,
            colour: COLOUR.to_owned(),
            password_hash: self.hash(password).await?,
            disabled: false,
            created_at: self.clock.now(),
        };
        if self.store.create_user(&user).await? != NewUser::Created {
            bail!("the name {:?} is in use", user.name);
        }
        self.note("account.created", user.user).await?;
        tell(lines, shown(&user)).await
    }

    async fn reset_password(&self, user: &str, password: &str) -> Result<()> {
        let user = self.find(user).await?;
        let hash = self.hash(password).await?;
        self.store.set_password(user.user, &hash).await?;
        self.sign_out(user.user, CloseCode::SignedOut).await?;
        self.note("account.password_reset", user.user).await
    }

    async fn set_disabled(&self, user: &str, disabled: bool) -> Result<()> {
        let user = self.find(user).await?;
        self.store.set_disabled(user.user, disabled).await?;
        if disabled {
            self.sign_out(user.user, CloseCode::Disabled).await?;
        }
        self.note(if disabled { "account.disabled" } else { "account.enabled" }, user.user).await
    }

    async fn revoke(&self, user: &str) -> Result<()> {
        let user = self.find(user).await?;
        self.sign_out(user.user, CloseCode::SignedOut).await?;
        self.note("session.all_ended", user.user).await
    }

    /// The store first: a socket that comes back at once finds its sign-in ended.
    pub(super) async fn sign_out(&self, user: UserId, code: CloseCode) -> Result<()> {
        self.store.end_sign_ins(user, None).await?;
        if let Some(users) = self.connected() {
            users.sign_out(user, SignedOut::AllExcept(None), code);
        }
        Ok(())
    }

    async fn list_users(&self, prefix: &str, lines: &Lines) -> Result<()> {
        let mut cursor = None;
        loop {
            let Listing { items, next } = self.store.users_by_prefix(prefix, cursor.as_deref(), PAGE).await?;
            for user in &items {
                tell(lines, shown(user)).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn list_rooms(&self, lines: &Lines) -> Result<()> {
        let mut cursor = None;
        loop {
            let Listing { items, next } = self.store.all_rooms(cursor.as_deref(), PAGE).await?;
            let ids: Vec<RoomId> = items.iter().map(|room| room.room).collect();
            let heads = self.store.heads(&ids).await?;
            for (room, head) in items.iter().zip(heads) {
                let line = json!({
                    "room": room.room, "name": room.name, "visibility": room.visibility,
                    "durability": room.durability, "joined": room.joined, "head": head, "deleted": room.deleted,
                });
                tell(lines, line).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn export(&self, room: RoomId, lines: &Lines) -> Result<()> {
        let head = self.store.heads(&[room]).await?.first().copied().unwrap_or(0);
        if head == 0 && self.store.room(room).await?.is_none() {
            bail!("there is no room {room}");
        }
        let mut after = 0;
        while after < head {
            let rows = self.store.rows_after(room, after, head, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.seq;
            for row in &rows {
                // An operator sees every entry as its own sender does.
                let line = serde_json::to_value(store::reader::entry(row, Some(row.from)))?;
                tell(lines, line).await?;
            }
        }
        Ok(())
    }

    async fn audit(&self, limit: usize, lines: &Lines) -> Result<()> {
        let (mut cursor, mut left) = (None, limit);
        while left > 0 {
            let Listing { items, next } = self.store.audit(cursor.as_deref(), left.min(PAGE)).await?;
            left -= items.len().min(left);
            for act in items {
                let AuditRecord { at, actor, action, subject, address, detail } = act;
                let line = json!({
                    "at": at, "actor": actor, "action": action, "subject": subject, "address": address,
                    "detail": detail,
                });
                tell(lines, line).await?;
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn find(&self, user: &str) -> Result<UserRecord> {
        let found = match user.parse() {
            Ok(id) => self.store.user(id).await?,
            Err(_) => self.store.user_by_name(user).await?,
        };
        found.with_context(|| format!("there is no user {user:?}: allowed are a name or an id"))
    }

    async fn hash(&self, password: &str) -> Result<String> {
        if !limits::PASSWORD_BYTES.contains(&password.len()) {
            let (least, most) = (limits::PASSWORD_BYTES.start(), limits::PASSWORD_BYTES.end());
            bail!("the password has {} bytes: allowed are {least} to {most}", password.len());
        }
        Ok(self.auth.hash_password(password).await?)
    }

    pub(super) async fn note(&self, action: &str, subject: impl ToString) -> Result<()> {
        let act = AuditRecord {
            at: self.clock.now(),
            actor: None,
            action: action.to_owned(),
            subject: subject.to_string(),
            address: None,
            detail: "by the operator".to_owned(),
        };
        self.store.record(&act).await.context("it is done, and was not noted in the audit log")
    }
}

fn shown(user: &UserRecord) -> Value {
    json!({
        "user": user.user, "name": user.name, "display_name": user.display_name, "disabled": user.disabled,
        "created_at": user.created_at,
    })
}

pub(super) async fn tell(lines: &Lines, item: Value) -> Result<()> {
    lines.send(Line::Item(item)).await.context("nobody listens any more")
}
