//! Hand-broken histories: the check must reject each, and accept the one that they are made from.

use protocol::{Body, Entry, ErrorCode, Incarnation, Kind, entry::Mask, server::Ack};
use std::time::Duration;

use super::*;
use crate::record::{Fingerprint, Line, Message, Outcome, Seen};

const ROOM: RoomId = RoomId::from_u128(1);
const ALICE: UserId = UserId::from_u128(10);
const WRITER: WriterId = WriterId::from_u128(11);
const LIFE: Incarnation = Incarnation(1);

/// A run of one sender who hears herself: two messages, the deletion of the first, a third message. She lost her
/// connection after the second, and a gap was named for the third.
struct Run {
    entries: Vec<Entry>,
    record: Record,
    phase: Phase,
}

fn entry(seq: Seq, kind: Kind, target: Option<Seq>) -> Entry {
    let body = Some(Body::text(&format!("body of {seq}")).unwrap());
    let (writer, n) = (Some(WRITER), Some(seq));
    Entry { seq, at: 1000 + seq, from: ALICE, kind, target, body, masked: None, writer, n }
}

fn message(entry: &Entry) -> Message {
    let body = entry.body.as_ref().unwrap();
    Message {
        room: ROOM,
        writer: WRITER,
        n: entry.n.unwrap(),
        print: Fingerprint::of(ALICE, &entry.kind, entry.target, body),
        asked_at: Some(Duration::from_secs(entry.seq * 2)),
        settled_at: Some(Duration::from_secs(entry.seq * 2 + 1)),
        outcome: Outcome::Acked(entry.seq),
    }
}

fn ack(entry: &Entry) -> Ack {
    Ack { room: ROOM, writer: WRITER, n: entry.n.unwrap(), seq: entry.seq, at: entry.at }
}

impl Run {
    fn sound() -> Self {
        let entries = vec![
            entry(1, Kind::Message, None),
            entry(2, Kind::Message, None),
            entry(3, Kind::Deletion, Some(1)),
            entry(4, Kind::Message, None),
        ];
        let line = |place: usize| Line::of(&entries[place]);
        let stream = vec![
            Seen::Opened { asked: None, after: 0, head: 0, incarnation: LIFE },
            Seen::Entry(line(0)),
            Seen::Entry(line(1)),
            Seen::Lost,
            Seen::Opened { asked: Some(2), after: 2, head: 4, incarnation: LIFE },
            Seen::Gap { after: 2, upto: 3 },
            Seen::Entry(line(3)),
            Seen::Paged { line: line(2), head: 4 },
        ];
        let record = Record {
            user: ALICE,
            messages: entries.iter().map(message).collect(),
            acks: entries.iter().map(ack).collect(),
            rooms: [(ROOM, stream)].into(),
            ..Record::default()
        };
        Self { entries, record, phase: Phase::Settled }
    }

    fn stream(&mut self) -> &mut Vec<Seen> {
        self.record.rooms.get_mut(&ROOM).unwrap()
    }

    fn report(&self) -> Report {
        let logs = [(ROOM, Log::new(LIFE, self.entries.clone()))].into();
        check(&logs, std::slice::from_ref(&self.record), self.phase)
    }
}

impl Run {
    /// A run of so many messages, with a stream that heard all of them.
    fn long(count: Seq) -> Self {
        let entries: Vec<Entry> = (1..=count).map(|seq| entry(seq, Kind::Message, None)).collect();
        let opened = Seen::Opened { asked: None, after: 0, head: 0, incarnation: LIFE };
        let stream = entries.iter().map(|entry| Seen::Entry(Line::of(entry)));
        let record = Record {
            user: ALICE,
            messages: entries.iter().map(message).collect(),
            acks: entries.iter().map(ack).collect(),
            rooms: [(ROOM, std::iter::once(opened).chain(stream).collect())].into(),
            ..Record::default()
        };
        Self { entries, record, phase: Phase::Settled }
    }
}

#[test]
fn a_log_whose_old_stretches_were_removed_is_accepted() {
    let mut run = Run::long(4_200);
    run.entries.drain(..4_096);
    let resumed = [
        Seen::Lost,
        Seen::Opened { asked: Some(4_000), after: 4_000, head: 4_200, incarnation: LIFE },
        Seen::Gap { after: 4_000, upto: 4_098 },
        Seen::Paged { line: Line::of(&run.entries[0]), head: 4_200 },
        Seen::Paged { line: Line::of(&run.entries[1]), head: 4_200 },
    ];
    let rest: Vec<Seen> = run.entries[2..].iter().map(|entry| Seen::Entry(Line::of(entry))).collect();
    run.stream().truncate(4_001);
    run.stream().extend(resumed.into_iter().chain(rest));
    let report = run.report();
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn a_part_of_a_stretch_is_not_removed_alone() {
    let mut run = Run::long(4_200);
    run.entries.drain(..4_095);
    assert!(matches!(run.report().violations[0], Violation::Hole { expected: 1, found: 4_096, .. }));
    let mut run = Run::long(4_200);
    run.entries.remove(4_150);
    run.entries.drain(..4_096);
    let found = run.report().violations;
    assert!(
        found.iter().any(|violation| matches!(violation, Violation::Hole { expected: 4_151, .. })),
        "{found:?}"
    );
    assert!(
        found.iter().any(|violation| matches!(violation, Violation::AckedLost { seq: 4_151, .. })),
        "{found:?}"
    );
}

fn erased(entry: &Entry) -> Entry {
    Entry { body: None, masked: Some(Mask::Erased), ..entry.clone() }
}

#[test]
fn content_that_was_delivered_and_is_erased_now_is_accepted_and_so_is_its_erasure() {
    let mut run = Run::sound();
    let second = Line::of(&erased(&run.entries[1]));
    run.entries[1] = erased(&run.entries[1]);
    run.stream().extend([
        Seen::Lost,
        Seen::Opened { asked: Some(1), after: 1, head: 4, incarnation: LIFE },
        Seen::Entry(second),
        Seen::Gap { after: 2, upto: 4 },
        Seen::Paged { line: Line::of(&entry(3, Kind::Deletion, Some(1))), head: 4 },
        Seen::Paged { line: Line::of(&entry(4, Kind::Message, None)), head: 4 },
    ]);
    let report = run.report();
    assert!(report.violations.is_empty(), "{report}");
}

/// Each breaks a sound run in one way; the check must name the broken rule.
macro_rules! rejects {
    ($($name:ident: $violation:pat, $how:expr;)*) => {$(
        #[test]
        fn $name() {
            let mut run = Run::sound();
            let how: fn(&mut Run) = $how;
            how(&mut run);
            let found = run.report().violations;
            assert!(found.iter().any(|violation| matches!(violation, $violation)), "{found:?}");
        }
    )*};
}

#[test]
fn a_sound_run_is_accepted() {
    let report = Run::sound().report();
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!((report.lines, report.acks, report.delivered, report.resumed, report.gaps), (4, 4, 4, 1, 1));
}

#[test]
fn a_masked_entry_is_accepted_once_its_deletion_is_in_the_log() {
    let mut run = Run::sound();
    let masked = Line { print: None, masked: Some(Mask::Deleted), ..Line::of(&run.entries[0]) };
    run.stream()[1] = Seen::Entry(masked);
    assert!(run.report().violations.is_empty());
    run.entries[0] = Entry { body: None, masked: Some(Mask::Erased), ..run.entries[0].clone() };
    run.stream()[1] = Seen::Entry(Line::of(&run.entries[0]));
    let report = run.report();
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn an_edit_is_masked_with_the_entry_that_it_changes() {
    let mut run = Run::sound();
    run.entries[1] = entry(2, Kind::Edit, Some(1));
    run.record.messages[1] = message(&run.entries[1]);
    let masked = Line { print: None, masked: Some(Mask::Deleted), ..Line::of(&run.entries[1]) };
    run.stream()[2] = Seen::Entry(masked);
    let report = run.report();
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn a_page_from_before_a_deletion_is_accepted_after_it() {
    let mut run = Run::sound();
    let page = Seen::Paged { line: Line::of(&run.entries[0]), head: 2 };
    run.stream()[1] = Seen::Gap { after: 0, upto: 1 };
    run.stream().push(page);
    let paged = run.stream().remove(7);
    run.stream().push(paged);
    let report = run.report();
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn an_answer_under_way_is_accepted_while_the_run_goes_on() {
    let mut run = Run::sound();
    run.record.messages[3].outcome = Outcome::Open;
    run.stream().truncate(4);
    run.phase = Phase::Running;
    assert!(run.report().violations.is_empty());
}

rejects! {
    a_hole_in_the_log: Violation::Hole { expected: 2, found: 3, .. }, |run| {
        run.entries.remove(1);
    };
    a_number_that_is_in_the_log_twice: Violation::Twice { n: 2, seq: 3, .. }, |run| run.entries[2].n = Some(2);
    numbers_out_of_order: Violation::SenderOrder { n: 2, seq: 4, before: 4, .. }, |run| {
        run.entries[1].n = Some(4);
        run.entries[3].n = Some(2);
    };
    a_number_that_was_left_out: Violation::Skipped { n: 4, before: 2, .. }, |run| run.entries[2].writer = None;
    an_acknowledged_message_that_is_lost: Violation::AckedLost { n: 4, seq: 4, .. }, |run| {
        run.entries.truncate(3);
    };
    an_ack_with_another_place: Violation::AckedElsewhere { n: 2, told: 3, seq: 2, .. }, |run| {
        run.record.acks[1].seq = 3;
    };
    an_ack_with_another_time: Violation::AckedElsewhere { n: 2, told: 2, seq: 2, .. }, |run| {
        run.record.acks[1].at += 1;
    };
    a_stored_message_that_is_lost: Violation::AckedLost { n: 4, .. }, |run| {
        run.entries.truncate(3);
        run.record.messages[3].outcome = Outcome::Stored(None);
    };
    a_stored_message_with_another_place: Violation::AckedElsewhere { n: 4, told: 9, seq: 4, .. }, |run| {
        run.record.messages[3].outcome = Outcome::Stored(Some(9));
    };
    other_content_under_a_number: Violation::OtherContent { n: 2, seq: 2, .. }, |run| {
        run.entries[1].body = Some(Body::text("something else").unwrap());
    };
    a_refused_message_in_the_log: Violation::RefusedStored { seq: 4, code: ErrorCode::Muted, .. }, |run| {
        run.record.messages[3].outcome = Outcome::Refused(ErrorCode::Muted);
    };
    a_message_under_two_numbers: Violation::Doubled { seq: 5, .. }, |run| {
        let again = Entry { seq: 5, n: Some(5), ..run.entries[3].clone() };
        run.entries.push(again);
    };
    an_entry_that_nobody_sent: Violation::Invented { n: 5, seq: 5, .. }, |run| {
        run.entries.push(entry(5, Kind::Message, None));
    };
    a_later_message_before_an_earlier_ack: Violation::OutOfTime { seq: 1, earlier: 2, .. }, |run| {
        run.record.messages[0].asked_at = Some(Duration::from_secs(6));
    };
    a_message_without_an_answer: Violation::Unanswered { n: 4, .. }, |run| {
        run.record.messages[3].outcome = Outcome::Open;
    };
    a_delivery_that_is_not_durable: Violation::NotInLog { seq: 5, .. }, |run| {
        let line = Line::of(&entry(5, Kind::Message, None));
        run.stream().push(Seen::Entry(line));
    };
    a_delivery_with_other_content: Violation::Differs { seq: 2, .. }, |run| {
        let other = Entry { body: Some(Body::text("something else").unwrap()), ..run.entries[1].clone() };
        run.stream()[2] = Seen::Entry(Line::of(&other));
    };
    a_delivery_with_another_time: Violation::Differs { seq: 2, .. }, |run| {
        let other = Entry { at: 7, ..run.entries[1].clone() };
        run.stream()[2] = Seen::Entry(Line::of(&other));
    };
    a_delivery_without_body_or_mask: Violation::Differs { seq: 2, .. }, |run| {
        let other = Entry { body: None, ..run.entries[1].clone() };
        run.stream()[2] = Seen::Entry(Line::of(&other));
    };
    a_mask_without_a_deletion: Violation::MaskedWithoutReason { seq: 2, .. }, |run| {
        let masked = Line { print: None, masked: Some(Mask::Deleted), ..Line::of(&run.entries[1]) };
        run.stream()[2] = Seen::Entry(masked);
    };
    a_mask_without_an_erasure: Violation::MaskedWithoutReason { seq: 1, .. }, |run| {
        let masked = Line { print: None, masked: Some(Mask::Erased), ..Line::of(&run.entries[0]) };
        run.stream()[1] = Seen::Entry(masked);
    };
    content_that_comes_back_after_its_erasure: Violation::Restored { seq: 2, .. }, |run| {
        let second = run.entries[1].clone();
        run.entries[1] = erased(&second);
        run.stream()[2] = Seen::Entry(Line::of(&erased(&second)));
        let again = [
            Seen::Lost,
            Seen::Opened { asked: Some(1), after: 1, head: 4, incarnation: LIFE },
            Seen::Entry(Line::of(&second)),
        ];
        run.stream().extend(again);
    };
    other_content_of_an_entry_that_is_erased_now: Violation::Differs { seq: 2, .. }, |run| {
        let other = Entry { body: Some(Body::text("something else").unwrap()), ..run.entries[1].clone() };
        run.entries[1] = erased(&run.entries[1]);
        let again = [
            Seen::Lost,
            Seen::Opened { asked: Some(1), after: 1, head: 4, incarnation: LIFE },
            Seen::Entry(Line::of(&other)),
        ];
        run.stream().extend(again);
    };
    a_membership_that_was_erased: Violation::RosterErased { seq: 2, .. }, |run| {
        run.entries[1] = Entry { kind: Kind::Membership, ..erased(&run.entries[1]) };
    };
    a_deleted_entry_that_is_shown_again: Violation::Unmasked { seq: 1, .. }, |run| {
        let first = Line::of(&run.entries[0]);
        let again = [
            Seen::Lost,
            Seen::Opened { asked: None, after: 0, head: 4, incarnation: LIFE },
            Seen::Entry(first),
        ];
        run.stream().extend(again);
    };
    a_deleted_entry_on_a_page_that_knows_its_deletion: Violation::Unmasked { seq: 1, .. }, |run| {
        let first = Line::of(&run.entries[0]);
        let page = [Seen::Gap { after: 0, upto: 1 }, Seen::Paged { line: first, head: 3 }];
        run.stream().splice(1..2, page);
    };
    a_gap_that_was_not_named: Violation::SilentGap { after: 2, seq: 4, .. }, |run| {
        run.stream().remove(5);
    };
    an_entry_that_comes_again: Violation::Repeated { after: 2, seq: 2, .. }, |run| {
        let again = run.stream()[2];
        run.stream().insert(3, again);
    };
    an_entry_that_comes_again_after_a_resume: Violation::Repeated { after: 2, seq: 2, .. }, |run| {
        let again = run.stream()[2];
        run.stream().insert(5, again);
    };
    a_gap_that_begins_elsewhere: Violation::WrongGap { at: 2, after: 1, .. }, |run| {
        run.stream()[5] = Seen::Gap { after: 1, upto: 3 };
    };
    a_gap_beyond_the_log: Violation::WrongGap { upto: 9, .. }, |run| {
        run.stream()[5] = Seen::Gap { after: 2, upto: 9 };
    };
    a_resume_at_another_place: Violation::ResumedElsewhere { asked: 2, after: 3, .. }, |run| {
        run.stream()[4] = Seen::Opened { asked: Some(2), after: 3, head: 4, incarnation: LIFE };
    };
    a_reset_in_the_same_life: Violation::NeedlessReset { head: 3, .. }, |run| {
        run.stream()[5] = Seen::Reset { head: 3, incarnation: LIFE };
    };
    an_entry_of_a_room_that_is_not_open: Violation::Unasked { seq: 4, .. }, |run| {
        run.stream().remove(4);
    };
    a_page_that_leaves_something_out: Violation::PageHole { seq: 4, .. }, |run| {
        let last = Line::of(&run.entries[3]);
        run.stream().push(Seen::Paged { line: last, head: 4 });
    };
    a_stream_that_stops_short: Violation::Behind { at: 3, head: 4, .. }, |run| {
        run.stream().remove(6);
    };
    a_gap_that_is_not_filled: Violation::GapLeft { after: 2, upto: 3, .. }, |run| {
        run.stream().pop();
    };
}

#[test]
fn a_log_of_a_hundred_thousand_lines_is_checked_at_once() {
    let run = Run::long(100_000);
    let begun = std::time::Instant::now();
    assert!(run.report().violations.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
