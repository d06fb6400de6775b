//! A room's stream went on without this session: it reads the log at the client's pace until the stream takes it back.
//! Nothing is left out but what the log does not give, and that is named.

use std::time::Duration;

use actors::session::Refusal;
use protocol::{
    Entry, ErrorCode, RoomId, Seq, ServerFrame, UserId, WriterId, limits,
    server::{Entries, Gap, Page},
};

use super::{Action, Now, State, rooms::closed};

/// Bytes of one frame of missed entries.
const FRAME_BYTES: usize = 32 * 1024;

/// What an entry's frame holds beside the body, at most.
pub(super) const ENTRY_BYTES: usize = 256;

/// How long to wait for a store that does not show yet what was delivered, and how often, before a gap is named.
const NOT_YET: Duration = Duration::from_millis(200);
const NOT_YET_TRIES: u8 = 25;

/// How long to wait for a store that is away and does not say.
const AWAY: Duration = Duration::from_secs(1);

/// How far a session has read.
#[derive(Debug)]
pub(super) struct CatchUp {
    at: Seq,
    head: Seq,
    /// Entries of the next page: fewer when not all of the last one fitted into the outbox.
    limit: usize,
    retry_at: Option<Duration>,
    tries: u8,
}

/// A frame of missed entries.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) frame: ServerFrame,
    /// Where the client is when it has it.
    pub(crate) upto: Seq,
    /// The session's user's own sends among them, which are so acknowledged.
    pub(crate) own: Vec<(WriterId, u64)>,
}

impl CatchUp {
    pub(super) fn new(at: Seq, head: Seq) -> Self {
        Self { at, head, limit: limits::PAGE_ENTRIES, retry_at: None, tries: 0 }
    }

    pub(super) fn at(&self) -> Seq {
        self.at
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// What of a page the client lacks; `None` if the page does not reach that far yet.
    fn parts(&mut self, now: Duration, page: Page, user: UserId) -> Option<Vec<Part>> {
        self.retry_at = None;
        if page.head > self.at {
            let parts = missed(page, self.at, user);
            return Some(parts);
        }
        self.tries += 1;
        if self.tries > NOT_YET_TRIES {
            return Some(vec![gap(page.room, self.at, self.head)]);
        }
        self.retry_at = Some(now + NOT_YET);
        None
    }
}

/// The page's entries after `at`, with a gap before them if the log begins later.
fn missed(page: Page, at: Seq, user: UserId) -> Vec<Part> {
    let Page { room, incarnation, head, entries, .. } = page;
    let mut entries = entries.into_iter().filter(|entry| entry.seq > at).peekable();
    let Some(first) = entries.peek().map(|entry| entry.seq) else { return vec![gap(room, at, head)] };
    let mut parts: Vec<Part> = (first > at + 1).then(|| gap(room, at, first - 1)).into_iter().collect();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while let Some(entry) = entries.next() {
        bytes += size(&entry);
        chunk.push(entry);
        if entries.peek().is_none_or(|next| bytes + size(next) > FRAME_BYTES) {
            let entries = std::mem::take(&mut chunk);
            bytes = 0;
            parts.push(part(Entries { room, incarnation, entries }, user));
        }
    }
    parts
}

fn part(entries: Entries, user: UserId) -> Part {
    let upto = entries.entries.last().map_or(0, |entry| entry.seq);
    let own = entries.entries.iter().filter(|entry| entry.from == user);
    let own = own.filter_map(|entry| entry.writer.zip(entry.n)).collect();
    Part { frame: ServerFrame::Entries(entries), upto, own }
}

fn gap(room: RoomId, after: Seq, upto: Seq) -> Part {
    Part { frame: ServerFrame::Gap(Gap { room, after, upto }), upto, own: Vec::new() }
}

/// What an entry takes in a frame, at most.
pub(super) fn size(entry: &Entry) -> usize {
    ENTRY_BYTES + entry.body.as_ref().map_or(0, |body| body.as_json().len())
}

impl State {
    /// A page after `at` was read to catch up.
    pub(super) fn missed(
        &mut self,
        now: Now,
        room: RoomId,
        at: Seq,
        read: Result<Page, Refusal>,
    ) -> Vec<Action> {
        let user = self.user;
        // Otherwise of an earlier catch-up.
        let Some(catch_up) = self.rooms.behind(room).filter(|catch_up| catch_up.at == at) else {
            return Vec::new();
        };
        let page = match read {
            Ok(page) => page,
            Err(refusal) if is_permanent(refusal.code) => {
                return self.leave(room, closed(room, None, Some(refusal.code)));
            }
            Err(refusal) => {
                let wait = refusal.retry_after_ms.map_or(AWAY, Duration::from_millis);
                catch_up.retry_at = Some(now.uptime + wait);
                return Vec::new();
            }
        };
        let parts = catch_up.parts(now.uptime, page, user);
        parts.map(|parts| Action::PushMissed { room, parts }).into_iter().collect()
    }

    /// The client has what was pushed, up to `at`.
    pub(super) fn caught_up(&mut self, room: RoomId, at: Seq, all: bool) -> Vec<Action> {
        let Some(catch_up) = self.rooms.behind(room) else { return Vec::new() };
        if at > catch_up.at {
            catch_up.tries = 0;
        }
        catch_up.at = catch_up.at.max(at);
        catch_up.limit = if all { catch_up.limit * 2 } else { catch_up.limit / 2 };
        catch_up.limit = catch_up.limit.clamp(1, limits::PAGE_ENTRIES);
        if catch_up.at < catch_up.head {
            return Vec::new();
        }
        let at = catch_up.at;
        self.rooms.go_live(room);
        // The newest entries come from the audience's memory, where they do not show whose answers they are.
        vec![Action::Rejoin { room, at }, Action::SendAgain(room)]
    }
}

/// Whether reading again will not help.
fn is_permanent(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotAMember | ErrorCode::Banned | ErrorCode::NotFound | ErrorCode::Forbidden)
}
