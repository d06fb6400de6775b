//! Rooms, members, history and invitations, asked as a client asks.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod rest_support;

use http::StatusCode;
use protocol::{RoomId, WriterId};
use rest_support::{Person, Server, server};
use serde_json::{Value, json};

const DAY_MS: u64 = 24 * 60 * 60_000;

fn public(name: &str) -> Value {
    json!({ "name": name, "topic": "about", "visibility": "public" })
}

fn private(name: &str) -> Value {
    json!({ "name": name, "visibility": "private" })
}

async fn act(server: &Server, by: &Person, room: RoomId, on: &Person, act: &str) -> rest_support::Reply {
    server.post(&format!("/v1/rooms/{room}/members/{}/{act}", on.id)).by(by).send().await
}

async fn names(server: &Server, by: &Person, path: &str) -> Vec<String> {
    let list = server.get(path).by(by).send().await.expect(200).json();
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap_or("?").to_owned()).collect()
}

#[tokio::test]
async fn a_public_room_is_found_entered_and_read() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let room = server.room(&ann, public("Birds")).await;
    server.say(&ann, room, "hello").await;
    assert_eq!(names(&server, &bob, "/v1/rooms/public?q=bird").await, ["Birds"]);
    let before = server.get(&format!("/v1/rooms/{room}")).by(&bob).send().await.expect(200).json();
    assert_eq!((&before["role"], &before["state"]), (&Value::Null, &json!("none")));
    assert!(before.get("head").is_none());
    server.join(&bob, room).await;
    server.join(&bob, room).await;
    let head = server.say(&bob, room, "hi ann").await;
    let list = server.get("/v1/rooms").by(&ann).send().await.expect(200).json();
    let mine = &list["items"][0];
    assert_eq!((&mine["role"], &mine["head"]), (&json!("owner"), &json!(head)));
    assert_eq!(mine["unread"], head - 2, "what was there before she came, and her coming, is read");
    assert_eq!(mine["last"]["body"]["text"], "hi ann");
    assert_eq!(mine["member_count"], 2);
    let path = format!("/v1/rooms/{room}/read");
    server.put(&path).by(&ann).json(json!({ "seq": head })).send().await.expect(204);
    server.put(&path).by(&ann).json(json!({ "seq": 1 })).send().await.expect(204);
    let mine = server.get(&format!("/v1/rooms/{room}")).by(&ann).send().await.json();
    assert_eq!((&mine["unread"], &mine["read_seq"]), (&json!(0), &json!(head)), "a mark moves forward only");
}

#[tokio::test]
async fn history_is_paged_before_after_and_around() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let room = server.room(&ann, private("Log")).await;
    let mut last = 0;
    for n in 0..10 {
        last = server.say(&ann, room, &format!("message {n}")).await;
    }
    let seqs = async |query: &str| {
        let page = server.get(&format!("/v1/rooms/{room}/entries?{query}")).by(&ann).send().await.expect(200);
        let page = page.json();
        assert_eq!(page["head"], last);
        let entries = page["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(seqs("limit=3").await, [last - 2, last - 1, last]);
    assert_eq!(seqs(&format!("before={}&limit=2", last - 2)).await, [last - 4, last - 3]);
    assert_eq!(seqs("after=0&limit=2").await, [1, 2]);
    let around = seqs(&format!("around={}&limit=3", last - 4)).await;
    assert!(around.contains(&(last - 4)) && around.len() == 3, "{around:?}");
    let both = server.get(&format!("/v1/rooms/{room}/entries?before=3&after=1")).by(&ann).send().await;
    both.expect(400).refused("invalid");
}

#[tokio::test]
async fn the_same_counter_again_gets_the_same_answer() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let room = server.room(&ann, private("Log")).await;
    let writer = WriterId::from_u128(7);
    let post = |n: u64, text: &str| {
        let body = json!({ "kind": "message", "body": { "text": text }, "writer": writer, "n": n });
        server.post(&format!("/v1/rooms/{room}/entries")).by(&ann).json(body).send()
    };
    let first = post(1, "once").await.expect(201).json();
    assert_eq!(post(1, "once").await.expect(201).json(), first);
    post(1, "something else").await.expect(409).refused("conflict");
    let jump = post(5, "jump").await.expect(409).refused("out_of_order");
    assert_eq!(jump.json()["expected"], 2);
    let page = server.get(&format!("/v1/rooms/{room}/entries?limit=1")).by(&ann).send().await.json();
    assert_eq!((&page["entries"][0]["writer"], &page["entries"][0]["n"]), (&json!(writer), &json!(1)));
}

#[tokio::test]
async fn what_can_not_be_said_is_refused_before_it_is() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let room = server.room(&ann, private("Log")).await;
    let post = |body: Value| server.post(&format!("/v1/rooms/{room}/entries")).by(&ann).json(body).send();
    let text = json!({ "text": "x" });
    post(json!({ "kind": "membership", "body": text })).await.expect(501).refused("unsupported");
    post(json!({ "kind": "poll", "body": text })).await.expect(501).refused("unsupported");
    assert_eq!(post(json!({ "kind": "edit", "body": text })).await.expect(400).fields(), ["target"]);
    assert_eq!(
        post(json!({ "kind": "message", "target": 1, "body": text })).await.expect(400).fields(),
        ["target"]
    );
    assert_eq!(post(json!({ "kind": "message", "body": text, "n": 1 })).await.expect(400).fields(), ["n"]);
    post(json!({ "kind": "message", "body": "no object" })).await.expect(400).refused("invalid");
    let large = json!({ "kind": "message", "body": { "text": "x".repeat(17 * 1024) } });
    post(large).await.expect(400).refused("invalid");
}

#[tokio::test]
async fn the_rules_for_rooms_are_told_field_by_field() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let wish = json!({ "name": " ", "topic": "x".repeat(257), "visibility": "direct" });
    let reply = server.post("/v1/rooms").by(&ann).json(wish).send().await.expect(400);
    assert_eq!(reply.fields(), ["name", "topic", "visibility"]);
    let room = server.room(&ann, private("Log")).await;
    let path = format!("/v1/rooms/{room}");
    let reply = server.patch(&path).by(&ann).json(json!({ "slow_mode_s": 21_601 })).send().await.expect(400);
    assert_eq!(reply.fields(), ["slow_mode_s"]);
    let change =
        json!({ "name": "Diary", "slow_mode_s": 5, "history": "since_joined", "visibility": "public" });
    let room = server.patch(&path).by(&ann).json(change).send().await.expect(200).json();
    assert_eq!(room["name"], "Diary");
    assert_eq!(room["history"], "since_joined");
    assert_eq!(server.get(&path).by(&ann).send().await.json()["slow_mode_s"], 5);
}

#[tokio::test]
async fn a_private_room_is_entered_by_invitation_alone() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let room = server.room(&ann, private("Club")).await;
    let join = format!("/v1/rooms/{room}/join");
    server.post(&join).by(&bob).send().await.expect(403).refused("forbidden");
    server.get(&format!("/v1/rooms/{room}")).by(&bob).send().await.expect(403).refused("not_a_member");
    assert!(names(&server, &bob, "/v1/rooms/public").await.is_empty());
    act(&server, &ann, room, &bob, "invite").await.expect(204);
    let list = server.get("/v1/rooms").by(&bob).send().await.json();
    assert_eq!((&list["items"][0]["state"], &list["items"][0]["role"]), (&json!("invited"), &Value::Null));
    assert!(list["items"][0].get("last").is_none(), "the invited read nothing yet");
    let entries = format!("/v1/rooms/{room}/entries");
    server.get(&entries).by(&bob).send().await.expect(403).refused("not_a_member");
    server.join(&bob, room).await;
    server.get(&entries).by(&bob).send().await.expect(200);
    server.post(&format!("/v1/rooms/{room}/leave")).by(&bob).send().await.expect(204);
    server.get(&entries).by(&bob).send().await.expect(403);
}

#[tokio::test]
async fn a_link_lets_in_so_many_and_so_long() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let room = server.room(&ann, private("Club")).await;
    let path = format!("/v1/rooms/{room}/invites");
    let wish = json!({ "max_uses": 1, "expires_in_s": 86_400 });
    let invite = server.post(&path).by(&ann).json(wish).send().await.expect(201).json();
    let secret = invite["secret"].as_str().unwrap();
    assert_eq!(invite["url"], format!("http://chat.test/#/invite/{room}/{secret}"));
    let (bob, cleo) = (server.sign_up("bob").await, server.sign_up("cleo").await);
    let preview = json!({ "room": room, "secret": secret });
    let shown =
        server.post("/v1/invites/preview").by(&bob).json(preview.clone()).send().await.expect(200).json();
    assert_eq!((&shown["room"]["name"], &shown["room"]["member_count"]), (&json!("Club"), &json!(1)));
    let join = |who: &Person, secret: &str| {
        server.post(&format!("/v1/rooms/{room}/join")).by(who).json(json!({ "invite_secret": secret })).send()
    };
    join(&bob, "AAAAAAAAAAAAAAAAAAAAAA").await.expect(410).refused("invite_invalid");
    join(&bob, "nonsense").await.expect(410).refused("invite_invalid");
    join(&bob, secret).await.expect(200);
    join(&cleo, secret).await.expect(410).refused("invite_invalid");
    let other = server.post(&path).by(&ann).send().await.expect(201).json();
    let list = server.get(&path).by(&ann).send().await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(secret), "a secret is told once");
    let revoke = format!("{path}/{}", other["id"].as_str().unwrap());
    server.delete(&revoke).by(&ann).send().await.expect(204);
    join(&cleo, other["secret"].as_str().unwrap()).await.expect(410);
    let third = server.post(&path).by(&ann).send().await.expect(201).json();
    server.clock.advance(7 * DAY_MS);
    let ann = server.sign_in("ann").await;
    let cleo = server.sign_in("cleo").await;
    join(&cleo, third["secret"].as_str().unwrap()).await.expect(410);
    let wish = json!({ "max_uses": 0, "expires_in_s": 31 * 86_400 });
    let reply = server.post(&path).by(&ann).json(wish).send().await.expect(400);
    assert_eq!(reply.fields(), ["expires_in_s", "max_uses"]);
}

#[tokio::test]
async fn the_banned_do_not_come_back_by_any_way() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let room = server.room(&ann, public("Birds")).await;
    let invite = server.post(&format!("/v1/rooms/{room}/invites")).by(&ann).send().await.expect(201).json();
    server.join(&bob, room).await;
    act(&server, &ann, room, &bob, "ban").await.expect(204);
    let join = format!("/v1/rooms/{room}/join");
    server.post(&join).by(&bob).send().await.expect(403).refused("banned");
    let body = json!({ "invite_secret": invite["secret"] });
    server.post(&join).by(&bob).json(body).send().await.expect(403).refused("banned");
    act(&server, &ann, room, &bob, "invite").await.expect(409).refused("conflict");
    server.get(&format!("/v1/rooms/{room}/entries")).by(&bob).send().await.expect(403).refused("banned");
    let banned = server.get(&format!("/v1/rooms/{room}/members?state=banned")).by(&ann).send().await.json();
    assert_eq!(banned["items"][0]["user"]["name"], "bob");
    act(&server, &ann, room, &bob, "unban").await.expect(204);
    server.join(&bob, room).await;
    assert_eq!(server.actions().await[2..], ["room.created", "member.banned", "member.unbanned"]);
}

#[tokio::test]
async fn the_muted_read_and_do_not_speak() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let room = server.room(&ann, public("Birds")).await;
    server.join(&bob, room).await;
    let path = format!("/v1/rooms/{room}/members/{}/mute", bob.id);
    let until = actors::Clock::now(&*server.clock) + 5_000;
    server.post(&path).by(&ann).json(json!({ "until": 1 })).send().await.expect(400);
    server.post(&path).by(&ann).json(json!({ "until": until })).send().await.expect(204);
    let body = json!({ "kind": "message", "body": { "text": "x" } });
    let post = || server.post(&format!("/v1/rooms/{room}/entries")).by(&bob).json(body.clone()).send();
    let reply = post().await.expect(403).refused("muted");
    assert_eq!(reply.headers["retry-after"], "5");
    server.get(&format!("/v1/rooms/{room}/entries")).by(&bob).send().await.expect(200);
    server.clock.advance(5_000);
    post().await.expect(201);
}

#[tokio::test]
async fn members_are_listed_in_pages_and_only_as_much_as_one_may_know() {
    let server = server().await;
    let ann = server.sign_up("ann").await;
    let room = server.room(&ann, public("Birds")).await;
    let mut people = Vec::new();
    for name in ["bob", "cleo", "dan", "eve"] {
        let person = server.sign_up(name).await;
        server.join(&person, room).await;
        people.push(person);
    }
    act(&server, &ann, room, &people[0], "mute").await.expect(204);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/rooms/{room}/members?limit=2{cursor}");
        let page = server.get(&path).by(&people[1]).send().await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(
            items.iter().all(|item| item.get("muted_until").is_none()),
            "who is muted is nobody's business"
        );
        seen.extend(items.iter().map(|item| item["user"]["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, ["ann", "bob", "cleo", "dan", "eve"]);
    let path = format!("/v1/rooms/{room}/members?state=banned");
    server.get(&path).by(&people[1]).send().await.expect(403).refused("forbidden");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn two_people_have_one_direct_room_whoever_asks_first() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let (to_bob, to_ann) = (format!("/v1/direct/{}", bob.id), format!("/v1/direct/{}", ann.id));
    let (one, other) = tokio::join!(server.put(&to_bob).by(&ann).send(), server.put(&to_ann).by(&bob).send());
    let (one, other) = (one.expect(200).json(), other.expect(200).json());
    assert_eq!(one["id"], other["id"]);
    assert_eq!((&one["peer"]["name"], &other["peer"]["name"]), (&json!("bob"), &json!("ann")));
    assert!(one.get("name").is_none());
    let again = server.put(&to_bob).by(&ann).send().await.expect(200).json();
    assert_eq!(again["head"], one["head"].as_u64().unwrap().max(other["head"].as_u64().unwrap()));
    server.put(&to_ann).by(&ann).send().await.expect(400).refused("invalid");
    let nobody = "/v1/direct/00000000000000000000000000000001";
    server.put(nobody).by(&ann).send().await.expect(404).refused("not_found");
    let path = format!("/v1/rooms/{}/invites", one["id"].as_str().unwrap());
    server.post(&path).by(&ann).send().await.expect(403).refused("forbidden");
}

#[tokio::test]
async fn the_blocked_are_not_heard() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let block = format!("/v1/me/blocks/{}", bob.id);
    server.put(&block).by(&ann).send().await.expect(204);
    server.put(&block).by(&ann).send().await.expect(204);
    assert_eq!(names(&server, &ann, "/v1/me/blocks").await, ["bob"]);
    let to_ann = format!("/v1/direct/{}", ann.id);
    server.put(&to_ann).by(&bob).send().await.expect(403).refused("blocked");
    let room = server.room(&bob, private("Club")).await;
    act(&server, &bob, room, &ann, "invite").await.expect(403).refused("blocked");
    act(&server, &ann, room, &ann, "invite").await.expect(403).refused("not_a_member");
    let direct = server.put(&format!("/v1/direct/{}", bob.id)).by(&ann).send().await.expect(200).json();
    let direct: RoomId = direct["id"].as_str().unwrap().parse().unwrap();
    let say = |who: &Person| {
        let body = json!({ "kind": "message", "body": { "text": "x" } });
        server.post(&format!("/v1/rooms/{direct}/entries")).by(who).json(body).send()
    };
    say(&bob).await.expect(403).refused("blocked");
    say(&ann).await.expect(201);
    server.delete(&block).by(&ann).send().await.expect(204);
    say(&bob).await.expect(201);
    server.put(&block).by(&ann).send().await.expect(204);
    say(&bob).await.expect(403).refused("blocked");
    server.put(&format!("/v1/me/blocks/{}", ann.id)).by(&ann).send().await.expect(400);
}

#[tokio::test]
async fn roles_are_given_by_owners_and_a_deleted_room_is_gone() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let room = server.room(&ann, public("Birds")).await;
    server.join(&bob, room).await;
    let role = format!("/v1/rooms/{room}/members/{}/role", bob.id);
    server.put(&role).by(&ann).json(json!({ "role": "admin" })).send().await.expect(204);
    assert_eq!(server.get(&format!("/v1/rooms/{room}")).by(&bob).send().await.json()["role"], "admin");
    server.put(&role).by(&ann).json(json!({ "role": "king" })).send().await.expect(400).refused("invalid");
    act(&server, &bob, room, &ann, "kick").await.expect(403).refused("forbidden");
    server.delete(&format!("/v1/rooms/{room}")).by(&ann).send().await.expect(204);
    for path in ["", "/entries", "/members", "/invites"] {
        let reply = server.get(&format!("/v1/rooms/{room}{path}")).by(&ann).send().await;
        reply.expect(404).refused("not_found");
    }
    assert!(names(&server, &ann, "/v1/rooms").await.is_empty());
    assert_eq!(server.actions().await[2..], ["room.created", "member.role", "room.deleted"]);
}

#[tokio::test]
async fn people_are_found_by_the_beginning_of_their_name() {
    let server = server().await;
    let alice = server.sign_up("alice").await;
    let (albert, _) = (server.sign_up("albert").await, server.sign_up("bob").await);
    assert_eq!(names(&server, &alice, "/v1/users?prefix=AL").await, ["albert", "alice"]);
    let page = server.get("/v1/users?prefix=al&limit=1").by(&alice).send().await.expect(200).json();
    let next = encoded(page["next"].as_str().unwrap());
    assert_eq!(
        names(&server, &alice, &format!("/v1/users?prefix=al&limit=1&cursor={next}")).await,
        ["alice"]
    );
    let body = json!({ "ids": [albert.id, "00000000000000000000000000000001"] });
    let found = server.post("/v1/users/query").by(&alice).json(body).send().await.expect(200).json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let many: Vec<_> = (0..101).map(protocol::UserId::from_u128).collect();
    let reply = server.post("/v1/users/query").by(&alice).json(json!({ "ids": many })).send().await;
    assert_eq!(reply.expect(400).fields(), ["ids"]);
    let nobody = server.get("/v1/users/00000000000000000000000000000001").by(&alice).send().await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_ephemeral_room_has_members_and_says_so() {
    let server = server().await;
    let (ann, bob) = (server.sign_up("ann").await, server.sign_up("bob").await);
    let wish = json!({ "name": "Lobby", "visibility": "public", "durability": "ephemeral" });
    let room = server.room(&ann, wish).await;
    server.join(&bob, room).await;
    server.say(&bob, room, "here now").await;
    let list = server.get("/v1/rooms").by(&ann).send().await.expect(200).json();
    assert_eq!(list["items"][0]["durability"], "ephemeral");
    server.get(&format!("/v1/rooms/{room}/entries")).by(&ann).send().await.expect(200);
}
