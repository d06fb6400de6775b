//! TLS inside the process: the certificate, read again when its files change.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{net::TcpStream, time::MissedTickBehavior};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::TlsFiles;

/// How often the files are looked at. Certificates are replaced days before they end.
const LOOK: Duration = Duration::from_secs(5);

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read as what it should be.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key don't go together, or rustls does not like them.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
}

/// The certificate in use.
pub(crate) struct Certificates {
    files: TlsFiles,
    config: Mutex<Arc<ServerConfig>>,
}

/// What tells that a file was replaced.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificates {
    pub(crate) fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let config = Mutex::new(config(&files)?);
        Ok(Arc::new(Self { files, config }))
    }

    /// The handshake, with the certificate in use now.
    pub(crate) async fn accept(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(socket).await
    }

    /// Reads the files again whenever they have changed, until it is stopped.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.stamp();
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let now = self.stamp();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    /// Two small files a few times a year: not worth a thread.
    fn reload(&self) {
        match config(&self.files) {
            Ok(config) => {
                *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!("the certificate was replaced");
            }
            // The pair may be half replaced: the next look finds the rest.
            Err(error) => {
                tracing::warn!(%error, "the changed certificate can't be used: going on with the old one")
            }
        }
    }

    fn stamp(&self) -> Stamp {
        [&self.files.certificate, &self.files.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path, source| TlsError::File { path: path.display().to_string(), source };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|source| file(&files.certificate, source))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| file(&files.key, source))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path) -> TlsFiles {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        std::fs::write(&files.certificate, pair.cert.pem()).unwrap();
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_replaced_pair_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::load(write_pair(folder.path())).unwrap();
        let in_use = || certificates.config.lock().unwrap().clone();
        let first = in_use();
        write_pair(folder.path());
        certificates.reload();
        let second = in_use();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&certificates.files.key, "no key").unwrap();
        certificates.reload();
        assert!(Arc::ptr_eq(&second, &in_use()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = write_pair(folder.path());
        std::fs::remove_file(&files.key).unwrap();
        let error = Certificates::load(files).err().unwrap();
        assert!(error.to_string().contains("key.pem"), "{error}");
    }
}
