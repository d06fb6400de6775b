//! What a session knows and decides. No socket, no clock, no await: frames, notices and time in, actions out.

mod catch_up;
mod rooms;
#[cfg(test)]
mod tests;
mod work;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actors::{Notice, session::Refusal};
use protocol::{
    ClientFrame, CloseCode, DecodeError, DeviceId, ErrorCode, Incarnation, Millis, RoomId, Seq, ServerFrame,
    SessionId, UserId, WriterId,
    client::{PresenceStatus, RequestId, Resume, Send},
    server::{Goodbye, Page, Pong, Refused},
};

pub(super) use self::{
    catch_up::Part,
    work::{Done, Work, page_limit},
};
use self::{rooms::OpenRooms, work::Works};
use super::{
    identify::error,
    socket::{Ending, Flow},
};
use crate::{SocketSettings, auth::Identity, limits::Bucket};

/// Characters of a decoder's complaint that a client is told.
const COMPLAINT_CHARS: usize = 200;

/// Now, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Since the gateway started: never goes back.
    pub(super) uptime: Duration,
    /// What clients and tokens reckon with.
    pub(super) wall: Millis,
}

/// What happens to a session.
#[derive(Debug)]
pub(super) enum Input {
    /// It was welcomed, and wants to go on with these rooms.
    Welcomed(BTreeMap<RoomId, Resume>),
    /// The client says something.
    Frame(Result<ClientFrame, DecodeError>),
    /// A ping or pong of the WebSocket's.
    Control,
    /// An actor says something.
    Notice(Notice),
    /// A room could not be asked.
    OpenRefused { room: RoomId, refusal: Refusal },
    /// Work is done.
    Done(Done),
    /// Of what a catch-up read, this much was pushed.
    CaughtUp { room: RoomId, at: Seq, all: bool },
    /// A page did not fit into the outbox.
    NotPushed(Work),
    /// Time has passed.
    Tick,
    /// The gateway stops.
    Stop(Duration),
}

/// What a session does.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Tell the client.
    Say(ServerFrame),
    /// Ask to hear a room.
    Open { room: RoomId, id: Option<RequestId>, after: Option<Seq>, incarnation: Option<Incarnation> },
    /// Hear it no more.
    Leave(RoomId),
    /// The room's stream replaces its heads, or no longer does.
    Watch { room: RoomId, open: bool },
    /// Hear it again from here.
    Rejoin { room: RoomId, at: Seq },
    /// Give it to the room.
    Send(Box<Send>),
    /// Give it to the room again, if it still waits.
    SendAgain(RoomId),
    /// As [`Self::SendAgain`], where no answer has come for too long.
    SendAgainLate,
    /// A room refuses a send.
    Refuse { room: RoomId, writer: WriterId, n: u64, attempt: u32, refusal: Refusal },
    /// The user is typing.
    Typing(RoomId),
    /// The user's own status.
    SetStatus(PresenceStatus),
    /// Hear no more about these.
    Unwatch(Vec<UserId>),
    /// Push a page that was asked for; if there is no room, the work is to be done again.
    PushPage(Box<Page>, Work),
    /// Push what was missed, until there is no room.
    PushMissed { room: RoomId, parts: Vec<Part> },
    /// Ask for a sign of life.
    Ping,
    /// Add up what was counted.
    SettleAccounts,
    /// It is over.
    End(Ending),
}

/// An identified session.
pub(super) struct State {
    settings: Arc<SocketSettings>,
    user: UserId,
    device: DeviceId,
    expires_at: Millis,
    rooms: OpenRooms,
    works: Works,
    frames: Bucket,
    pings: Bucket,
    history: Bucket,
    opens: Bucket,
    abuse: Bucket,
    heard_at: Duration,
    ping_at: Duration,
    ping_every: Duration,
    /// Since when the socket has taken nothing although something waits.
    stalled_since: Option<Duration>,
}

impl State {
    pub(super) fn new(
        settings: Arc<SocketSettings>,
        identity: &Identity,
        session: SessionId,
        now: Now,
    ) -> Self {
        // Within a tenth, so that sessions that came together are not pinged together.
        let spread = (session.as_u128() % 201) as u32 + 900;
        let ping_every = settings.heartbeat * spread / 1_000;
        Self {
            settings,
            user: identity.user,
            device: identity.device,
            expires_at: identity.expires_at,
            rooms: OpenRooms::default(),
            works: Works::default(),
            frames: Bucket::default(),
            pings: Bucket::default(),
            history: Bucket::default(),
            opens: Bucket::default(),
            abuse: Bucket::default(),
            heard_at: now.uptime,
            ping_at: now.uptime + ping_every,
            ping_every,
            stalled_since: None,
        }
    }

    /// One thing happens.
    pub(super) fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        match input {
            Input::Welcomed(resume) => self.resume(resume),
            Input::Frame(frame) => self.frame(now, frame),
            Input::Control => self.control(now),
            Input::Notice(notice) => self.notice(now, notice),
            Input::OpenRefused { room, refusal } => self.open_refused(now, room, refusal),
            Input::Done(done) => self.done(now, done),
            Input::CaughtUp { room, at, all } => self.caught_up(room, at, all),
            Input::NotPushed(work) => {
                self.works.again(work);
                Vec::new()
            }
            Input::Tick => self.tick(now),
            Input::Stop(after) => stop(after),
        }
    }

    /// What the latest look at the socket has written.
    pub(super) fn flowed(&mut self, now: Now, flow: Flow) {
        if !flow.is_blocked {
            self.stalled_since = None;
        } else if flow.written > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now.uptime);
        }
        if flow.written > 0 {
            // Room for it was made by the client.
            self.heard_at = now.uptime;
        }
    }

    /// The rooms that are open or being opened.
    pub(super) fn rooms(&self) -> impl Iterator<Item = RoomId> {
        self.rooms.all()
    }

    /// When [`Input::Tick`] is due, if the oldest unanswered send is of `oldest_send`.
    pub(super) fn next_tick(&self, now: Now, oldest_send: Option<Duration>) -> Duration {
        let until_expiry = self.ends_at().saturating_sub(now.wall);
        let times = [
            Some(self.ping_at),
            Some(self.lost_at()),
            Some(now.uptime + Duration::from_millis(until_expiry)),
            oldest_send.map(|sent_at| sent_at + self.settings.answer_timeout),
            self.stalled_since.map(|since| since + self.settings.write_deadline),
            self.rooms.next_retry(),
            self.works.reconnect_at(),
        ];
        times.into_iter().flatten().min().unwrap_or(self.ping_at)
    }

    fn lost_at(&self) -> Duration {
        self.heard_at + 2 * self.settings.heartbeat
    }

    fn ends_at(&self) -> Millis {
        self.expires_at.saturating_add(self.settings.expiry_grace.as_millis() as Millis)
    }

    fn tick(&mut self, now: Now) -> Vec<Action> {
        let stalled =
            self.stalled_since.is_some_and(|since| now.uptime >= since + self.settings.write_deadline);
        if stalled {
            return vec![Action::End(Ending::Cut)];
        }
        if now.uptime >= self.lost_at() {
            return vec![Action::End(Ending::Close(CloseCode::HeartbeatLost))];
        }
        if now.wall >= self.ends_at() {
            return vec![Action::End(Ending::Close(CloseCode::TokenExpired))];
        }
        let mut actions = vec![Action::SendAgainLate];
        if now.uptime >= self.ping_at {
            self.ping_at = now.uptime + self.ping_every;
            actions.extend([Action::Ping, Action::SettleAccounts]);
        }
        self.works.retry(now.uptime);
        actions.extend(self.rooms.retry(now.uptime));
        actions
    }

    fn control(&mut self, now: Now) -> Vec<Action> {
        self.heard_at = now.uptime;
        match self.pings.take(self.settings.pings, now.uptime) {
            Ok(()) => Vec::new(),
            Err(_) => self.abused(now).into_iter().collect(),
        }
    }

    fn frame(&mut self, now: Now, frame: Result<ClientFrame, DecodeError>) -> Vec<Action> {
        self.heard_at = now.uptime;
        if let Err(wait) = self.frames.take(self.settings.frames, now.uptime) {
            return self.too_often(now, frame.as_ref().ok(), wait);
        }
        match frame {
            Ok(frame) => self.understood(now, frame),
            Err(DecodeError::TooLarge) => vec![Action::End(Ending::Close(CloseCode::TooLarge))],
            Err(DecodeError::Unsupported { id, kind }) => {
                let kind: String = kind.chars().take(COMPLAINT_CHARS).collect();
                refused(id, ErrorCode::Unsupported, format!("unknown frame type {kind:?}"))
            }
            Err(DecodeError::Send { room, writer, n, code, reason }) => {
                let refusal = Refusal::new(code, reason.chars().take(COMPLAINT_CHARS).collect::<String>());
                vec![Action::Say(refused_send(room, writer, n, refusal))]
            }
            Err(DecodeError::Invalid { id, reason }) => {
                refused(id, ErrorCode::Invalid, reason.chars().take(COMPLAINT_CHARS).collect())
            }
        }
    }

    fn understood(&mut self, now: Now, frame: ClientFrame) -> Vec<Action> {
        match frame {
            ClientFrame::Identify(again) => {
                refused(again.id, ErrorCode::Conflict, "identified already".into())
            }
            ClientFrame::Open(open) => self.open(now, open),
            ClientFrame::Close(close) => self.close(close),
            ClientFrame::Send(send) => vec![Action::Send(Box::new(send))],
            ClientFrame::History(history) => self.history(now, history),
            ClientFrame::Read(read) => self.work(None, Work::Mark(read)),
            ClientFrame::Typing(typing) if self.rooms.hears(typing.room) => vec![Action::Typing(typing.room)],
            ClientFrame::Typing(_) => Vec::new(),
            ClientFrame::Watch(watch) => self.work(None, Work::Watch(watch.users)),
            ClientFrame::Unwatch(watch) => vec![Action::Unwatch(watch.users)],
            ClientFrame::Status(status) if status.status == PresenceStatus::Offline => {
                refused(None, ErrorCode::Invalid, "who is here is not offline: choose invisible".into())
            }
            ClientFrame::Status(status) => vec![Action::SetStatus(status.status)],
            ClientFrame::Refresh(refresh) => self.work(Some(refresh.id), Work::Refresh(refresh)),
            ClientFrame::Ping(ping) => self.ping(now, ping.id),
        }
    }

    fn ping(&mut self, now: Now, id: Option<RequestId>) -> Vec<Action> {
        match self.pings.take(self.settings.pings, now.uptime) {
            Ok(()) => vec![Action::Say(ServerFrame::Pong(Pong { id, server_time: now.wall }))],
            Err(wait) => self.limited(now, id, wait),
        }
    }

    /// A frame beyond the rate of all frames.
    fn too_often(&mut self, now: Now, frame: Option<&ClientFrame>, wait: Duration) -> Vec<Action> {
        if let Some(ClientFrame::Send(send)) = frame {
            let refusal = slow_down(wait);
            let told = Action::Say(refused_send(send.room, send.writer, send.n, refusal));
            return vec![self.abused(now).unwrap_or(told)];
        }
        self.limited(now, frame.and_then(id_of), wait)
    }

    fn limited(&mut self, now: Now, id: Option<RequestId>, wait: Duration) -> Vec<Action> {
        vec![self.abused(now).unwrap_or_else(|| Action::Say(error(id, None, slow_down(wait))))]
    }

    /// Beyond a limit: the end, if it goes on.
    fn abused(&mut self, now: Now) -> Option<Action> {
        let flood = Action::End(Ending::Close(CloseCode::Flood));
        self.abuse.take(self.settings.abuse, now.uptime).is_err().then_some(flood)
    }

    fn notice(&mut self, now: Now, notice: Notice) -> Vec<Action> {
        match notice {
            Notice::Refused { room, writer, n, attempt, refusal } => {
                vec![Action::Refuse { room, writer, n, attempt, refusal }]
            }
            Notice::RoomEnded { room } => vec![Action::SendAgain(room)],
            Notice::Opened { room } => self.opened(room),
            Notice::Behind { room, at, head } => self.behind(room, at, head),
            Notice::Shut { room, id, code } => self.shut(now, room, id, code),
            Notice::AudienceEnded { room, at } => self.audience_ended(room, at),
            Notice::UserEnded => {
                self.works.connect_again();
                Vec::new()
            }
            Notice::End(code) => vec![Action::End(Ending::Close(code))],
        }
    }
}

/// The client is told when to come back, and is let go.
fn stop(after: Duration) -> Vec<Action> {
    let code = CloseCode::GoingAway;
    let after_ms = after.as_millis() as u64;
    let goodbye = Goodbye { code: code.code(), reason: code.reason().into(), reconnect: true, after_ms };
    vec![Action::Say(ServerFrame::Goodbye(goodbye)), Action::End(Ending::Close(code))]
}

fn refused(id: Option<RequestId>, code: ErrorCode, message: String) -> Vec<Action> {
    vec![Action::Say(error(id, None, Refusal::new(code, message)))]
}

/// Not definite: an earlier connection may have tried the same counter.
fn slow_down(wait: Duration) -> Refusal {
    let refusal = Refusal::new(ErrorCode::RateLimited, "too often").retry_after(wait.as_millis() as u64 + 1);
    Refusal { definite: false, ..refusal }
}

/// The `refused` frame of a refusal.
pub(super) fn refused_send(room: RoomId, writer: WriterId, n: u64, refusal: Refusal) -> ServerFrame {
    let Refusal { code, message, retry_after_ms, definite, expected, seq } = refusal;
    ServerFrame::Refused(Refused { room, writer, n, code, message, definite, expected, seq, retry_after_ms })
}

fn id_of(frame: &ClientFrame) -> Option<RequestId> {
    match frame {
        ClientFrame::Identify(identify) => identify.id,
        ClientFrame::Open(open) => Some(open.id),
        ClientFrame::Close(close) => Some(close.id),
        ClientFrame::History(history) => Some(history.id),
        ClientFrame::Refresh(refresh) => Some(refresh.id),
        ClientFrame::Ping(ping) => ping.id,
        ClientFrame::Send(_)
        | ClientFrame::Read(_)
        | ClientFrame::Typing(_)
        | ClientFrame::Watch(_)
        | ClientFrame::Unwatch(_)
        | ClientFrame::Status(_) => None,
    }
}
