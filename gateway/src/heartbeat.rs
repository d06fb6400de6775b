//! One clock for all sockets: a session sets an alarm and is woken when it is due. An idle connection so costs an entry
//! in a list, not a timer of its own.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::outbox::SocketOutbox;

/// How finely alarms ring.
const GRAIN: Duration = Duration::from_millis(100);

/// How far ahead alarms are kept: 51 s. One beyond rings early, and the session sets it again.
const SLOTS: usize = 512;

/// Time since the gateway started: what sessions reckon with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uptime(Instant);

impl Uptime {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// The alarms of all sessions.
pub(crate) struct Wheel {
    uptime: Uptime,
    alarms: Mutex<Alarms>,
}

struct Alarms {
    /// Slots before this one have rung.
    next: u64,
    slots: Vec<Vec<Alarm>>,
}

/// An alarm of a session that may be gone, or may have set another.
struct Alarm {
    outbox: Weak<SocketOutbox>,
    number: u32,
}

impl Wheel {
    pub(crate) fn new(uptime: Uptime) -> Arc<Self> {
        let slots = std::iter::repeat_with(Vec::new).take(SLOTS).collect();
        Arc::new(Self { uptime, alarms: Mutex::new(Alarms { next: 0, slots }) })
    }

    /// Rings at `at`, not before, and at most a grain after. The session's earlier alarms ring no more.
    pub(crate) fn set(&self, outbox: &Arc<SocketOutbox>, at: Duration) {
        let alarm = Alarm { outbox: Arc::downgrade(outbox), number: outbox.set_alarm() };
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slot_of(at + GRAIN).clamp(alarms.next, alarms.next + SLOTS as u64 - 1);
        alarms.slots[slot as usize % SLOTS].push(alarm);
    }

    /// Rings until it is stopped.
    pub(crate) async fn turn(self: Arc<Self>, stop: CancellationToken) {
        let mut grains = tokio::time::interval(GRAIN);
        grains.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(grains.tick()).await.is_some() {
            self.ring_until(self.uptime.now());
        }
    }

    fn ring_until(&self, now: Duration) {
        while let Some(due) = self.next_due(now) {
            for alarm in due {
                if let Some(outbox) = alarm.outbox.upgrade() {
                    outbox.ring(alarm.number);
                }
            }
        }
    }

    fn next_due(&self, now: Duration) -> Option<Vec<Alarm>> {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.next > slot_of(now) {
            return None;
        }
        let slot = alarms.next as usize % SLOTS;
        alarms.next += 1;
        Some(std::mem::take(&mut alarms.slots[slot]))
    }
}

fn slot_of(at: Duration) -> u64 {
    (at.as_millis() / GRAIN.as_millis()) as u64
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use protocol::Encoding;

    use super::*;
    use crate::outbox::Signal;

    fn has_rung(outbox: &SocketOutbox) -> bool {
        outbox.poll_signal(&Context::from_waker(Waker::noop())) == Poll::Ready(Signal::Tick)
    }

    fn outbox() -> Arc<SocketOutbox> {
        Arc::new(SocketOutbox::new(None, Encoding::Json, 1024))
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_when_it_is_due_and_not_before() {
        let wheel = Wheel::new(Uptime::start());
        let outbox = outbox();
        wheel.set(&outbox, 30 * GRAIN);
        wheel.ring_until(30 * GRAIN - Duration::from_millis(1));
        assert!(!has_rung(&outbox));
        wheel.ring_until(31 * GRAIN);
        assert!(has_rung(&outbox));
        wheel.ring_until(10_000 * GRAIN);
        assert!(!has_rung(&outbox), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_set_anew_replaces_the_one_before() {
        let wheel = Wheel::new(Uptime::start());
        let outbox = outbox();
        wheel.set(&outbox, 10 * GRAIN);
        wheel.set(&outbox, 20 * GRAIN);
        wheel.ring_until(15 * GRAIN);
        assert!(!has_rung(&outbox));
        wheel.ring_until(21 * GRAIN);
        assert!(has_rung(&outbox));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_beyond_the_horizon_rings_early_and_one_in_the_past_at_once() {
        let wheel = Wheel::new(Uptime::start());
        let (far, past) = (outbox(), outbox());
        wheel.ring_until(100 * GRAIN);
        wheel.set(&far, 100_000 * GRAIN);
        wheel.set(&past, GRAIN);
        wheel.ring_until(101 * GRAIN);
        assert!(has_rung(&past) && !has_rung(&far));
        wheel.ring_until(101 * GRAIN + SLOTS as u32 * GRAIN);
        assert!(has_rung(&far));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wheel_turns_by_itself_until_it_is_stopped() {
        let wheel = Wheel::new(Uptime::start());
        let outbox = outbox();
        wheel.set(&outbox, Duration::from_secs(25));
        let stop = CancellationToken::new();
        let turning = tokio::spawn(wheel.clone().turn(stop.clone()));
        let rung = std::future::poll_fn(|context| outbox.poll_signal(context));
        assert_eq!(rung.await, Signal::Tick);
        assert!(wheel.uptime.now() >= Duration::from_secs(25));
        stop.cancel();
        turning.await.unwrap();
    }
}
