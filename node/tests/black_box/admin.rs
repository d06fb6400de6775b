//! What operators ask of a server that runs, and of a store that nobody has open.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use client::rest::HttpMethod;
use protocol::{CloseCode, Encoding};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Server, end, socket, write};

/// A password that an operator sets.
const NEW_PASSWORD: &str = "canary-password-set-by-the-operator";

/// The lines of a command that succeeds.
pub(crate) fn ask(server: &Server, arguments: &[&str], input: &str) -> Vec<Value> {
    let output = server.output(&[&["admin"], arguments].concat(), input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a command that fails says.
pub(crate) fn refusal(server: &Server, arguments: &[&str], input: &str) -> String {
    let output = server.output(&[&["admin"], arguments].concat(), input);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["name"].as_str().unwrap()).collect()
}

async fn can_sign_in(server: &Server, name: &str, password: &str) -> bool {
    server.rest().sign_in(name, password).await.is_ok()
}

#[tokio::test]
async fn an_operator_makes_accounts_and_resets_passwords() {
    let server = Server::start(&[]);
    let made = ask(&server, &["create-user", "Carol"], &format!("{PASSWORD}\n"));
    assert_eq!(names(&made), ["carol"]);
    assert!(can_sign_in(&server, "carol", PASSWORD).await);
    ask(&server, &["reset-password", "carol"], &format!("{NEW_PASSWORD}\n"));
    assert!(!can_sign_in(&server, "carol", PASSWORD).await);
    assert!(can_sign_in(&server, "carol", NEW_PASSWORD).await);
    assert!(!server.log().contains(NEW_PASSWORD));
    assert!(refusal(&server, &["create-user", "carol"], PASSWORD).contains("in use"));
    assert!(refusal(&server, &["create-user", "no name"], PASSWORD).contains("allowed are"));
    assert!(refusal(&server, &["create-user", "dave"], "short").contains("allowed are 8 to 256"));
    server.assert_quiet(&[]);
}

#[tokio::test]
async fn a_disabled_account_is_shut_out_at_once_and_let_in_again() {
    let server = Server::start(&[]);
    let alice = server.person("alice").await;
    let (mut open, _) = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    ask(&server, &["disable", "alice"], "");
    assert_eq!(end(&mut open).await.0, Some(CloseCode::Disabled.code()));
    assert!(!can_sign_in(&server, "alice", PASSWORD).await);
    ask(&server, &["enable", &alice.session().user.id.to_string()], "");
    assert!(can_sign_in(&server, "alice", PASSWORD).await);
    let error = refusal(&server, &["disable", "nobody"], "");
    assert!(error.contains("nobody"), "{error}");
}

#[tokio::test]
async fn an_operator_signs_somebody_out_everywhere() {
    let server = Server::start(&[]);
    let alice = server.person("alice").await;
    let (mut open, _) = socket(&alice, Encoding::MessagePack, BTreeMap::new()).await;
    ask(&server, &["revoke", "alice"], "");
    assert_eq!(end(&mut open).await.0, Some(CloseCode::SignedOut.code()));
    assert!(alice.refresh().await.is_err());
    assert!(can_sign_in(&server, "alice", PASSWORD).await);
}

#[tokio::test]
async fn an_operator_lists_and_exports_what_is_there() {
    let server = Server::start(&[]);
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let room = alice.create_room("the room").await.unwrap();
    bob.join(room).await.unwrap();
    let path = format!("/v1/rooms/{room}/entries");
    let said =
        json!({ "kind": "message", "body": { "text": "exported" }, "writer": format!("{:032x}", 7), "n": 1 });
    let answer = bob.call(HttpMethod::POST, &path, Some(said)).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(names(&ask(&server, &["list-users"], "")), ["alice", "bob"]);
    assert_eq!(names(&ask(&server, &["list-users", "b"], "")), ["bob"]);
    let rooms = ask(&server, &["list-rooms"], "");
    assert_eq!((names(&rooms), &rooms[0]["head"]), (vec!["the room"], &answer.body["seq"]));
    let exported = ask(&server, &["export-room", &room.to_string()], "");
    let last = exported.last().unwrap();
    assert_eq!((&last["body"]["text"], &last["n"]), (&json!("exported"), &json!(1)));
    assert!(exported.iter().zip(1..).all(|(entry, seq)| entry["seq"] == json!(seq)), "{exported:?}");
    let audit = ask(&server, &["audit", "--limit", "3"], "");
    assert_eq!(audit.len(), 3);
    assert!(audit.iter().any(|act| act["action"] == "room.created"), "{audit:?}");
    assert!(refusal(&server, &["export-room", &format!("{:032x}", 1)], "").contains("no room"));
}

#[tokio::test]
async fn without_a_server_the_store_itself_is_asked() {
    let mut server = Server::start(&[]);
    server.person("alice").await;
    assert!(refusal(&server, &["--offline", "list-users"], "").contains("in use"));
    server.signal("TERM");
    server.ended().await;
    assert!(refusal(&server, &["list-users"], "").contains("--offline"));
    assert_eq!(names(&ask(&server, &["--offline", "list-users"], "")), ["alice"]);
    ask(&server, &["--offline", "create-user", "zoe"], &format!("{PASSWORD}\n"));
    server.run();
    assert!(can_sign_in(&server, "zoe", PASSWORD).await);
}

#[test]
fn the_admin_socket_is_the_servers_users_alone_and_survives_a_kill() {
    let mut server = Server::start(&[]);
    let mode =
        |server: &Server| server.data().join("admin.sock").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server), 0o600);
    server.kill();
    server.run();
    assert_eq!(mode(&server), 0o600);
    ask(&server, &["list-rooms"], "");
}

#[tokio::test]
async fn health_and_metrics_are_served_on_a_listener_of_their_own() {
    let server = Server::start(&[("ADMIN__LISTEN", "127.0.0.1:0")]);
    let alice = server.person("alice").await;
    let _open = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    assert_eq!(server.ask_listener(None, "/healthz/ready").await.0, 200);
    let (status, metrics) = server.ask_listener(None, "/metrics").await;
    assert_eq!(status, 200);
    for metric in
        ["rookery_sessions 1", "rookery_build_info", "rookery_store_commits_total", "rookery_frames_in_total"]
    {
        assert!(metrics.contains(metric), "{metric} is not in\n{metrics}");
    }
    assert_eq!(server.ask_listener(None, "/admin").await.0, 401);
}

#[tokio::test]
async fn with_a_token_the_listener_is_closed_to_everybody_else() {
    let prepared = Server::prepare(&[]);
    let token = "a-secret-of-more-than-32-characters";
    let file = write(&prepared, "token", &format!("{token}\n"));
    let server =
        Server::start(&[("ADMIN__LISTEN", "127.0.0.1:0"), ("ADMIN__TOKEN_FILE", file.to_str().unwrap())]);
    assert_eq!(server.ask_listener(None, "/metrics").await.0, 401);
    assert_eq!(server.ask_listener(Some("another"), "/metrics").await.0, 401);
    assert_eq!(server.ask_listener(Some(token), "/metrics").await.0, 200);
    assert_eq!(server.ask_listener(None, "/healthz/live").await.0, 200);
    assert!(!server.log().contains(token));
}

#[tokio::test]
async fn a_server_alone_says_so_when_it_is_asked_for_nodes() {
    let server = Server::start(&[]);
    let alice = server.person("alice").await;
    let (room, other) = (alice.create_room("the room").await.unwrap(), format!("{:032x}", 1));
    let _open = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    let nodes = ask(&server, &["nodes"], "");
    assert_eq!(nodes.len(), 1);
    let told = ["alone", "state", "sessions", "users", "rooms"].map(|key| nodes[0][key].clone());
    assert_eq!(told, [json!(true), json!("ready"), json!(1), json!(1), json!(1)]);
    let place = &ask(&server, &["where", &room.to_string()], "")[0];
    assert_eq!(
        (&place["here"], &place["active_here"], &place["node"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(refusal(&server, &["where", &other], "").contains("no room"));
    let rooms = ask(&server, &["rooms"], "");
    assert_eq!((rooms.len(), &rooms[0]["room"]), (1, &json!(room)));
    assert!(rooms[0]["head"].as_u64() > Some(0), "{rooms:?}");
    assert_eq!(ask(&server, &["users"], "")[0]["users"], json!(1));
    let home = &ask(&server, &["users", "alice"], "")[0];
    assert_eq!((&home["name"], &home["here"]), (&json!("alice"), &json!(true)));
    assert!(refusal(&server, &["users", "nobody"], "").contains("no user"));
    server.assert_quiet(&[]);
}

#[tokio::test]
async fn a_drained_server_ends_as_by_a_signal() {
    let mut server = Server::start(&[]);
    let alice = server.person("alice").await;
    let (mut open, _) = socket(&alice, Encoding::Json, BTreeMap::new()).await;
    assert!(refusal(&server, &["drain", "another"], "").contains("alone"));
    assert_eq!(ask(&server, &["drain"], "")[0]["state"], json!("draining"));
    assert_eq!(end(&mut open).await.0, Some(CloseCode::GoingAway.code()));
    assert!(server.ended().await.0.success());
    assert!(refusal(&server, &["--offline", "drain"], "").contains("that runs"));
    let audit = ask(&server, &["--offline", "audit", "--limit", "1"], "");
    assert_eq!(audit[0]["action"], json!("node.drained"));
}

#[tokio::test]
async fn the_page_for_operators_is_empty_until_the_token_is_shown() {
    let prepared = Server::prepare(&[]);
    let token = "a-secret-of-more-than-32-characters";
    let file = write(&prepared, "token", &format!("{token}\n"));
    let server =
        Server::start(&[("ADMIN__LISTEN", "127.0.0.1:0"), ("ADMIN__TOKEN_FILE", file.to_str().unwrap())]);
    for path in ["/", "/cluster"] {
        let (status, page) = server.ask_listener(None, path).await;
        assert!(status == 200 && page.contains("<title>Rookery</title>"), "{status} {page}");
        assert!(!page.contains("{nonce}") && !page.contains(server.url()), "{page}");
    }
    assert_eq!(server.ask_listener(None, "/cluster.json").await.0, 401);
    assert_eq!(server.ask_listener(Some("another"), "/cluster.json").await.0, 401);
    let (status, news) = server.ask_listener_for_json(Some(token), "/cluster.json").await;
    assert_eq!((status, &news["alone"], &news["nodes"][0]["this"]), (200, &json!(true), &json!(true)));
}

#[tokio::test]
async fn without_a_token_the_page_shows_what_loopback_may_see() {
    let server = Server::start(&[("ADMIN__LISTEN", "127.0.0.1:0")]);
    let (status, news) = server.ask_listener_for_json(None, "/cluster.json").await;
    assert_eq!((status, &news["nodes"][0]["public"]), (200, &json!(server.url())));
    let (_, metrics) = server.ask_listener(None, "/metrics").await;
    assert!(
        metrics.contains("rookery_rooms_active 0") && metrics.contains("rookery_users_homed 0"),
        "{metrics}"
    );
    assert!(!metrics.contains("rookery_cluster_"), "{metrics}");
}
