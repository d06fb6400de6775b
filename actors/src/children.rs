//! Actors by key: spawned on first use, supervised together, forgotten when they end.
//!
//! The map is shared with the handles, so that a cast needs no hop over the supervisor, and spawning happens under the
//! map's lock: whatever is cast to a new actor is in its mailbox in the order of the casts.

use std::{
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::{DashMap, mapref::entry::Entry};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent,
    concurrency::JoinHandle,
};

/// Failures of one key in [`FAILURE_WINDOW`] before it is left alone.
const MOST_FAILURES: u32 = 5;
/// How long failures count, and how long a failing key is left alone.
const FAILURE_WINDOW: Duration = Duration::from_secs(30);

/// One live actor with what belongs to it.
pub(crate) struct Child<M, X> {
    pub(crate) actor: ActorRef<M>,
    pub(crate) extra: X,
}

/// The actors of one kind.
pub(crate) struct Children<K, M: ractor::Message, X> {
    map: DashMap<K, Arc<Child<M, X>>>,
    keys: DashMap<ActorId, K>,
    failures: DashMap<K, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

/// The actor fails again and again: it is not started for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failing;

impl<K: Eq + Hash + Copy, M: ractor::Message, X> Children<K, M, X> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { map: DashMap::new(), keys: DashMap::new(), failures: DashMap::new() })
    }

    pub(crate) fn get(&self, key: K) -> Option<Arc<Child<M, X>>> {
        self.map.get(&key).map(|child| Arc::clone(&child))
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// All of them, as of some moment.
    pub(crate) fn all(&self) -> Vec<(K, Arc<Child<M, X>>)> {
        self.map.iter().map(|entry| (*entry.key(), Arc::clone(entry.value()))).collect()
    }

    /// The actor of this key, spawned under `supervisor` if there is none.
    pub(crate) fn get_or_spawn<A>(
        &self,
        key: K,
        supervisor: &ActorCell,
        make: impl FnOnce() -> (A, A::Arguments, X),
    ) -> Result<Arc<Child<M, X>>, Failing>
    where
        A: Actor<Msg = M>,
    {
        match self.map.entry(key) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(entry) => {
                if self.is_failing(key) {
                    return Err(Failing);
                }
                let (handler, arguments, extra) = make();
                let (actor, _): (_, JoinHandle<_>) =
                    ActorRuntime::<A>::spawn_linked_instant(None, handler, arguments, supervisor.clone())
                        .map_err(|_| Failing)?;
                self.keys.insert(actor.get_id(), key);
                let child = Arc::new(Child { actor, extra });
                entry.insert(Arc::clone(&child));
                Ok(child)
            }
        }
    }

    /// The next use spawns another one. What is in this one's mailbox is still handled if it drains.
    pub(crate) fn forget(&self, key: K, actor: ActorId) {
        self.map.remove_if(&key, |_, child| child.actor.get_id() == actor);
    }

    /// An actor has ended; says which key it was, if this is the first news of it.
    fn ended(&self, actor: ActorId, failed: bool) -> Option<K> {
        let (_, key) = self.keys.remove(&actor)?;
        self.forget(key, actor);
        if failed {
            let mut failures =
                self.failures.entry(key).or_insert(Failures { count: 0, since: Instant::now() });
            if failures.since.elapsed() > FAILURE_WINDOW {
                *failures = Failures { count: 0, since: Instant::now() };
            }
            failures.count += 1;
        }
        Some(key)
    }

    fn is_failing(&self, key: K) -> bool {
        let still = self.failures.get(&key).is_some_and(|failures| {
            failures.count >= MOST_FAILURES && failures.since.elapsed() <= FAILURE_WINDOW
        });
        if !still {
            self.failures.remove_if(&key, |_, failures| failures.since.elapsed() > FAILURE_WINDOW);
        }
        still
    }
}

/// The parent of all actors of one kind. Lives as long as the node; a child's end never ends it.
pub(crate) struct Supervisor<K, M: ractor::Message, X> {
    /// What its children are, for the log.
    pub(crate) what: &'static str,
    pub(crate) children: Arc<Children<K, M, X>>,
    /// Called with every child that ended, and whether it failed.
    pub(crate) on_end: Box<dyn Fn(K, bool) + Send + Sync>,
}

impl<K, M, X> Actor for Supervisor<K, M, X>
where
    K: Eq + Hash + Copy + std::fmt::Debug + Send + Sync + 'static,
    M: ractor::Message,
    X: Send + Sync + 'static,
{
    type Msg = SupervisorMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<SupervisorMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (actor, failure) = match event {
            SupervisionEvent::ActorTerminated(actor, _, _) => (actor, None),
            SupervisionEvent::ActorFailed(actor, error) => (actor, Some(error)),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        let failed = failure.is_some();
        if let Some(key) = self.children.ended(actor.get_id(), failed) {
            if let Some(error) = failure {
                tracing::error!(what = self.what, key = ?key, %error, "an actor failed");
            }
            (self.on_end)(key, failed);
        }
        Ok(())
    }
}

/// A parent whose children are found by other means, or are never to end: it only says when one failed.
pub(crate) struct Parent {
    /// What its children are, for the log.
    pub(crate) of: &'static str,
}

impl Actor for Parent {
    type Msg = SupervisorMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<SupervisorMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(what = self.of, %error, "an actor failed");
        }
        Ok(())
    }
}

/// Supervisors are told nothing; children's ends come as events.
pub(crate) enum SupervisorMessage {}

/// Stays in this process.
impl ractor::Message for SupervisorMessage {}
