//! Who may say which frame: every kind × everybody, in one table. A kind without a row fails.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod socket_support;

use actors::rooms::{Command, Draft};
use protocol::{Body, Kind, WriterId, codec::client_kinds};
use serde_json::{Value, json};
use socket_support::{Client, Server, server, user};
use telemetry::TraceContext;

const ROOM: u128 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    Stranger,
    Member,
    Muted,
    Banned,
    Admin,
    Owner,
    Disabled,
}

use Who::{Admin, Anonymous, Banned, Disabled, Member, Muted, Owner, Stranger};

const EVERYBODY: [Who; 8] = [Anonymous, Stranger, Member, Muted, Banned, Admin, Owner, Disabled];

impl Who {
    fn number(self) -> u128 {
        match self {
            Owner => 1,
            Admin => 2,
            Member => 3,
            Muted => 4,
            Banned => 5,
            Stranger | Anonymous | Disabled => 6,
        }
    }

    fn identify(self) -> Value {
        match self {
            Anonymous => json!({ "type": "identify", "id": 9 }),
            Disabled => json!({ "type": "identify", "id": 9, "token": "disabled" }),
            _ => json!({ "type": "identify", "id": 9, "token": self.number().to_string() }),
        }
    }
}

/// What a frame comes to: the kind of its answer, the code of its refusal, or the code of the close.
/// In the order of [`EVERYBODY`]. Who is anonymous says it as the first frame; who is disabled can't get that far.
const TABLE: &[(&str, [&str; 8])] = &[
    ("identify", ["4101", "welcome", "welcome", "welcome", "welcome", "welcome", "welcome", "4104"]),
    ("open", ["4200", "not_a_member", "opened", "opened", "banned", "opened", "opened", "4104"]),
    // Closing what is not open changes nothing and says nothing of the room.
    ("close", ["4200", "closed", "closed", "closed", "closed", "closed", "closed", "4104"]),
    ("send", ["4200", "not_a_member", "ack", "muted", "banned", "ack", "ack", "4104"]),
    // The room is public and its history open: whoever is signed in may read it, unless banned.
    ("history", ["4200", "page", "page", "page", "banned", "page", "page", "4104"]),
    (
        "read",
        ["4200", "not_a_member", "read_mark", "read_mark", "not_a_member", "read_mark", "read_mark", "4104"],
    ),
    ("typing", ["4200", "unheard", "heard", "heard", "unheard", "heard", "heard", "4104"]),
    // Whom one shares no room with is shown as offline.
    ("watch", ["4200", "offline", "online", "online", "offline", "online", "online", "4104"]),
    ("unwatch", ["4200", "silence", "silence", "silence", "silence", "silence", "silence", "4104"]),
    ("status", ["4200", "status", "status", "status", "status", "status", "status", "4104"]),
    (
        "refresh",
        ["4200", "refreshed", "refreshed", "refreshed", "refreshed", "refreshed", "refreshed", "4104"],
    ),
    ("ping", ["4200", "pong", "pong", "pong", "pong", "pong", "pong", "4104"]),
];

#[tokio::test]
async fn every_frame_does_for_everybody_what_the_table_says() {
    let kinds: Vec<&str> = TABLE.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, client_kinds(), "a row for every kind, in the order of the protocol");
    let server = scene().await;
    let mut somebody_to_be_seen = server.client(1).await;
    somebody_to_be_seen.hear("status").await;
    for (kind, row) in TABLE {
        for (who, expected) in EVERYBODY.into_iter().zip(row) {
            let found = outcome(&server, who, kind).await;
            assert_eq!(found, *expected, "{kind} by {who:?}");
        }
    }
}

/// A public room with everybody in their place.
async fn scene() -> Server {
    let server = server().await;
    server.make_room(ROOM, &[2, 3, 4, 5]).await;
    let role = protocol::entry::Role::Admin;
    server.command(ROOM, 1, Command::SetRole { user: user(2), role }).await;
    server.command(ROOM, 1, Command::Mute { user: user(4), until: None }).await;
    server.command(ROOM, 1, Command::Ban(user(5))).await;
    server
}

fn frame(kind: &str, who: Who, writer: u128) -> Value {
    let room = socket_support::room(ROOM);
    match kind {
        "identify" => who.identify(),
        "open" | "close" | "history" => json!({ "type": kind, "id": 9, "room": room }),
        "send" => socket_support::message(ROOM, writer, 1, "hello"),
        "read" => json!({ "type": kind, "room": room, "seq": 2 }),
        "typing" => json!({ "type": kind, "room": room }),
        "watch" | "unwatch" => json!({ "type": kind, "users": [user(1)] }),
        "status" => json!({ "type": kind, "status": "away" }),
        "refresh" => json!({ "type": kind, "id": 9, "token": who.number().to_string() }),
        "ping" => json!({ "type": kind, "id": 9 }),
        other => panic!("no frame for {other}"),
    }
}

async fn outcome(server: &Server, who: Who, kind: &str) -> String {
    let mut client = server.knock().await;
    if kind != "identify" && who != Anonymous {
        client.say(who.identify()).await;
        if who == Disabled {
            return client.closed().await.to_string();
        }
        client.hear("welcome").await;
        client.hear("status").await;
    }
    if kind == "typing" && matches!(who, Member | Muted | Admin | Owner) {
        client.open(ROOM, None).await;
    }
    if kind == "typing" && who != Anonymous {
        return typing_heard(server, &mut client, who).await;
    }
    client.say(frame(kind, who, client.writer)).await;
    match kind {
        _ if matches!(who, Anonymous | Disabled) => client.closed().await.to_string(),
        "unwatch" => silence(&mut client).await,
        _ => answer(&mut client).await,
    }
}

/// The first frame that answers: not what comes by itself.
async fn answer(client: &mut Client) -> String {
    loop {
        let frame = client.next().await;
        match frame["type"].as_str().unwrap() {
            "heads" | "entries" | "typing" => {}
            "error" | "refused" => return frame["code"].as_str().unwrap().to_owned(),
            "presence" => return frame["users"][0]["status"].as_str().unwrap().to_owned(),
            other => return other.to_owned(),
        }
    }
}

/// Whether nothing is said before the answer to a later ping.
async fn silence(client: &mut Client) -> String {
    client.say(json!({ "type": "ping", "id": 99 })).await;
    let heard = answer(client).await;
    if heard == "pong" { "silence".to_owned() } else { heard }
}

/// Whether another member's socket hears of it: it would, before a message that is sent after it.
async fn typing_heard(server: &Server, client: &mut Client, who: Who) -> String {
    let mut listener = server.client(if who == Member { 2 } else { 3 }).await;
    listener.open(ROOM, None).await;
    client.say(frame("typing", who, client.writer)).await;
    client.say(json!({ "type": "ping", "id": 99 })).await;
    client.hear("pong").await;
    let text = format!("after {who:?} typed");
    let draft = Draft {
        user: user(1),
        writer: WriterId::from_u128(1_000 + who.number()),
        n: 1,
        kind: Kind::Message,
        target: None,
        body: Body::text(&text).unwrap(),
        trace: TraceContext::NONE,
    };
    server.actors.rooms.post(socket_support::room(ROOM), draft).await.unwrap();
    loop {
        let frame = listener.next().await;
        match frame["type"].as_str().unwrap() {
            "typing" => return "heard".to_owned(),
            "entries" if frame.to_string().contains(&text) => return "unheard".to_owned(),
            _ => {}
        }
    }
}
