//! One WebSocket, from `identify` to its close. A task each, not an actor: the actors write to its outbox directly, and
//! wake it only for what it has to decide.
//!
//! ```text
//!   unidentified ──identify──▶ identified ──▶ ended
//!        │                        ▲ │
//!        └── refused ──▶ ended    │ ▼
//!                        frames, notices, time ──▶ state ──▶ actions
//! ```
//!
//! In reading order: [`socket`], [`identify`], [`state`], this file, which does what the state decides, [`sends`] and
//! [`work`].

mod identify;
mod roster;
mod sends;
mod socket;
mod state;
mod work;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actors::{
    Chance, Clock, Encode, Outbox, Rooms, Session, Users,
    rooms::Open,
    session::{Class, Pushed},
    users::Allowance,
};
use bytes::Bytes;
use protocol::{
    Encoding, PROTOCOL_VERSION, RoomId, ServerFrame, SessionId,
    client::Identify,
    limits::Limits,
    server::{Page, Welcome},
};
use telemetry::TraceContext;

pub use self::identify::Identifier;
pub(crate) use self::roster::Roster;
use self::{
    identify::{Known, Refused, Unidentified, close_code, error},
    socket::{Ending, Event, Socket},
    state::{Action, Done, Input, Now, Part, State, Work},
};
use crate::{
    Counters, Frames, SocketSettings,
    auth::Identity,
    heartbeat::{Uptime, Wheel},
    limits::Permit,
    outbox::SocketOutbox,
    stream::Transport,
};

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) identifier: Arc<dyn Identifier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) settings: Arc<SocketSettings>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) uptime: Uptime,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) roster: Arc<Roster>,
}

/// A socket after its upgrade.
pub(crate) struct Arrival {
    pub(crate) transport: Transport,
    /// What was read behind the request.
    pub(crate) early: Bytes,
    pub(crate) encoding: Encoding,
    /// From the address; never logged.
    pub(crate) ticket: Option<String>,
    /// One of the unidentified sockets of an address.
    pub(crate) permit: Permit,
}

/// Serves a socket to its end.
pub(crate) async fn run(shared: Arc<Shared>, arrival: Arrival) {
    let Arrival { transport, early, encoding, ticket, permit } = arrival;
    let (settings, counters) = (shared.settings.clone(), shared.counters.clone());
    let socket = Socket::open(transport, early, encoding, settings, counters).await;
    let _entry = shared.roster.enter(socket.outbox());
    // What happens once is boxed, so that it takes no room in the task of an idle session.
    let unidentified = Unidentified { socket, ticket, permit };
    let (socket, ending) = match Box::pin(welcome(&shared, unidentified)).await {
        Ok(identified) => identified.run().await,
        Err(refused) => refused,
    };
    Box::pin(socket.end(ending)).await;
}

/// Learns who it is, and tells them that they are known.
async fn welcome(shared: &Arc<Shared>, unidentified: Unidentified) -> Result<Box<Identified>, Refused> {
    let Known { socket, identity, asked } = unidentified.identify(&*shared.identifier).await?;
    let outbox = socket.outbox().clone();
    let session = Session {
        id: SessionId::from_u128(shared.chance.bits()),
        user: identity.user,
        device: identity.device,
        outbox: outbox.clone(),
    };
    let connected = Connected::new(shared.clone(), session.clone());
    let deadline = shared.settings.work_timeout;
    let allowance = match work::in_time(deadline, shared.users.connect(session.clone())).await {
        Ok(allowance) => allowance,
        Err(refusal) => {
            let ending = Ending::Close(close_code(refusal.code));
            socket.say(&error(asked.id, None, refusal));
            return Err((socket, ending));
        }
    };
    let now = shared.now();
    outbox.release(Some(shared.welcome(now, &asked, &identity, &session)));
    let state = State::new(shared.settings.clone(), &identity, session.id, now);
    let seat = Seat { shared: shared.clone(), session, outbox, allowance, state, connected };
    let mut identified = Box::new(Identified { socket, seat, work: None, alarm_at: None });
    match identified.act(now, Input::Welcomed(asked.resume)) {
        None => Ok(identified),
        Some(ending) => Err((identified.socket, ending)),
    }
}

impl Shared {
    fn now(&self) -> Now {
        Now { uptime: self.uptime.now(), wall: self.clock.now() }
    }

    fn welcome(&self, now: Now, asked: &Identify, identity: &Identity, session: &Session) -> Bytes {
        let welcome = Welcome {
            id: asked.id,
            version: PROTOCOL_VERSION,
            user: identity.user,
            device: identity.device,
            session: session.id,
            server_time: now.wall,
            expires_at: identity.expires_at,
            heartbeat_ms: self.settings.heartbeat.as_millis() as u64,
            limits: Limits::default(),
        };
        Frames.encode(&ServerFrame::Welcome(welcome), session.outbox.encoding())
    }
}

/// A session that is known to its user's actor; the actor is told of its end, however it comes.
struct Connected {
    shared: Arc<Shared>,
    session: Session,
}

impl Connected {
    fn new(shared: Arc<Shared>, session: Session) -> Self {
        shared.counters.sessions.enter();
        tracing::debug!(session.id = %session.id, user.id = %session.user, "a session begins");
        Self { shared, session }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.users.disconnect(self.session.user, self.session.id);
        self.shared.counters.sessions.leave();
        tracing::debug!(session.id = %self.session.id, user.id = %self.session.user, "a session has ended");
    }
}

/// An identified session: its socket, its place among the actors, and what it is waiting for.
struct Identified {
    socket: Box<Socket>,
    seat: Seat,
    work: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// When the alarm rings that is set.
    alarm_at: Option<Duration>,
}

/// What a session knows, and whom it speaks to.
struct Seat {
    shared: Arc<Shared>,
    session: Session,
    outbox: Arc<SocketOutbox>,
    allowance: Arc<Allowance>,
    state: State,
    #[expect(dead_code, reason = "tells the user's actor when it is dropped")]
    connected: Connected,
}

impl Drop for Seat {
    fn drop(&mut self) {
        for room in self.state.rooms() {
            self.shared.rooms.close(room, self.session.id);
        }
    }
}

impl Identified {
    /// Until it is over.
    async fn run(mut self: Box<Self>) -> Refused {
        loop {
            let input = match poll_fn(|context| self.poll(context)).await {
                Ok(input) => input,
                Err(ending) => return (self.socket, ending),
            };
            let now = self.seat.shared.now();
            if let Some(ending) = self.act(now, input) {
                return (self.socket, ending);
            }
        }
    }

    /// The next thing that happens, or how it ends.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Input, Ending>> {
        let now = self.seat.shared.now();
        let event = self.socket.poll(context);
        self.seat.state.flowed(now, self.socket.flow());
        if let Poll::Ready(event) = event {
            return Poll::Ready(self.input(event));
        }
        // After the socket: what it has taken makes room for work, and its end is not overtaken by work.
        if self.work.is_none() && self.seat.state.has_work() {
            let work = self.seat.state.next_work(now, self.seat.outbox.is_calm());
            self.work = work.map(|work| self.seat.start(work));
        }
        if let Some(Poll::Ready(done)) = self.work.as_mut().map(|work| work.as_mut().poll(context)) {
            self.work = None;
            return Poll::Ready(Ok(Input::Done(done)));
        }
        self.set_alarm(now);
        Poll::Pending
    }

    fn input(&mut self, event: Event) -> Result<Input, Ending> {
        match event {
            Event::Frame(frame) => Ok(Input::Frame(frame)),
            Event::Control => Ok(Input::Control),
            Event::Notice(notice) => Ok(Input::Notice(notice)),
            Event::Stop(after) => Ok(Input::Stop(after)),
            Event::Tick => {
                self.alarm_at = None;
                Ok(Input::Tick)
            }
            Event::Ended(ending) => Err(ending),
        }
    }

    /// An alarm that rings early is harmless, so one is set only if it would ring too late.
    fn set_alarm(&mut self, now: Now) {
        let oldest_send = self.seat.outbox.window(|window| window.oldest());
        let at = self.seat.state.next_tick(now, oldest_send);
        if self.alarm_at.is_none_or(|alarm_at| at < alarm_at) {
            self.alarm_at = Some(at);
            self.seat.shared.wheel.set(&self.seat.outbox, at);
        }
    }

    /// Lets the state decide, and does it. Gives how the session ends, if it does.
    fn act(&mut self, now: Now, input: Input) -> Option<Ending> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            if let Input::Done(Done::Connect(Ok(allowance))) = &input {
                self.seat.allowance = allowance.clone();
            }
            for action in self.seat.state.handle(now, input) {
                match self.perform(now, action) {
                    Outcome::Done => {}
                    Outcome::Input(input) => inputs.push(input),
                    Outcome::Ended(ending) => return Some(ending),
                }
            }
        }
        None
    }

    fn perform(&mut self, now: Now, action: Action) -> Outcome {
        let Identified { socket, seat, .. } = self;
        let Seat { shared, session, .. } = seat;
        match action {
            Action::Say(frame) => socket.say(&frame),
            Action::Open { room, id, after, incarnation } => {
                let trace = TraceContext::NONE;
                let open = Open { session: session.clone(), id, room, after, incarnation, trace };
                if let Err(refusal) = shared.rooms.open(open) {
                    return Outcome::Input(Input::OpenRefused { room, refusal });
                }
            }
            Action::Leave(room) => shared.rooms.close(room, session.id),
            Action::Watch { room, open } => shared.users.watch_room(session.id, room, open),
            Action::Rejoin { room, at } => shared.rooms.rejoin(room, session, at),
            Action::Send(send) => self.tell(self.seat.send(now, *send)),
            Action::SendAgain(room) => self.tell(self.seat.send_again(now, room)),
            Action::SendAgainLate => self.tell(self.seat.send_again_late(now)),
            Action::Refuse { room, writer, n, attempt, refusal } => {
                self.tell(self.seat.refused(room, writer, n, attempt, refusal));
            }
            Action::Typing(room) => shared.rooms.typing(room, session),
            Action::SetStatus(status) => shared.users.set_status(session.user, session.id, status),
            Action::Unwatch(users) => shared.users.unwatch(session.id, &users),
            Action::PushPage(page, work) => return seat.push_page(*page, work),
            Action::PushMissed { room, parts } => return seat.push_missed(room, parts),
            Action::Ping => socket.ping(),
            Action::SettleAccounts => socket.settle_accounts(),
            Action::End(ending) => return Outcome::Ended(ending),
        }
        Outcome::Done
    }

    fn tell(&self, refusals: impl IntoIterator<Item = sends::Told>) {
        refusals.into_iter().for_each(|told| self.socket.say(&told.frame()));
    }
}

/// What doing something came to.
enum Outcome {
    Done,
    /// The state has more to decide.
    Input(Input),
    Ended(Ending),
}

impl Seat {
    fn push_page(&self, page: Page, work: Work) -> Outcome {
        match self.push(&ServerFrame::Page(page)) {
            Pushed::Full => Outcome::Input(Input::NotPushed(work)),
            Pushed::Taken | Pushed::Dead => Outcome::Done,
        }
    }

    /// As far as there is room. The user's own sends among the entries are answered by them.
    fn push_missed(&self, room: RoomId, parts: Vec<Part>) -> Outcome {
        self.shared.counters.catch_up_pages.add(1);
        let mut at = 0;
        let mut all = true;
        for part in parts {
            if self.push(&part.frame) != Pushed::Taken {
                all = false;
                break;
            }
            at = part.upto;
            for (writer, n) in part.own {
                self.outbox.settle(room, writer, n);
            }
        }
        Outcome::Input(Input::CaughtUp { room, at, all })
    }

    fn push(&self, frame: &ServerFrame) -> Pushed {
        let bytes = Frames.encode(frame, self.outbox.encoding());
        self.outbox.push(&[bytes], Class::Stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle session owns beside tungstenite's buffer of 2 KiB, the kernel's, and what its user's actor keeps.
    #[test]
    fn an_idle_session_is_small() {
        let task = output_size(run);
        let parts = [task, size_of::<Socket>(), size_of::<Identified>(), size_of::<SocketOutbox>()];
        assert!(parts.iter().sum::<usize>() <= 2_560, "task, socket, session, outbox: {parts:?}");
    }
}
