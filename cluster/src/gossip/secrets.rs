//! The secrets that members of one cluster share, and the keys made of them.

use std::fmt;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

/// Least length of a secret, in bytes: as long as the keys made of it.
const LEAST: usize = 32;

/// What blake3 separates these keys by from all others that are made of the same secret.
const CONTEXT: &str = "rookery 2026-11 gossip datagrams";

/// A secret of the cluster under the number by which datagrams name it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    id: u8,
    bytes: Box<[u8]>,
}

/// A secret that is too short to protect anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cluster secret of {0} bytes: at least {LEAST} are needed")]
pub struct ShortSecret(usize);

impl Secret {
    /// The secret `bytes` that datagrams name `id`. Another secret takes another id.
    ///
    /// # Errors
    /// When it has less than 32 bytes.
    pub fn new(id: u8, bytes: &[u8]) -> Result<Self, ShortSecret> {
        if bytes.len() < LEAST {
            return Err(ShortSecret(bytes.len()));
        }
        Ok(Self { id, bytes: bytes.into() })
    }

    fn key(&self, cluster: &str) -> Key {
        let mut material = Vec::with_capacity(self.bytes.len() + cluster.len() + 9);
        material.extend((self.bytes.len() as u64).to_le_bytes());
        material.extend(&*self.bytes);
        material.push(self.id);
        material.extend(cluster.as_bytes());
        let key = blake3::derive_key(CONTEXT, &material);
        Key { id: self.id, cipher: XChaCha20Poly1305::new(&key.into()) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The secrets that a node takes: one seals, both open.
///
/// A change of secrets without a gap has three rounds over all nodes: the new one as `also`; the new one as `current` and
/// the old one as `also`; the new one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Seals what this node sends, and opens.
    pub current: Secret,
    /// Opens only: the secret before or after `current`. Has another id.
    pub also: Option<Secret>,
}

impl Secrets {
    /// One secret and no change under way.
    pub fn only(current: Secret) -> Self {
        Self { current, also: None }
    }
}

/// The key of one secret in one cluster.
pub(crate) struct Key {
    pub(crate) id: u8,
    pub(crate) cipher: XChaCha20Poly1305,
}

/// The keys of one cluster as a node has them now.
pub(crate) struct Keys {
    pub(crate) cluster: Box<str>,
    current: Key,
    also: Option<Key>,
}

impl Keys {
    pub(crate) fn new(cluster: &str, secrets: &Secrets) -> Self {
        let also = secrets.also.as_ref().filter(|also| also.id != secrets.current.id);
        Self {
            cluster: cluster.into(),
            current: secrets.current.key(cluster),
            also: also.map(|secret| secret.key(cluster)),
        }
    }

    pub(crate) fn sealing(&self) -> &Key {
        &self.current
    }

    pub(crate) fn opening(&self, id: u8) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.also).find(|key| key.id == id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_enough_and_is_never_shown() {
        assert_eq!(Secret::new(1, &[7; 31]), Err(ShortSecret(31)));
        let secrets = Secrets::only(Secret::new(1, b"this must not be seen by anybody").unwrap());
        assert!(!format!("{secrets:?}{:?}", Keys::new("c", &secrets)).contains("116"));
        assert_eq!(format!("{:?}", secrets.current), "Secret { id: 1, .. }");
    }

    #[test]
    fn a_key_is_found_by_its_id_and_the_current_one_seals() {
        let secret = |id| Secret::new(id, &[id; 32]).unwrap();
        let keys = Keys::new("c", &Secrets { current: secret(2), also: Some(secret(1)) });
        assert_eq!(keys.sealing().id, 2);
        assert!(keys.opening(1).is_some() && keys.opening(2).is_some() && keys.opening(3).is_none());
    }
}
