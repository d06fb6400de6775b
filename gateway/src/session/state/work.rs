//! What a session waits for: pages, marks, look-ups, credentials. One at a time, so that one client can't take the
//! store for itself.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actors::{session::Refusal, users::Allowance};
use protocol::{
    CloseCode, ErrorCode, RoomId, Seq, ServerFrame, UserId,
    client::{History, HistoryFrom, Read, Refresh, RequestId},
    limits,
    server::{Page, Refreshed},
};

use super::{Action, Ending, Now, State, catch_up, refused};
use crate::{auth::Identity, session::identify::error};

/// Requests that wait for the one being done: more than a screen asks for at once. A request beyond is refused with
/// `rate_limited`.
const WAITING: usize = 16;

/// How long to wait before a user's actor is asked again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Something to be done that takes its time.
#[derive(Debug, PartialEq)]
pub(crate) enum Work {
    /// Read a page for the client.
    Page(History),
    /// Read what a room's stream left out.
    CatchUp { room: RoomId, at: Seq, limit: usize },
    /// Keep a read mark.
    Mark(Read),
    /// Look up whom the client wants to watch.
    Watch(Vec<UserId>),
    /// Judge a fresh token.
    Refresh(Refresh),
    /// The user's actor forgot this session.
    Connect,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    Page(History, Result<Page, Refusal>),
    CatchUp { room: RoomId, at: Seq, read: Result<Page, Refusal> },
    Mark(RoomId, Result<(), Refusal>),
    Watch(Result<(), Refusal>),
    Refresh(RequestId, Result<Identity, ErrorCode>),
    Connect(Result<Arc<Allowance>, Refusal>),
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Works {
    waiting: VecDeque<Work>,
    /// A catch-up is next, if there is one: it takes turns with what the client asks for.
    catch_up_is_next: bool,
    reconnect_at: Option<Duration>,
}

impl Works {
    /// Before everything else, though it was taken out already.
    pub(super) fn again(&mut self, work: Work) {
        self.waiting.push_front(work);
    }

    pub(super) fn connect_again(&mut self) {
        self.reconnect_at = None;
        if !self.waiting.contains(&Work::Connect) {
            self.waiting.push_front(Work::Connect);
        }
    }

    pub(super) fn reconnect_at(&self) -> Option<Duration> {
        self.reconnect_at
    }

    pub(super) fn retry(&mut self, now: Duration) {
        if self.reconnect_at.is_some_and(|at| at <= now) {
            self.connect_again();
        }
    }

    /// `false` if too much waits. A later read mark of a room replaces one that waits.
    fn add(&mut self, work: Work) -> bool {
        if let Work::Mark(new) = &work {
            let marks = self.waiting.iter_mut().filter_map(|work| match work {
                Work::Mark(mark) => Some(mark),
                _ => None,
            });
            if let Some(mark) = marks.into_iter().find(|mark| mark.room == new.room) {
                mark.seq = mark.seq.max(new.seq);
                return true;
            }
        }
        if self.waiting.len() >= WAITING {
            return false;
        }
        self.waiting.push_back(work);
        true
    }

    /// The next request; pages wait until the outbox is calm.
    fn next(&mut self, is_calm: bool) -> Option<Work> {
        let place = self.waiting.iter().position(|work| is_calm || !matches!(work, Work::Page(_)))?;
        let work = self.waiting.remove(place);
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        work
    }
}

impl State {
    /// Whether there may be something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.works.waiting.is_empty() || self.rooms.is_any_behind()
    }

    /// The next thing to do, when nothing is being done. Pages are read only when the outbox is calm, so that they fit.
    pub(crate) fn next_work(&mut self, now: Now, is_calm: bool) -> Option<Work> {
        let missed = |state: &mut Self| if is_calm { state.next_catch_up(now) } else { None };
        let first = if self.works.catch_up_is_next { missed(self) } else { None };
        let work = first.or_else(|| self.works.next(is_calm)).or_else(|| missed(self));
        self.works.catch_up_is_next = !matches!(work, Some(Work::CatchUp { .. }));
        work
    }

    fn next_catch_up(&mut self, now: Now) -> Option<Work> {
        let (room, catch_up) = self.rooms.next_behind(now.uptime)?;
        Some(Work::CatchUp { room, at: catch_up.at(), limit: catch_up.limit() })
    }

    /// Queues a request.
    pub(super) fn work(&mut self, id: Option<RequestId>, work: Work) -> Vec<Action> {
        if self.works.add(work) {
            return Vec::new();
        }
        let refusal = Refusal::new(ErrorCode::RateLimited, "too many requests wait").retry_after(1_000);
        vec![Action::Say(error(id, None, refusal))]
    }

    pub(super) fn history(&mut self, now: Now, history: History) -> Vec<Action> {
        match self.history.take(self.settings.history, now.uptime) {
            Ok(()) => self.work(Some(history.id), Work::Page(history)),
            Err(wait) => self.limited(now, Some(history.id), wait),
        }
    }

    pub(super) fn done(&mut self, now: Now, done: Done) -> Vec<Action> {
        match done {
            Done::Page(history, Ok(page)) => {
                let page = Page { id: Some(history.id), ..fit(page, history.from, self.page_bytes()) };
                vec![Action::PushPage(Box::new(page), Work::Page(history))]
            }
            Done::Page(history, Err(refusal)) => {
                vec![Action::Say(error(Some(history.id), Some(history.room), refusal))]
            }
            Done::CatchUp { room, at, read } => self.missed(now, room, at, read),
            Done::Mark(room, Err(refusal)) => vec![Action::Say(error(None, Some(room), refusal))],
            Done::Watch(Err(refusal)) => vec![Action::Say(error(None, None, refusal))],
            Done::Mark(_, Ok(())) | Done::Watch(Ok(())) => Vec::new(),
            Done::Refresh(id, Ok(identity)) => self.refreshed(id, &identity),
            Done::Refresh(_, Err(ErrorCode::Disabled)) => {
                vec![Action::End(Ending::Close(CloseCode::Disabled))]
            }
            Done::Refresh(id, Err(code)) => refused(Some(id), code, "the token was refused".into()),
            Done::Connect(Ok(_)) => {
                let open = self.rooms.all().filter(|room| self.rooms.hears(*room));
                open.map(|room| Action::Watch { room, open: true }).collect()
            }
            Done::Connect(Err(refusal)) if refusal.code == ErrorCode::TooMany => {
                vec![Action::End(Ending::Close(CloseCode::TooManyConnections))]
            }
            Done::Connect(Err(_)) => {
                self.works.reconnect_at = Some(now.uptime + RECONNECT);
                Vec::new()
            }
        }
    }

    /// What of a page goes into one frame: as much as fits when the outbox is calm.
    fn page_bytes(&self) -> usize {
        self.settings.outbox_bytes * 3 / 8
    }

    fn refreshed(&mut self, id: RequestId, identity: &Identity) -> Vec<Action> {
        if (identity.user, identity.device) != (self.user, self.device) {
            return refused(Some(id), ErrorCode::Forbidden, "the token is of another sign-in".into());
        }
        self.expires_at = self.expires_at.max(identity.expires_at);
        vec![Action::Say(ServerFrame::Refreshed(Refreshed { id, expires_at: self.expires_at }))]
    }
}

/// The page with as many entries around where it begins as `most` bytes hold, at least one. The client goes on from
/// either end.
fn fit(page: Page, from: Option<HistoryFrom>, most: usize) -> Page {
    let entries = &page.entries;
    let Some(last) = entries.len().checked_sub(1) else { return page };
    let begin = match from {
        Some(HistoryFrom::After(_)) => 0,
        Some(HistoryFrom::Around(seq)) => entries.partition_point(|entry| entry.seq < seq).min(last),
        Some(HistoryFrom::Before(_)) | None => last,
    };
    let mut left = most.saturating_sub(catch_up::size(&entries[begin]));
    let mut take = |place: usize| {
        let rest = entries.get(place).and_then(|entry| left.checked_sub(catch_up::size(entry)));
        rest.map(|rest| left = rest).is_some()
    };
    let mut kept = begin..begin + 1;
    loop {
        let after = take(kept.end);
        kept.end += usize::from(after);
        let before = kept.start > 0 && take(kept.start - 1);
        kept.start -= usize::from(before);
        if !after && !before {
            break;
        }
    }
    let entries = page.entries.into_iter().skip(kept.start).take(kept.len()).collect();
    Page { entries, ..page }
}

/// Entries of a page that a client asked for.
pub(crate) fn page_limit(history: &History) -> usize {
    history.limit.map_or(limits::PAGE_DEFAULT, |limit| limit as usize).clamp(1, limits::PAGE_ENTRIES)
}
