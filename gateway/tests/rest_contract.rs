//! What holds for every answer: headers, refusals, documents, the web client.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod rest_support;

use futures_util::FutureExt;
use http::{Method, header};
use protocol::limits;
use rest_support::{lenient, server, server_with};
use serde_json::{Value, json};

#[tokio::test]
async fn every_answer_makes_browsers_careful() {
    let server = server().await;
    for path in ["/", "/healthz/live", "/v1/me", "/v1/nothing", "/nothing"] {
        let headers = server.get(path).send().await.headers;
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin", "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{path}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_get_a_problem() {
    let server = server().await;
    server.get("/v1/nothing").send().await.expect(404).refused("not_found");
    server.get("/nothing").send().await.expect(404).refused("not_found");
    server.put("/v1/rooms").send().await.expect(405).refused("unsupported");
    server.post("/").send().await.expect(405).refused("unsupported");
    let post = || server.post("/v1/sessions").header("content-type", "application/json; charset=utf-8");
    post().raw("{").send().await.expect(400).refused("invalid");
    post().raw("{\"name\": 7}").send().await.expect(400).refused("invalid");
    post().raw("").send().await.expect(400).refused("invalid");
    server.post("/v1/sessions").raw("{}").send().await.expect(415).refused("invalid");
    let large = "x".repeat(limits::FRAME_BYTES + 1);
    post().raw(large).send().await.expect(413).refused("too_large");
    let ann = server.sign_up("ann").await;
    server.get("/v1/users/ann").by(&ann).send().await.expect(400).refused("invalid");
    server.get("/v1/rooms?limit=many").by(&ann).send().await.expect(400).refused("invalid");
    server.get("/v1/rooms?cursor=%00nonsense").by(&ann).send().await.expect(400).refused("invalid");
    server
        .get("/v1/me")
        .header("authorization", "Basic YTpi")
        .send()
        .await
        .expect(401)
        .refused("unauthenticated");
    server.get("/v1/me").token("nonsense").send().await.expect(401).refused("unauthenticated");
}

#[tokio::test]
async fn only_named_origins_may_read_answers_and_only_if_some_are_named() {
    let preflight = async |server: &rest_support::Server, origin: &str| {
        let ask = server.ask(Method::OPTIONS, "/v1/rooms").header("origin", origin);
        ask.header("access-control-request-method", "POST").send().await.headers
    };
    let closed = server().await;
    let headers = preflight(&closed, "https://app.example").await;
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let (auth, mut rest) = lenient();
    rest.allowed_origins = vec!["https://app.example".into()];
    let open = server_with(auth, rest).await;
    let headers = preflight(&open, "https://app.example").await;
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
    for foreign in ["https://evil.example", "https://app.example.evil", "null"] {
        let headers = preflight(&open, foreign).await;
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{foreign}");
    }
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits() {
    let (auth, mut rest) = lenient();
    rest.per_address = rookery_gateway::rest::rates::PerSecond::new(1, 2);
    let server = server_with(auth, rest).await;
    for _ in 0..2 {
        server.get("/v1/me").send().await.expect(401);
    }
    let reply = server.get("/v1/me").send().await.expect(429).refused("rate_limited");
    assert_eq!(reply.headers[header::RETRY_AFTER], "1");
    server.get("/v1/me").from("198.51.100.7").send().await.expect(401);
    server.get("/").send().await.expect(200);
}

#[tokio::test]
async fn health_is_what_the_node_says() {
    let server = server().await;
    server.get("/healthz/live").send().await.expect(200);
    server.get("/healthz/ready").send().await.expect(503);
    server.get("/healthz/started").send().await.expect(503);
    server.health.set_started(true);
    server.health.set_ready(true);
    server.get("/healthz/ready").send().await.expect(200);
    server.get("/healthz/started").send().await.expect(200);
    server.ask(Method::HEAD, "/healthz/ready").send().await.expect(200);
}

#[tokio::test]
async fn documents_are_served() {
    let server = server().await;
    let yaml = server.get("/v1/asyncapi.yaml").send().await.expect(200);
    assert!(yaml.text.contains("asyncapi: 3"));
    let api = server.get("/v1/openapi.json").send().await.expect(200).json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    let text = api.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(api["components"]["schemas"][name].is_object(), "{name} is described");
    }
    assert_eq!(api["security"], json!([{ "access_token": [] }]));
}

/// The document's copies of the protocol's shapes against a fixture of the protocol.
#[tokio::test]
async fn the_described_page_has_the_fields_of_the_protocols() {
    let server = server().await;
    let api = server.get("/v1/openapi.json").send().await.expect(200).json();
    let names = |value: &Value| {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let described = |name: &str| names(&api["components"]["schemas"][name]["properties"]);
    let entry = protocol::Entry {
        seq: 1,
        at: 1,
        from: protocol::UserId::from_u128(1),
        kind: protocol::Kind::Reply,
        target: Some(1),
        body: Some(protocol::Body::text("x").unwrap()),
        masked: Some(protocol::entry::Mask::Deleted),
        writer: Some(protocol::WriterId::from_u128(1)),
        n: Some(1),
    };
    assert_eq!(described("Entry"), names(&serde_json::to_value(&entry).unwrap()));
    let page = protocol::server::Page {
        id: None,
        room: protocol::RoomId::from_u128(1),
        incarnation: protocol::Incarnation(1),
        head: 1,
        first: 1,
        entries: vec![entry],
    };
    assert_eq!(described("EntryPage"), names(&serde_json::to_value(&page).unwrap()));
}

#[tokio::test]
async fn the_web_client_is_served_and_asked_for_again() {
    let server = server().await;
    let page = server.get("/").send().await.expect(200);
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-cache");
    let tag = page.headers[header::ETAG].to_str().unwrap();
    server.get("/index.html").header("if-none-match", tag).send().await.expect(304);
}

#[tokio::test]
async fn a_change_is_finished_although_the_client_hung_up() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let wish = json!({ "name": "Birds", "visibility": "private" });
    let request = server.post("/v1/rooms").by(&ann).json(wish).send();
    assert!(request.now_or_never().is_none(), "dropped while the room is being made");
    for _ in 0..10_000 {
        let rooms = server.store.rooms_of(ann.id, None, 10).await.unwrap().items;
        if rooms.len() == 1 && server.actions().await.contains(&"room.created".to_owned()) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the room was never made");
}
