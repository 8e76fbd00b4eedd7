//! Rows into the store, each append durable: ten thousand machines report at once, tick after tick, while flushing and
//! compaction go on beside it.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]
#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::time::{Duration, Instant};

use barograph::store::{Store, StoreOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const MACHINES: usize = 10_000;
const TICK: i64 = 10_000_000_000;

/// The time of one tick includes making its rows, which is a small part of it.
fn ingest(criterion: &mut Criterion) {
    // As the binary does.
    barograph::allocator::share_memory();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(StoreOptions::new(folder.path()))).unwrap();
    let mut fleet = fleet::Fleet::new(MACHINES, 1);
    let mut time = chrono::Utc::now().timestamp_nanos_opt().unwrap() / TICK * TICK;

    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(MACHINES as u64)).sample_size(20);
    group.measurement_time(Duration::from_secs(30));
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|ticks| {
            let start = Instant::now();
            for _ in 0..ticks {
                time += TICK;
                let batch = fleet.tick(time);
                runtime.block_on(store.append(&[batch])).unwrap();
            }
            start.elapsed()
        });
    });
    group.finish();
    runtime.block_on(store.close()).unwrap();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
