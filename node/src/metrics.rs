//! What the parts count, read when Prometheus asks.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cluster::{
    gossip::{Metrics as Gossip, Rejected, State},
    link::LinkStats,
};
use gateway::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use protocol::{CloseCode, ErrorCode};
use store::{scylla::ScyllaStats, sqlite::SqliteStats};

use crate::{
    fleet::{self, Others, Sight},
    stores::Opened,
};

/// All metrics of a node.
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub(crate) fn new(counters: Arc<Counters>, store: Opened, look: Look) -> Self {
        let mut registry = Registry::with_prefix("rookery");
        registry.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Gateway(counters)));
        registry.register_collector(Box::new(Kept(store)));
        registry.register_collector(Box::new(Fleet(look)));
        Self { registry }
    }

    /// All of them, as OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a string takes everything");
        text
    }
}

/// Looks at this server and the others.
pub(crate) type Look = Box<dyn Fn() -> Sight + Send + Sync>;

/// Numbers of the gateway.
struct Gateway(Arc<Counters>);

/// Numbers of the store.
struct Kept(Opened);

/// Numbers of rooms, users and the cluster.
struct Fleet(Look);

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fleet")
    }
}

impl Collector for Gateway {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = &*self.0;
        let gauges = [
            ("connections", "Open TCP connections", &counters.connections),
            ("sessions", "Identified WebSocket sessions", &counters.sessions),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value.get())?;
        }
        let totals = [
            ("sockets", "WebSockets opened", &counters.sockets),
            ("connections_turned_away", "TCP connections turned away by a limit", &counters.turned_away),
            ("upgrades_refused", "WebSocket upgrades refused", &counters.upgrades_refused),
            ("frames_in", "Client frames read", &counters.frames_in),
            ("bytes_in", "Bytes of client frames", &counters.bytes_in),
            ("frames_out", "Frames given to sockets", &counters.frames_out),
            ("bytes_out", "Bytes given to sockets", &counters.bytes_out),
            ("slow_drops", "Ephemeral frames dropped because a client was slow", &counters.slow_drops),
            ("catch_up_pages", "Pages read so that a client catches up", &counters.catch_up_pages),
            ("resends", "Sends that sessions sent again to their room", &counters.resends),
        ];
        for (name, help, value) in totals {
            counter(&mut encoder, name, help, value.get())?;
        }
        let refusals = ErrorCode::ALL.iter().map(|code| (word(code), counters.refusals(*code).get()));
        by_code(&mut encoder, "refusals", "Refused sends and requests on sockets", refusals)?;
        let closes =
            CloseCode::ALL.iter().map(|code| (code.code().to_string(), counters.closes(*code).get()));
        by_code(&mut encoder, "closes", "Sockets closed by this server", closes)
    }
}

impl Collector for Kept {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match &self.0 {
            Opened::Sqlite(store) => sqlite(&mut encoder, store.stats()),
            Opened::Scylla(store) => scylla(&mut encoder, store.stats()),
        }
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sight = (self.0)();
        gauge(&mut encoder, "rooms_active", "Rooms that are active here", sight.own.rooms)?;
        gauge(&mut encoder, "users_homed", "Users whose sockets are known together here", sight.own.users)?;
        let Some(others) = &sight.others else { return Ok(()) };
        members(&mut encoder, others)?;
        presence(&mut encoder, others)?;
        gossip(&mut encoder, &others.gossip)?;
        links(&mut encoder, others)
    }
}

fn members(encoder: &mut DescriptorEncoder<'_>, others: &Others) -> fmt::Result {
    let view = &others.view;
    let isolated = u64::from(view.isolated);
    gauge(encoder, "cluster_isolated", "Whether this node hears too few of the others", isolated)?;
    let help = "Nodes in the eyes of this one";
    let mut metric = encoder.encode_descriptor("cluster_members", help, None, MetricType::Gauge)?;
    for state in [State::Joining, State::Ready, State::Draining, State::Leaving] {
        let count = view.members.iter().filter(|member| member.state == state).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(metric.encode_family(&[("state", state.word())])?)?;
    }
    Ok(())
}

fn presence(encoder: &mut DescriptorEncoder<'_>, others: &Others) -> fmt::Result {
    let known = &others.presence;
    gauge(encoder, "presence_users", "Users shown as online, on all nodes", known.shown)?;
    gauge(encoder, "presence_unknown_nodes", "Nodes whose users are not all known", known.unknown)?;
    counter(encoder, "presence_gaps", "Changes of presence that were missed and asked for", known.gaps)?;
    counter(encoder, "presence_mismatches", "Sets of users that differed from their node's", known.mismatches)
}

fn gossip(encoder: &mut DescriptorEncoder<'_>, counts: &Gossip) -> fmt::Result {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let help = "How long a node may be silent before it counts as lost";
    seconds(encoder, "gossip_detection_seconds", help, read(&counts.detection_ms) as f64 / 1e3)?;
    let help = "How late the last turn of gossip was";
    seconds(encoder, "gossip_late_seconds", help, read(&counts.late_us) as f64 / 1e6)?;
    for (name, help, value) in [
        ("gossip_datagrams_in", "Datagrams received, good and bad", &counts.datagrams_in),
        ("gossip_datagrams_out", "Datagrams sent", &counts.datagrams_out),
        ("gossip_bytes_in", "Bytes of datagrams received", &counts.bytes_in),
        ("gossip_bytes_out", "Bytes of datagrams sent", &counts.bytes_out),
        ("gossip_unsent", "Messages that were not sent whole", &counts.unsent),
        ("gossip_restarts", "Times that gossip ended and began anew", &counts.restarts),
    ] {
        counter(encoder, name, help, read(value))?;
    }
    let help = "Datagrams refused";
    let mut metric = encoder.encode_descriptor("gossip_rejected", help, None, MetricType::Counter)?;
    for reason in Rejected::ALL {
        let count = ConstCounter::new(counts.rejected(reason));
        count.encode(metric.encode_family(&[("reason", reason.word())])?)?;
    }
    Ok(())
}

fn links(encoder: &mut DescriptorEncoder<'_>, others: &Others) -> fmt::Result {
    type Read = fn(&LinkStats) -> u64;
    let peers = others.peers();
    let gauges: [(&str, &str, Read); 2] = [
        ("link_up", "Whether messages go to this node", |link| fleet::is_up(link).into()),
        ("link_queued_bytes", "Bytes that wait for this node", |link| link.queued as u64),
    ];
    for (name, help, read) in gauges {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (id, link) in &peers {
            let value = i64::try_from(read(link)).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(metric.encode_family(&[("peer", id.as_str())])?)?;
        }
    }
    let totals: [(&str, &str, Read); 7] = [
        ("link_messages_in", "Messages from this node", |link| link.messages_in),
        ("link_messages_out", "Messages to this node", |link| link.messages_out),
        ("link_bytes_in", "Bytes from this node over the current connection", |link| link.bytes_in),
        ("link_bytes_out", "Bytes to this node over the current connection", |link| link.bytes_out),
        ("link_dropped", "Messages that are not missed, and were not sent", |link| link.dropped),
        ("link_refused", "Needed messages that found no room", |link| link.refused),
        ("link_sessions", "How often the link went up", |link| link.sessions),
    ];
    for (name, help, read) in totals {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (id, link) in &peers {
            ConstCounter::new(read(link)).encode(metric.encode_family(&[("peer", id.as_str())])?)?;
        }
    }
    let help = "From a heartbeat to its answer";
    let mut metric = encoder.encode_descriptor("link_rtt_seconds", help, None, MetricType::Gauge)?;
    for (id, link) in &peers {
        let Some(rtt) = link.rtt else { continue };
        ConstGauge::new(rtt.as_secs_f64()).encode(metric.encode_family(&[("peer", id.as_str())])?)?;
    }
    Ok(())
}

fn sqlite(encoder: &mut DescriptorEncoder<'_>, stats: SqliteStats) -> fmt::Result {
    counter(encoder, "store_commits", "Transactions committed", stats.commits)?;
    counter(encoder, "store_writes", "Writes in committed transactions", stats.writes)?;
    counter(encoder, "store_failures", "Transactions that failed", stats.failures)?;
    gauge(encoder, "store_largest_group", "Most writes of one transaction", stats.largest_group)
}

fn scylla(encoder: &mut DescriptorEncoder<'_>, stats: ScyllaStats) -> fmt::Result {
    for (name, help, value) in [
        ("store_conditional_writes", "Conditional writes that were answered", stats.conditional),
        ("store_conditional_refused", "Conditional writes whose condition did not hold", stats.refused),
        ("store_unknown_outcomes", "Writes of which nobody knows the outcome", stats.unknown),
        ("store_upserts", "Upserts of derived and other rows", stats.upserts),
        ("store_reads", "Reads that were answered", stats.reads),
        ("store_failures", "Requests that failed without an effect", stats.failures),
    ] {
        counter(encoder, name, help, value)?;
    }
    gauge(encoder, "store_rooms_behind", "Rooms whose derived tables are being written", stats.rooms_behind)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn seconds(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// One counter for each code that has happened.
fn by_code(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (String, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (code, count) in counts.filter(|(_, count)| *count > 0) {
        let labels = [("code", code)];
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A code as it stands on the wire.
fn word(code: &ErrorCode) -> String {
    let text = serde_json::to_value(code).ok();
    text.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use store::sqlite::{SqliteOptions, SqliteStore};

    use super::*;
    use crate::fleet::tests::two;

    #[test]
    fn what_the_parts_count_is_in_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
        let counters = Arc::new(Counters::default());
        counters.sessions.enter();
        counters.frames_in.add(5);
        counters.refusals(ErrorCode::RateLimited).add(2);
        counters.closes(CloseCode::Flood).add(1);
        let text = Metrics::new(counters, Opened::Sqlite(Arc::new(store)), Box::new(two)).encode();
        for line in [
            "rookery_sessions 1",
            "rookery_frames_in_total 5",
            "rookery_refusals_total{code=\"rate_limited\"} 2",
            "rookery_closes_total{code=\"4202\"} 1",
            "rookery_rooms_active 4",
            "rookery_cluster_isolated 0",
            "rookery_cluster_members{state=\"draining\"} 1",
            "rookery_presence_users 6",
            "rookery_presence_gaps_total 1",
            "rookery_gossip_rejected_total{reason=\"forged\"} 0",
            "rookery_link_up{peer=\"b\"} 1",
            "rookery_link_messages_in_total{peer=\"b\"} 9",
            "rookery_link_rtt_seconds{peer=\"b\"} 0.0015",
            concat!("rookery_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
