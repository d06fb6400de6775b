//! Signing keys from files that the operator keeps and rotates: PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519`
//! makes them.

use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::Key;

/// Why a file is not a signing key. Never holds anything of its content.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error("the signing key {path} can't be read: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It has no `BEGIN PRIVATE KEY`, or what follows is not PEM.
    #[error("the signing key {path} is no PKCS #8 private key in PEM")]
    Pem {
        /// Which.
        path: String,
    },
    /// The key in it is of another algorithm, or broken.
    #[error("the signing key {path} is not one of Ed25519")]
    Algorithm {
        /// Which.
        path: String,
    },
}

/// The keys of all files in their order, each once.
pub(super) async fn read(paths: &[PathBuf]) -> Result<Vec<Key>, KeyFileError> {
    let mut keys: Vec<Key> = Vec::with_capacity(paths.len());
    for path in paths {
        let read = key(path).await?;
        // While keys are exchanged, two files may hold the same.
        if keys.iter().all(|key| key.id != read.id) {
            keys.push(read);
        }
    }
    Ok(keys)
}

async fn key(path: &Path) -> Result<Key, KeyFileError> {
    let shown = || path.display().to_string();
    let text = tokio::fs::read(path).await.map_err(|source| KeyFileError::Read { path: shown(), source })?;
    // The reasons of the parsers are left out: one of them quotes the line that it does not like.
    let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| KeyFileError::Pem { path: shown() })?;
    let signing = SigningKey::from_pkcs8_der(der.secret_pkcs8_der());
    Ok(Key::new(signing.map_err(|_| KeyFileError::Algorithm { path: shown() })?))
}
