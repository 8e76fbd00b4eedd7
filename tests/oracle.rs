//! The conservation oracle: a source issues numbered rows, everything fails, and in the end every row that was accepted is
//! in the server exactly once, or in the dead letters, and the exported counters have balanced all the time.
//!
//! Each run has a seed that decides what fails and when; it is printed, and `ORACLE_SEED=n` repeats it. `ORACLE_RUNS=n`
//! runs more seeds than the few that a test run has time for. The collector is a process of its own (this test, started
//! again), so that it can be killed; faults of the network are made by a proxy between it and the server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test says what failed by panicking"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "support/fake_influx.rs"]
mod fake_influx;
#[path = "support/influxd.rs"]
mod influxd;
#[path = "support/victoria.rs"]
mod victoria;

#[path = "oracle/collector.rs"]
mod collector;
#[path = "oracle/disk.rs"]
mod disk;
#[path = "oracle/proxy.rs"]
mod proxy;
#[path = "oracle/run.rs"]
mod run;
#[path = "oracle/server.rs"]
mod server;

use run::Scenario;
use server::Kind;

/// Seeds of one test, if nobody asks for more.
const RUNS: u64 = 4;

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs the seeds of a scenario, one after the other.
fn seeds(scenario: Scenario) {
    let seeds = match number("ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORACLE_RUNS").unwrap_or(RUNS),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in seeds {
        let report = runtime.block_on(run::run(scenario, seed));
        println!("{scenario:?} seed {seed}: {report}");
    }
}

/// Not a test of its own: the collector, when it is started again as a child.
#[test]
fn collector() {
    collector::run_if_asked();
}

#[test]
fn rows_survive_everything_on_a_real_influxdb_1() {
    seeds(Scenario::faults(Kind::RealOne));
}

#[test]
fn rows_survive_everything_on_influxdb_2() {
    seeds(Scenario::faults(Kind::Two));
}

#[test]
fn rows_survive_everything_on_influxdb_3() {
    seeds(Scenario::faults(Kind::Three));
}

#[test]
fn rows_survive_everything_on_the_wire_of_victoria_metrics() {
    seeds(Scenario::faults(Kind::Victoria));
}

#[test]
fn a_full_disk_makes_sources_wait_and_loses_nothing() {
    seeds(Scenario::full_disk(Kind::Two));
}

#[test]
fn flipped_bytes_cost_their_frames_and_are_counted() {
    seeds(Scenario::flips(Kind::Three));
}

#[test]
fn what_a_gauge_was_acknowledged_survives_a_kill() {
    seeds(Scenario::gauge(Kind::Two));
}
