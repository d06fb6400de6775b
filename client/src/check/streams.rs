//! What was delivered to one client of one room is the log, from where it joined; what is left out is named.
//!
//! Content may become erased, and nothing else changes: what the log has no more is compared with what others were shown of
//! it, and whoever was once told that an entry is erased is never shown its content again.

use std::collections::{HashMap, HashSet};

use protocol::{Incarnation, RoomId, Seq, UserId, entry::Mask};

use super::{Log, Phase, Report, Violation};
use crate::record::{Fingerprint, Line, Record, Seen};

/// `shown` is what clients were shown of entries that are erased by now.
pub(super) fn check(
    room: RoomId,
    log: &Log,
    record: &Record,
    phase: Phase,
    shown: &mut HashMap<Seq, Fingerprint>,
    report: &mut Report,
) {
    let Some(stream) = record.rooms.get(&room) else { return };
    let client = record.user;
    let erased = HashSet::new();
    let gaps = Vec::new();
    let mut walk =
        Walk { room, client, log, at: None, known: 0, is_open: false, gaps, shown, erased, report };
    for seen in stream {
        walk.step(seen);
    }
    if phase == Phase::Settled {
        walk.finish();
    }
}

struct Walk<'a> {
    room: RoomId,
    client: UserId,
    log: &'a Log,
    /// The last entry of the stream, or the position that stands for it.
    at: Option<Seq>,
    /// The newest entry that was ever streamed to this client: whoever streams to it later knows deletions up to here.
    known: Seq,
    is_open: bool,
    gaps: Vec<(Seq, Seq)>,
    shown: &'a mut HashMap<Seq, Fingerprint>,
    /// What this client was told is erased.
    erased: HashSet<Seq>,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn step(&mut self, seen: &Seen) {
        match *seen {
            Seen::Opened { asked, after, incarnation, .. } => self.opened(asked, after, incarnation),
            Seen::Entry(line) => self.entry(&line),
            Seen::Paged { line, head } => self.paged(&line, head),
            Seen::Gap { after, upto } => self.gap(after, upto),
            Seen::Reset { head, incarnation } => self.reset(head, incarnation),
            Seen::Closed(_) | Seen::Lost => self.is_open = false,
        }
    }

    fn opened(&mut self, asked: Option<Seq>, after: Seq, incarnation: Incarnation) {
        let (room, client) = (self.room, self.client);
        if let Some(asked) = asked {
            self.report.resumed += 1;
            if asked != after && incarnation == self.log.incarnation {
                self.found(Violation::ResumedElsewhere { room, client, asked, after });
            }
        }
        self.at = Some(after);
        self.is_open = true;
    }

    fn entry(&mut self, line: &Line) {
        let (room, client, seq) = (self.room, self.client, line.seq);
        self.report.delivered += 1;
        match self.at {
            Some(_) | None if !self.is_open => self.found(Violation::Unasked { room, client, seq }),
            Some(after) if seq <= after => self.found(Violation::Repeated { room, client, after, seq }),
            Some(after) if seq > after + 1 => self.found(Violation::SilentGap { room, client, after, seq }),
            Some(_) | None => {}
        }
        self.compare(line, self.known);
        self.known = self.known.max(seq);
        self.at = Some(seq);
    }

    fn paged(&mut self, line: &Line, head: Seq) {
        let (room, client, seq) = (self.room, self.client, line.seq);
        self.report.delivered += 1;
        if seq < self.log.first() {
            return; // removed since: there is nothing to compare it with
        }
        match self.gaps.first_mut() {
            Some((after, upto)) if seq == *after + 1 && seq <= *upto => {
                *after = seq;
                if *after == *upto {
                    self.gaps.remove(0);
                }
            }
            Some(_) | None => self.found(Violation::PageHole { room, client, seq }),
        }
        // The page was read at `head`; what the stream has brought since then is newer.
        self.compare(line, head);
    }

    fn gap(&mut self, after: Seq, upto: Seq) {
        let (room, client, at) = (self.room, self.client, self.at.unwrap_or(0));
        self.report.gaps += 1;
        if at != after || upto <= after || upto > self.log.head() {
            self.found(Violation::WrongGap { room, client, at, after, upto });
        }
        self.at = Some(upto);
        // What is removed can't be filled.
        let after = after.max(self.log.first() - 1);
        if after < upto {
            self.gaps.push((after, upto));
        }
    }

    fn reset(&mut self, head: Seq, incarnation: Incarnation) {
        let (room, client) = (self.room, self.client);
        if incarnation == self.log.incarnation {
            self.found(Violation::NeedlessReset { room, client, head });
        }
        self.at = Some(head);
    }

    /// The entry is the log's; withheld with a reason, and never shown by who knows entries up to `known` and so its
    /// deletion.
    fn compare(&mut self, line: &Line, known: Seq) {
        let (room, client, seq) = (self.room, self.client, line.seq);
        let Some(stored) = self.log.line(seq).map(|entry| entry.line) else {
            if seq < self.log.first() {
                return; // removed since
            }
            self.found(Violation::NotInLog { room, client, seq });
            return;
        };
        self.compare_erased(line, stored.print.is_none());
        let deleted_at = self.log.deleted_at(seq);
        match (line.masked, line.print) {
            _ if line.at != stored.at => self.found(Violation::Differs { room, client, seq }),
            (None, Some(_)) if deleted_at.is_some_and(|deletion| deletion <= known) => {
                self.found(Violation::Unmasked { room, client, seq });
            }
            (None, print) if print.is_none() || stored.print.is_some_and(|stored| print != Some(stored)) => {
                self.found(Violation::Differs { room, client, seq });
            }
            (Some(Mask::Deleted), _) if deleted_at.is_none() => {
                self.found(Violation::MaskedWithoutReason { room, client, seq });
            }
            (Some(Mask::Erased), _) if stored.masked != Some(Mask::Erased) => {
                self.found(Violation::MaskedWithoutReason { room, client, seq });
            }
            _ => {}
        }
    }

    fn compare_erased(&mut self, line: &Line, is_erased_now: bool) {
        let (room, client, seq) = (self.room, self.client, line.seq);
        if line.masked == Some(Mask::Erased) {
            self.erased.insert(seq);
        }
        let Some(print) = line.print else { return };
        if self.erased.contains(&seq) {
            self.found(Violation::Restored { room, client, seq });
        }
        if is_erased_now && *self.shown.entry(seq).or_insert(print) != print {
            self.found(Violation::Differs { room, client, seq });
        }
    }

    fn finish(&mut self) {
        let (room, client, head) = (self.room, self.client, self.log.head());
        if let Some(at) = self.at.filter(|at| self.is_open && *at < head) {
            self.found(Violation::Behind { room, client, at, head });
        }
        for (after, upto) in std::mem::take(&mut self.gaps) {
            self.found(Violation::GapLeft { room, client, after, upto });
        }
    }

    fn found(&mut self, violation: Violation) {
        self.report.violations.push(violation);
    }
}
