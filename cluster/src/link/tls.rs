//! Mutual TLS between nodes: who is signed by the cluster's CA may speak, for the name in its certificate.
//!
//! A certificate is for a node when its DNS names hold the node's id (`rookery-0`), or [`ANY_NODE`], with which one
//! certificate serves all nodes. It must allow both server and client authentication. TLS 1.3 only: all ends are ours.
//! Files are read again when they have changed, at the next connection; open connections stay.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier},
};

mod development;

/// A certificate with this DNS name speaks for every node of the cluster. No id of a node has a dot.
pub const ANY_NODE: &str = "any.rookery.internal";

/// The files of a node's identity, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// This node's certificate, and the intermediate ones if any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the CAs whose nodes are of the cluster.
    pub ca: PathBuf,
}

/// Why the nodes can't identify themselves.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read as what it should be.
    #[error("{path}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file of the development CA can't be written or read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA's certificates can't be used.
    #[error("{path}: {reason}")]
    Ca {
        /// Where they are.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The certificate and the key don't go together, or can't be used.
    #[error(transparent)]
    Rustls(#[from] Error),
    /// No certificate can be made.
    #[error(transparent)]
    Rcgen(#[from] rcgen::Error),
}

/// A node's certificate and the CA, as they are in files. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    stamp: Stamp,
    pair: Pair,
}

/// Both roles with one certificate.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

/// What tells that a file was replaced.
type Stamp = [Option<(SystemTime, u64)>; 3];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file can't be used, and why.
    pub fn from_files(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Mutex::new(Loaded { stamp: stamp(&files), pair: load(&files)? });
        Ok(Self(Arc::new(Inner { files, loaded })))
    }

    /// An identity for the node `id` of a CA that lives in `folder`, for several nodes on one machine. Whoever comes first
    /// makes the CA; those who start at the same time agree on one. Whoever can read the folder is of the cluster.
    ///
    /// # Errors
    /// When the folder can't be written, or holds something else.
    pub fn development(folder: &Path, id: &str) -> Result<Self, TlsError> {
        Self::from_files(development::files(folder, id)?)
    }

    /// What to use for a connection now.
    pub(crate) fn current(&self) -> Pair {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.0.files);
        if now != loaded.stamp {
            loaded.stamp = now;
            match load(&self.0.files) {
                Ok(pair) => {
                    loaded.pair = pair;
                    tracing::info!("the certificate for links was replaced");
                }
                // The files may be half replaced: the next connection finds the rest.
                Err(error) => tracing::warn!(%error, "the changed certificate for links can't be used"),
            }
        }
        loaded.pair.clone()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.files.fmt(f)
    }
}

/// The certificate that the other end of a connection has proven to hold.
pub(crate) struct Identity(Option<CertificateDer<'static>>);

impl Identity {
    /// From the certificates that were presented in a handshake.
    pub(crate) fn of(presented: Option<&[CertificateDer<'_>]>) -> Self {
        Self(presented.and_then(<[_]>::first).map(|leaf| leaf.clone().into_owned()))
    }

    /// Whether it may speak for the node `id`.
    pub(crate) fn speaks_for(&self, id: &str) -> bool {
        let parsed = self.0.as_ref().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        parsed.is_some_and(|leaf| {
            let has = |name: &ServerName<'_>| verify_server_name(&leaf, name).is_ok();
            [id, ANY_NODE]
                .into_iter()
                .filter_map(|name| ServerName::try_from(name).ok())
                .any(|name| has(&name))
        })
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.certificate, &files.key, &files.ca].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn load(files: &TlsFiles) -> Result<Pair, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable =
        |error: &dyn std::fmt::Display| TlsError::Ca { path: files.ca.clone(), reason: error.to_string() };
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.ca)? {
        roots.add(root).map_err(|error| unusable(&error))?;
    }
    let roots = Arc::new(roots);
    let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), key.clone_key())?;
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeOrAny { servers, provider }))
        .with_client_auth_cert(chain, key)?;
    Ok(Pair { server: Arc::new(server), client: Arc::new(client) })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

/// Takes a certificate that the CA signed for the dialled node or for any.
#[derive(Debug)]
struct NodeOrAny {
    servers: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NodeOrAny {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        node: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |name: &ServerName<'_>| self.servers.verify_server_cert(leaf, intermediates, name, ocsp, now);
        match verify(node) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {
                let any =
                    ServerName::try_from(ANY_NODE).map_err(|error| Error::General(error.to_string()))?;
                verify(&any)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between nodes".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.servers.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
