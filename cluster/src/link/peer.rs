//! The way to one peer: its queue, its session, its counters. What a sender touches.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actors::peers::{Unsent, Worth};
use bytes::Bytes;
use ractor::ActorRef;
use telemetry::TraceContext;

use super::{
    actor::LinkMessage,
    envelope::Pulse,
    outbox::{Next, Outbox},
    state::LinkPhase,
};
use crate::NodeName;

/// A peer that lives, by gossip.
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    /// Held for as long as it takes to copy a batch at most.
    lane: Mutex<Lane>,
    phase: Mutex<LinkPhase>,
    pub(crate) counters: Counters,
}

/// Counted since the peer lives, over all sessions.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) messages_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

#[derive(Default)]
struct Lane {
    session: Option<Session>,
    suspended: bool,
    /// Round trip by the last pulse.
    rtt: Option<Duration>,
}

/// A link that is up.
struct Session {
    /// The peer's link actor, as its session mirrors it here. Never to be stopped: that would end the whole session.
    remote: ActorRef<LinkMessage>,
    version: u8,
    theirs: u64,
    outbox: Outbox,
    /// Bytes of the session that the handler here has taken, and how many of them the peer knows of.
    consumed: u64,
    told: u64,
    /// The last pulse of the peer: its clock then, and ours.
    heard: Option<(u64, Duration)>,
}

/// Numbers of a lane, for the statistics.
pub(crate) struct Gauges {
    pub(crate) queued: usize,
    pub(crate) outstanding: u64,
    pub(crate) rtt: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(name: NodeName) -> Self {
        let phase = Mutex::new(LinkPhase::Down);
        Self { name, lane: Mutex::default(), phase, counters: Counters::default() }
    }

    /// How far the link has come, as the link actor said last.
    pub(crate) fn phase(&self) -> LinkPhase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_phase(&self, phase: LinkPhase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Begins a session: with an empty queue and full credit.
    pub(crate) fn open(&self, remote: ActorRef<LinkMessage>, version: u8, theirs: u64, outbox: Outbox) {
        let session = Session { remote, version, theirs, outbox, consumed: 0, told: 0, heard: None };
        let mut lane = self.lane();
        *lane = Lane { session: Some(session), suspended: false, rtt: None };
        self.counters.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the session. What was queued is lost.
    pub(crate) fn close(&self) {
        *self.lane() = Lane::default();
    }

    pub(crate) fn suspend(&self, suspended: bool) {
        self.lane().suspended = suspended;
    }

    /// Queues a message and sends what may go. `Some`: call [`Self::pump`] at that time.
    pub(crate) fn send(
        &self,
        now: Duration,
        worth: Worth,
        payload: Bytes,
        trace: TraceContext,
    ) -> Result<Option<Duration>, Unsent> {
        let mut lane = self.lane();
        let suspended = lane.suspended;
        let taken = match &mut lane.session {
            Some(session) if !suspended => {
                let taken = session.outbox.offer(worth, trace, payload);
                self.count_shed(&mut session.outbox);
                taken.map(|()| session.pump(now))
            }
            Some(_) | None => Err(Unsent),
        };
        drop(lane);
        match (&taken, worth) {
            (Ok(_), _) => self.counters.messages_out.fetch_add(1, Ordering::Relaxed),
            (Err(_), Worth::Needed) => self.counters.refused.fetch_add(1, Ordering::Relaxed),
            (Err(_), Worth::Droppable) => self.counters.dropped.fetch_add(1, Ordering::Relaxed),
        };
        taken
    }

    /// Sends what may go now. `Some`: again at that time.
    pub(crate) fn pump(&self, now: Duration) -> Option<Duration> {
        self.lane().session.as_mut()?.pump(now)
    }

    /// Sends all that the credit allows, without waiting for more.
    pub(crate) fn hurry(&self, now: Duration) {
        if let Some(session) = &mut self.lane().session {
            session.outbox.hurry();
            session.pump(now);
        }
    }

    /// Whether the peer has handled all that was taken for it. A peer without a link has nothing left to handle.
    pub(crate) fn is_done(&self) -> bool {
        self.lane().session.as_ref().is_none_or(|session| session.outbox.is_done())
    }

    /// Sends a pulse; `answer` asks for one back.
    pub(crate) fn pulse(&self, now: Duration, answer: bool) {
        if let Some(session) = &mut self.lane().session {
            session.pulse(now, answer);
        }
    }

    /// Takes in a pulse, and sends what it lets go.
    pub(crate) fn pulsed(&self, now: Duration, pulse: &Pulse) {
        let mut lane = self.lane();
        let Some(session) = &mut lane.session else { return };
        session.outbox.acked(pulse.consumed);
        session.heard = Some((pulse.sent_at, now));
        session.pump(now);
        if pulse.answer {
            session.pulse(now, false);
        }
        if pulse.echo > 0 {
            let away = now.saturating_sub(Duration::from_micros(pulse.echo));
            lane.rtt = Some(away.saturating_sub(Duration::from_micros(pulse.held.into())));
        }
    }

    /// So many bytes were handled here; tells the peer after every `step`.
    pub(crate) fn consumed(&self, now: Duration, bytes: u64, step: u64) {
        let mut lane = self.lane();
        let Some(session) = &mut lane.session else { return };
        session.consumed += bytes;
        if session.consumed - session.told >= step {
            session.pulse(now, false);
        }
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let lane = self.lane();
        let outbox = lane.session.as_ref().map(|session| &session.outbox);
        Gauges {
            queued: outbox.map_or(0, Outbox::queued),
            outstanding: outbox.map_or(0, Outbox::outstanding),
            rtt: lane.rtt,
        }
    }

    fn count_shed(&self, outbox: &mut Outbox) {
        let shed = std::mem::take(&mut outbox.shed);
        if shed > 0 {
            self.counters.dropped.fetch_add(shed, Ordering::Relaxed);
        }
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn pump(&mut self, now: Duration) -> Option<Duration> {
        loop {
            match self.outbox.next(now) {
                Next::Batch(frame) => self.cast(frame),
                Next::At(time) => return Some(time),
                Next::Nothing => return None,
            }
        }
    }

    fn pulse(&mut self, now: Duration, answer: bool) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (echo, heard) = self.heard.unwrap_or((0, now));
        let held = u32::try_from((now.saturating_sub(heard)).as_micros()).unwrap_or(u32::MAX);
        let consumed = self.consumed;
        let pulse = Pulse { to: self.theirs, sent_at: micros(now), echo, held, consumed, answer };
        self.told = consumed;
        self.cast(pulse.encode(self.version));
    }

    /// Into the unbounded mailbox of the session, which credit bounds. An error means that the session is ending; the link
    /// hears of that by itself.
    fn cast(&self, frame: Vec<u8>) {
        let _ = self.remote.cast(LinkMessage::Frame(frame));
    }
}
