//! The whole way to InfluxDB, from a source that gives rows as fast as they are taken, through the backlog on disk, to a
//! server: an outage and what comes after it, the throughput, and rows that the server refuses.
//!
//! `make bench BENCH=delivery`, or `cargo bench --bench delivery -- outage` for one of the parts:
//!
//! - `outage`: no server listens while `DELIVERY_ROWS` (default 50 million) are queued; then one is started, which counts
//!   what it gets. Rows per second in and out, bytes per row on disk, and the memory all along.
//! - `throughput`: `DELIVERY_THROUGHPUT_ROWS` (default 1 million) into a real InfluxDB 1.x and a real VictoriaMetrics,
//!   beside a client that posts bodies which were made before.
//! - `poison`: one row in each batch of 5,000 is refused, of `DELIVERY_POISON_ROWS` (default 1 million) into a real
//!   InfluxDB 1.x, and a fifth of that into fakes of 2.x and 3.x.
//!
//! `DELIVERY_MACHINES` (default 10,000) is the size of the fleet, `DELIVERY_ROUNDS` (default 2) how often the throughput is
//! measured, `RUST_LOG` what is logged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench says what failed by panicking, and its figures are the result"
)]
#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "tests and benches share files and use parts of them"
)]

#[path = "../tests/support/fake_influx.rs"]
mod fake_influx;
#[path = "../tests/support/fleet.rs"]
mod fleet;
#[path = "../tests/support/influxd.rs"]
mod influxd;
#[path = "../tests/support/rows.rs"]
mod rows;
#[path = "../tests/support/victoria.rs"]
mod victoria;

#[path = "delivery/counting.rs"]
mod counting;
#[path = "delivery/outage.rs"]
mod outage;
#[path = "delivery/pipeline.rs"]
mod pipeline;
#[path = "delivery/poison.rs"]
mod poison;
#[path = "delivery/process.rs"]
mod process;
#[path = "delivery/throughput.rs"]
mod throughput;

fn main() {
    // As the binary does.
    barograph::allocator::share_memory();
    // Cargo gives `--bench` too.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match words[..] {
        // The bench starts itself as these two, so that neither their memory nor their time counts.
        ["serve", port] => return runtime.block_on(counting::serve(port.parse().unwrap())),
        ["expect", rows, machines] => {
            return counting::print_expected(rows.parse().unwrap(), machines.parse().unwrap());
        }
        _ => {}
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let wanted = |part: &str| words.is_empty() || words.contains(&part);
    runtime.block_on(async {
        if wanted("outage") {
            outage::run().await;
        }
        if wanted("throughput") {
            throughput::run().await;
        }
        if wanted("poison") {
            poison::run().await;
        }
    });
}

/// A client for looking at servers.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn machines() -> usize {
    setting("DELIVERY_MACHINES", 10_000)
}
