//! Removing what is not to be kept. Rooms do it themselves; this asks them, one after the other, and adds up.

use anyhow::{Context, Result, bail};
use protocol::{CloseCode, RoomId, UserId};
use serde_json::json;
use store::{Listing, erasure::Erased, log::BUCKET_ROWS, retention::Policy};

use super::office::{Lines, Office, PAGE, tell};

impl Office {
    pub(super) async fn set_retention(
        &self,
        room: RoomId,
        policy: Option<Policy>,
        lines: &Lines,
    ) -> Result<()> {
        self.store.room(room).await?.with_context(|| format!("there is no room {room}"))?;
        self.store.set_retention(room, policy).await?;
        self.note("room.retention_set", room).await?;
        let chosen = policy.map(|Policy { max_age_days, max_entries }| {
            json!({ "max_age_days": max_age_days, "max_entries": max_entries })
        });
        tell(lines, json!({ "room": room, "retention": chosen })).await
    }

    /// Tells of each room of which something was removed, and of each that failed; at last the sum.
    pub(super) async fn retain(&self, room: Option<RoomId>, lines: &Lines) -> Result<()> {
        let mut sum = Sum::default();
        match room {
            Some(room) => {
                self.store.room(room).await?.with_context(|| format!("there is no room {room}"))?;
                self.retain_one(room, &mut sum, lines).await?;
            }
            None => self.retain_all(&mut sum, lines).await?,
        }
        let Sum { rooms, removed, failures } = sum;
        self.note("rooms.retained", room.map_or_else(|| "all rooms".to_owned(), |room| room.to_string()))
            .await?;
        tell(lines, json!({ "rooms": rooms, "removed": removed, "failures": failures })).await?;
        if failures > 0 {
            bail!("{failures} of {rooms} rooms failed: what was removed stays so, run it again for the rest");
        }
        Ok(())
    }

    async fn retain_all(&self, sum: &mut Sum, lines: &Lines) -> Result<()> {
        let mut cursor = None;
        loop {
            let Listing { items, next } = self.store.all_rooms(cursor.as_deref(), PAGE).await?;
            let ids: Vec<RoomId> = items.iter().map(|room| room.room).collect();
            let heads = self.store.heads(&ids).await?;
            // The others have one stretch of entries only, which always stays: they need not wake.
            for (room, _) in ids.into_iter().zip(heads).filter(|(_, head)| *head > BUCKET_ROWS) {
                self.retain_one(room, sum, lines).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn retain_one(&self, room: RoomId, sum: &mut Sum, lines: &Lines) -> Result<()> {
        sum.rooms += 1;
        match self.rooms.retain(room).await {
            Ok(done) => {
                sum.removed += done.removed;
                if done.removed == 0 {
                    return Ok(());
                }
                tell(lines, json!({ "room": room, "first": done.first, "removed": done.removed })).await
            }
            Err(refusal) => {
                sum.failures += 1;
                tell(lines, json!({ "room": room, "error": refusal.message })).await
            }
        }
    }
}

impl Office {
    /// Shuts somebody out first, so that nothing of theirs comes after it; then empties the profile and asks every room that
    /// they ever were in. Tells of each room in which there was something, and of each that failed; at last the sum.
    pub(super) async fn erase_user(&self, user: &str, yes: bool, lines: &Lines) -> Result<()> {
        let user = self.find(user).await?.user;
        if !yes {
            bail!("everything that {user} has said would be gone for good: say --yes if that is meant");
        }
        self.store.erase_profile(user).await?;
        self.sign_out(user, CloseCode::Disabled).await?;
        self.note("account.erased", user).await?;
        let mut sum = Erasure::default();
        let mut cursor = None;
        loop {
            let Listing { items, next } = self.store.rooms_ever_of(user, cursor.as_deref(), PAGE).await?;
            for room in items {
                self.erase_in(room, user, &mut sum, lines).await?;
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let Erasure { rooms, erased, already_erased, failures } = sum;
        let told = json!({
            "user": user, "rooms": rooms, "erased": erased, "already_erased": already_erased, "failures": failures,
        });
        tell(lines, told).await?;
        if failures > 0 {
            bail!("{failures} of {rooms} rooms failed: what was erased stays so, run it again for the rest");
        }
        Ok(())
    }

    async fn erase_in(&self, room: RoomId, user: UserId, sum: &mut Erasure, lines: &Lines) -> Result<()> {
        sum.rooms += 1;
        match self.rooms.erase(room, user).await {
            Ok(Erased { erased, already }) => {
                sum.erased += erased;
                sum.already_erased += already;
                if erased + already == 0 {
                    return Ok(());
                }
                tell(lines, json!({ "room": room, "erased": erased, "already_erased": already })).await
            }
            Err(refusal) => {
                sum.failures += 1;
                tell(lines, json!({ "room": room, "error": refusal.message })).await
            }
        }
    }
}

#[derive(Default)]
struct Erasure {
    rooms: u64,
    erased: u64,
    already_erased: u64,
    failures: u64,
}

#[derive(Default)]
struct Sum {
    rooms: u64,
    removed: u64,
    failures: u64,
}
