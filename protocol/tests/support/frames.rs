//! Arbitrary valid frames, every kind and every optional field.

use proptest::{collection, option, prelude::*};
use rookery_protocol::{
    Body, ClientFrame, CloseCode, DeviceId, Entry, ErrorCode, Incarnation, Kind, RoomId, ServerFrame,
    SessionId, UserId, WriterId, client,
    entry::{Durability, Mask, Role},
    limits::{Limits, MAX_COUNTER},
    server,
};
use serde_json::Value;

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..=9u64, 0..=MAX_COUNTER, Just(MAX_COUNTER)]
}

fn maybe_counter() -> impl Strategy<Value = Option<u64>> {
    option::of(counter())
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    counter().prop_map(Incarnation)
}

fn room() -> impl Strategy<Value = RoomId> {
    any::<u128>().prop_map(RoomId::from_u128)
}

fn user() -> impl Strategy<Value = UserId> {
    any::<u128>().prop_map(UserId::from_u128)
}

fn writer() -> impl Strategy<Value = WriterId> {
    any::<u128>().prop_map(WriterId::from_u128)
}

fn words() -> impl Strategy<Value = String> {
    any::<String>()
}

fn kind() -> impl Strategy<Value = Kind> {
    let known = &["message", "reply", "edit", "deletion", "reaction", "membership", "room"][..];
    prop_oneof![
        proptest::sample::select(known).prop_map(Kind::from_name),
        "[a-z_]{1,32}".prop_map(|name| Kind::from_name(&name))
    ]
}

/// Any JSON value a few levels deep.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::Object),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let key = prop_oneof![8 => words(), 1 => Just("$serde_json::private::RawValue".to_owned())];
    collection::btree_map(key, value, 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn body() -> impl Strategy<Value = Body> {
    object(json())
        .prop_filter_map("a body without reserved keys", |fields| Body::new(&Value::Object(fields)).ok())
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop_oneof![proptest::sample::select(ErrorCode::ALL), Just(ErrorCode::Other)]
}

fn presence() -> impl Strategy<Value = client::PresenceStatus> {
    use client::PresenceStatus::{Away, Dnd, Invisible, Offline, Online};
    proptest::sample::select(&[Online, Away, Dnd, Invisible, Offline][..])
}

fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(&[Role::Member, Role::Admin, Role::Owner][..])
}

fn durability() -> impl Strategy<Value = Durability> {
    proptest::sample::select(&[Durability::Durable, Durability::Ephemeral][..])
}

fn identify() -> impl Strategy<Value = ClientFrame> {
    let resume = (counter(), any::<bool>(), option::of(incarnation()))
        .prop_map(|(after, open, incarnation)| client::Resume { after, open, incarnation });
    let rooms = collection::btree_map(room(), resume, 0..4);
    (maybe_counter(), option::of(words()), option::of(words()), option::of(words()), rooms).prop_map(
        |(id, token, ticket, client, resume)| {
            ClientFrame::Identify(client::Identify { id, token, ticket, client, resume })
        },
    )
}

fn send() -> impl Strategy<Value = ClientFrame> {
    (room(), writer(), counter(), kind(), maybe_counter(), body(), option::of(words())).prop_map(
        |(room, writer, n, kind, target, body, traceparent)| {
            ClientFrame::Send(client::Send { room, writer, n, kind, target, body, traceparent })
        },
    )
}

fn history() -> impl Strategy<Value = ClientFrame> {
    use client::HistoryFrom::{After, Around, Before};
    let from = prop_oneof![counter().prop_map(Before), counter().prop_map(After), counter().prop_map(Around)];
    (counter(), room(), option::of(from), option::of(any::<u32>()))
        .prop_map(|(id, room, from, limit)| ClientFrame::History(client::History { id, room, from, limit }))
}

fn watch() -> impl Strategy<Value = client::Watch> {
    collection::vec(user(), 0..4).prop_map(|users| client::Watch { users })
}

pub(crate) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    let open = (counter(), room(), maybe_counter(), option::of(incarnation()))
        .prop_map(|(id, room, after, incarnation)| client::Open { id, room, after, incarnation });
    prop_oneof![
        identify(),
        open.prop_map(ClientFrame::Open),
        (counter(), room()).prop_map(|(id, room)| ClientFrame::Close(client::Close { id, room })),
        send(),
        history(),
        (room(), counter()).prop_map(|(room, seq)| ClientFrame::Read(client::Read { room, seq })),
        room().prop_map(|room| ClientFrame::Typing(client::Typing { room })),
        watch().prop_map(ClientFrame::Watch),
        watch().prop_map(ClientFrame::Unwatch),
        presence().prop_map(|status| ClientFrame::Status(client::Status { status })),
        (counter(), words()).prop_map(|(id, token)| ClientFrame::Refresh(client::Refresh { id, token })),
        maybe_counter().prop_map(|id| ClientFrame::Ping(client::Ping { id })),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let mask = proptest::sample::select(&[Mask::Deleted, Mask::Erased][..]);
    let said = (kind(), maybe_counter(), option::of(body()), option::of(mask));
    let own = (option::of(writer()), maybe_counter());
    (counter(), counter(), user(), said, own).prop_map(
        |(seq, at, from, (kind, target, body, masked), (writer, n))| Entry {
            seq,
            at,
            from,
            kind,
            target,
            body,
            masked,
            writer,
            n,
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    collection::vec(entry(), 0..4)
}

fn welcome() -> impl Strategy<Value = ServerFrame> {
    let who =
        (user(), any::<u128>().prop_map(DeviceId::from_u128), any::<u128>().prop_map(SessionId::from_u128));
    (maybe_counter(), any::<u32>(), who, counter(), counter(), counter()).prop_map(
        |(id, version, (user, device, session), server_time, expires_at, heartbeat_ms)| {
            let limits = Limits::default();
            ServerFrame::Welcome(server::Welcome {
                id,
                version,
                user,
                device,
                session,
                server_time,
                expires_at,
                heartbeat_ms,
                limits,
            })
        },
    )
}

fn opened() -> impl Strategy<Value = ServerFrame> {
    (maybe_counter(), room(), incarnation(), durability(), counter(), counter(), role()).prop_map(
        |(id, room, incarnation, durability, head, after, role)| {
            ServerFrame::Opened(server::Opened { id, room, incarnation, durability, head, after, role })
        },
    )
}

fn refused() -> impl Strategy<Value = ServerFrame> {
    let numbers = (maybe_counter(), maybe_counter(), maybe_counter());
    (room(), writer(), counter(), code(), words(), any::<bool>(), numbers).prop_map(
        |(room, writer, n, code, message, definite, (expected, seq, retry_after_ms))| {
            ServerFrame::Refused(server::Refused {
                room,
                writer,
                n,
                code,
                message,
                definite,
                expected,
                seq,
                retry_after_ms,
            })
        },
    )
}

fn room_frame() -> impl Strategy<Value = ServerFrame> {
    let head =
        (room(), counter(), counter()).prop_map(|(room, head, unread)| server::Head { room, head, unread });
    prop_oneof![
        (maybe_counter(), room(), option::of(code()))
            .prop_map(|(id, room, code)| ServerFrame::Closed(server::Closed { id, room, code })),
        (room(), incarnation(), entries()).prop_map(|(room, incarnation, entries)| ServerFrame::Entries(
            server::Entries { room, incarnation, entries }
        )),
        (room(), counter(), counter()).prop_map(|(room, after, upto)| ServerFrame::Gap(server::Gap {
            room,
            after,
            upto
        })),
        (room(), counter(), incarnation()).prop_map(|(room, head, incarnation)| ServerFrame::Reset(
            server::Reset { room, head, incarnation }
        )),
        collection::vec(head, 0..4).prop_map(|rooms| ServerFrame::Heads(server::Heads { rooms })),
        (room(), writer(), counter(), counter(), counter()).prop_map(|(room, writer, n, seq, at)| {
            ServerFrame::Ack(server::Ack { room, writer, n, seq, at })
        }),
        (maybe_counter(), room(), incarnation(), counter(), counter(), entries()).prop_map(
            |(id, room, incarnation, head, first, entries)| ServerFrame::Page(server::Page {
                id,
                room,
                incarnation,
                head,
                first,
                entries
            })
        ),
        (room(), counter(), counter())
            .prop_map(|(room, seq, unread)| ServerFrame::ReadMark(server::ReadMark { room, seq, unread })),
        (room(), user()).prop_map(|(room, user)| ServerFrame::Typing(server::Typing { room, user })),
    ]
}

fn session_frame() -> impl Strategy<Value = ServerFrame> {
    let presence_of = (user(), presence(), maybe_counter())
        .prop_map(|(user, status, last_seen)| server::UserPresence { user, status, last_seen });
    prop_oneof![
        collection::vec(presence_of, 0..4)
            .prop_map(|users| ServerFrame::Presence(server::Presence { users })),
        presence().prop_map(|status| ServerFrame::Status(server::OwnStatus { status })),
        (counter(), counter())
            .prop_map(|(id, expires_at)| ServerFrame::Refreshed(server::Refreshed { id, expires_at })),
        (maybe_counter(), counter())
            .prop_map(|(id, server_time)| ServerFrame::Pong(server::Pong { id, server_time })),
        (proptest::sample::select(CloseCode::ALL), words(), any::<bool>(), counter()).prop_map(
            |(code, reason, reconnect, after_ms)| ServerFrame::Goodbye(server::Goodbye {
                code: code.code(),
                reason,
                reconnect,
                after_ms
            })
        ),
        (maybe_counter(), code(), words(), option::of(room()), maybe_counter()).prop_map(
            |(id, code, message, room, retry_after_ms)| ServerFrame::Error(server::Error {
                id,
                code,
                message,
                room,
                retry_after_ms
            })
        ),
    ]
}

pub(crate) fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![1 => welcome(), 1 => opened(), 1 => refused(), 9 => room_frame(), 6 => session_frame()]
}
