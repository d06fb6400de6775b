//! The keys that sign access tokens, kept in the store so that every node of a cluster verifies what another signed.
//!
//! The newest key signs; older ones verify until the last token they signed has ended, and are dropped then. When the
//! newest has signed for [`crate::auth::AuthSettings::key_ms`], whoever signs next makes another. Two nodes that do so
//! at the same time make two: both verify, one of them signs.
//!
//! The key that derives the successors of refresh tokens (see [`crate::auth::family`]) is derived from the signing
//! key, under a context of its own, so there is one secret to keep and to rotate. A repeat may fall behind a rotation
//! of the keys: then an older key's successor is the one that the family knows, so all are tried.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use actors::{Chance, Clock};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
};
use protocol::Millis;
use store::{Store, StoreError, accounts};

use crate::auth::secret::Secret;

/// An unknown key id asks the store at most this often, in milliseconds: strangers can invent ids.
const RELOAD_MS: Millis = 1_000;
/// Beyond the life of its last token a key is kept this much longer, in milliseconds: clocks differ.
const KEEP_MS: Millis = 60 * 60_000;

/// One key.
pub(crate) struct Key {
    /// Its name in tokens.
    pub(crate) id: String,
    /// What signs.
    pub(crate) signing: SigningKey,
    successor: [u8; 32],
    created_at: Millis,
}

impl Key {
    fn read(kept: &accounts::SigningKey) -> Option<Self> {
        let signing = SigningKey::from_pkcs8_der(&kept.private).ok()?;
        let successor = blake3::derive_key("rookery 2026-11 refresh token successor", signing.as_bytes());
        Some(Self { id: kept.key_id.clone(), signing, successor, created_at: kept.created_at })
    }

    /// The refresh token that follows `secret`.
    pub(crate) fn successor(&self, secret: &Secret<32>) -> Secret<32> {
        Secret::from_bytes(*blake3::keyed_hash(&self.successor, secret.bytes()).as_bytes())
    }

    fn public(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }
}

/// How long keys sign and tokens live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    /// A key signs this long, in milliseconds.
    pub(crate) key_ms: Millis,
    /// A token lives this long, in milliseconds.
    pub(crate) token_ms: Millis,
}

type Ring = Arc<Vec<Arc<Key>>>;

/// All keys.
pub(crate) struct Keys {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    lifetimes: Lifetimes,
    /// Newest first; never empty after [`Self::load`].
    ring: RwLock<Ring>,
    reloaded_at: AtomicU64,
    /// One rotation at a time in this process.
    rotation: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Reads the keys, and makes the first one if there is none.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        lifetimes: Lifetimes,
    ) -> Result<Self, StoreError> {
        let keys = Self {
            store,
            clock,
            chance,
            lifetimes,
            ring: RwLock::default(),
            reloaded_at: AtomicU64::new(0),
            rotation: tokio::sync::Mutex::default(),
        };
        keys.reload().await?;
        keys.newest().await?;
        Ok(keys)
    }

    /// The key that signs now.
    pub(crate) async fn newest(&self) -> Result<Arc<Key>, StoreError> {
        if let Some(key) = self.fresh() {
            return Ok(key);
        }
        let _one = self.rotation.lock().await;
        if let Some(key) = self.fresh() {
            return Ok(key);
        }
        // Another node may have made one.
        self.reload().await?;
        if let Some(key) = self.fresh() {
            return Ok(key);
        }
        self.make().await
    }

    /// The key with this id, if it is one of ours.
    pub(crate) async fn verifying(&self, id: &str) -> Result<Option<VerifyingKey>, StoreError> {
        if let Some(key) = self.find(id) {
            return Ok(Some(key));
        }
        let now = self.clock.now();
        let last = self.reloaded_at.load(Ordering::Relaxed);
        if now.saturating_sub(last) < RELOAD_MS && now >= last {
            return Ok(None);
        }
        self.reload().await?;
        Ok(self.find(id))
    }

    /// All keys, newest first.
    pub(crate) fn all(&self) -> Ring {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys from the store.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        self.reloaded_at.store(self.clock.now(), Ordering::Relaxed);
        let kept = self.store.signing_keys().await?;
        let keys = kept.iter().filter_map(|kept| {
            let key = Key::read(kept);
            if key.is_none() {
                tracing::error!(key_id = kept.key_id, "a signing key of the store can't be read");
            }
            key.map(Arc::new)
        });
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys.collect());
        Ok(())
    }

    /// The public halves as a JSON web key set.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        let keys = self.all();
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.id,
                    "x": BASE64URL_NOPAD.encode(key.public().as_bytes()),
                })
            })
            .collect();
        serde_json::json!({ "keys": keys })
    }

    fn fresh(&self) -> Option<Arc<Key>> {
        let newest = self.all().first().cloned()?;
        let age = self.clock.now().saturating_sub(newest.created_at);
        (age < self.lifetimes.key_ms).then_some(newest)
    }

    fn find(&self, id: &str) -> Option<VerifyingKey> {
        self.all().iter().find(|key| key.id == id).map(|key| key.public())
    }

    async fn make(&self) -> Result<Arc<Key>, StoreError> {
        let now = self.clock.now();
        let seed = Secret::<32>::random(&*self.chance);
        let signing = SigningKey::from_bytes(seed.bytes());
        let id = HEXLOWER.encode(&blake3::hash(signing.verifying_key().as_bytes()).as_bytes()[..8]);
        let der = signing.to_pkcs8_der().expect("an Ed25519 key always has a PKCS #8 form");
        let kept = accounts::SigningKey { key_id: id, private: der.as_bytes().to_vec(), created_at: now };
        self.store.put_signing_key(&kept).await?;
        tracing::info!(key_id = kept.key_id, "a new key signs access tokens");
        self.store.drop_signing_keys(self.useless_before(now)).await?;
        self.reload().await?;
        let made = self.all().iter().find(|key| key.id == kept.key_id).cloned();
        made.ok_or_else(|| StoreError::Unavailable("the new signing key is not there yet".into()))
    }

    /// Keys made before this time have signed nothing that still counts at `now`: the next key was made in time for
    /// their last token to have ended.
    fn useless_before(&self, now: Millis) -> Millis {
        now.saturating_sub(self.lifetimes.key_ms + self.lifetimes.token_ms + KEEP_MS)
    }
}
