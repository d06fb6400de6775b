//! What an operator may choose about signing in.

use std::path::PathBuf;

use protocol::Millis;

use crate::auth::{keys::Seal, passwords::PasswordSettings, throttle::Backoff};

const DAY_MS: Millis = 24 * 60 * 60_000;

/// Lifetimes and costs.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// `iss` and `aud` of access tokens: which installation they are for. Default `rookery`.
    pub issuer: String,
    /// An access token lives this long, in milliseconds. Default 10 minutes.
    pub access_ms: Millis,
    /// A sign-in that is not used ends after this long, in milliseconds. Default 30 days.
    pub sign_in_ms: Millis,
    /// A ticket lives this long, in milliseconds. Default 30 s.
    pub ticket_ms: Millis,
    /// A key of the store signs this long, in milliseconds. Default 30 days.
    pub key_ms: Millis,
    /// Seals the keys that are written to the store. The same secret on every node. Default none: who can read the store
    /// can sign.
    pub seal: Option<Seal>,
    /// Files with the keys, each an Ed25519 key as PKCS #8 in PEM: the first signs, all verify. Then the store's keys are
    /// neither read nor made, and neither `key_ms` nor `seal` means anything. Default none.
    pub key_files: Vec<PathBuf>,
    /// Costs of passwords.
    pub passwords: PasswordSettings,
    /// Failed sign-ins to one account.
    pub per_account: Backoff,
    /// Failed sign-ins from one address.
    pub per_address: Backoff,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            issuer: "rookery".into(),
            access_ms: 10 * 60_000,
            sign_in_ms: 30 * DAY_MS,
            ticket_ms: 30_000,
            key_ms: 30 * DAY_MS,
            seal: None,
            key_files: Vec::new(),
            passwords: PasswordSettings::default(),
            per_account: Backoff::ACCOUNT,
            per_address: Backoff::ADDRESS,
        }
    }
}
