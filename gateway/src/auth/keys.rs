//! The keys that sign access tokens. They lie in the store, sealed if there is a [`Seal`], so that every node of a cluster
//! verifies what another signed; or in files that the operator keeps.
//!
//! In reading order: [`Keys`], which all others ask; [`seal`], how a key lies in the store; [`files`].
//!
//! **In the store**, the newest key signs; older ones verify until the last token they signed has ended, and are dropped
//! then. When the newest has signed for [`crate::auth::AuthSettings::key_ms`], whoever signs next makes another. Two nodes
//! that do so at the same time make two: both verify, one of them signs. A key that this node can't open does not count:
//! it is reported once and otherwise left alone, for those who can. Only a node that can open none makes one of its own
//! before it is time to.
//!
//! **In files**, the first key signs and all verify. Nothing is written, and no key grows old. The files are read at start
//! and when a token names a key that is not known; while one of them can't be read, all stays as it was.
//!
//! The key that derives the successors of refresh tokens (see [`crate::auth::family`]) is derived from the signing
//! key, under a context of its own, so there is one secret to keep and to rotate. A repeat may fall behind a rotation
//! of the keys: then an older key's successor is the one that the family knows, so all are tried.

mod files;
mod seal;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use actors::{Chance, Clock};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
};
use protocol::Millis;
use store::{Store, StoreError, accounts};

use crate::auth::{StartError, secret::Secret};

pub use self::{
    files::KeyFileError,
    seal::{Seal, ShortSecret},
};

/// An unknown key id asks the store, or the files, at most this often, in milliseconds: strangers can invent ids.
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
    /// This key, which does not grow old.
    fn new(signing: SigningKey) -> Self {
        let id = HEXLOWER.encode(&blake3::hash(signing.verifying_key().as_bytes()).as_bytes()[..8]);
        let successor = blake3::derive_key("rookery 2026-11 refresh token successor", signing.as_bytes());
        Self { id, signing, successor, created_at: Millis::MAX }
    }

    fn read(kept: &accounts::SigningKey, seal: Option<&Seal>) -> Option<Self> {
        let der = seal::opened(seal, &kept.key_id, &kept.private)?;
        let signing = SigningKey::from_pkcs8_der(&der).ok()?;
        Some(Self { id: kept.key_id.clone(), created_at: kept.created_at, ..Self::new(signing) })
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

/// Where keys come from.
pub(crate) enum Source {
    /// The store, where they are sealed with this, if with anything.
    Store(Option<Seal>),
    /// These files, at least one.
    Files(Vec<PathBuf>),
}

type Ring = Arc<Vec<Arc<Key>>>;

/// All keys.
pub(crate) struct Keys {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    lifetimes: Lifetimes,
    source: Source,
    /// The one that signs first; never empty after [`Self::load`].
    ring: RwLock<Ring>,
    reloaded_at: AtomicU64,
    unreadable: Reported,
    /// One rotation at a time in this process.
    rotation: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Reads the keys, and makes the first one if the store has none that can be opened.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        lifetimes: Lifetimes,
        source: Source,
    ) -> Result<Self, StartError> {
        let keys = Self {
            store,
            clock,
            chance,
            lifetimes,
            source,
            ring: RwLock::default(),
            reloaded_at: AtomicU64::new(0),
            unreadable: Reported::default(),
            rotation: tokio::sync::Mutex::default(),
        };
        match &keys.source {
            Source::Store(_) => {
                keys.reload().await?;
                keys.newest().await?;
            }
            // Later what can't be read changes nothing; now there is nothing to go on with.
            Source::Files(paths) => keys.replace(files::read(paths).await?),
        }
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
        match &self.source {
            Source::Store(seal) => self.make(seal.as_ref()).await,
            // Never so: those of files do not grow old. If it were, nothing may be written either.
            Source::Files(_) => Err(StoreError::Unavailable("there is no signing key".into())),
        }
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

    /// All keys, the one that signs first.
    pub(crate) fn all(&self) -> Ring {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys again.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        self.reloaded_at.store(self.clock.now(), Ordering::Relaxed);
        match &self.source {
            Source::Store(seal) => self.reload_store(seal.as_ref()).await,
            Source::Files(paths) => {
                self.reload_files(paths).await;
                Ok(())
            }
        }
    }

    async fn reload_store(&self, seal: Option<&Seal>) -> Result<(), StoreError> {
        let kept = self.store.signing_keys().await?;
        let mut unreadable = BTreeSet::new();
        let read = |kept: &accounts::SigningKey| {
            let key = Key::read(kept, seal);
            if key.is_none() {
                unreadable.insert(kept.key_id.clone());
            }
            key
        };
        self.replace(kept.iter().filter_map(read).collect());
        for key_id in self.unreadable.replace(unreadable) {
            tracing::error!(
                key_id,
                "a signing key of the store can't be opened: it was sealed with another secret, or it is damaged"
            );
        }
        Ok(())
    }

    async fn reload_files(&self, paths: &[PathBuf]) {
        match files::read(paths).await {
            Ok(keys) => {
                self.unreadable.replace(BTreeSet::new());
                self.replace(keys);
            }
            // The files may be half replaced: the next unknown key finds the rest.
            Err(error) => {
                for error in self.unreadable.replace(BTreeSet::from([error.to_string()])) {
                    tracing::error!(error, "the signing keys can't be read again: going on with those known");
                }
            }
        }
    }

    fn replace(&self, keys: Vec<Key>) {
        let ring = Arc::new(keys.into_iter().map(Arc::new).collect());
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
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

    async fn make(&self, seal: Option<&Seal>) -> Result<Arc<Key>, StoreError> {
        let now = self.clock.now();
        let seed = Secret::<32>::random(&*self.chance);
        let made = Key::new(SigningKey::from_bytes(seed.bytes()));
        let der = made.signing.to_pkcs8_der().expect("an Ed25519 key always has a PKCS #8 form");
        let private = match seal {
            Some(seal) => seal.close(&*self.chance, &made.id, der.as_bytes()),
            None => der.as_bytes().to_vec(),
        };
        let kept = accounts::SigningKey { key_id: made.id, private, created_at: now };
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

/// What has been reported and has not been put right since: failures that recur every second are told once.
#[derive(Default)]
struct Reported(Mutex<BTreeSet<String>>);

impl Reported {
    /// Takes all that is wrong now, and gives what was not wrong before.
    fn replace(&self, now: BTreeSet<String>) -> Vec<String> {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = now.difference(&before).cloned().collect();
        *before = now;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_wrong_is_reported_once_and_again_after_it_was_right() {
        let reported = Reported::default();
        let report = |names: &[&str]| reported.replace(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(report(&["a"]), ["a"]);
        assert_eq!(report(&["a", "b"]), ["b"]);
        assert!(report(&["a", "b"]).is_empty());
        assert!(report(&["b"]).is_empty());
        assert_eq!(report(&["a", "b"]), ["a"]);
    }
}
