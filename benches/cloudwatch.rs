//! A cycle of 10,000 instances in four regions, and a day of backfill, against a fake CloudWatch with the quotas of AWS;
//! each with the time that the quotas alone would take.
//!
//! `cargo bench --bench cloudwatch`; `CLOUDWATCH_INSTANCES=1000` for a smaller fleet. The fake runs in the same process, so
//! that its part of the processor time is in the figures.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark says what it measured"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "benchmarks use parts of the tests' support")]

#[path = "../tests/support/fake_cloudwatch/mod.rs"]
mod fake_cloudwatch;
#[path = "../tests/support/fake_ec2.rs"]
mod fake_ec2;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barograph::model::Secret;
use barograph::provider::aws::{Account, AwsCollector, Config, Endpoints};
use barograph::provider::{Collector, Shard, Window};
use barograph::telemetry::Telemetry;
use fake_cloudwatch::{Clock, Fake, Monitoring, Quotas, Settings};
use fake_ec2::{Ec2, Instance};
use futures::StreamExt;
use futures::future::join_all;

const OWN: &str = "111111111111";
const REGIONS: [&str; 4] = ["eu-west-1", "eu-central-1", "us-east-1", "us-west-2"];
const T: i64 = 1_799_971_200;
const SECOND: i64 = 1_000_000_000;

struct Round {
    took: Duration,
    rows: usize,
    largest: usize,
}

/// All shards side by side up to a time, as the pipeline collects them, from where their marks are.
async fn round(collector: &AwsCollector, shards: &[Shard], marks: &mut [i64], end: i64) -> Round {
    let begun = Instant::now();
    collector.told(end);
    let read = join_all(shards.iter().zip(marks).map(|(shard, mark)| async {
        let mut pieces = collector.pieces(shard, Window { start: *mark, end });
        let (mut rows, mut largest) = (0, 0);
        *mark = end;
        while let Some(piece) = pieces.next().await {
            let piece = piece.unwrap();
            assert!(piece.faults.is_empty(), "{:?}", piece.faults);
            rows += piece.rows();
            *mark = piece.reached.unwrap_or(end).min(*mark);
            largest = largest.max(piece.rows());
        }
        (rows, largest)
    }));
    let read = read.await;
    Round {
        took: begun.elapsed(),
        rows: read.iter().map(|(rows, _)| rows).sum(),
        largest: read.iter().map(|(_, largest)| *largest).max().unwrap_or(0),
    }
}

/// Seconds of processor time, and the most memory so far in MiB.
fn used() -> (f64, f64) {
    let process = procfs::process::Process::myself().unwrap();
    let stat = process.stat().unwrap();
    let status = process.status().unwrap();
    (
        (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        status.vmhwm.unwrap_or(0) as f64 / 1024.0,
    )
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run());
}

async fn run() {
    let instances: usize = std::env::var("CLOUDWATCH_INSTANCES").map_or(10_000, |text| text.parse().unwrap());
    let (clock, set) = Clock::at(T);
    let fake = Fake::start(Settings { quotas: Quotas::default(), ..Settings::new(clock) }).await;
    let ec2 = Ec2::start().await;
    fake.add_account("AKIAOWN", OWN);
    ec2.add_account("AKIAOWN", OWN);
    for (number, region) in REGIONS.into_iter().enumerate() {
        let fleet =
            fake.add_fleet(OWN, region, instances / REGIONS.len(), Monitoring::Basic, &format!("{number}a"));
        fleet.ids().for_each(|id| ec2.put(OWN, region, Instance::running(&id)));
    }
    let config = Config {
        accounts: vec![Account {
            id: Some(OWN.into()),
            access_key_id: Some("AKIAOWN".into()),
            secret_access_key: Some(Secret::new("secret")),
            ..Account::default()
        }],
        regions: REGIONS.map(str::to_owned).to_vec(),
        // Six of basic monitoring on Nitro, and the maximum of the processors.
        groups: vec!["basic".into(), "cpu_max".into()],
        endpoints: Endpoints {
            ec2: Some(ec2.url()),
            cloudwatch: Some(fake.url()),
            sts: Some(ec2.url()),
            pricing: None,
        },
        request_timeout: barograph::model::Span::seconds(60),
        ..Config::default()
    };
    println!("{instances} instances x 7 metrics in {} regions, basic monitoring", REGIONS.len());
    let (_, before) = used();
    println!("memory before: {before:.0} MiB, of which the fake's series are most");
    let collector = AwsCollector::new(&config).unwrap().of_source(
        "bench",
        Duration::from_secs(300),
        &Telemetry::default(),
    );
    let shards = collector.discover().await.unwrap();
    let mut now = T + 86_400;
    let mut marks = vec![(now - 300) * SECOND; shards.len()];
    for name in ["first cycle", "second cycle", "third cycle", "fourth cycle"] {
        set.store(now, Ordering::SeqCst);
        let cpu = used().0;
        let spent = collector.spent();
        let got = round(&collector, &shards, &mut marks, now * SECOND).await;
        tell(name, &collector, spent, &got, &fake, cpu);
        now += 300;
    }
    // The floor: calls of one region at 50 a second and datapoints at 180,000 a second.
    let per_region = instances / REGIONS.len();
    let calls = (per_region * 6).div_ceil(500) + per_region.div_ceil(500);
    println!(
        "floor of a cycle by the quota of calls: {:.2} s, {calls} calls in a region",
        calls as f64 / 50.0
    );

    let collector = AwsCollector::new(&config).unwrap().of_source(
        "bench",
        Duration::from_secs(300),
        &Telemetry::default(),
    );
    let shards = collector.discover().await.unwrap();
    set.store(now, Ordering::SeqCst);
    let (cpu, spent) = (used().0, collector.spent());
    let mut marks = vec![(now - 86_400) * SECOND; shards.len()];
    let got = round(&collector, &shards, &mut marks, now * SECOND).await;
    tell("a day of backfill", &collector, spent, &got, &fake, cpu);
    let points = per_region as f64 * (6.0 * 288.0 + 1_440.0);
    println!(
        "floor of a day by the quota of old datapoints: {:.1} s ({points:.0} in a region at 396,000 a second)",
        points / 396_000.0
    );
}

fn tell(
    name: &str,
    collector: &AwsCollector,
    before: barograph::provider::aws::Spent,
    got: &Round,
    fake: &Fake,
    cpu: f64,
) {
    let spent = collector.spent();
    let (cpu_now, memory) = used();
    let throttled = fake.counters().throttled_of("GetMetricData");
    println!(
        "{name}: {:.2} s, {} calls, {} billed metrics, {} rows, at most {} in one piece, {:.1} s of processor time with \
         the fake's, {memory:.0} MiB at most, {throttled} throttled so far",
        got.took.as_secs_f64(),
        spent.calls - before.calls,
        spent.billed - before.billed,
        got.rows,
        got.largest,
        cpu_now - cpu,
    );
}
