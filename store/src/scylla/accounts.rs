//! Accounts. A name and an address each have one holder: whoever wrote the row with the key first.
//!
//! ```text
//!   account, not ready ─▶ name taken ─▶ address taken ─▶ listed ─▶ ready
//! ```
//!
//! A maker that dies in between leaves an account that is not one. Whoever wants its name later takes the account away,
//! on the condition that it is still not ready, and then the name.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{DeviceId, Millis, UserId};
use scylla::{DeserializeRow, statement::prepared::PreparedStatement};

use super::{
    Core, FAN_OUT, ScyllaStore,
    codec::{bits, int, limit},
};
use crate::{
    Accounts, Listing, StoreError,
    accounts::{ERASED_NAME, NewUser, ProfileChange, SignIn, SigningKey, Ticket, TokenFamily, UserRecord},
    listing,
};

/// How old an account is, by the time of the one that wants its name, that was never made ready.
const ABANDONED: Millis = 10 * 60 * 1000;

/// Partitions of the list of names: one for each first byte, in its order.
const NAME_SLOTS: i32 = 256;

/// Times that a change is tried again because another came first.
const TRIES: usize = 8;

#[derive(DeserializeRow)]
struct AccountRow {
    user: Vec<u8>,
    name: String,
    display_name: String,
    full_name: String,
    email: String,
    colour: String,
    password_hash: String,
    disabled: bool,
    created_at: i64,
    ready: bool,
}

impl AccountRow {
    fn record(self) -> Result<UserRecord, StoreError> {
        Ok(UserRecord {
            user: UserId::from_u128(bits(&self.user)?),
            name: self.name,
            display_name: self.display_name,
            full_name: Some(self.full_name).filter(|name| !name.is_empty()),
            email: Some(self.email).filter(|email| !email.is_empty()),
            colour: self.colour,
            password_hash: self.password_hash,
            disabled: self.disabled,
            created_at: self.created_at.cast_unsigned(),
        })
    }
}

/// What has one holder.
#[derive(Clone)]
struct Key {
    what: &'static str,
    key: String,
}

impl Key {
    fn of_name(name: &str) -> Self {
        Self { what: "name", key: listing::key(name) }
    }

    fn of_email(email: &str) -> Self {
        Self { what: "email", key: listing::key(email) }
    }
}

fn name_slot(key: &str) -> i32 {
    key.bytes().next().map_or(0, i32::from)
}

impl Core {
    async fn account(
        &self,
        query: &PreparedStatement,
        user: UserId,
    ) -> Result<Option<AccountRow>, StoreError> {
        self.first(query, (user.to_bytes(),)).await
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRecord>, StoreError> {
        let found = self.account(&self.statements.account_soon, user).await?;
        found.filter(|row| row.ready).map(AccountRow::record).transpose()
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        let found = stream::iter(users.to_vec()).map(|user| self.user(user)).buffered(FAN_OUT);
        found.try_filter_map(async |user| Ok(user)).try_collect().await
    }

    async fn holder(&self, query: &PreparedStatement, key: &Key) -> Result<Option<UserId>, StoreError> {
        let found: Option<(Vec<u8>,)> = self.first(query, (key.what, &key.key)).await?;
        found.map(|(user,)| Ok(UserId::from_u128(bits(&user)?))).transpose()
    }

    async fn create_user(&self, user: &UserRecord) -> Result<NewUser, StoreError> {
        let id = user.user.to_bytes();
        let values = (
            id,
            &user.name,
            &user.display_name,
            user.full_name.as_deref().unwrap_or_default(),
            user.email.as_deref().unwrap_or_default(),
            &user.colour,
            &user.password_hash,
            user.disabled,
            int(user.created_at),
        );
        self.cas(&self.statements.create_account, values).await?;
        let name = Key::of_name(&user.name);
        if !self.take(&name, user).await? {
            self.give_up(user, &[]).await?;
            return Ok(NewUser::NameTaken);
        }
        let email = user.email.as_deref().map(Key::of_email);
        if let Some(email) = &email
            && !self.take(email, user).await?
        {
            self.give_up(user, &[name]).await?;
            return Ok(NewUser::EmailTaken);
        }
        self.upsert(&self.statements.put_name, (name_slot(&name.key), &name.key, id)).await?;
        if self.cas(&self.statements.make_ready, (id,)).await? || self.user_now(user.user).await?.is_some() {
            return Ok(NewUser::Created);
        }
        Err(StoreError::Unavailable(
            "the account took so long to make that it was taken for abandoned".to_owned(),
        ))
    }

    /// The address first: who was interrupted after that asks again, and finds no key to leave.
    async fn erase_profile(&self, user: UserId) -> Result<bool, StoreError> {
        let Some(found) = self.user_now(user).await? else { return Ok(false) };
        if let Some(email) = found.email.as_deref().map(Key::of_email) {
            self.cas(&self.statements.leave_key, (email.what, &email.key, user.to_bytes())).await?;
        }
        self.cas(&self.statements.erase_profile, (ERASED_NAME, user.to_bytes())).await
    }

    /// An account as conditional writes see it.
    async fn user_now(&self, user: UserId) -> Result<Option<UserRecord>, StoreError> {
        let found = self.account(&self.statements.account, user).await?;
        found.filter(|row| row.ready).map(AccountRow::record).transpose()
    }

    /// Takes a key, if nobody else holds it for an account.
    async fn take(&self, key: &Key, user: &UserRecord) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            if self.cas(&self.statements.take_key, (key.what, &key.key, user.user.to_bytes())).await? {
                return Ok(true);
            }
            let Some(holder) = self.holder(&self.statements.key_holder, key).await? else { continue };
            if holder == user.user {
                return Ok(true);
            }
            if !self.is_abandoned(holder, user.created_at).await? {
                return Ok(false);
            }
            self.cas(&self.statements.leave_key, (key.what, &key.key, holder.to_bytes())).await?;
        }
        Err(StoreError::Unavailable(format!("too many want this {}", key.what)))
    }

    /// Whether the holder of a key has no account and will never have one.
    async fn is_abandoned(&self, holder: UserId, now: Millis) -> Result<bool, StoreError> {
        match self.account(&self.statements.account, holder).await? {
            None => Ok(true),
            Some(row) if row.ready => Ok(false),
            Some(row) if row.created_at.cast_unsigned().saturating_add(ABANDONED) > now => Ok(false),
            Some(_) => self.cas(&self.statements.drop_unready, (holder.to_bytes(),)).await,
        }
    }

    /// Takes back what a refused account has written.
    async fn give_up(&self, user: &UserRecord, keys: &[Key]) -> Result<(), StoreError> {
        let id = user.user.to_bytes();
        // Unless it is an account already, and was asked for again with another name.
        if self.cas(&self.statements.drop_unready, (id,)).await? {
            for key in keys {
                self.cas(&self.statements.leave_key, (key.what, &key.key, id)).await?;
            }
        }
        Ok(())
    }

    /// Accounts whose names begin so, by name, as far as they are wanted.
    async fn users_by_name(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        most: usize,
        is_wanted: fn(&UserRecord) -> bool,
    ) -> Result<Listing<UserRecord>, StoreError> {
        let (prefix, most) = (listing::key(prefix), listing::clamp(most));
        let mut after = listing::after_name(&prefix, cursor)?.map(str::to_owned);
        let mut items: Vec<UserRecord> = Vec::new();
        let slots = if prefix.is_empty() {
            after.as_deref().map_or(0, name_slot)..NAME_SLOTS
        } else {
            name_slot(&prefix)..name_slot(&prefix) + 1
        };
        for slot in slots {
            loop {
                let (users, last) = self.names_of_slot(slot, &prefix, after.as_deref(), most + 1).await?;
                items.extend(self.users(&users).await?.into_iter().filter(is_wanted));
                if items.len() > most {
                    return Ok(listing::cut(items, most, |user| listing::key(&user.name)));
                }
                if last.is_none() {
                    break;
                }
                after = last;
            }
            after = None;
        }
        Ok(listing::cut(items, most, |user| listing::key(&user.name)))
    }

    /// Holders of names with a prefix, and the last name if there may be more.
    async fn names_of_slot(
        &self,
        slot: i32,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<UserId>, Option<String>), StoreError> {
        // The name that is just the prefix belongs to it; nothing comes between the text without its last sign and it.
        let (from, is_first) = after.map_or((prefix, true), |after| (after, false));
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        if is_first && !prefix.is_empty() {
            let holder = self.holder(&self.statements.key_holder_soon, &Key::of_name(prefix)).await?;
            found.extend(holder.map(|user| (prefix.to_owned(), user.to_bytes().to_vec())));
        }
        let rows: Vec<(String, Vec<u8>)> =
            self.rows(&self.statements.names, (slot, from, limit(most))).await?;
        let is_end = rows.len() < most || rows.iter().any(|(name, _)| !name.starts_with(prefix));
        found.extend(rows.into_iter().filter(|(name, _)| name.starts_with(prefix)));
        let last = found.last().filter(|_| !is_end).map(|(name, _)| name.clone());
        let users = found.iter().map(|(_, user)| Ok(UserId::from_u128(bits(user)?)));
        Ok((users.collect::<Result<_, StoreError>>()?, last))
    }

    async fn update_profile(
        &self,
        user: UserId,
        change: &ProfileChange,
    ) -> Result<Option<UserRecord>, StoreError> {
        for _ in 0..TRIES {
            let Some(before) = self.user_now(user).await? else { return Ok(None) };
            let mut after = before.clone();
            change.apply(&mut after);
            let values = (
                &after.display_name,
                after.full_name.as_deref().unwrap_or_default(),
                &after.colour,
                user.to_bytes(),
                &before.display_name,
                before.full_name.as_deref().unwrap_or_default(),
                &before.colour,
            );
            if self.cas(&self.statements.update_profile, values).await? {
                return Ok(Some(after));
            }
        }
        Err(StoreError::Unavailable("too many change this profile".to_owned()))
    }
}

#[async_trait]
impl Accounts for ScyllaStore {
    async fn create_user(&self, user: &UserRecord) -> Result<NewUser, StoreError> {
        self.core.create_user(user).await
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRecord>, StoreError> {
        self.core.user(user).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        self.core.users(users).await
    }

    async fn user_by_name(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let core = &self.core;
        match core.holder(&core.statements.key_holder_soon, &Key::of_name(name)).await? {
            Some(user) => core.user(user).await,
            None => Ok(None),
        }
    }

    async fn users_by_prefix(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRecord>, StoreError> {
        self.core.users_by_name(prefix, cursor, limit, |user| !user.disabled).await
    }

    async fn all_users(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<UserRecord>, StoreError> {
        self.core.users_by_name("", cursor, limit, |_| true).await
    }

    async fn update_profile(
        &self,
        user: UserId,
        change: &ProfileChange,
    ) -> Result<Option<UserRecord>, StoreError> {
        self.core.update_profile(user, change).await
    }

    async fn set_password(&self, user: UserId, password_hash: &str) -> Result<bool, StoreError> {
        self.core.cas(&self.core.statements.set_password, (password_hash, user.to_bytes())).await
    }

    async fn set_disabled(&self, user: UserId, disabled: bool) -> Result<bool, StoreError> {
        self.core.cas(&self.core.statements.set_disabled, (disabled, user.to_bytes())).await
    }

    async fn erase_profile(&self, user: UserId) -> Result<bool, StoreError> {
        self.core.erase_profile(user).await
    }

    async fn block(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.core.upsert(&self.core.statements.block, (user.to_bytes(), other.to_bytes())).await
    }

    async fn unblock(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.core.upsert(&self.core.statements.unblock, (user.to_bytes(), other.to_bytes())).await
    }

    async fn blocked_by(&self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        let found: Vec<(Vec<u8>,)> = self.core.rows(&self.core.statements.blocks, (user.to_bytes(),)).await?;
        found.iter().map(|(other,)| Ok(UserId::from_u128(bits(other)?))).collect()
    }

    async fn create_sign_in(&self, sign_in: &SignIn) -> Result<(), StoreError> {
        self.core.create_sign_in(sign_in).await
    }

    async fn sign_in(&self, device: DeviceId) -> Result<Option<SignIn>, StoreError> {
        self.core.sign_in(device).await
    }

    async fn sign_ins(&self, user: UserId) -> Result<Vec<SignIn>, StoreError> {
        self.core.sign_ins(user).await
    }

    async fn rotate_tokens(
        &self,
        device: DeviceId,
        current: [u8; 32],
        next: TokenFamily,
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        self.core.rotate_tokens(device, current, next, expires_at).await
    }

    async fn end_sign_in(&self, device: DeviceId) -> Result<bool, StoreError> {
        self.core.end_sign_in(device).await
    }

    async fn end_sign_ins(
        &self,
        user: UserId,
        except: Option<DeviceId>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        self.core.end_sign_ins(user, except).await
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket) -> Result<(), StoreError> {
        self.core.put_ticket(hash, ticket).await
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, StoreError> {
        self.core.take_ticket(hash, now).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.core.signing_keys().await
    }

    async fn put_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        self.core.put_signing_key(key).await
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<(), StoreError> {
        self.core.drop_signing_keys(before).await
    }
}
