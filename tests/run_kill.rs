//! `kill -9` of `barograph run` at random moments of collection, flush and compaction: every row that was acknowledged
//! is there afterwards, once, and the store opens at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what failed by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[allow(unreachable_pub, dead_code, missing_docs, reason = "tests share the file and use parts of it")]
#[path = "support/process.rs"]
mod process;

use process::{Run, get, metric};

const KILLS: usize = 30;

/// Collects ten times a second, and flushes so often that compaction always has something to do.
const PIPELINE: &str = "
name: kill
sources:
  host: { type: host, every: 100ms }
sinks:
  store: { type: store, path: ./data, flush: 200ms }
";

#[test]
fn acknowledged_rows_survive_thirty_kills() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..KILLS {
        let started = Instant::now();
        let mut run = Run::start(folder.path(), PIPELINE, &[]);
        let address = run.address();
        let opened = started.elapsed();
        assert!(opened < Duration::from_secs(20), "kill {kill}: opening took {opened:?}");
        let life = Duration::from_millis(fastrand::u64(200..1_500));
        // What the process said it had stored, as late as can be before its end.
        let mut delivered = 0;
        while started.elapsed() < opened + life {
            delivered =
                metric(&get(address, "/metrics"), "barograph_pipeline_rows_delivered_total", "store") as u64;
        }
        let marks = marks(folder.path());
        run.kill();

        let (rows, keys, latest) = stored(folder.path());
        assert_eq!(rows, keys, "kill {kill}: a row is there twice");
        assert!(
            rows >= before + delivered,
            "kill {kill}: {before} rows were there and {delivered} were acknowledged, {rows} are there"
        );
        assert!(marks <= latest, "kill {kill}: the checkpoint {marks} is ahead of the store's {latest}");
        before = rows;
    }
    assert!(before > 1_000, "the runs came to collect: {before} rows");
}

/// The latest checkpoint, in nanoseconds since 1970 UTC; 0 before the first.
fn marks(folder: &Path) -> i64 {
    let text = std::fs::read_to_string(folder.join("data/checkpoints.json")).unwrap_or_default();
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<i64>().ok());
    numbers.max().unwrap_or(0)
}

/// Rows of all tables, distinct keys, and the latest time.
fn stored(folder: &Path) -> (u64, u64, i64) {
    let tables = ["cpu", "memory", "disk", "filesystem", "network", "status"];
    let known = query(folder, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox'");
    let known: Vec<_> = known.iter().filter_map(|row| row["table_name"].as_str()).collect();
    let tag = |table: &str| match table {
        "cpu" => "core",
        "disk" => "device",
        "filesystem" => "mountpoint",
        "network" => "interface",
        _ => "provider",
    };
    let (mut rows, mut keys, mut latest) = (0, 0, 0);
    for table in tables.into_iter().filter(|table| known.contains(table)) {
        let answer = query(
            folder,
            &format!(
                "SELECT sum(n) AS rows, count(*) AS keys, max(time) AS latest FROM (SELECT count(*) AS n,
                 CAST(time AS BIGINT) AS time FROM {table} GROUP BY resource_id, {}, time)",
                tag(table)
            ),
        );
        rows += answer[0]["rows"].as_u64().unwrap_or(0);
        keys += answer[0]["keys"].as_u64().unwrap();
        latest = latest.max(answer[0]["latest"].as_i64().unwrap_or(0));
    }
    (rows, keys, latest)
}

fn query(folder: &Path, sql: &str) -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_barograph"))
        .args(["query", "--data", "data", "--format", "ndjson", sql])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
