//! What the parts count, read when Prometheus asks.

use std::{fmt, sync::Arc};

use gateway::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use protocol::{CloseCode, ErrorCode};
use store::{scylla::ScyllaStats, sqlite::SqliteStats};

use crate::stores::Opened;

/// All metrics of a node.
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub(crate) fn new(counters: Arc<Counters>, store: Opened) -> Self {
        let mut registry = Registry::with_prefix("rookery");
        registry.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(Gateway(counters)));
        registry.register_collector(Box::new(Kept(store)));
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

/// Numbers of the gateway.
struct Gateway(Arc<Counters>);

/// Numbers of the store.
struct Kept(Opened);

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

    #[test]
    fn what_the_parts_count_is_in_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
        let counters = Arc::new(Counters::default());
        counters.sessions.enter();
        counters.frames_in.add(5);
        counters.refusals(ErrorCode::RateLimited).add(2);
        counters.closes(CloseCode::Flood).add(1);
        let text = Metrics::new(counters, Opened::Sqlite(Arc::new(store))).encode();
        for line in [
            "rookery_sessions 1",
            "rookery_frames_in_total 5",
            "rookery_refusals_total{code=\"rate_limited\"} 2",
            "rookery_closes_total{code=\"4202\"} 1",
            concat!("rookery_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
