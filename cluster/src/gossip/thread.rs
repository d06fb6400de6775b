//! The thread of gossip: one life after the other, until it is stopped.
//!
//! A life is chitchat's task and the loop beside it. Either may fail, by a fault of its own or because a member wrote
//! something impossible; then the next life begins with a higher generation, since peers wouldn't take what an earlier one
//! writes anew. To them that is a restart of the node: the view's `me` changes and [`Event::Reborn`] says so.

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use actors::Clock;
use tokio::{
    runtime,
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    BadEntry, Change, Event, Metrics, PUBLISHED, Settings, StartError, View,
    life::{self, Ended},
    members::{Members, Sighting},
    metrics::count,
    own_keys::OwnKeys,
    says::{self, Load, State},
    secrets::Keys,
    transport::{self, Wire},
};
use crate::NodeName;

/// Changes that wait until the receiver of events has room. Changes are rare: this many wait only for a receiver that is
/// stuck, and then the oldest are dropped and counted; the view has them.
const WAITING: usize = 1_024;

/// Longest pause before another life, after lives that were short.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A life that lasted this long did not fail at birth.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// Time that calls to the resolver get to end, when the thread ends.
const LAST_CALLS: Duration = Duration::from_millis(100);

/// What the thread starts with.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
    pub(super) keys: watch::Receiver<Arc<Keys>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Arc<Metrics>,
}

/// What handles share with the thread.
pub(super) struct Shared {
    own: Mutex<OwnKeys>,
    /// There is something to write.
    pub(super) written: Notify,
    pub(super) stop: CancellationToken,
    /// The thread is over.
    pub(super) ended: CancellationToken,
    #[cfg(test)]
    pub(super) kill: Notify,
    #[cfg(test)]
    pub(super) freeze: Notify,
}

impl Shared {
    fn own(&self) -> MutexGuard<'_, OwnKeys> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys written after the first `known` writings, and how many writings there were.
    pub(super) fn written_after(&self, known: u64) -> (Vec<(String, String)>, u64) {
        let own = self.own();
        (own.after(known), own.written())
    }

    pub(super) fn put_own(&self, key: &str, value: String) {
        self.own().put(key, value).expect("gossip's own keys are few, short and well formed");
        self.written.notify_one();
    }

    pub(super) fn put(&self, entries: impl IntoIterator<Item = (String, String)>) -> Result<(), BadEntry> {
        let mut own = self.own();
        let result = entries.into_iter().try_for_each(|(key, value)| match key.starts_with(PUBLISHED) {
            true => own.put(&key, value),
            false => Err(BadEntry::Key(key)),
        });
        self.written.notify_one();
        result
    }
}

/// Starts the thread.
pub(super) fn start(start: Start) -> Result<(Arc<Shared>, watch::Receiver<Arc<View>>), StartError> {
    let own = first_words(&start.settings).map_err(StartError::Meta)?;
    let shared = Arc::new(Shared {
        own: Mutex::new(own),
        written: Notify::new(),
        stop: CancellationToken::new(),
        ended: CancellationToken::new(),
        #[cfg(test)]
        kill: Notify::new(),
        #[cfg(test)]
        freeze: Notify::new(),
    });
    let members = Members::new(start.settings.name.clone());
    let (views, view) = watch::channel(Arc::new(members.view()));
    let core = Arc::new(Core::new(start, shared.clone(), Told { members, views, waiting: VecDeque::new() }));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let run = move || {
        let _ended = core.shared.ended.clone().drop_guard();
        runtime.block_on(lives(&core));
        runtime.shutdown_timeout(LAST_CALLS);
    };
    thread::Builder::new().name("gossip".into()).spawn(run).map_err(StartError::Thread)?;
    Ok((shared, view))
}

/// What the node says from the first moment.
fn first_words(settings: &Settings) -> Result<OwnKeys, BadEntry> {
    let mut own = OwnKeys::default();
    own.put(says::META, says::text(&settings.meta))?;
    own.put(says::STATE, State::Joining.word().to_owned())?;
    own.put(says::LOAD, says::text(&Load::default()))?;
    Ok(own)
}

/// What outlives the lives.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) wire: Arc<Wire>,
    pub(super) advertise: SocketAddr,
    pub(super) seeds: Vec<String>,
    pub(super) cluster_id: String,
    pub(super) interval: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: mpsc::Sender<Event>,
    name: NodeName,
    clock: Arc<dyn Clock>,
    began: Instant,
    told: Mutex<Told>,
}

/// What was told to the rest of the node.
struct Told {
    members: Members,
    views: watch::Sender<Arc<View>>,
    waiting: VecDeque<Event>,
}

impl Core {
    fn new(start: Start, shared: Arc<Shared>, told: Told) -> Self {
        let Start { settings, socket, address, keys, events, metrics } = start;
        let mut advertise = settings.advertise;
        if advertise.port() == 0 {
            advertise.set_port(address.port());
        }
        let clock = settings.clock;
        let wire = Wire::new(socket, advertise, keys, metrics.clone(), clock.clone(), settings.chance);
        Self {
            shared,
            wire: Arc::new(wire),
            advertise,
            seeds: settings.seeds,
            cluster_id: settings.cluster_id,
            interval: settings.interval,
            metrics,
            events,
            name: settings.name,
            clock,
            began: Instant::now(),
            told: Mutex::new(told),
        }
    }

    pub(super) fn transport(&self) -> transport::Sealed {
        transport::Sealed(self.wire.clone())
    }

    /// Time since the thread began.
    pub(super) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a life sees.
    pub(super) fn observe(&self, sighting: &Sighting) {
        let mut told = self.told();
        let changes = told.members.observe(sighting);
        if changes.is_empty() {
            return;
        }
        told.publish();
        for change in changes {
            log(&change);
            self.tell(&mut told, Event::Members(change));
        }
    }

    fn reborn(&self, was: NodeName, now: NodeName) {
        tracing::warn!(%was, %now, "gossip began anew");
        let mut told = self.told();
        told.members.reborn(now.clone());
        told.publish();
        self.tell(&mut told, Event::Reborn { was, now });
    }

    fn tell(&self, told: &mut Told, event: Event) {
        if told.waiting.len() == WAITING {
            told.waiting.pop_front();
            count(&self.metrics.changes_dropped);
        }
        told.waiting.push_back(event);
    }

    /// Hands on what waits, as far as there is room.
    pub(super) fn hand_on(&self) {
        let mut told = self.told();
        while let Some(event) = told.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                told.waiting.push_front(event);
                return;
            }
        }
    }

    /// The name of the life after `me`.
    fn next_name(&self, me: &NodeName) -> NodeName {
        let now = self.clock.now().saturating_mul(1_000);
        let generation = now.max(me.generation().saturating_add(1));
        NodeName::new(me.id(), generation).expect("the id of a name is good for a name")
    }
}

impl Told {
    fn publish(&mut self) {
        self.views.send_replace(Arc::new(self.members.view()));
    }
}

async fn lives(core: &Arc<Core>) {
    let mut me = core.name.clone();
    let mut pause = core.interval;
    loop {
        let born = Instant::now();
        // A task, so that a panic ends the life alone.
        let ended = tokio::spawn(life::live(core.clone(), me.clone())).await;
        match ended {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Failed(error)) => tracing::error!(%error, "gossip ended"),
            Err(error) => tracing::error!(%error, "gossip failed"),
        }
        count(&core.metrics.restarts);
        pause = if born.elapsed() > LONG_LIFE { core.interval } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = core.shared.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let next = core.next_name(&me);
        core.reborn(std::mem::replace(&mut me, next.clone()), next);
    }
}

fn log(change: &Change) {
    match change {
        Change::Joined(member) => tracing::info!(node = %member.name, "a node joined"),
        Change::Changed(member) => {
            tracing::debug!(node = %member.name, state = member.state.word(), "a node changed")
        }
        Change::Leaving(node) => tracing::info!(%node, "a node is leaving"),
        Change::Left(node) => tracing::info!(%node, "a node left"),
        Change::Lost(node) => tracing::warn!(%node, "a node fell silent"),
        Change::Superseded { old, new } => tracing::warn!(%old, %new, "a node was started again"),
        Change::Isolated(why) => tracing::warn!(?why, "this node can't tell who lives"),
        Change::Rejoined => tracing::info!("this node can tell again who lives"),
    }
}
