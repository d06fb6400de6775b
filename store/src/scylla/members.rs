//! Memberships and invitations.

use std::collections::HashSet;

use async_trait::async_trait;
use protocol::{InviteId, Millis, RoomId, Seq, UserId};

use super::{
    Core, ScyllaStore,
    codec::{InviteRow, MemberRow, UserRoomRow, bits, int, limit},
};
use crate::{
    Listing, Members, StoreError, listing,
    log::newest_bucket,
    members::{InviteRecord, Masks, MemberRecord, MemberState, RoomRecord, UserRoom},
    retention::Policy,
};

/// Rows of one query of a longer walk.
const PART: usize = 1000;

/// Most invitations of a room that are looked at for a list of those that are good.
const INVITES: usize = 10_000;

impl Core {
    /// Members after `after`.
    async fn members_after(
        &self,
        room: RoomId,
        after: &[u8],
        most: usize,
    ) -> Result<Vec<MemberRecord>, StoreError> {
        let values = (room.to_bytes(), after, limit(most));
        let found: Vec<MemberRow> = self.rows(&self.statements.members, values).await?;
        found.into_iter().map(MemberRow::record).collect()
    }

    /// Rooms of a user's after `after`, in whatever state.
    async fn rooms_after(
        &self,
        user: UserId,
        after: &[u8],
        most: usize,
    ) -> Result<Vec<(RoomId, MemberRecord)>, StoreError> {
        let values = (user.to_bytes(), after, limit(most));
        let found: Vec<UserRoomRow> = self.rows(&self.statements.rooms_of_user, values).await?;
        found.into_iter().map(|row| row.record(user)).collect()
    }

    /// All rooms that a user has joined; of deleted ones it does not know.
    async fn joined_rooms(&self, user: UserId) -> Result<HashSet<RoomId>, StoreError> {
        let mut joined = HashSet::new();
        let mut after = Vec::new();
        loop {
            let part = self.rooms_after(user, &after, PART).await?;
            let is_last = part.len() < PART;
            after = part.last().map_or_else(Vec::new, |(room, _)| room.to_bytes().to_vec());
            joined.extend(part.into_iter().filter(|(_, member)| member.is_joined()).map(|(room, _)| room));
            if is_last {
                return Ok(joined);
            }
        }
    }

    async fn invites_after(
        &self,
        room: RoomId,
        after: &[u8],
    ) -> Result<(Vec<InviteRecord>, Vec<u8>), StoreError> {
        let values = (room.to_bytes(), after, limit(PART));
        let found: Vec<InviteRow> = self.rows(&self.statements.invites, values).await?;
        let is_last = found.len() < PART;
        let mut invites = Vec::new();
        for row in found {
            invites.extend(row.record(room)?);
        }
        let last = invites.last().filter(|_| !is_last);
        let last = last.map_or_else(Vec::new, |invite| invite.invite.to_bytes().to_vec());
        Ok((invites, last))
    }
}

#[async_trait]
impl Members for ScyllaStore {
    async fn room(&self, room: RoomId) -> Result<Option<RoomRecord>, StoreError> {
        self.core.room(room).await
    }

    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<RoomRecord>, StoreError> {
        self.core.rooms(rooms).await
    }

    async fn search_rooms(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomRecord>, StoreError> {
        self.core.search_rooms(text, cursor, limit).await
    }

    async fn all_rooms(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<RoomRecord>, StoreError> {
        self.core.all_rooms(cursor, limit).await
    }

    async fn retention(&self, room: RoomId) -> Result<Option<Policy>, StoreError> {
        self.core.retention(room).await
    }

    async fn set_retention(&self, room: RoomId, policy: Option<Policy>) -> Result<(), StoreError> {
        self.core.set_retention(room, policy).await
    }

    async fn member(&self, room: RoomId, user: UserId) -> Result<Option<MemberRecord>, StoreError> {
        let values = (room.to_bytes(), user.to_bytes());
        let found: Option<MemberRow> = self.core.first(&self.core.statements.member, values).await?;
        found.map(MemberRow::record).transpose()
    }

    async fn members(
        &self,
        room: RoomId,
        state: Option<MemberState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<MemberRecord>, StoreError> {
        let after: Option<UserId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        let mut after = after.map_or_else(Vec::new, |user| user.to_bytes().to_vec());
        let mut items = Vec::new();
        loop {
            let part = self.core.members_after(room, &after, limit + 1).await?;
            let is_last = part.len() <= limit;
            after = part.last().map_or_else(Vec::new, |member| member.user.to_bytes().to_vec());
            items.extend(part.into_iter().filter(|member| state.is_none_or(|state| member.state == state)));
            if is_last || items.len() > limit {
                return Ok(listing::cut(items, limit, |member| member.user.to_string()));
            }
        }
    }

    async fn rooms_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRoom>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        let mut after = after.map_or_else(Vec::new, |room| room.to_bytes().to_vec());
        let mut items: Vec<UserRoom> = Vec::new();
        loop {
            let part = self.core.rooms_after(user, &after, limit + 1).await?;
            let is_last = part.len() <= limit;
            after = part.last().map_or_else(Vec::new, |(room, _)| room.to_bytes().to_vec());
            let part: Vec<_> = part
                .into_iter()
                .filter(|(_, member)| matches!(member.state, MemberState::Joined | MemberState::Invited))
                .collect();
            let ids: Vec<RoomId> = part.iter().map(|(room, _)| *room).collect();
            let mut members = part.into_iter().peekable();
            for room in self.core.rooms(&ids).await?.into_iter().filter(|room| !room.deleted) {
                let member = members.find(|(id, _)| *id == room.room).map(|(_, member)| member);
                items.extend(member.map(|member| UserRoom { room, member }));
            }
            if is_last || items.len() > limit {
                return Ok(listing::cut(items, limit, |of| of.room.room.to_string()));
            }
        }
    }

    async fn rooms_ever_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomId>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        let after = after.map_or_else(Vec::new, |room| room.to_bytes().to_vec());
        let items = self.core.rooms_after(user, &after, limit + 1).await?;
        let items = items.into_iter().map(|(room, _)| room).collect();
        Ok(listing::cut(items, limit, RoomId::to_string))
    }

    async fn sharing_a_room(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let mut sharing = Vec::new();
        if others.is_empty() {
            return Ok(sharing);
        }
        let own = self.core.joined_rooms(user).await?;
        for other in others {
            let theirs = self.core.joined_rooms(*other).await?;
            let common: Vec<RoomId> = own.intersection(&theirs).copied().collect();
            if self.core.rooms(&common).await?.iter().any(|room| !room.deleted) {
                sharing.push(*other);
            }
        }
        Ok(sharing)
    }

    async fn masks(&self, room: RoomId, from: Seq, upto: Seq) -> Result<Masks, StoreError> {
        // Read first: what is appended in between can only add masks.
        let applied_seq = newest_bucket(self, room).await?.map_or(0, |(_, statics)| statics.dev_upto);
        Ok(Masks { masks: self.core.masks(room, from, upto).await?, applied_seq })
    }

    async fn create_invite(&self, invite: &InviteRecord) -> Result<(), StoreError> {
        let core = &self.core;
        let (room, id) = (invite.room.to_bytes(), invite.invite.to_bytes());
        let secret = (room, invite.secret_hash, id);
        core.upsert(&core.statements.put_invite_secret, secret).await?;
        let values = (
            room,
            id,
            invite.secret_hash,
            invite.created_by.to_bytes(),
            int(invite.created_at),
            int(invite.expires_at),
            invite.max_uses.map_or(-1, i64::from),
        );
        core.upsert(&core.statements.put_invite, values).await?;
        if invite.uses > 0 {
            let uses = i64::from(invite.uses);
            core.upsert(&core.statements.put_invite_uses, (uses, uses, room, id)).await?;
        }
        if invite.revoked {
            core.upsert(&core.statements.revoke_invite, (room, id)).await?;
        }
        Ok(())
    }

    async fn invite(&self, room: RoomId, invite: InviteId) -> Result<Option<InviteRecord>, StoreError> {
        let values = (room.to_bytes(), invite.to_bytes());
        let found: Option<InviteRow> = self.core.first(&self.core.statements.invite, values).await?;
        found.map_or(Ok(None), |row| row.record(room))
    }

    async fn invite_by_secret(
        &self,
        room: RoomId,
        secret_hash: [u8; 32],
    ) -> Result<Option<InviteRecord>, StoreError> {
        let values = (room.to_bytes(), secret_hash);
        let found: Option<(Vec<u8>,)> =
            self.core.first(&self.core.statements.invite_by_secret, values).await?;
        match found {
            Some((invite,)) => self.invite(room, InviteId::from_u128(bits(&invite)?)).await,
            None => Ok(None),
        }
    }

    async fn invites(&self, room: RoomId, now: Millis) -> Result<Vec<InviteRecord>, StoreError> {
        let mut good: Vec<InviteRecord> = Vec::new();
        let (mut after, mut seen) = (Vec::new(), 0);
        loop {
            let (part, last) = self.core.invites_after(room, &after).await?;
            seen += part.len();
            good.extend(part.into_iter().filter(|invite| !invite.revoked && invite.expires_at > now));
            after = last;
            if after.is_empty() || seen >= INVITES {
                break;
            }
        }
        good.sort_by_key(|invite| (std::cmp::Reverse(invite.created_at), invite.invite));
        good.truncate(1000);
        Ok(good)
    }

    async fn revoke_invite(&self, room: RoomId, invite: InviteId) -> Result<bool, StoreError> {
        if self.invite(room, invite).await?.is_none() {
            return Ok(false);
        }
        let core = &self.core;
        core.upsert(&core.statements.revoke_invite, (room.to_bytes(), invite.to_bytes())).await?;
        Ok(true)
    }
}
