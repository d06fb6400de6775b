//! People, their sign-ins, and what proves who they are. Secrets are stored as hashes only.

use async_trait::async_trait;
use protocol::{DeviceId, Millis, UserId};

use crate::{Listing, StoreError};

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its id.
    pub user: UserId,
    /// The name to sign in with; unique ignoring ASCII case.
    pub name: String,
    /// What others see.
    pub display_name: String,
    /// Their full name, if told.
    pub full_name: Option<String>,
    /// Their address, if told; unique ignoring ASCII case.
    pub email: Option<String>,
    /// Colour of their avatar, `#rrggbb`.
    pub colour: String,
    /// Argon2id hash in PHC format.
    pub password_hash: String,
    /// May not sign in; open sockets were closed.
    pub disabled: bool,
    /// When.
    pub created_at: Millis,
}

impl std::fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRecord")
            .field("user", &self.user)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What others see in the place of a name that was erased.
pub const ERASED_NAME: &str = "(erased)";

/// The outcome of making an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewUser {
    /// Made.
    Created,
    /// The name is in use.
    NameTaken,
    /// The address is in use.
    EmailTaken,
}

/// What an account's owner may change. `None` leaves as is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What others see.
    pub display_name: Option<String>,
    /// Their full name; the empty text removes it.
    pub full_name: Option<String>,
    /// Colour of their avatar.
    pub colour: Option<String>,
}

impl ProfileChange {
    /// The account after the change.
    pub fn apply(&self, user: &mut UserRecord) {
        if let Some(name) = &self.display_name {
            user.display_name.clone_from(name);
        }
        if let Some(name) = &self.full_name {
            user.full_name = Some(name.clone()).filter(|name| !name.is_empty());
        }
        if let Some(colour) = &self.colour {
            user.colour.clone_from(colour);
        }
    }
}

/// A sign-in: one device of a user, with its family of refresh tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Its id.
    pub device: DeviceId,
    /// Whose.
    pub user: UserId,
    /// What the user calls it, or what the client says it is.
    pub label: String,
    /// When.
    pub created_at: Millis,
    /// Last refresh.
    pub last_used_at: Millis,
    /// Ends by itself then.
    pub expires_at: Millis,
    /// The tokens.
    pub tokens: TokenFamily,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn")
            .field("device", &self.device)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Which refresh tokens of a sign-in are good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenFamily {
    /// Hash of the token that counts.
    pub current: [u8; 32],
    /// Hash of the one before it.
    pub previous: Option<[u8; 32]>,
    /// When `current` took its place.
    pub rotated_at: Millis,
}

/// A ticket's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Whose.
    pub user: UserId,
    /// Of which sign-in.
    pub device: DeviceId,
    /// Not valid from then on.
    pub expires_at: Millis,
}

/// A key that signs access tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name in tokens.
    pub key_id: String,
    /// PKCS #8 DER, or that sealed: whoever signs knows.
    pub private: Vec<u8>,
    /// When it began to sign.
    pub created_at: Millis,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// People and sign-ins.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes an account.
    async fn create_user(&self, user: &UserRecord) -> Result<NewUser, StoreError>;

    /// An account.
    async fn user(&self, user: UserId) -> Result<Option<UserRecord>, StoreError>;

    /// Several accounts; those that do not exist are left out.
    async fn users(&self, users: &[UserId]) -> Result<Vec<UserRecord>, StoreError>;

    /// The account with this name, ignoring ASCII case.
    async fn user_by_name(&self, name: &str) -> Result<Option<UserRecord>, StoreError>;

    /// Enabled accounts whose name begins so, ignoring ASCII case, by name.
    async fn users_by_prefix(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRecord>, StoreError>;

    /// All accounts, disabled ones too, in an order of the store's own.
    async fn all_users(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<UserRecord>, StoreError>;

    /// Changes a profile; `None` if there is no such account.
    async fn update_profile(
        &self,
        user: UserId,
        change: &ProfileChange,
    ) -> Result<Option<UserRecord>, StoreError>;

    /// Sets the password's hash; `false` if there is no such account.
    async fn set_password(&self, user: UserId, password_hash: &str) -> Result<bool, StoreError>;

    /// Disables or enables an account; `false` if there is no such account.
    async fn set_disabled(&self, user: UserId, disabled: bool) -> Result<bool, StoreError>;

    /// Disables an account and empties its profile: [`ERASED_NAME`] in the place of the shown name, no full name, no
    /// address. The name to sign in with stays, so that nobody else is taken for them. `false` if there is none.
    async fn erase_profile(&self, user: UserId) -> Result<bool, StoreError>;

    /// `user` does not want to hear from `other`.
    async fn block(&self, user: UserId, other: UserId) -> Result<(), StoreError>;

    /// The end of that.
    async fn unblock(&self, user: UserId, other: UserId) -> Result<(), StoreError>;

    /// Whom `user` has blocked; at most 10,000.
    async fn blocked_by(&self, user: UserId) -> Result<Vec<UserId>, StoreError>;

    /// Keeps a new sign-in.
    async fn create_sign_in(&self, sign_in: &SignIn) -> Result<(), StoreError>;

    /// A sign-in that has not ended.
    async fn sign_in(&self, device: DeviceId) -> Result<Option<SignIn>, StoreError>;

    /// A user's sign-ins, newest first; at most 1,000.
    async fn sign_ins(&self, user: UserId) -> Result<Vec<SignIn>, StoreError>;

    /// Puts `next` in the place of the tokens whose current one is `current`, and notes the use; `false` if another
    /// one is current or the sign-in has ended.
    async fn rotate_tokens(
        &self,
        device: DeviceId,
        current: [u8; 32],
        next: TokenFamily,
        expires_at: Millis,
    ) -> Result<bool, StoreError>;

    /// Ends a sign-in; `false` if it had ended.
    async fn end_sign_in(&self, device: DeviceId) -> Result<bool, StoreError>;

    /// Ends all of a user's sign-ins but one; says which.
    async fn end_sign_ins(&self, user: UserId, except: Option<DeviceId>)
    -> Result<Vec<DeviceId>, StoreError>;

    /// Keeps a ticket under the hash of its text.
    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket) -> Result<(), StoreError>;

    /// Takes a ticket away, so that nobody can use it again; `None` if there is none or it has expired at `now`.
    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, StoreError>;

    /// The signing keys, newest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// Keeps a signing key.
    async fn put_signing_key(&self, key: &SigningKey) -> Result<(), StoreError>;

    /// Forgets signing keys that were made before `before`, but never the newest.
    async fn drop_signing_keys(&self, before: Millis) -> Result<(), StoreError>;
}
