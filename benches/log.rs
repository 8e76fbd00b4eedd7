//! Rows into the durable log, against the least that durable writing can cost: the same bytes written to a plain file
//! and synced, with neither encoding nor checksums, in the same run.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]
#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is said where criterion says the rest")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use barograph::log::{Log, LogOptions};
use barograph::model::MetricBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::task::JoinSet;

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const MACHINES: usize = 10_000;
/// Callers at the same time, who share syncs.
const CALLERS: u64 = 4;

/// Time of all appends, and of writing the same bytes to plain files with a sync for each append.
struct Sums {
    log: Duration,
    raw: Duration,
}

/// A fresh log takes `appends` batches from `callers` at a time; then a plain file takes the same bytes.
fn measure(batch: &MetricBatch, appends: u64, callers: u64, sums: &mut Sums) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = LogOptions { max_bytes: u64::MAX, ..LogOptions::default() };
    let (log, _) = Log::open(folder.path(), options).unwrap();
    let start = Instant::now();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (log, batch) = (log.clone(), batch.clone());
            let share = appends / callers + u64::from(caller < appends % callers);
            tasks.spawn(async move {
                for _ in 0..share {
                    log.append(std::slice::from_ref(&batch)).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
    let took = start.elapsed();
    let frame = vec![0xa5; (log.bytes() / appends.max(1)) as usize];
    log.close().unwrap();

    let mut file = File::create(folder.path().join("plain")).unwrap();
    let start = Instant::now();
    for _ in 0..appends {
        file.write_all(&frame).unwrap();
        file.sync_data().unwrap();
    }
    sums.raw += start.elapsed();
    sums.log += took;
    took
}

fn append(criterion: &mut Criterion) {
    let batch = fleet::Fleet::new(MACHINES, 1).tick(1_700_000_000_000_000_000);
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(MACHINES as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(8));
    for (name, callers) in [("append", 1), ("append from several", CALLERS)] {
        let mut sums = Sums { log: Duration::ZERO, raw: Duration::ZERO };
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|appends| measure(&batch, appends, callers, &mut sums));
        });
        if !sums.raw.is_zero() {
            let ratio = sums.log.as_secs_f64() / sums.raw.as_secs_f64();
            println!("log/{name}: {ratio:.2} times the time of writing and syncing the same bytes");
        }
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
