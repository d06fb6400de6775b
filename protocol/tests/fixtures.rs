//! Every frame of the wire is pinned by a file in `protocol/fixtures/`; the TypeScript SDK reads the same files.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use rookery_protocol::{
    ClientFrame, CloseCode, Encoding, ErrorCode, Kind, ServerFrame,
    close::ComeBack,
    codec::{client_kinds, server_kinds},
    entry::{Mask, Membership, MembershipChange, RoomChange},
};
use serde_json::{Value, json};
use support::{Direction, Fixture, all_fixtures, fixtures, names_in, root};

/// The kind that a frame has on the wire. A new frame does not compile until it is named here, and does not pass
/// until a file of that name exists.
fn client_kind(frame: &ClientFrame) -> &'static str {
    match frame {
        ClientFrame::Identify(_) => "identify",
        ClientFrame::Open(_) => "open",
        ClientFrame::Close(_) => "close",
        ClientFrame::Send(_) => "send",
        ClientFrame::History(_) => "history",
        ClientFrame::Read(_) => "read",
        ClientFrame::Typing(_) => "typing",
        ClientFrame::Watch(_) => "watch",
        ClientFrame::Unwatch(_) => "unwatch",
        ClientFrame::Status(_) => "status",
        ClientFrame::Refresh(_) => "refresh",
        ClientFrame::Ping(_) => "ping",
    }
}

/// As [`client_kind`].
fn server_kind(frame: &ServerFrame) -> &'static str {
    match frame {
        ServerFrame::Welcome(_) => "welcome",
        ServerFrame::Opened(_) => "opened",
        ServerFrame::Closed(_) => "closed",
        ServerFrame::Entries(_) => "entries",
        ServerFrame::Gap(_) => "gap",
        ServerFrame::Reset(_) => "reset",
        ServerFrame::Heads(_) => "heads",
        ServerFrame::Ack(_) => "ack",
        ServerFrame::Refused(_) => "refused",
        ServerFrame::Page(_) => "page",
        ServerFrame::ReadMark(_) => "read_mark",
        ServerFrame::Typing(_) => "typing",
        ServerFrame::Presence(_) => "presence",
        ServerFrame::Status(_) => "status",
        ServerFrame::Refreshed(_) => "refreshed",
        ServerFrame::Pong(_) => "pong",
        ServerFrame::Goodbye(_) => "goodbye",
        ServerFrame::Error(_) => "error",
    }
}

fn read_client(encoding: Encoding, bytes: &[u8], name: &str) -> ClientFrame {
    encoding.decode_client(bytes).unwrap_or_else(|error| panic!("client/{name} as {encoding:?}: {error}"))
}

fn read_server(encoding: Encoding, bytes: &[u8], name: &str) -> ServerFrame {
    encoding.decode_server(bytes).unwrap_or_else(|error| panic!("server/{name} as {encoding:?}: {error}"))
}

fn client_frames() -> Vec<(Fixture, ClientFrame)> {
    let read = |fixture: Fixture| {
        let frame = read_client(Encoding::Json, fixture.text.as_bytes(), &fixture.name);
        (fixture, frame)
    };
    fixtures(Direction::Client).into_iter().map(read).collect()
}

fn server_frames() -> Vec<(Fixture, ServerFrame)> {
    let read = |fixture: Fixture| {
        let frame = read_server(Encoding::Json, fixture.text.as_bytes(), &fixture.name);
        (fixture, frame)
    };
    fixtures(Direction::Server).into_iter().map(read).collect()
}

/// Entries of every server fixture that carries some.
fn entries() -> Vec<rookery_protocol::Entry> {
    let of = |frame| match frame {
        ServerFrame::Entries(entries) => entries.entries,
        ServerFrame::Page(page) => page.entries,
        _ => Vec::new(),
    };
    server_frames().into_iter().flat_map(|(_, frame)| of(frame)).collect()
}

#[test]
fn a_client_frame_is_written_as_it_was_read_in_both_encodings() {
    for (fixture, frame) in client_frames() {
        let written: Value = serde_json::from_slice(&Encoding::Json.encode_client(&frame)).unwrap();
        assert_eq!(written, fixture.json(), "client/{}", fixture.name);
        let packed = Encoding::MessagePack.encode_client(&frame);
        assert_eq!(read_client(Encoding::MessagePack, &packed, &fixture.name), frame);
    }
}

#[test]
fn a_server_frame_is_written_as_it_was_read_in_both_encodings() {
    for (fixture, frame) in server_frames() {
        let written: Value = serde_json::from_slice(&Encoding::Json.encode_server(&frame)).unwrap();
        assert_eq!(written, fixture.json(), "server/{}", fixture.name);
        let packed = Encoding::MessagePack.encode_server(&frame);
        assert_eq!(read_server(Encoding::MessagePack, &packed, &fixture.name), frame);
    }
}

#[test]
fn messagepack_holds_the_same_map_as_json() {
    for fixture in all_fixtures() {
        let packed = match fixture.direction {
            Direction::Client => Encoding::MessagePack.encode_client(&read_client(
                Encoding::Json,
                fixture.text.as_bytes(),
                &fixture.name,
            )),
            Direction::Server => Encoding::MessagePack.encode_server(&read_server(
                Encoding::Json,
                fixture.text.as_bytes(),
                &fixture.name,
            )),
        };
        let map: Value = rmp_serde::from_slice(&packed).unwrap();
        assert_eq!(map, fixture.json(), "{}/{}", fixture.direction.name(), fixture.name);
    }
}

#[test]
fn every_kind_has_a_fixture_named_after_it() {
    let client: BTreeSet<_> = client_frames().iter().map(|(_, frame)| client_kind(frame)).collect();
    assert_eq!(client, client_kinds().iter().copied().collect());
    let server: BTreeSet<_> = server_frames().iter().map(|(_, frame)| server_kind(frame)).collect();
    assert_eq!(server, server_kinds().iter().copied().collect());
    for (fixture, frame) in client_frames() {
        assert_eq!(fixture.kind(), client_kind(&frame), "client/{}", fixture.name);
    }
    for (fixture, frame) in server_frames() {
        assert_eq!(fixture.kind(), server_kind(&frame), "server/{}", fixture.name);
    }
}

#[test]
fn each_kind_has_a_plain_fixture_and_no_other_file_lies_beside_them() {
    for (direction, kinds) in [(Direction::Client, client_kinds()), (Direction::Server, server_kinds())] {
        let plain: BTreeSet<_> = fixtures(direction).into_iter().map(|fixture| fixture.name).collect();
        for kind in kinds {
            assert!(plain.contains(*kind), "{}/{kind}.json is missing", direction.name());
        }
    }
    assert_eq!(names_in(&root()), ["client", "codes.json", "server"]);
}

#[test]
fn fixtures_are_printed_for_people() {
    for fixture in all_fixtures() {
        assert!(fixture.text.starts_with("{\n  \"type\": \""), "{}: the type comes first", fixture.name);
        assert!(fixture.text.ends_with("}\n"), "{}: the file ends with a line feed", fixture.name);
    }
}

#[test]
fn every_kind_of_entry_mask_and_membership_change_occurs() {
    let kinds: BTreeSet<_> = entries().iter().map(|entry| entry.kind.to_string()).collect();
    for kind in ["message", "reply", "edit", "deletion", "reaction", "membership", "room"] {
        assert!(kinds.contains(kind), "no entry of kind {kind}");
    }
    assert!(
        kinds.iter().any(|kind| matches!(Kind::from_name(kind), Kind::Other(_))),
        "no entry of a later version"
    );
    for mask in [Mask::Deleted, Mask::Erased] {
        assert!(entries().iter().any(|entry| entry.masked == Some(mask)), "no {mask:?} entry");
    }
    let changes: Vec<_> = membership_changes().into_iter().map(|change| change.change).collect();
    for change in [
        Membership::Joined,
        Membership::Invited,
        Membership::Left,
        Membership::Kicked,
        Membership::Banned,
        Membership::Unbanned,
        Membership::Muted,
        Membership::Unmuted,
        Membership::Role,
        Membership::Blocked,
        Membership::Unblocked,
    ] {
        assert!(changes.contains(&change), "no entry for {change:?}");
    }
}

fn membership_changes() -> Vec<MembershipChange> {
    let changes = entries().into_iter().filter(|entry| entry.kind == Kind::Membership);
    changes
        .map(|entry| entry.body.expect("a membership entry has a body").parse().expect("and of this shape"))
        .collect()
}

#[test]
fn bodies_that_the_server_makes_are_written_as_they_were_read() {
    for entry in entries() {
        let Some(body) = entry.body else { continue };
        let value: Value = body.parse().unwrap();
        match entry.kind {
            Kind::Membership => assert_eq!(json!(body.parse::<MembershipChange>().unwrap()), value),
            Kind::Room => assert_eq!(json!(body.parse::<RoomChange>().unwrap()), value),
            Kind::Message | Kind::Reply | Kind::Edit | Kind::Deletion | Kind::Reaction | Kind::Other(_) => {}
        }
    }
}

#[test]
fn entries_follow_each_other_without_holes_and_name_a_target_where_they_must() {
    for (fixture, frame) in server_frames() {
        let entries = match frame {
            ServerFrame::Entries(entries) => entries.entries,
            ServerFrame::Page(page) => page.entries,
            _ => continue,
        };
        assert!(entries.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "{} has a hole", fixture.name);
        for entry in entries {
            assert_eq!(entry.body.is_none(), entry.masked.is_some(), "{}: {}", fixture.name, entry.seq);
            assert_eq!(entry.target.is_some(), entry.kind.needs_target(), "{}: {}", fixture.name, entry.seq);
        }
    }
}

#[test]
fn every_sendable_kind_is_sent_by_some_fixture() {
    let mut sent = BTreeMap::new();
    for (fixture, frame) in client_frames() {
        if let ClientFrame::Send(send) = frame {
            assert!(send.kind.is_sendable(), "{} can't be sent", fixture.name);
            assert_eq!(send.target.is_some(), send.kind.needs_target(), "{}", fixture.name);
            sent.insert(send.kind.to_string(), ());
        }
    }
    assert_eq!(sent.into_keys().collect::<Vec<_>>(), ["deletion", "edit", "message", "reaction", "reply"]);
}

/// `NotAMember` → `not_a_member`.
fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn come_back_name(come_back: ComeBack) -> &'static str {
    match come_back {
        ComeBack::Resume => "resume",
        ComeBack::Reauthenticate => "reauthenticate",
        ComeBack::No => "no",
    }
}

#[test]
fn the_codes_are_those_of_this_crate() {
    let error = |code: &ErrorCode| {
        let name = json!(code).as_str().expect("a code is a word").to_owned();
        (name, json!({ "http_status": code.http_status(), "transient": code.is_transient() }))
    };
    let close = |code: &CloseCode| {
        let about = json!({
            "code": code.code(),
            "come_back": come_back_name(code.come_back()),
            "reason": code.reason(),
        });
        (snake_case(&format!("{code:?}")), about)
    };
    let expected = json!({
        "errors": ErrorCode::ALL.iter().map(error).collect::<serde_json::Map<_, _>>(),
        "closes": CloseCode::ALL.iter().map(close).collect::<serde_json::Map<_, _>>(),
    });
    let written: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("codes.json")).unwrap()).unwrap();
    assert_eq!(written, expected);
}

#[test]
fn an_error_code_of_a_later_version_is_read_as_other() {
    let frame = br#"{"type":"error","code":"eclipsed","message":"come back after dark"}"#;
    let ServerFrame::Error(error) = Encoding::Json.decode_server(frame).unwrap() else {
        panic!("no error frame")
    };
    assert_eq!(error.code, ErrorCode::Other);
}
