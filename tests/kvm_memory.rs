//! Polling libvirt costs no memory. In a process of its own, because it measures the process.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use barograph::provider::kvm::{Config, KvmCollector};
use barograph::provider::{Collector, Window};

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn memory_is_flat_over_ten_thousand_polls() {
    let collector =
        KvmCollector::new(&Config { uri: "test:///default".into(), ..Config::default() }).unwrap();
    let shard = collector.discover().await.unwrap().remove(0);
    let mut before = 0;
    for tick in 0..11_000 {
        if tick == 1_000 {
            before = resident();
        }
        let collection = collector.collect(&shard, Window { start: tick - 1, end: tick }).await.unwrap();
        assert_eq!(collection.faults.len(), 0, "{:?}", collection.faults);
    }
    // The smallest thing that could be lost per poll, one record with its parameters, is 1.5 MiB in all.
    let grown = resident().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more after 10,000 polls");
    collector.close().await;
}
