//! One life of gossip: chitchat, and the loop that writes to it and looks at it once per interval.

use std::{sync::Arc, time::Duration};

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, KeyChangeEvent,
    ListenerHandle, ProtocolVersion, spawn_chitchat,
};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Event, PUBLISHED, members::Seen, members::Sighting, metrics::count, says::Says, seeds, thread::Core,
};
use crate::NodeName;

/// Silence of this many mean intervals is death.
const PHI: f64 = 8.0;

/// Heartbeats that count for the mean interval: few, so that what is assumed at first keeps its weight and the time until a
/// node counts as dead has a floor.
const WINDOW: usize = 16;

/// Heartbeats that chitchat assumes before it has seen any.
const ASSUMED: usize = 5;

/// The longest interval assumed between heartbeats. With [`PHI`] and [`WINDOW`] a node counts as dead after 3.3 s at an
/// interval of 200 ms: a pause of 3 s was never taken for death in measurements, one of 1 s often was with shorter times.
const ASSUMED_INTERVAL: Duration = Duration::from_millis(1_500);

/// How long the dead are remembered, and deleted keys would be.
const GRACE: Duration = Duration::from_mins(15);

/// Time that chitchat gets to end by itself.
const LAST_ROUND: Duration = Duration::from_secs(1);

/// How a life ended.
pub(super) enum Ended {
    Stopped,
    Failed(String),
}

/// Lives until it is stopped or fails.
pub(super) async fn live(core: Arc<Core>, me: NodeName) -> Ended {
    match Life::begin(core, me).await {
        Ok(life) => life.run().await,
        Err(error) => Ended::Failed(format!("{error:#}")),
    }
}

struct Life {
    core: Arc<Core>,
    chitchat: Arc<ChitchatHandle>,
    /// Writings that chitchat has.
    written: u64,
    _values: ListenerHandle,
    _seeds: AbortOnDropHandle<()>,
}

impl Life {
    async fn begin(core: Arc<Core>, me: NodeName) -> anyhow::Result<Self> {
        let (first, written) = core.shared.written_after(0);
        let chitchat = spawn_chitchat(config(&core, &me), first, &core.transport()).await?;
        // chitchat's task first runs when this one waits: nothing is missed before the subscription.
        let values = chitchat.with_chitchat(|chitchat| subscribe(chitchat, &core, &me)).await;
        let chitchat = Arc::new(chitchat);
        let seeds = tokio::spawn(seeds::seek(core.clone(), chitchat.clone()));
        Ok(Self { core, chitchat, written, _values: values, _seeds: AbortOnDropHandle::new(seeds) })
    }

    async fn run(mut self) -> Ended {
        let core = self.core.clone();
        let mut ticks = tokio::time::interval(core.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let task_ended = self.chitchat.termination_watcher();
        tokio::pin!(task_ended);
        loop {
            tokio::select! {
                biased;
                () = core.shared.stop.cancelled() => {
                    let _ = self.chitchat.initiate_shutdown();
                    let _ = timeout(LAST_ROUND, task_ended).await;
                    return Ended::Stopped;
                }
                ended = &mut task_ended => {
                    return Ended::Failed(ended.err().map_or("without a reason".into(), |error| error.to_string()));
                }
                () = faults(&core, &self.chitchat) => {}
                () = core.shared.written.notified() => self.write().await,
                meant = ticks.tick() => {
                    self.write().await;
                    self.look(meant.elapsed()).await;
                    core.hand_on();
                }
            }
        }
    }

    /// Gives chitchat what was written since.
    async fn write(&mut self) {
        let (entries, written) = self.core.shared.written_after(self.written);
        self.written = written;
        if entries.is_empty() {
            return;
        }
        let chitchat = self.chitchat.chitchat();
        let mut chitchat = chitchat.lock().await;
        let own = chitchat.self_node_state();
        entries.into_iter().for_each(|(key, value)| own.set(key, value));
    }

    async fn look(&self, late: Duration) {
        let metrics = &self.core.metrics;
        gauge(&metrics.late_us, late.as_micros());
        let sighting = {
            let chitchat = self.chitchat.chitchat();
            let chitchat = chitchat.lock().await;
            gauge(&metrics.dead, chitchat.dead_nodes().count() as u128);
            gauge(&metrics.known, chitchat.node_states().len() as u128);
            Sighting {
                at: self.core.uptime(),
                late,
                detection: detection(&chitchat, self.core.interval),
                seen: chitchat.live_nodes().filter_map(|node| seen(&chitchat, node)).collect(),
            }
        };
        gauge(&metrics.live, sighting.seen.len() as u128);
        gauge(&metrics.detection_ms, sighting.detection.as_millis());
        self.core.observe(&sighting);
    }
}

#[cfg(not(test))]
async fn faults(_: &Core, _: &ChitchatHandle) {
    std::future::pending().await
}

/// What tests do to a life.
#[cfg(test)]
async fn faults(core: &Core, chitchat: &ChitchatHandle) {
    tokio::select! {
        () = core.shared.kill.notified() => chitchat.abort(),
        () = core.shared.freeze.notified() => std::thread::sleep(2 * detection(&*chitchat.chitchat().lock().await, core.interval)),
    }
}

fn gauge(gauge: &std::sync::atomic::AtomicU64, value: u128) {
    gauge.store(u64::try_from(value).unwrap_or(u64::MAX), std::sync::atomic::Ordering::Relaxed);
}

fn config(core: &Arc<Core>, me: &NodeName) -> ChitchatConfig {
    let metrics = core.metrics.clone();
    ChitchatConfig {
        chitchat_id: ChitchatId::new(me.id(), me.generation(), core.advertise),
        cluster_id: core.cluster_id.clone(),
        gossip_interval: core.interval,
        listen_addr: core.advertise,
        seed_nodes: seeds::literal(&core.seeds),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI,
            sampling_window_size: WINDOW,
            initial_interval: assumed_interval(core.interval),
            dead_node_grace_period: GRACE,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: GRACE,
        catchup_callback: Some(Box::new(move || count(&metrics.catch_ups))),
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

/// The interval assumed between heartbeats: shorter in tests, which gossip faster.
pub(super) fn assumed_interval(interval: Duration) -> Duration {
    ASSUMED_INTERVAL.min(interval * 15 / 2)
}

/// How long a node is silent before it counts as dead: the longest time of all peers, or the floor without any.
fn detection(chitchat: &Chitchat, interval: Duration) -> Duration {
    let of_peers = chitchat.live_nodes().filter_map(|node| chitchat.failure_detection_timeout(node)).max();
    let floor = PHI * ASSUMED as f64 / (WINDOW + ASSUMED) as f64;
    of_peers.unwrap_or_else(|| assumed_interval(interval).mul_f64(floor))
}

fn seen(chitchat: &Chitchat, node: &ChitchatId) -> Option<Seen> {
    let state = chitchat.node_state(node)?;
    let name = NodeName::new(&node.node_id, node.generation_id).ok()?;
    Some(Seen { name, beat: state.heartbeat().into(), says: Says::read(|key| state.get(key)) })
}

/// Values go on at once, in the order in which they come. This runs while chitchat is locked: it must not wait.
fn subscribe(chitchat: &Chitchat, core: &Arc<Core>, me: &NodeName) -> ListenerHandle {
    let (me, events, metrics) = (me.id().to_owned(), core.events.clone(), core.metrics.clone());
    chitchat.subscribe_event(PUBLISHED, move |KeyChangeEvent { key, value, node }| {
        if *node.node_id == *me {
            return;
        }
        let Ok(node) = NodeName::new(&node.node_id, node.generation_id) else { return };
        let key = format!("{PUBLISHED}{key}").into();
        if events.try_send(Event::Value { node, key, value: value.into() }).is_err() {
            count(&metrics.values_dropped);
        }
    })
}
