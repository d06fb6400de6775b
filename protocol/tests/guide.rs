//! `docs/protocol.md` says what the code does: its tables hold the constants, its conversation consists of frames.

mod support;

use rookery_protocol::{CloseCode, Encoding, ErrorCode, close::ComeBack, limits};
use serde_json::json;
use support::document;

/// The rows below the header that begins with `first_column`, as cells without code marks.
fn table(first_column: &str) -> Vec<Vec<String>> {
    let guide = document("protocol.md");
    let header = format!("| {first_column} |");
    let rows = guide.lines().skip_while(|line| !line.starts_with(&header)).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_error_table_is_that_of_the_code() {
    let expected: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let transient = if code.is_transient() { "yes" } else { "no" };
            let name = json!(code).as_str().expect("a code is a word").to_owned();
            [name, code.http_status().to_string(), transient.to_owned()]
        })
        .collect();
    let written: Vec<_> = table("error code").into_iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(written, expected);
}

#[test]
fn the_close_table_is_that_of_the_code() {
    let expected: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| {
            let come_back = match code.come_back() {
                ComeBack::Resume => "resume",
                ComeBack::Reauthenticate => "reauthenticate",
                ComeBack::No => "no",
            };
            [code.code().to_string(), format!("{code:?}").to_lowercase(), come_back.to_owned()]
        })
        .collect();
    let written: Vec<_> = table("close code")
        .into_iter()
        .map(|row| [row[0].clone(), row[1].replace('_', ""), row[2].clone()])
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn the_limits_are_those_of_the_code() {
    let passwords = limits::PASSWORD_BYTES;
    let expected = [
        ("frame_bytes", limits::FRAME_BYTES.to_string()),
        ("body_bytes", limits::BODY_BYTES.to_string()),
        ("body_depth", limits::BODY_DEPTH.to_string()),
        ("kind_bytes", limits::KIND_BYTES.to_string()),
        ("open_rooms", limits::OPEN_ROOMS.to_string()),
        ("resume_rooms", limits::RESUME_ROOMS.to_string()),
        ("resume_entries", limits::RESUME_ENTRIES.to_string()),
        ("page_entries", limits::PAGE_ENTRIES.to_string()),
        ("page_default", limits::PAGE_DEFAULT.to_string()),
        ("window_sends", limits::WINDOW_SENDS.to_string()),
        ("window_bytes", limits::WINDOW_BYTES.to_string()),
        ("watched_users", limits::WATCHED_USERS.to_string()),
        ("max_counter", limits::MAX_COUNTER.to_string()),
        ("token_bytes", limits::TOKEN_BYTES.to_string()),
        ("user_name_chars", limits::USER_NAME_CHARS.to_string()),
        ("display_name_chars", limits::DISPLAY_NAME_CHARS.to_string()),
        ("room_name_chars", limits::ROOM_NAME_CHARS.to_string()),
        ("topic_chars", limits::TOPIC_CHARS.to_string()),
        ("slow_mode_s", limits::SLOW_MODE_S.to_string()),
        ("password_bytes", format!("{} to {}", passwords.start(), passwords.end())),
    ];
    let written: Vec<_> = table("limit").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(written, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn the_conversation_consists_of_frames() {
    let guide = document("protocol.md");
    let mut said = 0;
    for line in guide.lines() {
        if let Some(frame) = line.strip_prefix("→ ") {
            Encoding::Json.decode_client(frame.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            said += 1;
        } else if let Some(frame) = line.strip_prefix("← ") {
            Encoding::Json.decode_server(frame.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            said += 1;
        }
    }
    assert!(said > 10, "only {said} frames");
}
