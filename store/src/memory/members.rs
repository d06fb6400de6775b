//! Rooms, members and invitations in memory.

use async_trait::async_trait;
use protocol::{InviteId, Millis, RoomId, Seq, UserId, entry::Visibility};

use super::{MemoryStore, State, log::Log};
use crate::{
    Listing, Members, StoreError, listing,
    members::{Derived, InviteRecord, MaskRecord, Masks, MemberRecord, MemberState, RoomRecord, UserRoom},
    retention::Policy,
};

impl State {
    pub(super) fn put_derived(&mut self, room: RoomId, derived: &Derived) {
        if let Some(record) = &derived.room
            && self.rooms.get(&room).is_none_or(|kept| kept.applied_seq <= record.applied_seq)
        {
            self.rooms.insert(room, record.clone());
        }
        for member in &derived.members {
            let kept = self.members.entry((room, member.user)).or_insert(*member);
            if kept.changed_seq <= member.changed_seq {
                *kept = *member;
            }
            self.rooms_of.insert((member.user, room));
        }
        for mask in &derived.masks {
            let by = self.masks.entry((room, mask.target)).or_insert(mask.by);
            *by = mask.by.max(*by);
        }
        for (invite, uses) in &derived.invites {
            if let Some(kept) = self.invites.get_mut(&(room, *invite)) {
                kept.uses = kept.uses.max(*uses);
            }
        }
        if !derived.marks.is_empty() {
            self.logs.entry(room).or_default().put_marks(&derived.marks);
        }
    }

    fn joined_rooms(&self, user: UserId) -> impl Iterator<Item = RoomId> {
        let rooms =
            self.rooms_of.range((user, RoomId::from_u128(0))..).take_while(move |(who, _)| *who == user);
        rooms.map(|(_, room)| *room).filter(move |room| {
            self.members.get(&(*room, user)).is_some_and(MemberRecord::is_joined)
                && self.rooms.get(room).is_some_and(|room| !room.deleted)
        })
    }
}

/// The place after an id, where a listing goes on.
fn id_after(id: Option<u128>) -> u128 {
    id.map_or(0, |id| id.saturating_add(1))
}

#[async_trait]
impl Members for MemoryStore {
    async fn room(&self, room: RoomId) -> Result<Option<RoomRecord>, StoreError> {
        Ok(self.state().rooms.get(&room).cloned())
    }

    async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<RoomRecord>, StoreError> {
        let state = self.state();
        Ok(rooms.iter().filter_map(|room| state.rooms.get(room).cloned()).collect())
    }

    async fn search_rooms(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomRecord>, StoreError> {
        let (text, limit) = (listing::key(text), listing::clamp(limit));
        let state = self.state();
        let place = |room: &RoomRecord| (listing::key(&room.name), room.room);
        let after: Option<RoomId> = listing::parse(cursor)?;
        let after = after
            .map(|room| state.rooms.get(&room).map(place).ok_or_else(listing::bad_cursor))
            .transpose()?;
        let shown = |room: &&RoomRecord| room.visibility == Visibility::Public && !room.deleted;
        let mut found: Vec<_> = state.rooms.values().filter(shown).map(|room| (place(room), room)).collect();
        found
            .retain(|(place, _)| place.0.contains(&text) && after.as_ref().is_none_or(|after| place > after));
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let items = found.into_iter().take(limit + 1).map(|(_, room)| room.clone()).collect();
        Ok(listing::cut(items, limit, |room: &RoomRecord| room.room.to_string()))
    }

    async fn all_rooms(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<RoomRecord>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let from = RoomId::from_u128(id_after(after.map(RoomId::as_u128)));
        let limit = listing::clamp(limit);
        let items = self.state().rooms.range(from..).take(limit + 1).map(|(_, room)| room.clone()).collect();
        Ok(listing::cut(items, limit, |room: &RoomRecord| room.room.to_string()))
    }

    async fn retention(&self, room: RoomId) -> Result<Option<Policy>, StoreError> {
        Ok(self.state().retention.get(&room).copied())
    }

    async fn set_retention(&self, room: RoomId, policy: Option<Policy>) -> Result<(), StoreError> {
        let mut state = self.state();
        match policy {
            Some(policy) => _ = state.retention.insert(room, policy),
            None => _ = state.retention.remove(&room),
        }
        Ok(())
    }

    async fn member(&self, room: RoomId, user: UserId) -> Result<Option<MemberRecord>, StoreError> {
        Ok(self.state().members.get(&(room, user)).copied())
    }

    async fn members(
        &self,
        room: RoomId,
        state: Option<MemberState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<MemberRecord>, StoreError> {
        let after: Option<UserId> = listing::parse(cursor)?;
        let from = UserId::from_u128(id_after(after.map(UserId::as_u128)));
        let limit = listing::clamp(limit);
        let store = self.state();
        let members = store.members.range((room, from)..).take_while(|((of, _), _)| *of == room);
        let items = members
            .map(|(_, member)| *member)
            .filter(|member| state.is_none_or(|state| member.state == state));
        let items = items.take(limit + 1).collect();
        Ok(listing::cut(items, limit, |member: &MemberRecord| member.user.to_string()))
    }

    async fn rooms_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRoom>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let from = RoomId::from_u128(id_after(after.map(RoomId::as_u128)));
        let limit = listing::clamp(limit);
        let state = self.state();
        let rooms = state.rooms_of.range((user, from)..).take_while(|(who, _)| *who == user);
        let rooms = rooms.filter_map(|(_, room)| {
            let member = state.members.get(&(*room, user))?;
            let room = state.rooms.get(room)?;
            let listed = matches!(member.state, MemberState::Joined | MemberState::Invited) && !room.deleted;
            listed.then(|| UserRoom { room: room.clone(), member: *member })
        });
        let items = rooms.take(limit + 1).collect();
        Ok(listing::cut(items, limit, |room: &UserRoom| room.room.room.to_string()))
    }

    async fn rooms_ever_of(
        &self,
        user: UserId,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomId>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let from = RoomId::from_u128(id_after(after.map(RoomId::as_u128)));
        let limit = listing::clamp(limit);
        let state = self.state();
        let rooms = state.rooms_of.range((user, from)..).take_while(|(who, _)| *who == user);
        let items = rooms.map(|(_, room)| *room).take(limit + 1).collect();
        Ok(listing::cut(items, limit, RoomId::to_string))
    }

    async fn sharing_a_room(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let state = self.state();
        let joined = |room, other| state.members.get(&(room, other)).is_some_and(MemberRecord::is_joined);
        let sharing = |other: &UserId| state.joined_rooms(user).any(|room| joined(room, *other));
        Ok(others.iter().copied().filter(sharing).collect())
    }

    async fn masks(&self, room: RoomId, from: Seq, upto: Seq) -> Result<Masks, StoreError> {
        let state = self.state();
        let range = (from <= upto).then(|| state.masks.range((room, from)..=(room, upto)));
        let masks = range
            .into_iter()
            .flatten()
            .map(|((_, target), by)| MaskRecord { target: *target, by: *by })
            .collect();
        // Masks are written together with the rows that make them.
        Ok(Masks { masks, applied_seq: state.logs.get(&room).map_or(0, Log::head) })
    }

    async fn create_invite(&self, invite: &InviteRecord) -> Result<(), StoreError> {
        self.state().invites.entry((invite.room, invite.invite)).or_insert_with(|| invite.clone());
        Ok(())
    }

    async fn invite(&self, room: RoomId, invite: InviteId) -> Result<Option<InviteRecord>, StoreError> {
        Ok(self.state().invites.get(&(room, invite)).cloned())
    }

    async fn invite_by_secret(
        &self,
        room: RoomId,
        secret_hash: [u8; 32],
    ) -> Result<Option<InviteRecord>, StoreError> {
        let state = self.state();
        let found =
            state.invites.values().find(|invite| invite.room == room && invite.secret_hash == secret_hash);
        Ok(found.cloned())
    }

    async fn invites(&self, room: RoomId, now: Millis) -> Result<Vec<InviteRecord>, StoreError> {
        let state = self.state();
        let good = |invite: &&InviteRecord| invite.room == room && !invite.revoked && invite.expires_at > now;
        let mut found: Vec<_> = state.invites.values().filter(good).cloned().collect();
        found.sort_by_key(|invite| (std::cmp::Reverse(invite.created_at), invite.invite));
        found.truncate(1000);
        Ok(found)
    }

    async fn revoke_invite(&self, room: RoomId, invite: InviteId) -> Result<bool, StoreError> {
        let mut state = self.state();
        let found = state.invites.get_mut(&(room, invite));
        Ok(found.map(|invite| invite.revoked = true).is_some())
    }
}
