//! What a room's decisions cost: a send accepted, made part of a group, committed and shown. No store, no sockets.

#![allow(missing_docs, reason = "a benchmark has no callers")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rookery_actors::bench::room_steps;

fn benches(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("room");
    for group in [1, 16, 256] {
        let mut step = room_steps(group);
        benches.throughput(Throughput::Elements(group as u64));
        benches.bench_function(format!("groups of {group}"), |bencher| bencher.iter(&mut step));
    }
    benches.finish();
}

criterion_group!(steps, benches);
criterion_main!(steps);
