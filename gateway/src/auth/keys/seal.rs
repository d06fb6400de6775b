//! How signing keys lie in the store, so that a copy of the store alone signs nothing.
//!
//! ```text
//!  0                  16      40
//!  "rookery-seal-v1:"  nonce   PKCS #8 DER, sealed with XChaCha20-Poly1305; 16-byte tag
//! ```
//!
//! Authenticated beside the key is its id, so that no key can be put in the place of another. What does not begin so is
//! PKCS #8 as it was kept before there was a seal: DER begins with `0`, so that nothing is both.

use std::fmt;

use actors::Chance;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use crate::auth::secret::Secret;

/// What says that a key is sealed, and how.
const PREFIX: &[u8] = b"rookery-seal-v1:";
/// Bytes of a nonce: so many that random ones do not meet.
const NONCE: usize = 24;
/// Least length of a secret, in bytes: as long as the key made of it.
const LEAST: usize = 32;
/// What blake3 separates this key by from all others that are made of the same secret.
const CONTEXT: &str = "rookery 2026-11 signing keys in the store";

/// Seals the signing keys that are written to the store, and opens those that are read from it.
///
/// It is made of a secret that every node of a cluster has. The secret may serve other purposes too: the key is derived
/// from it under a context of its own.
#[derive(Clone)]
pub struct Seal {
    current: XChaCha20Poly1305,
    previous: Option<XChaCha20Poly1305>,
}

/// A secret that is too short to protect anything: of this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret of {0} bytes: at least {LEAST} are needed")]
pub struct ShortSecret(pub usize);

impl Seal {
    /// Seals with `current`; opens with `current` and `previous`.
    ///
    /// # Errors
    /// When one of them has less than 32 bytes.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Result<Self, ShortSecret> {
        Ok(Self { current: cipher(current)?, previous: previous.map(cipher).transpose()? })
    }

    /// What is kept of this key.
    pub(super) fn close(&self, chance: &dyn Chance, key_id: &str, private: &[u8]) -> Vec<u8> {
        let nonce = *Secret::<NONCE>::random(chance).bytes();
        let payload = Payload { msg: private, aad: key_id.as_bytes() };
        let sealed = self.current.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("a key is shorter than the 256 GiB that the cipher takes");
        [PREFIX, &nonce, &sealed].concat()
    }

    /// What was sealed; `None` with another secret, for another key, or when it is damaged.
    fn open(&self, key_id: &str, rest: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let nonce = XNonce::from(*nonce);
        let open = |cipher: &XChaCha20Poly1305| {
            cipher.decrypt(&nonce, Payload { msg: sealed, aad: key_id.as_bytes() }).ok()
        };
        open(&self.current).or_else(|| self.previous.as_ref().and_then(open))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

/// The PKCS #8 DER of a key as it is kept; `None` if it is sealed and `seal` does not open it.
pub(super) fn opened(seal: Option<&Seal>, key_id: &str, kept: &[u8]) -> Option<Vec<u8>> {
    match kept.strip_prefix(PREFIX) {
        Some(rest) => seal?.open(key_id, rest),
        None => Some(kept.to_vec()),
    }
}

fn cipher(secret: &[u8]) -> Result<XChaCha20Poly1305, ShortSecret> {
    if secret.len() < LEAST {
        return Err(ShortSecret(secret.len()));
    }
    Ok(XChaCha20Poly1305::new(&blake3::derive_key(CONTEXT, secret).into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Chance for Counted {
        fn bits(&self) -> u128 {
            self.0.fetch_add(1, Ordering::Relaxed).into()
        }
    }

    fn seal(current: u8, previous: Option<u8>) -> Seal {
        Seal::new(&[current; 32], previous.map(|byte| [byte; 32]).as_ref().map(|secret| &secret[..])).unwrap()
    }

    #[test]
    fn a_secret_is_long_enough_and_is_never_shown() {
        assert_eq!(Seal::new(&[7; 31], None).unwrap_err(), ShortSecret(31));
        assert_eq!(Seal::new(&[7; 32], Some(&[7; 5])).unwrap_err(), ShortSecret(5));
        assert_eq!(format!("{:?}", seal(1, Some(2))), "Seal { .. }");
    }

    #[test]
    fn what_was_sealed_is_opened_with_the_current_or_the_previous_secret_and_no_other() {
        let kept = seal(1, None).close(&Counted::default(), "k", b"private");
        let opens = |seal: Seal| opened(Some(&seal), "k", &kept);
        assert_eq!(opens(seal(1, None)).unwrap(), b"private");
        assert_eq!(opens(seal(2, Some(1))).unwrap(), b"private");
        assert_eq!(opens(seal(2, Some(3))), None);
        assert_eq!(opened(None, "k", &kept), None, "no secret opens nothing");
    }

    #[test]
    fn nothing_of_the_key_is_to_be_seen_and_no_two_look_alike() {
        let (seal, chance) = (seal(1, None), Counted::default());
        let (one, other) = (seal.close(&chance, "k", b"private"), seal.close(&chance, "k", b"private"));
        assert!(!one.windows(4).any(|part| part == b"priv"));
        assert_ne!(one[PREFIX.len()..], other[PREFIX.len()..]);
    }

    #[test]
    fn a_sealed_key_that_was_changed_cut_or_moved_is_not_opened() {
        let seal = seal(1, None);
        let kept = seal.close(&Counted::default(), "k", b"private");
        for at in PREFIX.len()..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= 1;
            assert_eq!(opened(Some(&seal), "k", &changed), None, "byte {at}");
            assert_eq!(opened(Some(&seal), "k", &kept[..at]), None, "{at} bytes");
        }
        assert_eq!(opened(Some(&seal), "another", &kept), None);
    }

    #[test]
    fn a_key_from_before_there_was_a_seal_is_read_as_it_is() {
        assert_eq!(opened(None, "k", b"0plain").unwrap(), b"0plain");
        assert_eq!(opened(Some(&seal(1, None)), "k", b"0plain").unwrap(), b"0plain");
    }

    #[test]
    fn the_format_is_pinned() {
        let kept = seal(1, None).close(&Counted::default(), "k", b"private");
        assert_eq!(
            blake3::hash(&kept).to_hex().as_str(),
            "f68ab4be9017b75e1c826945bb2c8383c0ab831d8acb89c643c27ee43b4ea7e4"
        );
    }
}
