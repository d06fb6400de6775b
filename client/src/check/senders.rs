//! What was acknowledged is in the log, once, where and as the ack said; what was refused is not.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use protocol::{RoomId, Seq, WriterId, server::Ack};

use super::{Log, Phase, Report, Violation};
use crate::record::{Fingerprint, Message, Outcome, Record};

pub(super) fn check(room: RoomId, log: &Log, records: &[Record], phase: Phase, report: &mut Report) {
    for ack in records.iter().flat_map(|record| &record.acks).filter(|ack| ack.room == room) {
        report.acks += 1;
        check_ack(log, ack, &mut report.violations);
    }
    let messages: Vec<&Message> =
        records.iter().flat_map(|record| &record.messages).filter(|message| message.room == room).collect();
    for message in &messages {
        check_message(log, message, phase, &mut report.violations);
    }
    check_copies(room, log, &messages, &mut report.violations);
    check_inventions(room, log, &messages, &mut report.violations);
    check_time(room, &messages, &mut report.violations);
}

fn check_ack(log: &Log, ack: &Ack, found: &mut Vec<Violation>) {
    let Ack { room, writer, n, seq, at } = *ack;
    let Some(place) = log.places.get(&(writer, n)) else {
        if seq < log.first() {
            return; // removed since
        }
        found.push(Violation::AckedLost { room, writer, n, seq });
        return;
    };
    let line = log.lines[*place].line;
    if (line.seq, line.at) != (seq, at) {
        found.push(Violation::AckedElsewhere { room, writer, n, told: seq, seq: line.seq });
    }
}

fn check_message(log: &Log, message: &Message, phase: Phase, found: &mut Vec<Violation>) {
    let Message { room, writer, n, .. } = *message;
    let line = log.places.get(&(writer, n)).map(|place| log.lines[*place].line);
    let has_other_content = line.is_some_and(|line| line.print.is_some_and(|print| print != message.print));
    match (message.outcome, line) {
        (Outcome::Acked(_) | Outcome::Stored(_), Some(line)) if has_other_content => {
            found.push(Violation::OtherContent { room, writer, n, seq: line.seq });
        }
        // Where it was told to be, or may have been, nothing is left.
        (Outcome::Stored(told), None) if told.map_or(log.first() > 1, |told| told < log.first()) => {}
        (Outcome::Stored(told), None) => {
            found.push(Violation::AckedLost { room, writer, n, seq: told.unwrap_or(0) });
        }
        (Outcome::Stored(Some(told)), Some(line)) if told != line.seq => {
            found.push(Violation::AckedElsewhere { room, writer, n, told, seq: line.seq });
        }
        // The number may serve another message by now, but not this one.
        (Outcome::Refused(code), Some(line)) if line.print == Some(message.print) => {
            found.push(Violation::RefusedStored { room, code, seq: line.seq });
        }
        (Outcome::Open, _) if phase == Phase::Settled => {
            found.push(Violation::Unanswered { room, writer, n })
        }
        _ => {}
    }
}

/// No message is there more often than it was meant, whatever its number was.
fn check_copies(room: RoomId, log: &Log, messages: &[&Message], found: &mut Vec<Violation>) {
    let mut meant: HashMap<Fingerprint, usize> = HashMap::new();
    for message in messages {
        *meant.entry(message.print).or_default() += 1;
    }
    for line in log.lines.iter().map(|entry| entry.line) {
        match line.print.and_then(|print| meant.get_mut(&print)) {
            Some(0) => found.push(Violation::Doubled { room, seq: line.seq }),
            Some(left) => *left -= 1,
            None => {}
        }
    }
}

/// What the log has under a recorded writer was sent.
fn check_inventions(room: RoomId, log: &Log, messages: &[&Message], found: &mut Vec<Violation>) {
    let sent: HashSet<(WriterId, u64)> = messages.iter().map(|message| (message.writer, message.n)).collect();
    let writers: HashSet<WriterId> = sent.iter().map(|(writer, _)| *writer).collect();
    for entry in &log.lines {
        let Some((writer, n)) = entry.sent else { continue };
        if writers.contains(&writer) && !sent.contains(&(writer, n)) {
            found.push(Violation::Invented { room, writer, n, seq: entry.line.seq });
        }
    }
}

/// A message first sent after another one's ack stands behind it. All records share one clock.
fn check_time(room: RoomId, messages: &[&Message], found: &mut Vec<Violation>) {
    let seq = |message: &Message| match message.outcome {
        Outcome::Acked(seq) => Some(seq),
        Outcome::Open | Outcome::Stored(_) | Outcome::Refused(_) | Outcome::Unknown => None,
    };
    let by = |time: fn(&Message) -> Option<Duration>| {
        let mut sorted: Vec<(Duration, Seq)> =
            messages.iter().filter_map(|message| time(message).zip(seq(message))).collect();
        sorted.sort_unstable();
        sorted
    };
    let mut settled = by(|message| message.settled_at).into_iter().peekable();
    let mut highest = 0;
    for (asked_at, seq) in by(|message| message.asked_at) {
        while let Some((_, earlier)) = settled.next_if(|(settled_at, _)| *settled_at < asked_at) {
            highest = earlier.max(highest);
        }
        if highest > seq {
            found.push(Violation::OutOfTime { room, seq, earlier: highest });
        }
    }
}
