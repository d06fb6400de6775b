//! What operators have removed is gone for everybody, and everything else is there.

use client::{Client, check::Log, rest::HttpMethod};
use protocol::{Body, Encoding, Incarnation, Kind, RoomId, WriterId, entry::Mask};
use serde_json::{Value, json};

use crate::{
    admin::{ask, refusal},
    support::{CANARY, Server, check, connect, within},
};

/// Who said it.
const ALICES: &str = "of alice";
const BOBS: &str = "of bob";

/// Entries that are removed together.
const STRETCH: u64 = 4_096;

/// A server that lets one person say thousands of things at once.
fn patient() -> Server {
    Server::start(&[
        ("LIMITS__USER_SENDS_PER_SECOND", "100000"),
        ("LIMITS__USER_SENDS_BURST", "100000"),
        ("LIMITS__FRAMES_PER_SECOND", "100000"),
        ("LIMITS__FRAMES_BURST", "100000"),
        // A room that wakes looks for itself what is to go: here an operator asks.
        ("ROOMS__IDLE_S", "3600"),
    ])
}

async fn say(client: &Client, room: RoomId, words: &str, count: u64) {
    for number in 0..count {
        let body = Body::text(&format!("{CANARY} {words} {number}")).unwrap();
        within("a place to say something", async {
            while client.try_send(room, Kind::Message, None, body.clone()).is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    within("the answers", client.settled()).await;
}

#[tokio::test]
async fn an_operator_has_old_stretches_of_a_room_removed() {
    let server = patient();
    let alice = server.person("alice").await;
    let room = alice.create_room("long").await.unwrap();
    let id = room.to_string();
    let clients = [connect(&alice, Encoding::MessagePack, WriterId::from_u128(0xa11ce))];
    clients[0].open(room);
    within("the stream", clients[0].live(room)).await;
    say(&clients[0], room, "once", STRETCH + 100).await;

    assert_eq!(
        ask(&server, &["retain"], "").last(),
        Some(&json!({ "rooms": 1, "removed": 0, "failures": 0 }))
    );
    let chosen = ask(&server, &["set-retention", &id, "--max-entries", "50"], "");
    assert_eq!(chosen[0]["retention"], json!({ "max_age_days": null, "max_entries": 50 }));
    let done = ask(&server, &["retain", &id], "");
    assert_eq!(done[0], json!({ "room": id, "first": STRETCH + 1, "removed": STRETCH }));
    assert_eq!(done[1], json!({ "rooms": 1, "removed": STRETCH, "failures": 0 }));
    assert_eq!(ask(&server, &["retain"], "").last().unwrap()["removed"], json!(0), "once is enough");

    let path = format!("/v1/rooms/{room}/entries?after=5&limit=3");
    let page = alice.call(HttpMethod::GET, &path, None).await.unwrap().body;
    assert_eq!((&page["first"], &page["entries"][0]["seq"]), (&json!(STRETCH + 1), &json!(STRETCH + 1)));
    say(&clients[0], room, "later", 5).await;
    let report = check(&server, &[room], &clients);
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(exported(&server, room).first(), STRETCH + 1);

    let back = ask(&server, &["set-retention", &id, "--default"], "");
    assert_eq!(back[0]["retention"], Value::Null);
    let nowhere = format!("{:032x}", 1);
    assert!(refusal(&server, &["retain", &nowhere], "").contains("no room"));
    assert!(refusal(&server, &["set-retention", &nowhere], "").contains("no room"));
    server.assert_quiet(std::slice::from_ref(&alice));
}

fn exported(server: &Server, room: RoomId) -> Log {
    let output = server.output(&["admin", "export-room", &room.to_string()], "");
    Log::from_json_lines(Incarnation(1), &String::from_utf8(output.stdout).unwrap()).unwrap()
}

#[tokio::test]
async fn an_operator_erases_somebody() {
    let mut server = patient();
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let rooms = [alice.create_room("one").await.unwrap(), alice.create_room("two").await.unwrap()];
    let clients = [
        connect(&alice, Encoding::MessagePack, WriterId::from_u128(0xa11ce)),
        connect(&bob, Encoding::Json, WriterId::from_u128(0xb0b)),
    ];
    for room in rooms {
        bob.join(room).await.unwrap();
        clients.iter().for_each(|client| client.open(room));
        for (client, whose) in clients.iter().zip([ALICES, BOBS]) {
            within("the stream", client.live(room)).await;
            say(client, room, whose, 40).await;
        }
    }
    for client in &clients {
        for room in rooms {
            within("what everybody said", client.caught_up(room, exported(&server, room).head())).await;
        }
    }
    // Bob has left one of the rooms: his words are still there.
    let path = format!("/v1/rooms/{}/leave", rooms[1]);
    assert_eq!(bob.call(HttpMethod::POST, &path, None).await.unwrap().status, 204);

    assert!(refusal(&server, &["erase-user", "bob"], "").contains("--yes"));
    assert!(refusal(&server, &["erase-user", "nobody", "--yes"], "").contains("nobody"));
    let id = bob.session().user.id;
    let done = ask(&server, &["erase-user", "bob", "--yes"], "");
    let sum = json!({ "user": id, "rooms": 2, "erased": 80, "already_erased": 0, "failures": 0 });
    assert_eq!((done.len(), &done[2]), (3, &sum), "{done:?}");
    let again = ask(&server, &["erase-user", &id.to_string(), "--yes"], "");
    assert_eq!((&again[2]["erased"], &again[2]["already_erased"]), (&json!(0), &json!(80)));

    assert!(bob.refresh().await.is_err(), "the account is shut");
    let shown = alice.call(HttpMethod::GET, &format!("/v1/users/{id}"), None).await.unwrap().body;
    assert_eq!((&shown["name"], &shown["display_name"]), (&json!("bob"), &json!("(erased)")));
    for room in rooms {
        let log = alice.log(room).await.unwrap();
        let (bobs, others): (Vec<_>, Vec<_>) =
            log.iter().filter(|entry| entry.kind == Kind::Message).partition(|entry| entry.from == id);
        assert_eq!((bobs.len(), others.len()), (40, 40));
        assert!(bobs.iter().all(|entry| entry.body.is_none() && entry.masked == Some(Mask::Erased)));
        assert!(others.iter().all(|entry| entry.body.is_some()));
    }
    let report = check(&server, &rooms, &clients[..1]);
    assert!(report.violations.is_empty() && report.delivered > 100, "{report}");
    server.assert_quiet(&[alice, bob]);

    drop(clients);
    server.signal("TERM");
    assert!(server.ended().await.0.success());
    for file in std::fs::read_dir(server.data()).unwrap() {
        let path = file.unwrap().path();
        let holds = |text: &str| {
            std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(!holds(BOBS), "{} holds what was erased", path.display());
        assert!(holds(ALICES) || path.extension().is_none_or(|kind| kind != "db"), "and nothing else went");
    }
}
