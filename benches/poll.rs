//! What one poll costs, in time and processor, beside the tools that people use today, in the same run on the same machine.
//!
//! `make bench BENCH=poll`, or `cargo bench --bench poll -- guests` for one of the parts:
//!
//! - `guests`: `POLL_GUESTS` (default 8) emulated guests; the `kvm` source beside `virsh domstats` and Debian's
//!   `prometheus-libvirt-exporter` (left out when it is not installed).
//! - `containers`: `POLL_CONTAINERS` (default 50) containers; the `containerd` source.
//! - `list`: 1,000 domains of libvirt's test driver, listed with their states.
//!
//! Needs root, as the rigs do. `POLL_ROUNDS` (default 20) polls are made, one each second.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench says what failed by panicking, and its figures are the result"
)]
#![allow(unreachable_pub, missing_docs, reason = "a bench is no library")]

#[path = "poll/containers.rs"]
mod containers;
#[path = "poll/guests.rs"]
mod guests;
#[path = "poll/list.rs"]
mod list;
#[path = "poll/meter.rs"]
mod meter;

fn main() {
    // As the binary does.
    barograph::allocator::share_memory();
    // Cargo gives `--bench` too.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("list") {
            list::run().await;
        }
        if wanted("guests") {
            guests::run().await;
        }
        if wanted("containers") {
            containers::run().await;
        }
    });
}

/// A number from the environment.
fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
