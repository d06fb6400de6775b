//! How many appends are under way at once, and how long a room waits for company: conditional writes are what a database
//! has least of, so as it slows they become fewer and larger.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::log::Turn;

/// An append that is answered sooner needs no company.
const QUICK: Duration = Duration::from_millis(5);
/// The longest wait for company.
const LONGEST_LINGER: Duration = Duration::from_millis(20);
/// An append that takes longer waits in the database for others: fewer at once are answered as fast.
const SLOW: Duration = Duration::from_millis(25);
/// Answers after which the bound is thought over.
const ROUND: u32 = 32;
/// The least bound that slowness leads to.
const LEAST: usize = 8;
/// Claims and new buckets at once, beside the appends: a room that changes hands must not wait for those that talk.
const CLAIMS: usize = 16;

/// The gate in front of the log's conditional writes: first come, first served.
pub(super) struct Gate {
    appends: Arc<Semaphore>,
    claims: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

/// What the answers say. Pure: no clock.
#[derive(Debug)]
struct Pace {
    most: usize,
    bound: usize,
    /// Microseconds, moving: each answer counts for an eighth.
    mean_us: u64,
    answers: u32,
}

/// A change of the bound.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    More(usize),
    Fewer(usize),
}

impl Pace {
    fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { most, bound: most, mean_us: 0, answers: 0 }
    }

    /// An append was answered, or was not, after this time.
    fn answered(&mut self, after: Duration) -> Change {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.mean_us = if self.mean_us == 0 { us } else { (self.mean_us / 8 * 7).saturating_add(us / 8) };
        self.answers += 1;
        if self.answers < ROUND {
            return Change::None;
        }
        self.answers = 0;
        let wanted = if self.mean() > SLOW {
            (self.bound * 7 / 8).max(LEAST.min(self.most))
        } else {
            (self.bound + 1).min(self.most)
        };
        let before = std::mem::replace(&mut self.bound, wanted);
        match wanted.cmp(&before) {
            std::cmp::Ordering::Greater => Change::More(wanted - before),
            std::cmp::Ordering::Less => Change::Fewer(before - wanted),
            std::cmp::Ordering::Equal => Change::None,
        }
    }

    fn mean(&self) -> Duration {
        Duration::from_micros(self.mean_us)
    }

    /// How long to wait for company: nothing while appends are quick, then as much as they are slower.
    fn linger(&self) -> Duration {
        self.mean().saturating_sub(QUICK).min(LONGEST_LINGER)
    }
}

impl Gate {
    pub(super) fn new(most: usize) -> Self {
        let pace = Pace::new(most);
        let appends = Arc::new(Semaphore::new(pace.bound));
        Self { appends, claims: Arc::new(Semaphore::new(CLAIMS)), pace: Mutex::new(pace) }
    }

    /// The right to an append, if it need not wait.
    pub(super) fn turn_now(&self) -> Option<Turn> {
        if !self.linger().is_zero() {
            return None;
        }
        self.appends.clone().try_acquire_owned().ok().map(Turn::new)
    }

    /// The right to an append, once there has been time for company and it is one's turn.
    pub(super) async fn turn(&self) -> Turn {
        tokio::time::sleep(self.linger()).await;
        acquired(&self.appends).await.map_or_else(Turn::default, Turn::new)
    }

    /// The right to a claim or a new bucket.
    pub(super) async fn claim(&self) -> Option<OwnedSemaphorePermit> {
        acquired(&self.claims).await
    }

    /// An append was answered, or given up, after this time.
    pub(super) fn answered(&self, after: Duration) {
        let change = self.pace.lock().unwrap_or_else(PoisonError::into_inner).answered(after);
        match change {
            Change::None => {}
            Change::More(by) => self.appends.add_permits(by),
            Change::Fewer(by) => {
                // Of those that are given out now, none is taken back: they are missed at the next round.
                let forgotten = self.appends.forget_permits(by);
                self.pace.lock().unwrap_or_else(PoisonError::into_inner).bound += by - forgotten;
            }
        }
    }

    fn linger(&self) -> Duration {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).linger()
    }
}

/// A permit; none only if the gate is closed, which it never is.
async fn acquired(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn rounds(pace: &mut Pace, rounds: u32, after: Duration) {
        for _ in 0..rounds * ROUND {
            pace.answered(after);
        }
    }

    #[test]
    fn nobody_lingers_while_the_log_is_quick_and_never_for_long() {
        let mut pace = Pace::new(64);
        assert_eq!(pace.linger(), Duration::ZERO);
        for (after, linger) in [(4, 0), (5, 0), (12, 7), (25, 20), (400, 20)] {
            rounds(&mut pace, 8, ms(after));
            let found = pace.linger();
            assert!(found <= ms(linger) && found + ms(1) >= ms(linger), "{after} ms: {found:?}");
        }
    }

    #[test]
    fn slowness_lowers_the_bound_and_quickness_raises_it_again() {
        let mut pace = Pace::new(64);
        rounds(&mut pace, 100, ms(200));
        assert_eq!(pace.bound, LEAST);
        rounds(&mut pace, 100, ms(3));
        assert_eq!(pace.bound, 64);
        let mut narrow = Pace::new(2);
        rounds(&mut narrow, 100, ms(200));
        assert_eq!(narrow.bound, 2, "never more than was allowed");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_bounded_and_come_in_order() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.turn_now().expect("free");
        assert!(gate.turn_now().is_none(), "taken");
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting = (0..4).map(|place| {
            let (gate, order) = (gate.clone(), order.clone());
            async move {
                let _turn = gate.turn().await;
                order.lock().unwrap().push(place);
            }
        });
        let all = futures_util::future::join_all(waiting);
        tokio::join!(all, async { drop(first) });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_lower_bound_holds_back_what_comes() {
        let gate = Gate::new(16);
        for _ in 0..100 * ROUND {
            gate.answered(ms(200));
        }
        assert_eq!(gate.appends.available_permits(), LEAST);
    }
}
