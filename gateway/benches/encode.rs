//! What it costs to make a frame of entries: once per batch and encoding, whoever hears it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a failure ends the measurement")]

use actors::Encode;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::{Body, Encoding, Entry, Incarnation, Kind, RoomId, ServerFrame, UserId, server::Entries};
use rookery_gateway::Frames;

fn entries(count: u64) -> ServerFrame {
    let body = Body::text(&"x".repeat(120)).unwrap();
    let entry = |seq| Entry {
        seq,
        at: 1_700_000_000_000,
        from: UserId::from_u128(u128::MAX / 3),
        kind: Kind::Message,
        target: None,
        body: Some(body.clone()),
        masked: None,
        writer: None,
        n: None,
    };
    let entries = (1_000..1_000 + count).map(entry).collect();
    let room = RoomId::from_u128(u128::MAX / 7);
    ServerFrame::Entries(Entries { room, incarnation: Incarnation(1), entries })
}

fn benches(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("encode");
    for count in [1, 64] {
        let frame = entries(count);
        for encoding in Encoding::ALL {
            benches.throughput(Throughput::Elements(count));
            benches.bench_function(format!("{encoding:?}, entries: {count}"), |bencher| {
                bencher.iter(|| Frames.encode(&frame, encoding));
            });
        }
    }
    benches.finish();
}

criterion_group!(encode, benches);
criterion_main!(encode);
