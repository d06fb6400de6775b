//! Signing in, refreshing, signing out. The store's compare-and-set decides between two that refresh together.

use std::net::IpAddr;

use actors::session::Refusal;
use protocol::{DeviceId, ErrorCode, Millis, UserId};
use store::accounts::{SignIn, TokenFamily, UserRecord};

use crate::auth::{
    Auth,
    family::{self, Decision},
    passwords::Verified,
    secret::{RefreshToken, Secret},
    store_failed,
};

/// Another node may rotate at the same moment, but each that loses finds the family rotated: one more look decides.
const ROTATION_TRIES: usize = 4;

/// What somebody holds after signing in or refreshing. Not `Debug`: it holds secrets.
pub struct Tokens {
    /// Whose.
    pub user: UserRecord,
    /// The sign-in.
    pub device: DeviceId,
    /// For requests and sockets.
    pub access_token: String,
    /// When it ends.
    pub access_expires_at: Millis,
    /// For the next refresh.
    pub refresh_token: String,
    /// When the sign-in ends if it is not refreshed before.
    pub refresh_expires_at: Millis,
}

/// Why a refresh token was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// An old token was shown: the sign-in was ended, and its sockets are to be closed.
    #[error("a refresh token was used twice: the sign-in is ended")]
    Reused {
        /// Whose.
        user: UserId,
        /// The sign-in.
        device: DeviceId,
    },
    /// Anything else.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Auth {
    /// A password's hash, for a new account or a new password.
    ///
    /// # Errors
    /// `overloaded` when too many passwords are being hashed.
    pub async fn hash_password(&self, password: &str) -> Result<String, Refusal> {
        self.passwords.hash(password).await
    }

    /// Signs somebody in on a new device.
    ///
    /// # Errors
    /// `unauthenticated` for a wrong name or password, told alike and equally late; `disabled`; `rate_limited` after
    /// too many failures; `overloaded`; `unavailable`.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        label: &str,
        address: IpAddr,
    ) -> Result<Tokens, Refusal> {
        let name = name.to_ascii_lowercase();
        self.admit(&name, address)?;
        let user = self.store.user_by_name(&name).await.map_err(store_failed)?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let verified = match self.passwords.verify(password, hash).await {
            Ok(verified) => verified,
            Err(refusal) => return Err(self.not_compared(&name, address, refusal)),
        };
        let user = match user {
            Some(user) if verified != Verified::Wrong => user,
            Some(_) | None => return Err(wrong()),
        };
        self.accounts.forgive(&name);
        self.addresses.take_back(&network(address));
        if user.disabled {
            return Err(disabled());
        }
        let user =
            if verified == Verified::RightButOutdated { self.rehash(user, password).await? } else { user };
        self.open(user, label).await
    }

    /// Compares an account's password, throttled like a sign-in.
    ///
    /// # Errors
    /// `forbidden` if it is another; `rate_limited`, `overloaded`.
    pub async fn check_password(
        &self,
        user: &UserRecord,
        password: &str,
        address: IpAddr,
    ) -> Result<(), Refusal> {
        self.admit(&user.name, address)?;
        let verified = match self.passwords.verify(password, Some(&user.password_hash)).await {
            Ok(verified) => verified,
            Err(refusal) => return Err(self.not_compared(&user.name, address, refusal)),
        };
        if verified == Verified::Wrong {
            return Err(Refusal::new(ErrorCode::Forbidden, "the old password is another"));
        }
        self.accounts.forgive(&user.name);
        self.addresses.take_back(&network(address));
        Ok(())
    }

    /// Makes a device for an account whose owner has proved who they are.
    ///
    /// # Errors
    /// When the store is away, or the account changed meanwhile.
    pub async fn open(&self, user: UserRecord, label: &str) -> Result<Tokens, Refusal> {
        let now = self.clock.now();
        let device = DeviceId::from_u128(self.chance.bits());
        let token = RefreshToken { device, secret: Secret::random(&*self.chance) };
        let sign_in = SignIn {
            device,
            user: user.user,
            label: label.to_owned(),
            created_at: now,
            last_used_at: now,
            expires_at: now + self.settings.sign_in_ms,
            tokens: TokenFamily { current: token.secret.hash(), previous: None, rotated_at: now },
        };
        self.store.create_sign_in(&sign_in).await.map_err(store_failed)?;
        // The password may have changed, or the account been disabled, since it was compared; whoever did that could
        // not see this device yet.
        let still = self.store.user(user.user).await.map_err(store_failed)?;
        match still {
            Some(still) if still.password_hash == user.password_hash && !still.disabled => {
                self.tokens(still, token, sign_in.expires_at).await
            }
            changed => {
                self.store.end_sign_in(device).await.map_err(store_failed)?;
                Err(if changed.is_some_and(|user| user.disabled) { disabled() } else { wrong() })
            }
        }
    }

    /// Takes a refresh token and gives its successor.
    ///
    /// # Errors
    /// When the token does not count, or was used before; see [`crate::auth::family`].
    pub async fn refresh(&self, token: &str) -> Result<Tokens, RefreshError> {
        let token = RefreshToken::parse(token).ok_or_else(unknown_token)?;
        for _ in 0..ROTATION_TRIES {
            let sign_in = self.standing_sign_in(token.device).await?;
            let user =
                self.store.user(sign_in.user).await.map_err(store_failed)?.ok_or_else(unknown_token)?;
            if user.disabled {
                return Err(disabled().into());
            }
            let now = self.clock.now();
            match family::decide(&sign_in.tokens, token.secret.hash(), now) {
                Decision::Rotate => {
                    if let Some(next) = self.rotate(&token, now).await? {
                        return Ok(self.tokens(user, next, now + self.settings.sign_in_ms).await?);
                    }
                }
                Decision::Repeat => {
                    let next = self.repeated(&token, &sign_in.tokens).await?;
                    return Ok(self.tokens(user, next, sign_in.expires_at).await?);
                }
                Decision::Reuse => {
                    self.store.end_sign_in(token.device).await.map_err(store_failed)?;
                    return Err(RefreshError::Reused { user: sign_in.user, device: token.device });
                }
            }
        }
        Err(Refusal::new(ErrorCode::Unavailable, "too many refresh at once").retry_after(100).into())
    }

    /// Ends the sign-in of a refresh token; whose it was.
    ///
    /// # Errors
    /// As [`Self::refresh`]; an old token ends the sign-in as well, and says that it was reuse.
    pub async fn end_by_token(&self, token: &str) -> Result<(UserId, DeviceId), RefreshError> {
        let token = RefreshToken::parse(token).ok_or_else(unknown_token)?;
        let sign_in = self.standing_sign_in(token.device).await?;
        let decision = family::decide(&sign_in.tokens, token.secret.hash(), self.clock.now());
        self.store.end_sign_in(token.device).await.map_err(store_failed)?;
        match decision {
            Decision::Rotate | Decision::Repeat => Ok((sign_in.user, sign_in.device)),
            Decision::Reuse => Err(RefreshError::Reused { user: sign_in.user, device: sign_in.device }),
        }
    }

    /// Puts the token's successor in its place; `None` if somebody else was quicker.
    async fn rotate(&self, token: &RefreshToken, now: Millis) -> Result<Option<RefreshToken>, Refusal> {
        let key = self.keys.newest().await.map_err(store_failed)?;
        let next = RefreshToken { device: token.device, secret: key.successor(&token.secret) };
        let family = family::rotated(token.secret.hash(), next.secret.hash(), now);
        let expires_at = now + self.settings.sign_in_ms;
        let applied = self.store.rotate_tokens(token.device, token.secret.hash(), family, expires_at).await;
        Ok(applied.map_err(store_failed)?.then_some(next))
    }

    /// The successor that an earlier showing of this token got: the one that the family knows.
    async fn repeated(&self, token: &RefreshToken, family: &TokenFamily) -> Result<RefreshToken, Refusal> {
        let find = || {
            let keys = self.keys.all();
            let secrets = keys.iter().map(|key| key.successor(&token.secret));
            secrets.into_iter().find(|secret| secret.hash() == family.current)
        };
        let secret = match find() {
            Some(secret) => secret,
            None => {
                // Another node rotated with a key that this one has not read yet.
                self.keys.reload().await.map_err(store_failed)?;
                find().ok_or_else(unknown_token)?
            }
        };
        Ok(RefreshToken { device: token.device, secret })
    }

    async fn standing_sign_in(&self, device: DeviceId) -> Result<SignIn, Refusal> {
        let sign_in = self.store.sign_in(device).await.map_err(store_failed)?;
        sign_in.filter(|sign_in| sign_in.expires_at > self.clock.now()).ok_or_else(unknown_token)
    }

    async fn tokens(
        &self,
        user: UserRecord,
        refresh: RefreshToken,
        refresh_expires_at: Millis,
    ) -> Result<Tokens, Refusal> {
        let (access_token, access_expires_at) = self.access_token(user.user, refresh.device).await?;
        Ok(Tokens {
            user,
            device: refresh.device,
            access_token,
            access_expires_at,
            refresh_token: refresh.text(),
            refresh_expires_at,
        })
    }

    async fn rehash(&self, mut user: UserRecord, password: &str) -> Result<UserRecord, Refusal> {
        let hash = self.passwords.hash(password).await?;
        // Nobody may have chosen another password meanwhile: theirs stays.
        let now = self.store.user(user.user).await.map_err(store_failed)?;
        if now.is_some_and(|now| now.password_hash == user.password_hash) {
            self.store.set_password(user.user, &hash).await.map_err(store_failed)?;
            user.password_hash = hash;
        }
        Ok(user)
    }

    /// Not compared, so not guessed: the attempt does not count.
    fn not_compared(&self, name: &str, address: IpAddr, refusal: Refusal) -> Refusal {
        self.accounts.take_back(&name);
        self.addresses.take_back(&network(address));
        refusal
    }

    fn admit(&self, name: &str, address: IpAddr) -> Result<(), Refusal> {
        let now = self.clock.now();
        let too_many =
            |wait| Refusal::new(ErrorCode::RateLimited, "too many failed sign-ins").retry_after(wait);
        self.addresses.attempt(&network(address), now).map_err(too_many)?;
        self.accounts.attempt(&name, now).map_err(|wait| {
            self.addresses.take_back(&network(address));
            too_many(wait)
        })
    }
}

/// What counts as one stranger: an IPv4 address, or the /64 that an IPv6 host has to itself.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

fn wrong() -> Refusal {
    Refusal::new(ErrorCode::Unauthenticated, "wrong name or password")
}

fn disabled() -> Refusal {
    Refusal::new(ErrorCode::Disabled, "the account is disabled")
}

fn unknown_token() -> Refusal {
    Refusal::new(ErrorCode::Unauthenticated, "the refresh token is not valid: sign in")
}
