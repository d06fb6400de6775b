//! The door: who is let in, from where, and how it closes.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod socket_support;

use std::{sync::Arc, time::Duration};

use rookery_gateway::{SocketSettings, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;
use socket_support::{Client, PATIENCE, eventually, server, server_with, settings, user};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::client_async;

/// Says these bytes on a connection of its own, and gives everything that is answered.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("the connection ends in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn everything_that_is_no_socket_is_the_routers() {
    let server = server().await;
    let answer = raw(server.address(), "GET /whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
    let answer =
        raw(server.address(), "GET /v1/socket HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let request =
        "GET /whoami HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.9\r\nconnection: close\r\n\r\n";
    let strict = server().await;
    assert!(raw(strict.address(), request).await.ends_with("127.0.0.1"));
    let proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let behind = server_with(SocketSettings { trusted_proxies: proxies, ..settings() }).await;
    assert!(raw(behind.address(), request).await.ends_with("192.0.2.9"));
}

#[tokio::test]
async fn foreign_pages_are_kept_out() {
    let server =
        server_with(SocketSettings { origins: vec!["https://app.example".into()], ..settings() }).await;
    let own = format!("http://{}", server.address());
    for (origin, status) in
        [("https://app.example", 101), (own.as_str(), 101), ("null", 403), ("https://evil.example", 403)]
    {
        assert_eq!(server.status(server.request(&[("origin", origin)])).await, status, "{origin}");
    }
    assert_eq!(server.gateway.counters().upgrades_refused.get(), 2);
}

#[tokio::test]
async fn headers_have_a_size_and_a_deadline() {
    let header_timeout = Duration::from_millis(200);
    let server = server_with(SocketSettings { header_timeout, ..settings() }).await;
    let long = format!("GET /whoami HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(10_000));
    assert!(raw(server.address(), &long).await.starts_with("HTTP/1.1 431"));
    let unfinished = raw(server.address(), "GET /whoami HTTP/1.1\r\nhost:").await;
    assert!(unfinished.is_empty() || unfinished.starts_with("HTTP/1.1 408"), "{unfinished}");
}

#[tokio::test]
async fn an_address_has_a_number_of_connections_and_gets_them_back() {
    let server = server_with(SocketSettings { max_connections_per_address: 2, ..settings() }).await;
    let first = server.client(1).await;
    let _second = server.client(2).await;
    let turned_away = raw(server.address(), "GET /whoami HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(turned_away, "");
    assert_eq!(server.gateway.counters().turned_away.get(), 1);
    drop(first);
    eventually("it is given back", || server.gateway.counters().connections.get() == 1).await;
    server.client(1).await;
}

#[tokio::test]
async fn a_stop_says_goodbye_and_when_to_come_back() {
    let server = server().await;
    let mut clients = Vec::new();
    for number in 1..=4 {
        clients.push(server.client(number).await);
    }
    let mut stranger = server.knock().await;
    let address = server.address();
    let counters = server.gateway.counters();
    let stopping = tokio::spawn(server.gateway.stop(PATIENCE));
    let mut times = Vec::new();
    for client in &mut clients {
        let goodbye = client.hear("goodbye").await;
        assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4000), &json!(true)));
        times.push(goodbye["after_ms"].as_u64().unwrap());
        assert_eq!(client.closed().await, 4000);
    }
    assert_eq!(stranger.closed().await, 4000);
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 4, "not all at the same time: {times:?}");
    drop((clients, stranger));
    stopping.await.unwrap();
    assert_eq!((counters.sessions.get(), counters.connections.get()), (0, 0));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_that_ignores_the_stop_is_cut() {
    let server = server_with(SocketSettings { close_timeout: PATIENCE, ..settings() }).await;
    let _client = server.client(1).await;
    let stopping = server.gateway.stop(Duration::from_millis(200));
    timeout(PATIENCE / 2, stopping).await.expect("the stop has a deadline");
}

#[tokio::test]
async fn over_tls_everything_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files =
        TlsFiles { certificate: folder.path().join("certificate.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    let tls_handshake = Duration::from_millis(300);
    let server = server_with(SocketSettings { tls: Some(files), tls_handshake, ..settings() }).await;
    server.make_room(1, &[2]).await;
    assert_eq!(raw(server.address(), "").await, "", "a handshake has a deadline");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut clients = Vec::new();
    for number in 1..=2_u128 {
        let socket = TcpStream::connect(server.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, socket).await.unwrap();
        let (socket, _) = client_async("wss://localhost/v1/socket", stream).await.unwrap();
        let mut client = Client::new(socket, number);
        client.say(json!({ "type": "identify", "token": number.to_string() })).await;
        assert_eq!(client.next().await["user"], json!(user(number)));
        client.open(1, Some(3)).await;
        clients.push(client);
    }
    let [alice, bob] = &mut clients[..] else { unreachable!("two were made") };
    let text = "x".repeat(15_000);
    for n in 1..=40 {
        alice.say_in(1, n, &text).await;
        alice.hear("ack").await;
    }
    assert_eq!(bob.entries_upto(43).await, (4..=43).collect::<Vec<_>>());
    let stopping = tokio::spawn(server.gateway.stop(PATIENCE));
    assert_eq!(alice.closed().await, 4000);
    assert_eq!(bob.closed().await, 4000);
    drop(clients);
    stopping.await.unwrap();
}
