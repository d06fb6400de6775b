//! Accounts, sign-ins, tokens and tickets, asked as a client asks.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod rest_support;

use actors::Notice;
use http::header;
use protocol::{CloseCode, ErrorCode};
use rest_support::{ORIGIN, PASSWORD, lenient, person, server, server_with, until};
use rookery_gateway::auth::{Credential, Identity, throttle::Backoff};
use serde_json::json;

const MINUTE: u64 = 60_000;

#[tokio::test]
async fn who_makes_an_account_is_signed_in() {
    let server = server().await;
    let body =
        json!({ "name": "Ann", "password": PASSWORD, "email": "ann@example.org", "full_name": "Ann B." });
    let reply = server.post("/v1/accounts").json(body).send().await.expect(201);
    let session = reply.json();
    assert_eq!(session["user"]["name"], "ann");
    assert_eq!(session["user"]["email"], "ann@example.org");
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    let ann = person(&reply);
    let me = server.get("/v1/me").by(&ann).send().await.expect(200).json();
    assert_eq!(me, session["user"]);
    let others = server.get(&format!("/v1/users/{}", ann.id)).by(&ann).send().await.expect(200).json();
    assert_eq!(others["display_name"], "ann");
    assert!(others.get("email").is_none(), "others do not see the address");
}

#[tokio::test]
async fn names_and_addresses_are_unique_ignoring_case() {
    let server = server().await;
    server.sign_up("ann").await;
    let again = json!({ "name": "ANN", "password": PASSWORD });
    let reply = server.post("/v1/accounts").json(again).send().await.expect(409).refused("taken");
    assert_eq!(reply.fields(), ["name"]);
    for name in ["bob", "cleo"] {
        let body = json!({ "name": name, "password": PASSWORD, "email": "Same@Example.org" });
        let reply = server.post("/v1/accounts").json(body).send().await;
        if name == "cleo" {
            assert_eq!(reply.expect(409).fields(), ["email"]);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_field_by_field() {
    let server = server().await;
    let body = json!({ "name": "A B", "password": "short", "email": "nobody", "full_name": "a\u{202e}b" });
    let reply = server.post("/v1/accounts").json(body).send().await.expect(400).refused("invalid");
    assert_eq!(reply.fields(), ["name", "password", "email", "full_name"]);
    let ann = server.sign_up("ann").await;
    let change = json!({ "display_name": " ", "colour": "red" });
    let reply = server.patch("/v1/me").by(&ann).json(change).send().await.expect(400);
    assert_eq!(reply.fields(), ["display_name", "colour"]);
    let change = json!({ "display_name": "Ann ", "colour": "#ABCDEF", "full_name": "" });
    let me = server.patch("/v1/me").by(&ann).json(change).send().await.expect(200).json();
    assert_eq!((me["display_name"].as_str(), me["colour"].as_str()), (Some("Ann"), Some("#abcdef")));
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_name_are_told_alike() {
    let server = server().await;
    server.sign_up("ann").await;
    let mut answers = Vec::new();
    for (name, password) in [("ann", "wrong password"), ("nobody", PASSWORD), ("", "")] {
        let body = json!({ "name": name, "password": password });
        let reply = server.post("/v1/sessions").json(body).send().await.expect(401);
        answers.push(reply.refused("unauthenticated").text);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    server.sign_in("ANN").await;
}

#[tokio::test]
async fn who_guesses_waits_longer_and_longer_and_is_told_how_long() {
    let (mut auth, rest) = lenient();
    auth.per_account = Backoff { free: 2, ..Backoff::ACCOUNT };
    let server = server_with(auth, rest).await;
    server.sign_up("ann").await;
    let guess = |address: &'static str, password: &'static str| {
        server.post("/v1/sessions").from(address).json(json!({ "name": "ann", "password": password })).send()
    };
    for _ in 0..3 {
        guess("192.0.2.1", "wrong password").await.expect(401);
    }
    let reply = guess("198.51.100.7", PASSWORD).await.expect(429).refused("rate_limited");
    assert_eq!(reply.headers[header::RETRY_AFTER], "1");
    assert_eq!(reply.json()["retry_after_ms"], 1_000);
    server.clock.advance(1_000);
    guess("192.0.2.1", "wrong password").await.expect(401);
    assert_eq!(guess("192.0.2.1", PASSWORD).await.expect(429).headers[header::RETRY_AFTER], "2");
    server.clock.advance(2_000);
    guess("192.0.2.1", PASSWORD).await.expect(200);
    guess("192.0.2.1", "wrong password").await.expect(401);
    guess("192.0.2.1", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn an_address_that_tries_many_names_waits_too() {
    let (mut auth, rest) = lenient();
    auth.per_address = Backoff { free: 2, ..Backoff::ADDRESS };
    let server = server_with(auth, rest).await;
    let guess = |address: &'static str, name: &'static str| {
        let body = json!({ "name": name, "password": "wrong password" });
        server.post("/v1/sessions").from(address).json(body).send()
    };
    for name in ["ann", "bob", "cleo"] {
        guess("2001:db8::1", name).await.expect(401);
    }
    guess("2001:db8::2", "dan").await.expect(429);
    guess("2001:db8:0:1::1", "dan").await.expect(401);
}

#[tokio::test]
async fn strangers_are_throttled_by_address_and_users_by_user() {
    let (auth, mut rest) = lenient();
    rest.per_stranger = rookery_gateway::rest::rates::PerSecond::new(1, 3);
    rest.per_user = rookery_gateway::rest::rates::PerSecond::new(1, 2);
    let server = server_with(auth, rest).await;
    let ann = server.sign_up("ann").await;
    server.sign_in("ann").await;
    server.sign_in("ann").await;
    let body = json!({ "name": "ann", "password": PASSWORD });
    let reply =
        server.post("/v1/sessions").json(body.clone()).send().await.expect(429).refused("rate_limited");
    assert_eq!(reply.headers[header::RETRY_AFTER], "1");
    server.post("/v1/sessions").from("198.51.100.7").json(body).send().await.expect(200);
    for _ in 0..2 {
        server.get("/v1/me").by(&ann).send().await.expect(200);
    }
    server.get("/v1/me").by(&ann).send().await.expect(429);
    server.clock.advance(1_000);
    server.get("/v1/me").by(&ann).send().await.expect(200);
    server.get("/healthz/live").send().await.expect(200);
}

#[tokio::test]
async fn an_access_token_ends_and_a_refresh_brings_another() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.clock.advance(10 * MINUTE);
    let reply = server.get("/v1/me").by(&ann).send().await.expect(401).refused("expired");
    assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
    let again = person(&server.refresh(&ann.refresh).await.expect(200));
    assert_eq!(again.device, ann.device);
    assert_ne!(again.refresh, ann.refresh);
    server.get("/v1/me").by(&again).send().await.expect(200);
}

#[tokio::test]
async fn two_tabs_that_refresh_together_get_the_same_successor() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let (one, other) = tokio::join!(server.refresh(&ann.refresh), server.refresh(&ann.refresh));
    let (one, other) = (person(&one.expect(200)), person(&other.expect(200)));
    assert_eq!(one.refresh, other.refresh);
    server.clock.advance(MINUTE);
    let late = person(&server.refresh(&ann.refresh).await.expect(200));
    assert_eq!(late.refresh, one.refresh, "a lost answer can be asked for again within a minute");
}

#[tokio::test]
async fn an_old_token_ends_the_sign_in_and_its_sockets() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let elsewhere = server.sign_in("ann").await;
    let socket = server.connect(&ann).await;
    let untouched = server.connect(&elsewhere).await;
    let second = person(&server.refresh(&ann.refresh).await.expect(200));
    let third = person(&server.refresh(&second.refresh).await.expect(200));
    server.refresh(&ann.refresh).await.expect(401).refused("unauthenticated");
    until(|| socket.notices().contains(&Notice::End(CloseCode::SignedOut))).await;
    assert!(untouched.notices().is_empty());
    server.get("/v1/me").by(&third).send().await.expect(401);
    server.refresh(&third.refresh).await.expect(401);
    server.get("/v1/me").by(&elsewhere).send().await.expect(200);
    assert!(server.actions().await.contains(&"session.token_reused".to_owned()));
}

#[tokio::test]
async fn a_repeat_after_a_minute_is_reuse() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.refresh(&ann.refresh).await.expect(200);
    server.clock.advance(MINUTE + 1);
    server.refresh(&ann.refresh).await.expect(401);
    server.get("/v1/me").by(&ann).send().await.expect(401);
}

#[tokio::test]
async fn a_repeat_gets_its_successor_although_the_keys_were_rotated_between() {
    let (mut auth, rest) = lenient();
    auth.key_ms = 100_000;
    let server = server_with(auth, rest).await;
    let ann = server.sign_up("ann").await;
    server.clock.advance(99_999);
    let second = person(&server.refresh(&ann.refresh).await.expect(200));
    server.clock.advance(30_000);
    server.sign_in("ann").await;
    let keys = server.get("/.well-known/jwks.json").send().await.expect(200).json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "the old key still verifies");
    let repeated = person(&server.refresh(&ann.refresh).await.expect(200));
    assert_eq!(repeated.refresh, second.refresh);
    server.get("/v1/me").by(&second).send().await.expect(200);
}

#[tokio::test]
async fn a_key_is_dropped_when_its_last_token_has_ended() {
    let (mut auth, rest) = lenient();
    auth.key_ms = 100_000;
    let server = server_with(auth, rest).await;
    for _ in 0..4 {
        server.clock.advance(2 * 60 * MINUTE);
        server.sign_up(&format!("user{}", actors::Chance::bits(&*server.chance) % 100_000)).await;
    }
    let keys = server.get("/.well-known/jwks.json").send().await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    assert!(keys["keys"][0].get("d").is_none(), "never the private half");
}

#[tokio::test]
async fn another_node_with_the_same_store_knows_the_tokens() {
    let (auth, rest) = lenient();
    let one = server_with(auth.clone(), rest.clone()).await;
    let other = rest_support::server_on(std::sync::Arc::clone(&one.store), auth, rest).await;
    let ann = one.sign_up("ann").await;
    other.get("/v1/me").by(&ann).send().await.expect(200);
    let second = person(&one.refresh(&ann.refresh).await.expect(200));
    let repeated = person(&other.refresh(&ann.refresh).await.expect(200));
    assert_eq!(repeated.refresh, second.refresh);
    other.delete("/v1/sessions/current").by(&ann).send().await.expect(204);
    one.get("/v1/me").by(&second).send().await.expect(401);
}

#[tokio::test]
async fn a_web_sign_in_keeps_its_refresh_token_in_a_cookie() {
    let server = server().await;
    server.sign_up("ann").await;
    let body = json!({ "name": "ann", "password": PASSWORD, "client": "web" });
    let reply = server.post("/v1/sessions").header("origin", ORIGIN).json(body).send().await.expect(200);
    assert!(reply.json().get("refresh_token").is_none());
    let line = reply.headers[header::SET_COOKIE].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/v1/sessions", "Secure", "Max-Age=2592000"] {
        assert!(line.contains(part), "{line}");
    }
    let cookie = format!("rookery_refresh={}", reply.cookie().unwrap());
    let refresh = || server.post("/v1/sessions/refresh").header("cookie", &cookie);
    refresh().header("content-type", "application/json").send().await.expect(403).refused("forbidden");
    refresh().header("origin", "null").json(json!({})).send().await.expect(403);
    refresh().header("origin", "https://chat.test.evil").json(json!({})).send().await.expect(403);
    refresh().header("origin", ORIGIN).send().await.expect(415).refused("invalid");
    let reply =
        refresh().header("origin", ORIGIN).json(json!({ "client": "other" })).send().await.expect(200);
    assert!(reply.json().get("refresh_token").is_none(), "a cookie's token stays out of reach of scripts");
    let next = reply.cookie().unwrap();
    let out = server
        .delete("/v1/sessions/current")
        .header("cookie", &format!("rookery_refresh={next}"))
        .header("origin", ORIGIN)
        .json(json!({}))
        .send()
        .await
        .expect(204);
    assert_eq!(out.cookie().as_deref(), Some(""), "the cookie is taken away");
    server.get("/v1/me").token(reply.json()["access_token"].as_str().unwrap()).send().await.expect(401);
}

#[tokio::test]
async fn a_foreign_page_signs_nobody_in() {
    let server = server().await;
    server.sign_up("ann").await;
    let body = json!({ "name": "ann", "password": PASSWORD, "client": "web" });
    let reply = server.post("/v1/sessions").header("origin", "https://evil.example").json(body.clone());
    reply.send().await.expect(403).refused("forbidden");
    let form = server.post("/v1/sessions").header("content-type", "text/plain").raw(body.to_string());
    form.send().await.expect(415).refused("invalid");
}

#[tokio::test]
async fn devices_are_listed_and_signed_out_one_by_one_or_all() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let (phone, tablet) = (server.sign_in("ann").await, server.sign_in("ann").await);
    let bob = server.sign_up("bob").await;
    let list = server.get("/v1/sessions").by(&ann).send().await.expect(200).json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(items.iter().filter(|item| item["current"] == true).count(), 1);
    let path = format!("/v1/sessions/{}", phone.device);
    server.delete(&path).by(&bob).send().await.expect(404);
    let socket = server.connect(&phone).await;
    server.delete(&path).by(&ann).send().await.expect(204);
    until(|| socket.notices().contains(&Notice::End(CloseCode::SignedOut))).await;
    server.get("/v1/me").by(&phone).send().await.expect(401);
    server.delete(&path).by(&ann).send().await.expect(404);
    server.delete("/v1/sessions").by(&tablet).send().await.expect(204);
    for gone in [&ann, &tablet] {
        server.get("/v1/me").by(gone).send().await.expect(401);
        server.refresh(&gone.refresh).await.expect(401);
    }
    server.get("/v1/me").by(&bob).send().await.expect(200);
}

#[tokio::test]
async fn a_sign_in_that_nobody_refreshes_ends_by_itself() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.clock.advance(31 * 24 * 60 * MINUTE);
    server.refresh(&ann.refresh).await.expect(401).refused("unauthenticated");
}

#[tokio::test]
async fn a_new_password_signs_out_all_other_devices() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let phone = server.sign_in("ann").await;
    let socket = server.connect(&phone).await;
    let change = |old: &str, new: &str| {
        let body = json!({ "old_password": old, "new_password": new });
        server.put("/v1/me/password").by(&ann).json(body)
    };
    change("wrong password", "a brand new one").send().await.expect(403).refused("forbidden");
    assert_eq!(change(PASSWORD, "short").send().await.expect(400).fields(), ["new_password"]);
    change(PASSWORD, "a brand new one").send().await.expect(204);
    until(|| socket.notices().contains(&Notice::End(CloseCode::SignedOut))).await;
    server.get("/v1/me").by(&ann).send().await.expect(200);
    server.get("/v1/me").by(&phone).send().await.expect(401);
    let body = json!({ "name": "ann", "password": PASSWORD });
    server.post("/v1/sessions").json(body).send().await.expect(401);
    let body = json!({ "name": "ann", "password": "a brand new one" });
    server.post("/v1/sessions").json(body).send().await.expect(200);
}

#[tokio::test]
async fn a_disabled_account_can_do_nothing() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.store.set_disabled(ann.id, true).await.unwrap();
    server.get("/v1/me").by(&ann).send().await.expect(403).refused("disabled");
    server.refresh(&ann.refresh).await.expect(403).refused("disabled");
    let wrong = json!({ "name": "ann", "password": "wrong password" });
    server.post("/v1/sessions").json(wrong).send().await.expect(401);
    let right = json!({ "name": "ann", "password": PASSWORD });
    server.post("/v1/sessions").json(right).send().await.expect(403).refused("disabled");
    assert_eq!(server.auth.identify(Credential::Token(&ann.token)).await, Err(ErrorCode::Disabled));
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_its_costs_have_changed() {
    let (mut auth, rest) = lenient();
    let server = server_with(auth.clone(), rest.clone()).await;
    let ann = server.sign_up("ann").await;
    let before = server.store.user(ann.id).await.unwrap().unwrap().password_hash;
    auth.passwords.passes = 2;
    let later = rest_support::server_on(std::sync::Arc::clone(&server.store), auth, rest).await;
    later.sign_in("ann").await;
    let after = server.store.user(ann.id).await.unwrap().unwrap().password_hash;
    assert!(before.contains("t=1") && after.contains("t=2"), "{before} {after}");
    later.sign_in("ann").await;
}

#[tokio::test]
async fn a_ticket_works_once_and_for_half_a_minute() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let mut tickets = Vec::new();
    for _ in 0..4 {
        let reply = server.post("/v1/tickets").by(&ann).send().await.expect(201).json();
        tickets.push(reply["ticket"].as_str().unwrap().to_owned());
    }
    let identity = server.auth.identify(Credential::Ticket(&tickets[0])).await.unwrap();
    let Identity { user, device, expires_at } = identity;
    assert_eq!((user, device), (ann.id, ann.device));
    assert_eq!(expires_at, actors::Clock::now(&*server.clock) + 10 * MINUTE);
    let again = server.auth.identify(Credential::Ticket(&tickets[0])).await;
    assert_eq!(again, Err(ErrorCode::Unauthenticated));
    let (one, other) = tokio::join!(
        server.auth.identify(Credential::Ticket(&tickets[1])),
        server.auth.identify(Credential::Ticket(&tickets[1])),
    );
    assert!(one.is_ok() != other.is_ok(), "of two that show it, one comes in");
    server.clock.advance(30_000);
    let late = server.auth.identify(Credential::Ticket(&tickets[2])).await;
    assert_eq!(late, Err(ErrorCode::Unauthenticated));
    let nonsense = server.auth.identify(Credential::Ticket("nonsense")).await;
    assert_eq!(nonsense, Err(ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn a_ticket_of_an_ended_sign_in_opens_nothing() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let reply = server.post("/v1/tickets").by(&ann).send().await.expect(201).json();
    server.delete("/v1/sessions/current").by(&ann).send().await.expect(204);
    let shown = server.auth.identify(Credential::Ticket(reply["ticket"].as_str().unwrap())).await;
    assert_eq!(shown, Err(ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn signing_out_needs_nothing_but_the_refresh_token() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.delete("/v1/sessions/current").send().await.expect(401);
    let body = json!({ "refresh_token": ann.refresh });
    server.delete("/v1/sessions/current").json(body).send().await.expect(204);
    server.get("/v1/me").by(&ann).send().await.expect(401);
}

#[tokio::test]
async fn acts_are_noted_and_secrets_are_not() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    server.sign_in("ann").await;
    let wrong = json!({ "name": "my secret pass!", "password": "wrong password" });
    server.post("/v1/sessions").json(wrong).send().await.expect(401);
    server.delete("/v1/sessions/current").by(&ann).send().await.expect(204);
    assert_eq!(
        server.actions().await,
        ["account.created", "session.created", "session.refused", "session.ended"]
    );
    let records = format!("{:?}", server.store.audit(None, 100).await.unwrap().items);
    for secret in [PASSWORD, "wrong password", "my secret pass!", &ann.token, &ann.refresh] {
        assert!(!records.contains(secret), "{records}");
    }
}
