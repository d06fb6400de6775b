//! Accounts and sign-ins in memory.

use std::cmp::Reverse;

use async_trait::async_trait;
use protocol::{DeviceId, Millis, UserId};

use super::{MemoryStore, State};
use crate::{
    Accounts, Listing, StoreError,
    accounts::{ERASED_NAME, NewUser, ProfileChange, SignIn, SigningKey, Ticket, TokenFamily, UserRecord},
    listing,
};

impl State {
    fn create_user(&mut self, user: &UserRecord) -> NewUser {
        let name = listing::key(&user.name);
        let email = user.email.as_deref().map(listing::key);
        if self.names.get(&name).is_some_and(|holder| *holder != user.user) {
            return NewUser::NameTaken;
        }
        if email.as_ref().and_then(|email| self.emails.get(email)).is_some_and(|holder| *holder != user.user)
        {
            return NewUser::EmailTaken;
        }
        if self.users.contains_key(&user.user) {
            return NewUser::Created;
        }
        self.names.insert(name, user.user);
        self.emails.extend(email.map(|email| (email, user.user)));
        self.users.insert(user.user, user.clone());
        NewUser::Created
    }
}

#[async_trait]
impl Accounts for MemoryStore {
    async fn create_user(&self, user: &UserRecord) -> Result<NewUser, StoreError> {
        Ok(self.state().create_user(user))
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.state().users.get(&user).cloned())
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        let state = self.state();
        Ok(users.iter().filter_map(|user| state.users.get(user).cloned()).collect())
    }

    async fn user_by_name(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let state = self.state();
        Ok(state.names.get(&listing::key(name)).and_then(|user| state.users.get(user)).cloned())
    }

    async fn users_by_prefix(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRecord>, StoreError> {
        let (prefix, limit) = (listing::key(prefix), listing::clamp(limit));
        let after = listing::after_name(&prefix, cursor)?;
        let state = self.state();
        let names = state.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let names = names.filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let users = names.filter_map(|(_, user)| state.users.get(user)).filter(|user| !user.disabled);
        let items = users.take(limit + 1).cloned().collect();
        Ok(listing::cut(items, limit, |user: &UserRecord| listing::key(&user.name)))
    }

    async fn all_users(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<UserRecord>, StoreError> {
        let after: Option<UserId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        let state = self.state();
        let users = state.users.values().filter(|user| after.is_none_or(|after| user.user > after));
        Ok(listing::cut(users.take(limit + 1).cloned().collect(), limit, |user: &UserRecord| {
            user.user.to_string()
        }))
    }

    async fn update_profile(
        &self,
        user: UserId,
        change: &ProfileChange,
    ) -> Result<Option<UserRecord>, StoreError> {
        let mut state = self.state();
        let found = state.users.get_mut(&user);
        Ok(found.map(|user| {
            change.apply(user);
            user.clone()
        }))
    }

    async fn set_password(&self, user: UserId, password_hash: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let found = state.users.get_mut(&user);
        Ok(found.map(|user| user.password_hash = password_hash.to_owned()).is_some())
    }

    async fn set_disabled(&self, user: UserId, disabled: bool) -> Result<bool, StoreError> {
        let mut state = self.state();
        let found = state.users.get_mut(&user);
        Ok(found.map(|user| user.disabled = disabled).is_some())
    }

    async fn erase_profile(&self, user: UserId) -> Result<bool, StoreError> {
        let mut state = self.state();
        let Some(found) = state.users.get_mut(&user) else { return Ok(false) };
        found.display_name = ERASED_NAME.to_owned();
        found.full_name = None;
        found.email = None;
        found.disabled = true;
        state.emails.retain(|_, holder| *holder != user);
        Ok(true)
    }

    async fn block(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.state().blocks.insert((user, other));
        Ok(())
    }

    async fn unblock(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.state().blocks.remove(&(user, other));
        Ok(())
    }

    async fn blocked_by(&self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        let state = self.state();
        let blocks = state.blocks.range((user, UserId::from_u128(0))..).take_while(|(who, _)| *who == user);
        Ok(blocks.take(10_000).map(|(_, other)| *other).collect())
    }

    async fn create_sign_in(&self, sign_in: &SignIn) -> Result<(), StoreError> {
        self.state().sign_ins.entry(sign_in.device).or_insert_with(|| sign_in.clone());
        Ok(())
    }

    async fn sign_in(&self, device: DeviceId) -> Result<Option<SignIn>, StoreError> {
        Ok(self.state().sign_ins.get(&device).cloned())
    }

    async fn sign_ins(&self, user: UserId) -> Result<Vec<SignIn>, StoreError> {
        let state = self.state();
        let mut found: Vec<_> =
            state.sign_ins.values().filter(|sign_in| sign_in.user == user).cloned().collect();
        found.sort_by_key(|sign_in| (Reverse(sign_in.created_at), sign_in.device));
        found.truncate(1000);
        Ok(found)
    }

    async fn rotate_tokens(
        &self,
        device: DeviceId,
        current: [u8; 32],
        next: TokenFamily,
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        let mut state = self.state();
        let found = state.sign_ins.get_mut(&device).filter(|sign_in| sign_in.tokens.current == current);
        Ok(found
            .map(|sign_in| {
                sign_in.tokens = next;
                sign_in.last_used_at = next.rotated_at;
                sign_in.expires_at = expires_at;
            })
            .is_some())
    }

    async fn end_sign_in(&self, device: DeviceId) -> Result<bool, StoreError> {
        Ok(self.state().sign_ins.remove(&device).is_some())
    }

    async fn end_sign_ins(
        &self,
        user: UserId,
        except: Option<DeviceId>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let mut state = self.state();
        let theirs =
            state.sign_ins.values().filter(|sign_in| sign_in.user == user).map(|sign_in| sign_in.device);
        let ended: Vec<_> = theirs.filter(|device| Some(*device) != except).collect();
        state.sign_ins.retain(|device, _| !ended.contains(device));
        Ok(ended)
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket) -> Result<(), StoreError> {
        self.state().tickets.insert(hash, ticket);
        Ok(())
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, StoreError> {
        let mut state = self.state();
        let taken = state.tickets.remove(&hash).filter(|ticket| ticket.expires_at > now);
        state.tickets.retain(|_, ticket| ticket.expires_at > now);
        Ok(taken)
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        Ok(self.state().keys.clone())
    }

    async fn put_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.keys.iter().all(|kept| kept.key_id != key.key_id) {
            state.keys.push(key.clone());
            state
                .keys
                .sort_by(|one, other| (other.created_at, &other.key_id).cmp(&(one.created_at, &one.key_id)));
        }
        Ok(())
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<(), StoreError> {
        let mut state = self.state();
        let newest = state.keys.first().map(|key| key.key_id.clone());
        state.keys.retain(|key| key.created_at >= before || Some(&key.key_id) == newest.as_ref());
        Ok(())
    }
}
