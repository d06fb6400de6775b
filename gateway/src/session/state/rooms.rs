//! The rooms that a session hears whole: asked for, live, or behind and catching up.

use std::{collections::BTreeMap, time::Duration};

use actors::session::Refusal;
use protocol::{
    ErrorCode, Incarnation, RoomId, Seq, ServerFrame,
    client::{Close, Open, RequestId, Resume},
    limits,
    server::Closed,
};

use super::{Action, Now, State, catch_up::CatchUp};
use crate::session::identify::error;

/// How long to wait before a room is asked again that had too much to do and did not say.
const RETRY: Duration = Duration::from_secs(1);

/// At most [`limits::OPEN_ROOMS`]; more are refused with `too_many`.
#[derive(Debug, Default)]
pub(super) struct OpenRooms(Vec<OpenRoom>);

#[derive(Debug)]
pub(super) struct OpenRoom {
    room: RoomId,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The room was asked.
    Opening(Box<Asked>),
    /// Its stream comes by itself.
    Live,
    /// The log is read, to get to the stream.
    Behind(Box<CatchUp>),
}

/// What a room was asked for; asked again when it has too much to do.
#[derive(Debug)]
pub(super) struct Asked {
    /// Absent on a resume.
    id: Option<RequestId>,
    after: Option<Seq>,
    incarnation: Option<Incarnation>,
    retry_at: Option<Duration>,
    /// The client does not want it any more.
    close: Option<RequestId>,
}

impl OpenRooms {
    pub(super) fn all(&self) -> impl Iterator<Item = RoomId> {
        self.0.iter().map(|open| open.room)
    }

    /// Whether the room has let the session in.
    pub(super) fn hears(&self, room: RoomId) -> bool {
        self.0.iter().any(|open| open.room == room && !matches!(open.stage, Stage::Opening(_)))
    }

    fn get(&mut self, room: RoomId) -> Option<&mut Stage> {
        self.0.iter_mut().find(|open| open.room == room).map(|open| &mut open.stage)
    }

    fn add(&mut self, room: RoomId, asked: Asked) {
        // Most sessions have one room open.
        self.0.reserve_exact(1);
        self.0.push(OpenRoom { room, stage: Stage::Opening(Box::new(asked)) });
    }

    fn remove(&mut self, room: RoomId) {
        self.0.retain(|open| open.room != room);
    }

    /// The catch-up of a room, if it is behind.
    pub(super) fn behind(&mut self, room: RoomId) -> Option<&mut CatchUp> {
        match self.get(room)? {
            Stage::Behind(catch_up) => Some(catch_up),
            Stage::Opening(_) | Stage::Live => None,
        }
    }

    /// It has read all, and goes back to the stream.
    pub(super) fn go_live(&mut self, room: RoomId) {
        if let Some(stage) = self.get(room) {
            *stage = Stage::Live;
        }
    }

    /// Whether a room is behind.
    pub(super) fn is_any_behind(&self) -> bool {
        self.0.iter().any(|open| matches!(open.stage, Stage::Behind(_)))
    }

    /// The next room that wants to read its log, which then comes after all others.
    pub(super) fn next_behind(&mut self, now: Duration) -> Option<(RoomId, &CatchUp)> {
        let due = |open: &OpenRoom| matches!(&open.stage, Stage::Behind(catch_up) if catch_up.is_due(now));
        let place = self.0.iter().position(due)?;
        self.0[place..].rotate_left(1);
        match self.0.last()? {
            OpenRoom { room, stage: Stage::Behind(catch_up) } => Some((*room, catch_up)),
            OpenRoom { stage: Stage::Opening(_) | Stage::Live, .. } => None,
        }
    }

    /// When something is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let retries = self.0.iter().filter_map(|open| match &open.stage {
            Stage::Opening(asked) => asked.retry_at,
            Stage::Behind(catch_up) => catch_up.retry_at(),
            Stage::Live => None,
        });
        retries.min()
    }

    /// Asks the rooms again whose time has come.
    pub(super) fn retry(&mut self, now: Duration) -> Vec<Action> {
        let due = self.0.iter_mut().filter_map(|open| match &mut open.stage {
            Stage::Opening(asked) if asked.retry_at.is_some_and(|at| at <= now) => Some(asked.ask(open.room)),
            Stage::Opening(_) | Stage::Live | Stage::Behind(_) => None,
        });
        due.collect()
    }
}

impl Asked {
    fn ask(&mut self, room: RoomId) -> Action {
        self.retry_at = None;
        Action::Open { room, id: self.id, after: self.after, incarnation: self.incarnation }
    }
}

impl State {
    /// Opens what was open.
    pub(super) fn resume(&mut self, resume: BTreeMap<RoomId, Resume>) -> Vec<Action> {
        let open = resume.into_iter().filter(|(_, resume)| resume.open);
        let ask = |(room, resume): (RoomId, Resume)| {
            if self.rooms.0.len() >= limits::OPEN_ROOMS {
                return closed(room, None, Some(ErrorCode::TooMany));
            }
            self.ask(room, None, Some(resume.after), resume.incarnation)
        };
        open.map(ask).collect()
    }

    pub(super) fn open(&mut self, now: Now, open: Open) -> Vec<Action> {
        let Open { id, room, after, incarnation } = open;
        let refuse = |code, message: &str| vec![told(id, room, Refusal::new(code, message))];
        if self.rooms.get(room).is_some() {
            return refuse(ErrorCode::Conflict, "the room is open");
        }
        if self.rooms.0.len() >= limits::OPEN_ROOMS {
            return refuse(ErrorCode::TooMany, "too many open rooms");
        }
        match self.opens.take(self.settings.opens, now.uptime) {
            Ok(()) => vec![self.ask(room, Some(id), after, incarnation)],
            Err(wait) => self.limited(now, Some(id), wait),
        }
    }

    fn ask(
        &mut self,
        room: RoomId,
        id: Option<RequestId>,
        after: Option<Seq>,
        incarnation: Option<Incarnation>,
    ) -> Action {
        let mut asked = Asked { id, after, incarnation, retry_at: None, close: None };
        let action = asked.ask(room);
        self.rooms.add(room, asked);
        action
    }

    /// A room that is still being opened is closed when it has answered, so that the client sees the one before the
    /// other.
    pub(super) fn close(&mut self, close: Close) -> Vec<Action> {
        let Close { id, room } = close;
        match self.rooms.get(room) {
            Some(Stage::Opening(asked)) if asked.retry_at.is_none() => {
                asked.close = Some(id);
                Vec::new()
            }
            Some(Stage::Opening(_)) | None => {
                self.rooms.remove(room);
                vec![closed(room, Some(id), None)]
            }
            Some(Stage::Live | Stage::Behind(_)) => self.leave(room, closed(room, Some(id), None)),
        }
    }

    /// Hears the room no more, and says so.
    pub(super) fn leave(&mut self, room: RoomId, say: Action) -> Vec<Action> {
        self.rooms.remove(room);
        vec![Action::Leave(room), Action::Watch { room, open: false }, say]
    }

    /// The room could not be asked.
    pub(super) fn open_refused(&mut self, now: Now, room: RoomId, refusal: Refusal) -> Vec<Action> {
        let Some(Stage::Opening(asked)) = self.rooms.get(room) else { return Vec::new() };
        let (id, close) = (asked.id, asked.close);
        if id.is_none() && close.is_none() && refusal.code.is_transient() {
            let wait = refusal.retry_after_ms.map_or(RETRY, Duration::from_millis);
            asked.retry_at = Some(now.uptime + wait);
            return Vec::new();
        }
        self.rooms.remove(room);
        let mut actions: Vec<Action> = id.map(|id| told(id, room, refusal.clone())).into_iter().collect();
        if id.is_none() || close.is_some() {
            actions.push(closed(room, close, Some(refusal.code)));
        }
        actions
    }

    pub(super) fn opened(&mut self, room: RoomId) -> Vec<Action> {
        match self.rooms.get(room) {
            Some(Stage::Opening(asked)) if asked.close.is_some() => {
                let say = closed(room, asked.close, None);
                self.leave(room, say)
            }
            Some(stage @ Stage::Opening(_)) => {
                *stage = Stage::Live;
                vec![Action::Watch { room, open: true }]
            }
            Some(Stage::Live | Stage::Behind(_)) => Vec::new(),
            // It was let in late; the session has no use for it.
            None => vec![Action::Leave(room)],
        }
    }

    pub(super) fn behind(&mut self, room: RoomId, at: Seq, head: Seq) -> Vec<Action> {
        match self.rooms.get(room) {
            Some(stage @ (Stage::Live | Stage::Behind(_))) => {
                *stage = Stage::Behind(Box::new(CatchUp::new(at, head)));
            }
            // Of an earlier opening.
            Some(Stage::Opening(_)) | None => {}
        }
        Vec::new()
    }

    pub(super) fn shut(
        &mut self,
        now: Now,
        room: RoomId,
        id: Option<RequestId>,
        code: ErrorCode,
    ) -> Vec<Action> {
        let Some(stage) = self.rooms.get(room) else { return Vec::new() };
        let close = match stage {
            // Nobody asked for an answer now, and nothing speaks against it later.
            Stage::Opening(asked) if id.is_none() && asked.close.is_none() && code.is_transient() => {
                asked.retry_at = Some(now.uptime + RETRY);
                return Vec::new();
            }
            Stage::Opening(asked) => asked.close,
            Stage::Live | Stage::Behind(_) => None,
        };
        self.rooms.remove(room);
        let mut actions = vec![Action::Watch { room, open: false }];
        actions.extend(id.map(|id| told(id, room, Refusal::new(code, "the room is not open to you"))));
        if id.is_none() || close.is_some() {
            actions.push(closed(room, close, Some(code)));
        }
        actions
    }

    /// Asks again, from where the client is.
    pub(super) fn audience_ended(&mut self, room: RoomId, at: Seq) -> Vec<Action> {
        let Some(stage) = self.rooms.get(room) else { return Vec::new() };
        let after = match stage {
            Stage::Opening(asked) => return vec![asked.ask(room)],
            Stage::Live => at,
            Stage::Behind(catch_up) => at.max(catch_up.at()),
        };
        self.rooms.remove(room);
        vec![self.ask(room, None, Some(after), None)]
    }
}

pub(super) fn closed(room: RoomId, id: Option<RequestId>, code: Option<ErrorCode>) -> Action {
    Action::Say(ServerFrame::Closed(Closed { id, room, code }))
}

fn told(id: RequestId, room: RoomId, refusal: Refusal) -> Action {
    Action::Say(error(Some(id), Some(room), refusal))
}
