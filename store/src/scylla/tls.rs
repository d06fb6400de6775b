//! Encrypted connections to the database.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::options::TlsOptions;
use crate::StoreError;

/// The configuration for all connections.
///
/// # Errors
/// [`StoreError::Invalid`] that names the file which can't be used, or what is wrong.
pub(super) fn config(options: &TlsOptions) -> Result<Arc<ClientConfig>, StoreError> {
    let invalid =
        |error: &dyn std::fmt::Display| StoreError::Invalid(format!("TLS to the database: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&options.ca_file)? {
        roots.add(root).map_err(|error| in_file(&options.ca_file, &error))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| in_file(&options.ca_file, &error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?;
    let builder = match &options.server_name {
        None => builder.with_webpki_verifier(verifier),
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|error| invalid(&error))?;
            let named = Arc::new(OneName { name, verifier });
            builder.dangerous().with_custom_certificate_verifier(named)
        }
    };
    let config = match (&options.certificate_file, &options.key_file) {
        (Some(chain), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, &error))?;
            builder
                .with_client_auth_cert(certificates(chain)?, private)
                .map_err(|error| in_file(chain, &error))?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) | (None, Some(_)) => {
            return Err(invalid(&"a certificate and its key are set together or not at all"));
        }
    };
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| in_file(file, &error))?;
    if found.is_empty() {
        return Err(in_file(file, &"holds no certificate"));
    }
    Ok(found)
}

fn in_file(file: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Invalid(format!("TLS to the database: {}: {error}", file.display()))
}

/// Verifies every server under one name: the driver knows them by their addresses only.
#[derive(Debug)]
struct OneName {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OneName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
