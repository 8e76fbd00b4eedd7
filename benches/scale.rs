//! The embedded store at the size of a real fleet: rows per second into it, bytes per row, and the time of the questions
//! that dashboards ask, beside DuckDB over the very same Parquet files.
//!
//! `make bench BENCH=scale`. `SCALE_ROWS` (default 50 million) and `SCALE_MACHINES` (default 10,000) set the size,
//! `SCALE_DATA` keeps the store in a folder and reuses it. DuckDB is asked when
//! `SCALE_PYTHON` names a Python that has its module; `make bench` makes one.

#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use barograph::analytics::{Engine, EngineOptions};
use barograph::store::{Reader, Store, StoreOptions};
use barograph::{Error, Result};

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const SECOND: i64 = 1_000_000_000;
/// 2026-06-01T00:00:00Z.
const START: i64 = 1_780_272_000 * SECOND;
/// Machines report every ten seconds.
const EVERY: i64 = 10 * SECOND;
const RUNS: usize = 3;

/// A question, in our SQL and in DuckDB's.
struct Question {
    name: &'static str,
    ours: String,
    duckdb: String,
}

fn main() -> Result<()> {
    // As the binary does.
    barograph::allocator::share_memory();
    let rows: i64 = setting("SCALE_ROWS", 50_000_000);
    let machines: usize = setting("SCALE_MACHINES", 10_000);
    let ticks = rows / machines as i64;
    let temporary = tempfile::tempdir().map_err(|e| Error::io("make a folder", std::env::temp_dir(), e))?;
    let path = std::env::var_os("SCALE_DATA").map_or_else(|| temporary.path().join("store"), PathBuf::from);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("start", "the runtime", e))?;
    runtime.block_on(async {
        if !path.join("manifest").exists() {
            ingest(&path, ticks, machines).await?;
        }
        questions(&path, ticks).await
    })
}

async fn ingest(path: &Path, ticks: i64, machines: usize) -> Result<()> {
    let mut fleet = fleet::Fleet::new(machines, 7);
    // The cost of inventing rows is not the store's.
    let inventing = Instant::now();
    for tick in 0..20 {
        std::hint::black_box(fleet.tick(START + tick * EVERY));
    }
    let inventing = inventing.elapsed() / 20;

    let store = Store::open(StoreOptions::new(path)).await?;
    forget_peak();
    let started = Instant::now();
    for tick in 0..ticks {
        store.append(&[fleet.tick(START + tick * EVERY)]).await?;
    }
    let appended = started.elapsed() - inventing * u32::try_from(ticks).unwrap_or(u32::MAX);
    let peak = peak();
    let rows = ticks * machines as i64;
    println!("appended {rows} rows of {machines} machines, each batch of one tick fsynced before the next");
    println!("  {:>12.0} rows/s   peak memory {peak} MiB", rows as f64 / appended.as_secs_f64());

    let started = Instant::now();
    store.flush().await?;
    println!("  flushed the rest in {:.1} s", started.elapsed().as_secs_f64());
    forget_peak();
    let started = Instant::now();
    store.compact().await?;
    println!("  compacted in {:.1} s   peak memory {} MiB", started.elapsed().as_secs_f64(), self::peak());
    store.close().await?;
    Ok(())
}

async fn questions(path: &Path, ticks: i64) -> Result<()> {
    let reader = Reader::open(path)?;
    let snapshot = reader.snapshot().await?;
    let table = &snapshot.tables["cpu"];
    let bytes: u64 = table.segments.iter().map(|segment| segment.bytes).sum();
    let rows: u64 = table.segments.iter().map(|segment| segment.rows).sum();
    println!(
        "store: {rows} rows in {} segments, {:.1} bytes per row",
        table.segments.len(),
        bytes as f64 / rows.max(1) as f64
    );

    let files: Vec<_> = table.segments.iter().map(|s| path.join(&s.path).display().to_string()).collect();
    let duckdb = DuckDb::new(&files);
    let engine =
        Engine::new(EngineOptions { timeout: Duration::from_secs(600), ..EngineOptions::default() })?;
    println!("{:<34} {:>10} {:>10} {:>7} {:>9}", "question", "barograph", "duckdb", "ratio", "peak MiB");
    for question in every_question(ticks) {
        forget_peak();
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..RUNS {
            let started = Instant::now();
            let batches = engine.query(&snapshot, &question.ours).await?.collect().await?;
            times.push(started.elapsed());
            rows = batches.iter().map(|batch| batch.num_rows()).sum();
        }
        let ours = median(times);
        let (theirs, ratio) = match duckdb.as_ref().map(|duckdb| duckdb.time(&question.duckdb)) {
            Some(Ok((theirs, their_rows))) if their_rows == rows => {
                (format!("{theirs:.3} s"), format!("{:.2}", ours.as_secs_f64() / theirs))
            }
            Some(Ok((_, their_rows))) => (format!("{their_rows} rows?"), format!("ours {rows}")),
            Some(Err(error)) => (error, "-".into()),
            None => ("-".into(), "-".into()),
        };
        println!("{:<34} {:>8.3} s {theirs:>10} {ratio:>7} {:>9}", question.name, ours.as_secs_f64(), peak());
    }
    Ok(())
}

fn every_question(ticks: i64) -> Vec<Question> {
    let end = START + ticks * EVERY;
    let start = end - 12 * 3_600 * SECOND;
    let window = |time: &dyn Fn(i64) -> String| format!("time > {} AND time <= {}", time(start), time(end));
    let ours = window(&|ns| format!("to_timestamp_nanos({ns})"));
    let duck = window(&|ns| format!("make_timestamp_ns({ns})"));
    let machine = format!("i-{:017x}", 4_243_u64.wrapping_mul(0x9e37_79b9_7f4a));
    vec![
        Question {
            name: "last value per resource",
            ours: "SELECT resource_id, last_value(utilization ORDER BY time) FROM cpu GROUP BY resource_id".into(),
            duckdb: "SELECT resource_id, arg_max(utilization, time) FROM cpu GROUP BY resource_id".into(),
        },
        Question {
            name: "one resource, 12 h by minute",
            ours: format!(
                "SELECT date_bin(INTERVAL '1 minute', time) AS minute, avg(utilization) FROM cpu
                 WHERE resource_id = '{machine}' AND {ours} GROUP BY minute ORDER BY minute"
            ),
            duckdb: format!(
                "SELECT time_bucket(INTERVAL '1 minute', time::TIMESTAMP) AS minute, avg(utilization) FROM cpu
                 WHERE resource_id = '{machine}' AND {duck} GROUP BY minute ORDER BY minute"
            ),
        },
        Question {
            name: "hourly average per resource, 12 h",
            ours: format!(
                "SELECT resource_id, date_bin(INTERVAL '1 hour', time) AS hour, avg(utilization) FROM cpu
                 WHERE {ours} GROUP BY resource_id, hour"
            ),
            duckdb: format!(
                "SELECT resource_id, time_bucket(INTERVAL '1 hour', time::TIMESTAMP) AS hour, avg(utilization) FROM cpu
                 WHERE {duck} GROUP BY resource_id, hour"
            ),
        },
        Question {
            name: "top 10 by maximum",
            ours: "SELECT resource_id, max(utilization_max) AS most FROM cpu GROUP BY resource_id ORDER BY most DESC, resource_id LIMIT 10".into(),
            duckdb: "SELECT resource_id, max(utilization_max) AS most FROM cpu GROUP BY resource_id ORDER BY most DESC, resource_id LIMIT 10".into(),
        },
        Question {
            name: "distinct values of a tag",
            ours: "SELECT DISTINCT region FROM cpu".into(),
            duckdb: "SELECT DISTINCT region FROM cpu".into(),
        },
    ]
}

/// DuckDB over the same files, in a Python of its own, with as many threads as we have.
struct DuckDb {
    python: String,
    files: String,
}

impl DuckDb {
    fn new(files: &[String]) -> Option<Self> {
        let python = std::env::var("SCALE_PYTHON").ok()?;
        let files: Vec<_> = files.iter().map(|file| format!("'{file}'")).collect();
        Some(Self { python, files: files.join(", ") })
    }

    /// Seconds (median of the runs, without starting Python) and rows of the answer.
    fn time(&self, sql: &str) -> Result<(f64, usize), String> {
        let script = "
import duckdb, os, statistics, sys, time
files, sql, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = duckdb.connect()
db.execute(f'SET threads = {os.cpu_count()}')
db.execute(f'CREATE VIEW cpu AS SELECT * FROM read_parquet([{files}], union_by_name = true)')
times = []
for _ in range(runs):
    started = time.perf_counter()
    rows = len(db.execute(sql).fetchall())
    times.append(time.perf_counter() - started)
print(statistics.median(times), rows)
";
        let output = Command::new(&self.python)
            .args(["-c", script, &self.files, sql, &RUNS.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split_whitespace();
        let seconds = words.next().and_then(|word| word.parse().ok());
        let rows = words.next().and_then(|word| word.parse().ok());
        seconds.zip(rows).ok_or_else(|| "failed".into())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Starts the kernel's record of this process's largest memory anew.
fn forget_peak() {
    // Where the kernel does not allow it the peak is that of the whole run, which is never too small.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Largest resident memory since [`forget_peak`], MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
