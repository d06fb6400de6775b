//! A room's log, and what must hold of it without any other knowledge: dense, each number once, each writer in order.
//!
//! Old entries may have been removed, in whole stretches of [`STRETCH`] from the oldest on: then nothing can be said of
//! what is below [`Log::first`], and everything of what is above.

use std::collections::HashMap;

use protocol::{Entry, Incarnation, Kind, RoomId, Seq, WriterId, entry::Mask};

use super::{Report, Violation};
use crate::record::Line;

/// Entries that are removed together.
const STRETCH: u64 = 4_096;

/// A room's log as an operator reads it: every entry with its writer and number.
#[derive(Debug, Clone)]
pub struct Log {
    pub(super) incarnation: Incarnation,
    pub(super) lines: Vec<LogLine>,
    /// Where a writer's number is; the first place if there are several.
    pub(super) places: HashMap<(WriterId, u64), usize>,
    /// Deleted entry to deletion.
    deletions: HashMap<Seq, Seq>,
    /// Edit to the entry whose new content it holds.
    edits: HashMap<Seq, Seq>,
    /// Erased entries that should not be.
    erased_rosters: Vec<Seq>,
}

/// One line of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogLine {
    pub(super) line: Line,
    /// None for entries that the server made.
    pub(super) sent: Option<(WriterId, u64)>,
}

impl Log {
    /// The log with these entries, in the order of the log.
    pub fn new(incarnation: Incarnation, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut log = Self {
            incarnation,
            lines: Vec::new(),
            places: HashMap::new(),
            deletions: HashMap::new(),
            edits: HashMap::new(),
            erased_rosters: Vec::new(),
        };
        for entry in entries {
            let sent = entry.writer.zip(entry.n).filter(|(_, n)| *n > 0);
            if let Some(sent) = sent {
                log.places.entry(sent).or_insert(log.lines.len());
            }
            if let Some(target) = entry.target.filter(|_| entry.kind == Kind::Deletion) {
                log.deletions.entry(target).or_insert(entry.seq);
            }
            if let Some(target) = entry.target.filter(|_| entry.kind == Kind::Edit) {
                log.edits.insert(entry.seq, target);
            }
            if matches!(entry.kind, Kind::Membership | Kind::Room) && entry.masked == Some(Mask::Erased) {
                log.erased_rosters.push(entry.seq);
            }
            log.lines.push(LogLine { line: Line::of(&entry), sent });
        }
        log
    }

    /// The log whose entries are these JSON lines, as `rookery admin export-room` prints them.
    ///
    /// # Errors
    /// When a line is no entry.
    pub fn from_json_lines(incarnation: Incarnation, text: &str) -> Result<Self, serde_json::Error> {
        let entries: Result<Vec<Entry>, _> = text.lines().map(serde_json::from_str).collect();
        Ok(Self::new(incarnation, entries?))
    }

    /// The newest entry; 0 in an empty log.
    pub fn head(&self) -> Seq {
        self.lines.last().map_or(0, |last| last.line.seq)
    }

    /// The oldest entry that is kept; 1 in an empty log.
    pub fn first(&self) -> Seq {
        self.lines.first().map_or(1, |first| first.line.seq)
    }

    /// The entry with this number.
    pub(super) fn line(&self, seq: Seq) -> Option<&LogLine> {
        let place = self.lines.binary_search_by_key(&seq, |entry| entry.line.seq).ok()?;
        self.lines.get(place)
    }

    /// The deletion that masks this entry: its own, or that of the entry whose content it holds.
    pub(super) fn deleted_at(&self, seq: Seq) -> Option<Seq> {
        let edited = self.edits.get(&seq).and_then(|target| self.deletions.get(target));
        self.deletions.get(&seq).into_iter().chain(edited).min().copied()
    }

    pub(super) fn check(&self, room: RoomId, report: &mut Report) {
        report.lines += self.lines.len();
        let rosters = self.erased_rosters.iter().map(|seq| Violation::RosterErased { room, seq: *seq });
        report.violations.extend(rosters);
        let begin = if self.first() % STRETCH == 1 { self.first() } else { 1 };
        for (expected, found) in (begin..).zip(self.lines.iter().map(|entry| entry.line.seq)) {
            if expected != found {
                report.violations.push(Violation::Hole { room, expected, found });
                break;
            }
        }
        let mut highest: HashMap<WriterId, u64> = HashMap::new();
        for (place, entry) in self.lines.iter().enumerate() {
            let Some((writer, n)) = entry.sent else { continue };
            let seq = entry.line.seq;
            // What a writer's first numbers were may be gone.
            let before = highest.entry(writer).or_insert(if begin > 1 { n - 1 } else { 0 });
            if self.places.get(&(writer, n)) != Some(&place) {
                report.violations.push(Violation::Twice { room, writer, n, seq });
            } else if n < *before {
                report.violations.push(Violation::SenderOrder { room, writer, n, seq, before: *before });
            } else if n > *before + 1 {
                report.violations.push(Violation::Skipped { room, writer, n, seq, before: *before });
            }
            *before = n.max(*before);
        }
    }
}
