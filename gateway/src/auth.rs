//! Who somebody is: passwords, sign-ins, tokens. Everything that proves an identity, for REST and sockets alike.
//!
//! In reading order:
//!
//! * [`passwords`]: Argon2id, in a few threads of its own;
//! * [`throttle`]: slows down who guesses;
//! * [`jwt`] and [`keys`]: access tokens, and the keys that sign them, in the store or in files;
//! * [`secret`]: refresh tokens, tickets and the secrets of invitations;
//! * [`family`]: what to do with a refresh token that is shown;
//! * [`sign_ins`]: signing in, refreshing, signing out.
//!
//! ```text
//!   name + password ──▶ sign-in (a device) ──▶ refresh token ──▶ refresh token ──▶ …   one current at a time
//!                             └── access token, 10 min ── ticket, 30 s, once
//! ```
//!
//! An access token alone is not enough: [`Auth::identify`] also asks the store whether the sign-in still stands and
//! the account is enabled, so that signing out holds at once, on every node.

use std::sync::Arc;

use actors::{Chance, Clock, session::Refusal};
use protocol::{DeviceId, ErrorCode, Millis, UserId};
use store::{Store, StoreError, accounts::Ticket};

use self::{
    jwt::{Claims, Expected, Flaw, Unverified},
    keys::{Keys, Lifetimes, Source},
    passwords::Passwords,
    secret::TicketSecret,
    throttle::Throttle,
};

pub mod family;
mod jwt;
mod keys;
pub mod passwords;
pub(crate) mod secret;
pub mod settings;
pub mod sign_ins;
pub mod throttle;

pub use keys::{KeyFileError, Seal, ShortSecret};
pub use settings::AuthSettings;

/// What somebody shows.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An access token.
    Token(&'a str),
    /// A ticket.
    Ticket(&'a str),
}

/// Who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// The sign-in.
    pub device: DeviceId,
    /// Until when this is known.
    pub expires_at: Millis,
}

/// Why nobody can be signed in.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of [`AuthSettings::key_files`] is not a signing key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
}

/// The judge of credentials. One a node.
pub struct Auth {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    settings: AuthSettings,
    keys: Keys,
    passwords: Passwords,
    accounts: Throttle,
    addresses: Throttle,
}

impl Auth {
    /// Reads the signing keys: from the files of the settings, or else from the store, where it makes the first one if
    /// there is none that can be opened.
    ///
    /// # Errors
    /// When the store is away, or when a file does not hold a signing key.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        settings: AuthSettings,
    ) -> Result<Self, StartError> {
        let lifetimes = Lifetimes { key_ms: settings.key_ms, token_ms: settings.access_ms };
        let source = if settings.key_files.is_empty() {
            Source::Store(settings.seal.clone())
        } else {
            Source::Files(settings.key_files.clone())
        };
        let keys = Keys::load(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&chance), lifetimes, source)
            .await?;
        let passwords = Passwords::new(&settings.passwords, Arc::clone(&chance));
        let (accounts, addresses) =
            (Throttle::new(settings.per_account), Throttle::new(settings.per_address));
        Ok(Self { store, clock, chance, settings, keys, passwords, accounts, addresses })
    }

    /// Who shows this.
    ///
    /// # Errors
    /// `unauthenticated` for what proves nothing, `expired` for a token that was good, `disabled` for an account that
    /// is, `unavailable` when the store is away.
    pub async fn identify(&self, credential: Credential<'_>) -> Result<Identity, ErrorCode> {
        let identity = match credential {
            Credential::Token(token) => self.token(token).await?,
            Credential::Ticket(ticket) => self.redeem(ticket).await?,
        };
        self.standing(identity).await?;
        Ok(identity)
    }

    /// A ticket for this sign-in, and when it ends.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn ticket(&self, of: Identity) -> Result<(String, Millis), Refusal> {
        let secret = TicketSecret::random(&*self.chance);
        let expires_at = self.clock.now() + self.settings.ticket_ms;
        let ticket = Ticket { user: of.user, device: of.device, expires_at };
        self.store.put_ticket(secret.hash(), ticket).await.map_err(store_failed)?;
        Ok((secret.text(), expires_at))
    }

    /// The public keys, as a JSON web key set.
    pub fn jwks(&self) -> serde_json::Value {
        self.keys.jwks()
    }

    /// An access token for this sign-in, and when it ends.
    async fn access_token(&self, user: UserId, device: DeviceId) -> Result<(String, Millis), Refusal> {
        let key = self.keys.newest().await.map_err(store_failed)?;
        let now = self.clock.now() / 1000;
        let issuer = self.settings.issuer.clone();
        let exp = now + self.settings.access_ms / 1000;
        let claims =
            Claims { iss: issuer.clone(), aud: issuer, sub: user, sid: device, nbf: now, iat: now, exp };
        Ok((jwt::sign(&key.signing, &key.id, &claims), exp * 1000))
    }

    async fn token(&self, token: &str) -> Result<Identity, ErrorCode> {
        let parsed = Unverified::parse(token).map_err(flawed)?;
        let key = self.keys.verifying(&parsed.key_id).await.map_err(|error| store_failed(error).code)?;
        let key = key.ok_or(ErrorCode::Unauthenticated)?;
        let issuer = &self.settings.issuer;
        let claims =
            parsed.verify(&key, &Expected { issuer, audience: issuer }, self.clock.now()).map_err(flawed)?;
        Ok(Identity { user: claims.sub, device: claims.sid, expires_at: claims.exp * 1000 })
    }

    /// Takes a ticket; it is spent whatever comes after.
    async fn redeem(&self, ticket: &str) -> Result<Identity, ErrorCode> {
        let secret = TicketSecret::parse(ticket).ok_or(ErrorCode::Unauthenticated)?;
        let now = self.clock.now();
        let found = self.store.take_ticket(secret.hash(), now).await;
        let ticket = found.map_err(|error| store_failed(error).code)?.ok_or(ErrorCode::Unauthenticated)?;
        if ticket.expires_at <= now {
            return Err(ErrorCode::Unauthenticated);
        }
        // As long as an access token made now: the socket refreshes in band before.
        let expires_at = now + self.settings.access_ms;
        Ok(Identity { user: ticket.user, device: ticket.device, expires_at })
    }

    /// Whether the sign-in has not ended and the account is enabled.
    async fn standing(&self, identity: Identity) -> Result<(), ErrorCode> {
        let (sign_in, user) = futures_util::future::try_join(
            self.store.sign_in(identity.device),
            self.store.user(identity.user),
        )
        .await
        .map_err(|error| store_failed(error).code)?;
        let now = self.clock.now();
        let stands = sign_in.is_some_and(|sign_in| sign_in.user == identity.user && sign_in.expires_at > now);
        match user {
            Some(user) if user.disabled => Err(ErrorCode::Disabled),
            Some(_) if stands => Ok(()),
            Some(_) | None => Err(ErrorCode::Unauthenticated),
        }
    }
}

fn flawed(flaw: Flaw) -> ErrorCode {
    match flaw {
        Flaw::Expired => ErrorCode::Expired,
        Flaw::Malformed | Flaw::Signature | Flaw::Elsewhere | Flaw::NotYet => ErrorCode::Unauthenticated,
    }
}

/// What a failed store means to who asked.
pub(crate) fn store_failed(error: StoreError) -> Refusal {
    match error {
        StoreError::Invalid(message) => Refusal::new(ErrorCode::Invalid, message),
        StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::InUse(_) => {
            tracing::warn!(%error, "the store is away");
            Refusal::new(ErrorCode::Unavailable, "the store is away").retry_after(1_000)
        }
        StoreError::Unknown(_) => {
            tracing::warn!(%error, "the store did not say whether it did it");
            let mut refusal = Refusal::new(ErrorCode::Unknown, "nobody can say yet whether it was done");
            refusal.definite = false;
            refusal
        }
        error => {
            tracing::error!(%error, "the store is broken");
            Refusal::new(ErrorCode::Internal, "the store is broken")
        }
    }
}
