//! What is logged never holds a secret. Alone in its file: what a process logs is shared by its tests.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod rest_support;

use std::sync::{Arc, Mutex};

use rest_support::server;
use serde_json::json;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_even_at_the_finest_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let again = rest_support::person(&server.refresh(&ann.refresh).await.expect(200));
    rest_support::person(&server.refresh(&again.refresh).await.expect(200));
    server.refresh(&ann.refresh).await.expect(401);
    let ann = server.sign_in("ann").await;
    let ticket = server.post("/v1/tickets").by(&ann).send().await.expect(201).json();
    let ticket = ticket["ticket"].as_str().unwrap();
    server.get(&format!("/v1/users?ticket={ticket}")).by(&ann).send().await.expect(200);
    server.get("/v1/me").token("canary-token").header("cookie", "a=canary-cookie").send().await.expect(401);
    let wrong = json!({ "name": "canary-name canary", "password": "canary-password" });
    server.post("/v1/sessions").json(wrong).send().await.expect(401);
    let room = server.room(&ann, json!({ "name": "Birds", "visibility": "private" })).await;
    server.say(&ann, room, "canary-text").await;
    let invite = server.post(&format!("/v1/rooms/{room}/invites")).by(&ann).send().await.expect(201).json();
    let secrets = [
        "canary",
        rest_support::PASSWORD,
        &ann.token,
        &ann.refresh,
        ticket,
        invite["secret"].as_str().unwrap(),
    ];
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("/v1/rooms/{room}/entries"), "requests leave spans: {logged}");
    for secret in secrets {
        assert!(!logged.contains(secret), "{secret}");
    }
}
