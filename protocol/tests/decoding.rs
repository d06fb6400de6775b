//! Whatever a stranger sends, reading it ends in a frame or an error; and what is a frame survives both encodings.

#[path = "support/frames.rs"]
mod frames;
mod support;

use std::{collections::BTreeSet, sync::LazyLock};

use frames::{client_frame, json, server_frame};
use proptest::{
    collection,
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use rookery_protocol::{
    ClientFrame, DecodeError, Encoding,
    client::Ping,
    codec::{client_kinds, server_kinds},
    limits,
};
use serde::Serialize;
use serde_json::{Value, json};
use support::{Direction, all_fixtures};

/// Many enough to find what is common, few enough for every run: about two seconds in all.
const CASES: u32 = 2_048;

/// Reads bytes as a frame of either direction; what can be read can also be written, and read again the same.
fn read(direction: Direction, encoding: Encoding, bytes: &[u8]) -> Result<Value, DecodeError> {
    let frame = match direction {
        Direction::Client => {
            let frame = encoding.decode_client(bytes)?;
            for other in Encoding::ALL {
                assert_eq!(
                    other.decode_client(&other.encode_client(&frame)).as_ref(),
                    Ok(&frame),
                    "{other:?}"
                );
            }
            json!(frame)
        }
        Direction::Server => {
            let frame = encoding.decode_server(bytes)?;
            for other in Encoding::ALL {
                assert_eq!(
                    other.decode_server(&other.encode_server(&frame)).as_ref(),
                    Ok(&frame),
                    "{other:?}"
                );
            }
            json!(frame)
        }
    };
    Ok(frame)
}

/// The bytes of any value, frame or not.
fn write<T: Serialize>(encoding: Encoding, value: &T) -> Vec<u8> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).expect("JSON is JSON"),
        Encoding::MessagePack => rmp_serde::to_vec_named(value).expect("JSON fits into MessagePack"),
    }
}

static FIXTURES: LazyLock<Vec<(Direction, Value)>> =
    LazyLock::new(|| all_fixtures().into_iter().map(|fixture| (fixture.direction, fixture.json())).collect());

fn fixture() -> impl Strategy<Value = (Direction, Value)> {
    any::<Index>().prop_map(|index| index.get(&FIXTURES).clone())
}

fn encoding() -> impl Strategy<Value = Encoding> {
    select(&Encoding::ALL[..])
}

/// Damage to bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
    Cut(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let odd_bytes = prop_oneof![
        collection::vec(any::<u8>(), 1..8),
        Just(vec![0xff, 0xfe, 0xc0, 0x80]),
        Just(b"\\ud800".to_vec()),
        Just(b"999999999999999999999999999999999999".to_vec()),
        Just(b"1e999".to_vec()),
        Just(vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0xdb, 0xff, 0xff, 0xff, 0xff]),
        Just(b"[".repeat(5_000)),
        Just(br#"{"a":"#.repeat(5_000)),
        Just(vec![0x91; 5_000]),
        Just([0x81, 0xa1, b'a'].repeat(5_000)),
    ];
    prop_oneof![
        (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<Index>().prop_map(Damage::Truncate),
        (any::<Index>(), odd_bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Cut(from, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let places = bytes.len() + 1;
    let range = |from: Index, to: Index| {
        let (from, to) = (from.index(places), to.index(places));
        from.min(to)..from.max(to)
    };
    match damage {
        Damage::Flip(at, bits) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Flip(..) => {}
        Damage::Truncate(at) => bytes.truncate(at.index(places)),
        Damage::Insert(at, odd) => {
            let at = at.index(places);
            bytes.splice(at..at, odd);
        }
        Damage::Repeat(from, to) => {
            let range = range(from, to);
            let (end, piece) = (range.end, bytes[range].to_vec());
            bytes.splice(end..end, piece);
        }
        Damage::Cut(from, to) => drop(bytes.drain(range(from, to))),
    }
}

/// How many values `value` consists of, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The value's part number `place`, in writing order.
fn part<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| part(item, place)),
        Value::Object(fields) => fields.values_mut().find_map(|field| part(field, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn nested(depth: usize) -> Value {
    (0..depth)
        .fold(json!(0), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) })
}

/// A value where another one is expected.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        json(),
        select(vec![
            json!(null),
            json!(-1),
            json!(1.5),
            json!(u64::MAX),
            json!(limits::MAX_COUNTER + 1),
            json!(1e300),
            json!(""),
            json!("x".repeat(limits::BODY_BYTES)),
            json!([]),
            json!({}),
            json!({ "$serde_json::private::RawValue": "[1]" }),
            json!({ "$serde_json::private::Number": "1" }),
        ]),
        (0..100usize).prop_map(nested),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in collection::vec(any::<u8>(), 0..512)) {
        for encoding in Encoding::ALL {
            for direction in Direction::ALL {
                let _: Result<Value, DecodeError> = read(direction, encoding, &bytes);
            }
        }
    }

    #[test]
    fn damaged_frames_are_read_or_refused(
        (direction, frame) in fixture(),
        encoding in encoding(),
        damages in collection::vec(damage(), 1..4),
    ) {
        let mut bytes = write(encoding, &frame);
        for damage in damages {
            apply(&mut bytes, damage);
        }
        let _: Result<Value, DecodeError> = read(direction, encoding, &bytes);
    }

    #[test]
    fn frames_with_a_part_of_another_type_are_read_or_refused(
        (direction, mut frame) in fixture(),
        encoding in encoding(),
        place in any::<Index>(),
        odd in odd_value(),
    ) {
        let mut place = place.index(size(&frame));
        *part(&mut frame, &mut place).expect("the place is inside") = odd;
        let _: Result<Value, DecodeError> = read(direction, encoding, &write(encoding, &frame));
    }

    #[test]
    fn a_clients_frame_survives_both_encodings(frame in client_frame()) {
        for encoding in Encoding::ALL {
            prop_assert_eq!(encoding.decode_client(&encoding.encode_client(&frame)), Ok(frame.clone()));
        }
    }

    #[test]
    fn a_servers_frame_survives_both_encodings(frame in server_frame()) {
        for encoding in Encoding::ALL {
            prop_assert_eq!(encoding.decode_server(&encoding.encode_server(&frame)), Ok(frame.clone()));
        }
    }

    #[test]
    fn unknown_fields_are_ignored(
        (direction, frame) in fixture(),
        encoding in encoding(),
        fields in collection::btree_map("x_[a-z]{0,8}", json(), 1..4),
    ) {
        let mut extended = frame.clone();
        extended.as_object_mut().expect("a frame is an object").extend(fields);
        prop_assert_eq!(read(direction, encoding, &write(encoding, &extended)), Ok(frame));
    }

    #[test]
    fn an_unknown_kind_is_unsupported_and_keeps_its_number(
        (direction, mut frame) in fixture(),
        encoding in encoding(),
        kind in "x_[a-z]{0,8}",
    ) {
        frame["type"] = json!(kind);
        let id = frame.get("id").and_then(Value::as_u64);
        let answer = read(direction, encoding, &write(encoding, &frame));
        prop_assert_eq!(answer, Err(DecodeError::Unsupported { id, kind }));
    }

    #[test]
    fn a_frame_beyond_the_limit_is_too_large_whatever_it_is(first in any::<u8>(), beyond in 1..1000usize) {
        let bytes = vec![first; limits::FRAME_BYTES + beyond];
        for encoding in Encoding::ALL {
            prop_assert_eq!(encoding.decode_client(&bytes), Err(DecodeError::TooLarge));
        }
    }
}

#[test]
fn a_frame_just_at_the_limit_is_read() {
    let mut bytes = br#"{"type":"ping","id":1}"#.to_vec();
    bytes.resize(limits::FRAME_BYTES, b' ');
    assert_eq!(Encoding::Json.decode_client(&bytes), Ok(ClientFrame::Ping(Ping { id: Some(1) })));
}

#[test]
fn the_arbitrary_frames_are_of_every_kind() {
    let mut runner = TestRunner::deterministic();
    let kind = |frame: Value| frame["type"].as_str().expect("a frame has a type").to_owned();
    let (client, server) = (client_frame(), server_frame());
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..500 {
        seen[0].insert(kind(json!(client.new_tree(&mut runner).unwrap().current())));
        seen[1].insert(kind(json!(server.new_tree(&mut runner).unwrap().current())));
    }
    let known = [client_kinds(), server_kinds()].map(|kinds| kinds.iter().map(ToString::to_string).collect());
    assert_eq!(seen, known);
}
