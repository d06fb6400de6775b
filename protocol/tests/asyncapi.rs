//! `docs/asyncapi.yaml` says what the code does: its schemas take every fixture and nothing that the codec refuses.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use rookery_protocol::{
    CloseCode, Encoding, ErrorCode,
    codec::{client_kinds, server_kinds},
    limits,
};
use serde_json::{Value, json};
use support::{Direction, Fixture, all_fixtures, document, root, values};

fn asyncapi() -> Value {
    serde_saphyr::from_str(&document("asyncapi.yaml")).expect("the document is YAML")
}

fn messages(asyncapi: &Value) -> &serde_json::Map<String, Value> {
    asyncapi["components"]["messages"].as_object().expect("messages are named")
}

/// Refuses fields that a schema does not name, wherever it names some: so no fixture has an undocumented field.
fn forbid_other_fields(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("type") && fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(forbid_other_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_other_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A validator a message, by its name in the document.
fn validators(asyncapi: &Value) -> BTreeMap<String, Validator> {
    let build = |name: &String| {
        let schema = json!({
            "$ref": format!("#/components/messages/{name}/payload"),
            "components": asyncapi["components"],
        });
        let validator = jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.clone(), validator)
    };
    messages(asyncapi).keys().map(build).collect()
}

fn strict_validators() -> BTreeMap<String, Validator> {
    let mut asyncapi = asyncapi();
    forbid_other_fields(&mut asyncapi["components"]);
    validators(&asyncapi)
}

fn message_of(fixture: &Fixture) -> String {
    format!("{}.{}", fixture.direction.name(), fixture.kind())
}

fn is_readable(direction: Direction, frame: &Value) -> bool {
    let bytes = frame.to_string();
    match direction {
        Direction::Client => Encoding::Json.decode_client(bytes.as_bytes()).is_ok(),
        Direction::Server => Encoding::Json.decode_server(bytes.as_bytes()).is_ok(),
    }
}

/// The strings behind a pointer, in the document's order.
fn words<'a>(asyncapi: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list =
        asyncapi.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {pointer}"));
    list.iter().map(|word| word.as_str().expect("a word")).collect()
}

#[test]
fn every_fixture_is_valid_and_has_only_documented_fields() {
    let validators = strict_validators();
    for fixture in all_fixtures() {
        if let Err(error) = validators[&message_of(&fixture)].validate(&fixture.json()) {
            panic!("{}/{}: {error} at {}", fixture.direction.name(), fixture.name, error.instance_path());
        }
    }
}

#[test]
fn every_message_is_a_frame_and_every_frame_a_message() {
    let asyncapi = asyncapi();
    let documented: BTreeSet<_> = messages(&asyncapi).keys().cloned().collect();
    let client = client_kinds().iter().map(|kind| format!("client.{kind}"));
    let server = server_kinds().iter().map(|kind| format!("server.{kind}"));
    assert_eq!(documented, client.chain(server).collect());
    assert_eq!(documented, all_fixtures().iter().map(message_of).collect());
    for (name, message) in messages(&asyncapi) {
        let kind = name.split_once('.').map(|(_, kind)| kind);
        assert_eq!(message["name"].as_str(), kind);
        assert_eq!(message["payload"]["properties"]["type"]["const"].as_str(), kind, "{name}");
    }
}

#[test]
fn the_channel_and_the_operations_carry_every_message() {
    let asyncapi = asyncapi();
    let mut received = Vec::new();
    let mut sent = BTreeSet::new();
    let last_part = |reference: &Value| {
        let path = reference["$ref"].as_str().expect("a reference").to_owned();
        path.rsplit('/').next().expect("a split has a part").to_owned()
    };
    for (name, operation) in asyncapi["operations"].as_object().unwrap() {
        let own = operation["messages"].as_array().unwrap().iter().map(last_part);
        match operation["action"].as_str() {
            Some("receive") => received.extend(own),
            Some("send") => sent.extend(own),
            action => panic!("{name}: {action:?}"),
        }
        sent.extend(operation["reply"]["messages"].as_array().into_iter().flatten().map(last_part));
    }
    received.sort();
    let carried: BTreeSet<_> = received.iter().cloned().chain(sent).collect();
    let channel = asyncapi["channels"]["socket"]["messages"].as_object().unwrap();
    assert_eq!(carried, channel.keys().cloned().collect());
    assert_eq!(carried, messages(&asyncapi).keys().cloned().collect());
    received.dedup();
    assert_eq!(received.len(), client_kinds().len(), "each client frame belongs to one operation");
}

#[test]
fn a_missing_field_is_refused_by_the_schema_if_it_is_by_the_codec() {
    let validators = validators(&asyncapi());
    for fixture in all_fixtures() {
        let whole = fixture.json();
        for field in whole.as_object().unwrap().keys() {
            let mut frame = whole.clone();
            frame.as_object_mut().unwrap().remove(field);
            let valid = validators[&message_of(&fixture)].is_valid(&frame);
            // These two the gateway and the room ask for, since it depends on another field.
            let depends = matches!(field.as_str(), "target" | "expected");
            let readable = is_readable(fixture.direction, &frame) && !depends;
            assert_eq!(valid, readable, "{} without {field}", fixture.name);
        }
    }
}

/// Values that are wrong almost everywhere.
fn odd_values() -> Vec<Value> {
    vec![
        json!(true),
        json!(-1),
        json!(1.5),
        json!(limits::MAX_COUNTER + 1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("offline"),
        json!("invisible"),
        json!("x".repeat(limits::KIND_BYTES + 1)),
        json!("8C2E4F61B7A0439DAE15F8D03B6C9724"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "x": 1 }),
        json!(null),
    ]
}

#[test]
fn what_the_schema_takes_the_codec_reads() {
    let validators = validators(&asyncapi());
    for fixture in all_fixtures() {
        let whole = fixture.json();
        for (pointer, _) in values(&whole) {
            for odd in odd_values() {
                let mut frame = whole.clone();
                *frame.pointer_mut(&pointer).expect("the place exists") = odd;
                if validators[&message_of(&fixture)].is_valid(&frame) {
                    assert!(is_readable(fixture.direction, &frame), "{}{pointer}: {frame}", fixture.name);
                }
            }
        }
    }
}

#[test]
fn the_error_codes_are_those_of_the_code() {
    let expected: Vec<_> = ErrorCode::ALL.iter().map(|code| json!(code)).collect();
    assert_eq!(json!(words(&asyncapi(), "/components/schemas/ErrorCode/enum")), json!(expected));
}

#[test]
fn the_close_codes_are_those_of_the_code() {
    let codes: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("codes.json")).unwrap()).unwrap();
    let asyncapi = asyncapi();
    let documented = asyncapi["channels"]["socket"]["x-close-codes"].as_array().unwrap();
    assert_eq!(documented.len(), CloseCode::ALL.len());
    for close in documented {
        let mut about = close.clone();
        let name = about.as_object_mut().unwrap().remove("name").expect("a close code has a name");
        assert_eq!(about, codes["closes"][name.as_str().unwrap()], "{name}");
    }
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let asyncapi = asyncapi();
    let message = |path: &str| asyncapi.pointer(&format!("/components/messages/{path}")).cloned();
    let schema = |path: &str| asyncapi.pointer(&format!("/components/schemas/{path}")).cloned();
    let resumed = message("client.identify/payload/properties/resume/maxProperties");
    assert_eq!(resumed, Some(json!(limits::RESUME_ROOMS)));
    for token in ["client.identify/payload/properties/token", "client.refresh/payload/properties/token"] {
        assert_eq!(message(&format!("{token}/maxLength")), Some(json!(limits::TOKEN_BYTES)), "{token}");
    }
    assert_eq!(
        message("client.history/payload/properties/limit"),
        Some(json!({
            "type": "integer",
            "minimum": 1,
            "maximum": limits::PAGE_ENTRIES,
            "default": limits::PAGE_DEFAULT,
        }))
    );
    assert_eq!(schema("Users/maxItems"), Some(json!(limits::WATCHED_USERS)));
    assert_eq!(schema("Entry/properties/kind/maxLength"), Some(json!(limits::KIND_BYTES)));
    assert_eq!(schema("RoomChange/properties/slow_mode_s/maximum"), Some(json!(limits::SLOW_MODE_S)));
    let told = json!(limits::Limits::default());
    for (name, limit) in told.as_object().unwrap() {
        assert_eq!(schema(&format!("Limits/properties/{name}/maximum")).as_ref(), Some(limit), "{name}");
    }
}
