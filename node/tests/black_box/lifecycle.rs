//! Start, stop, TLS.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, time::Duration};

use client::{Rest, net::Server as Address, net::Socket};
use protocol::{ClientFrame, CloseCode, Encoding, ServerFrame, client::Identify};

use crate::support::{PASSWORD, Server, end, frame, socket, within, write};

/// What a start that fails says on standard error.
fn refusal(server: &Server, arguments: &[&str]) -> String {
    let output = server.output(arguments, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "a server that does not run says where it is");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_server_is_ready_when_it_says_so_and_ends_in_time() {
    let mut server = Server::start(&[]);
    let answer = server.rest().call(client::rest::HttpMethod::GET, "/healthz/ready", None).await.unwrap();
    assert_eq!(answer.status, 200);
    server.signal("TERM");
    let (status, took) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!server.data().join("admin.sock").exists(), "the admin socket is left behind");
}

#[tokio::test]
async fn clients_are_told_when_to_come_back_before_a_server_stops() {
    let mut server = Server::start(&[]);
    let alice = server.person("alice").await;
    let (mut socket, _) = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    server.signal("INT");
    let (code, told) = end(&mut socket).await;
    assert_eq!(code, Some(CloseCode::GoingAway.code()));
    let goodbye =
        told.iter().any(|frame| matches!(frame, ServerFrame::Goodbye(goodbye) if goodbye.reconnect));
    assert!(goodbye, "{told:?}");
    let (status, took) = server.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(20), "{took:?}");
    server.assert_quiet(&[alice]);
}

#[tokio::test]
async fn a_second_signal_ends_a_server_at_once() {
    let mut server = Server::start(&[]);
    let alice = server.person("alice").await;
    // A client that never says goodbye holds a graceful stop up.
    let _socket = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    server.signal("TERM");
    server.signal("TERM");
    let (status, took) = server.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn what_was_said_is_there_after_a_restart() {
    let mut server = Server::start(&[]);
    let alice = server.person("alice").await;
    let room = alice.create_room("kept").await.unwrap();
    let before = alice.log(room).await.unwrap();
    server.signal("TERM");
    server.ended().await;
    server.run();
    assert_eq!(alice.log(room).await.unwrap(), before);
    assert!(server.rest().sign_in("alice", PASSWORD).await.is_ok());
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let server = Server::start(&[]);
    let folder = server.data().display().to_string();
    let second = Server::prepare(&[("STORE__FOLDER", &folder)]);
    let error = refusal(&second, &["serve"]);
    assert!(error.contains("store.folder") && error.contains(&folder) && error.contains("in use"), "{error}");
}

#[test]
fn a_folder_that_can_not_be_written_is_refused() {
    let server = Server::prepare(&[]);
    // A file stands where the folder should be: nobody can make it, root neither.
    let file = write(&server, "occupied", "");
    let folder = file.join("data").display().to_string();
    let error = refusal(&Server::prepare(&[("STORE__FOLDER", &folder)]), &["serve"]);
    assert!(error.contains("store.folder") && error.contains(&folder), "{error}");
}

#[test]
fn an_address_in_use_is_refused() {
    let server = Server::start(&[]);
    let (_, address) = server.url().split_once("//").unwrap();
    let error = refusal(&Server::prepare(&[("LISTEN__ADDRESS", address)]), &["serve"]);
    assert!(error.contains(address), "{error}");
}

#[test]
fn an_open_address_without_encryption_is_refused() {
    let server = Server::prepare(&[("LISTEN__ADDRESS", "0.0.0.0:0")]);
    let error = refusal(&server, &["serve"]);
    assert!(error.contains("listen.address is 0.0.0.0:0") && error.contains("listen.certificate"), "{error}");
    assert!(!server.data().exists(), "nothing is opened before the configuration is good");
}

#[test]
fn a_wrong_log_level_is_refused() {
    let error = refusal(&Server::prepare(&[("LOG__LEVEL", "loud=very")]), &["serve"]);
    assert!(error.contains("log.level is \"loud=very\""), "{error}");
}

#[test]
fn a_configuration_is_printed_and_checked() {
    let server = Server::prepare(&[]);
    let printed = server.output(&["config"], "");
    assert!(printed.status.success());
    let file = write(&server, "whole.toml", &String::from_utf8(printed.stdout).unwrap());
    assert!(server.output(&["check-config", file.to_str().unwrap()], "").status.success());
    let file = write(&server, "wrong.toml", "[rooms]\nidle_seconds = 5\n");
    let error = refusal(&server, &["check-config", file.to_str().unwrap()]);
    assert!(error.contains("rooms.idle_seconds") && error.contains("idle_s"), "{error}");
}

#[tokio::test]
async fn a_server_speaks_tls_with_the_certificate_it_is_given() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // With TLS, an address that others can reach is allowed.
    let server = Server::start(&[
        ("LISTEN__ADDRESS", "0.0.0.0:0"),
        ("LISTEN__CERTIFICATE", certificate.to_str().unwrap()),
        ("LISTEN__KEY", key.to_str().unwrap()),
    ]);
    let address = Address::at_tls(server.url(), &certificate).unwrap();
    let alice = Rest::new(address.clone()).register("alice", PASSWORD).await.unwrap();
    let mut socket = Socket::connect(&address, Encoding::Json, "").await.unwrap();
    let token = Some(alice.session().access_token.clone());
    let identify = Identify { id: None, token, ticket: None, client: None, resume: BTreeMap::new() };
    socket.send(&ClientFrame::Identify(identify)).await.unwrap();
    assert!(matches!(frame(&mut socket).await, ServerFrame::Welcome(_)));
    let plain = Address::at(&server.url().replace("https://", "http://")).unwrap();
    let answer = within("the end", Rest::new(plain).sign_in("alice", PASSWORD)).await;
    assert!(answer.is_err(), "plain HTTP on the TLS port is not answered");
    server.assert_quiet(&[alice]);
}
