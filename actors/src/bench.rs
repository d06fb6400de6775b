//! A room's decisions as a benchmark sees them. Nothing of the room itself is shown.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    Body, DeviceId, Encoding, Kind, Millis, RoomId, SessionId, UserId, WriterId,
    entry::{Durability, HistoryAccess, Role, Visibility},
};
use store::{
    members::{MemberRecord, MemberState, RoomRecord},
    reader::Roster,
};
use telemetry::TraceContext;

use crate::{
    Notice, Outbox, Session,
    room::{
        ReplyTo,
        state::{Input, Output, Recovery, RoomState, Send},
    },
    rooms::Draft,
    session::{Class, Pushed},
};

const NOW: Millis = 1_700_000_000_000;
/// Those who speak in turn, each with a writer.
const SPEAKERS: usize = 16;
const ROOM: RoomId = RoomId::from_u128(1);

/// A durable room in full swing: each call is told of `group` sends of 16 speakers while the group before is being
/// stored, then that it is stored, and so shows it and begins to store the next. Gives how many entries were shown.
///
/// # Panics
/// When the room does not accept a send: it has room for all of them.
pub fn room_steps(group: usize) -> impl FnMut() -> usize {
    let mut room = room();
    let mut said = 0;
    let sessions: Vec<Session> = (0..SPEAKERS).map(session).collect();
    let body = Body::text(&"x".repeat(120)).expect("a short text");
    let mut say = move |room: &mut RoomState, out: &mut Vec<Output>| {
        let (speaker, n) = (said % SPEAKERS, (said / SPEAKERS + 1) as u64);
        said += 1;
        let session = &sessions[speaker];
        let writer = WriterId::from_u128(speaker as u128 + 1);
        let (kind, trace) = (Kind::Message, TraceContext::NONE);
        let draft = Draft { user: session.user, writer, n, kind, target: None, body: body.clone(), trace };
        let reply = ReplyTo::Session { session: session.clone(), attempt: 1 };
        room.handle(Input::Send(Send { draft, reply, permit: None }), NOW, out);
    };
    let mut out = Vec::new();
    (0..SPEAKERS).for_each(|_| say(&mut room, &mut out));
    for speaker in 0..SPEAKERS {
        // Nothing is known of them in the store.
        let writer = WriterId::from_u128(speaker as u128 + 1);
        room.handle(Input::WriterLoaded { writer, mark: Ok(None) }, NOW, &mut out);
    }
    let mut being_stored = stored(&mut room, &mut out);
    let mut waiting = SPEAKERS - being_stored;
    move || {
        (0..group).for_each(|_| say(&mut room, &mut out));
        waiting += group;
        let mut shown = 0;
        // Where a bucket of the log ends, a group is cut in two.
        while shown == 0 || waiting > 0 {
            shown += being_stored;
            room.handle(Input::Appended { marked_upto: 0 }, NOW, &mut out);
            being_stored = stored(&mut room, &mut out);
            waiting -= being_stored;
        }
        shown
    }
}

/// The rows that are to be stored now, whose turn comes at once.
fn stored(room: &mut RoomState, out: &mut Vec<Output>) -> usize {
    if out.iter().any(|output| matches!(output, Output::AskTurn)) {
        room.handle(Input::Turn, NOW, out);
    }
    let rows = out.drain(..).map(|output| match output {
        Output::Append { rows, .. } => rows.len(),
        Output::Refuse { refusal, .. } => panic!("{refusal}"),
        _ => 0,
    });
    rows.sum()
}

fn room() -> RoomState {
    let user = |speaker: usize| UserId::from_u128(speaker as u128 + 1);
    let member = |speaker| MemberRecord {
        state: MemberState::Joined,
        role: Role::Member,
        joined_seq: 1,
        changed_seq: 1,
        ..MemberRecord::stranger(user(speaker))
    };
    let room = RoomRecord {
        room: ROOM,
        visibility: Visibility::Public,
        durability: Durability::Durable,
        history: HistoryAccess::All,
        name: "bench".to_owned(),
        topic: String::new(),
        slow_mode_s: 0,
        created_at: NOW,
        created_by: user(0),
        joined: SPEAKERS as u64,
        deleted: false,
        applied_seq: 1,
    };
    let roster = Roster { room, members: (0..SPEAKERS).map(member).collect() };
    let recovery = Recovery {
        epoch: 1,
        log_head: 1,
        rows: Vec::new(),
        marks: Vec::new(),
        roster: Some(roster),
        deleted: std::collections::HashSet::new(),
        first_kept: 1,
    };
    RoomState::new(ROOM, recovery)
}

fn session(speaker: usize) -> Session {
    Session {
        id: SessionId::from_u128(speaker as u128 + 1),
        user: UserId::from_u128(speaker as u128 + 1),
        device: DeviceId::from_u128(speaker as u128 + 1),
        outbox: Arc::new(Nowhere),
    }
}

/// An outbox that takes everything.
struct Nowhere;

impl Outbox for Nowhere {
    fn encoding(&self) -> Encoding {
        Encoding::Json
    }

    fn push(&self, _: &[Bytes], _: Class) -> Pushed {
        Pushed::Taken
    }

    fn settle(&self, _: RoomId, _: WriterId, _: u64) -> bool {
        true
    }

    fn notify(&self, _: Notice) {}
}
