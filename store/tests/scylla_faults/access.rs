//! Encrypted connections and log-ins.

use std::time::{Duration, Instant};

use rookery_store::{
    StoreError,
    scylla::{Credentials, ScyllaOptions, ScyllaStore, TlsOptions, migrate},
};
use rookery_test_cassandra::{Cluster, ClusterOptions};

/// Files of an authority, a server and a client.
fn certificates(folder: &std::path::Path) -> TlsOptions {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let signed = |names: Vec<String>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        (key.serialize_pem(), certificate.pem())
    };
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (server_key, server) = signed(vec!["database.example.org".to_owned()]);
    write("server.pem", format!("{server_key}{server}{}", root.pem()));
    let (client_key, client) = signed(vec!["rookery.example.org".to_owned()]);
    TlsOptions {
        ca_file: write("ca.pem", root.pem()),
        certificate_file: Some(write("client.pem", client)),
        key_file: Some(write("client.key", client_key)),
        server_name: Some("database.example.org".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_passwords_are_asked_for_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path());
    let yaml = format!(
        "authenticator: PasswordAuthenticator\n\
         client_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: true\n  \
         ssl_context_factory: {{class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}}\n  \
         keystore: {0}/server.pem\n  truststore: {0}/ca.pem\n",
        folder.path().display()
    );
    let options = ClusterOptions { yaml, ..ClusterOptions::default() };
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(options)).await.unwrap().unwrap();
    let credentials = Credentials { user: "cassandra".to_owned(), password: "cassandra".to_owned() };
    let good = ScyllaOptions {
        contact_points: vec![cluster.contact_points()[0].to_string()],
        credentials: Some(credentials.clone()),
        tls: Some(tls.clone()),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(20),
        ..ScyllaOptions::default()
    };
    // The account that the database makes for us comes some time after it listens.
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = migrate(&good, 1, &mut |_| {}).await {
        assert!(Instant::now() < deadline, "{error}\n{}", cluster.node(0).log_tail(60));
    }
    ScyllaStore::open(&good).await.unwrap();

    let wrong_password = Credentials { password: "sesame".to_owned(), ..credentials };
    let other_name = TlsOptions { server_name: Some("other.example.org".to_owned()), ..tls.clone() };
    let address_as_name = TlsOptions { server_name: None, ..tls.clone() };
    let no_certificate = TlsOptions { certificate_file: None, key_file: None, ..tls };
    for (what, bad) in [
        ("a wrong password", ScyllaOptions { credentials: Some(wrong_password), ..good.clone() }),
        ("no password", ScyllaOptions { credentials: None, ..good.clone() }),
        ("a certificate for another name", ScyllaOptions { tls: Some(other_name), ..good.clone() }),
        ("a certificate for no address", ScyllaOptions { tls: Some(address_as_name), ..good.clone() }),
        ("no certificate of ours", ScyllaOptions { tls: Some(no_certificate), ..good.clone() }),
        ("no encryption", ScyllaOptions { tls: None, ..good.clone() }),
    ] {
        let error = ScyllaStore::open(&bad).await.expect_err(what);
        assert!(matches!(error, StoreError::Unavailable(_)), "{what}: {error}");
        assert!(!error.to_string().contains("sesame") && !format!("{bad:?}").contains("sesame"));
    }
}

#[tokio::test]
async fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = TlsOptions { ca_file: folder.path().join("missing.pem"), ..TlsOptions::default() };
    let options = ScyllaOptions { tls: Some(missing), ..ScyllaOptions::default() };
    let error = ScyllaStore::open(&options).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)) && error.to_string().contains("missing.pem"), "{error}");
}
