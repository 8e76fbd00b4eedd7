//! A writer that is killed with no warning, many times over: whatever it acknowledged is there once, and the store
//! opens at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "the child tells the parent what it acknowledged")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use barograph::model::{BatchBuilder, Identity, MetricBatch};
use barograph::store::{Snapshot, Store, StoreOptions};
use futures::TryStreamExt;

const FOLDER: &str = "BAROGRAPH_TEST_KILL_FOLDER";
const FIRST: &str = "BAROGRAPH_TEST_KILL_FIRST";
const KILLS: usize = 30;
const BASE: i64 = 1_772_323_200_000_000_000;
const STEP: i64 = 60_000_000_000;
const ROWS_PER_BATCH: i64 = 20;

/// Kills the writer, also when the test fails.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Flushes and compacts all the time, so that most kills hit one or the other.
fn options(folder: &Path) -> StoreOptions {
    StoreOptions {
        buffer_bytes: 200 << 10,
        flush_interval: Duration::from_millis(30),
        maintenance_interval: Duration::from_millis(15),
        grace: Duration::from_millis(100),
        ..StoreOptions::new(folder)
    }
}

/// Batch `number`: rows of its own, and one row that every batch writes again with its number.
fn batch(number: i64) -> MetricBatch {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
    builder.row(BASE - STEP).set("cores", number as f64).unwrap();
    for row in 0..ROWS_PER_BATCH {
        let row = number * ROWS_PER_BATCH + row;
        builder.row(BASE + row * STEP).set("cores", row as f64).unwrap();
    }
    builder.finish().unwrap()
}

async fn write_for_ever(folder: &Path, first: i64) {
    let store = Store::open(options(folder)).await.unwrap();
    for number in first.. {
        store.append(&[batch(number)]).await.unwrap();
        println!("acknowledged {number}");
        std::io::stdout().flush().unwrap();
    }
}

async fn rows(snapshot: &Snapshot) -> BTreeMap<i64, f64> {
    let batches: Vec<_> = snapshot.scan("cpu").unwrap().try_collect().await.unwrap();
    let mut rows = BTreeMap::new();
    for batch in batches {
        let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>();
        let cores = batch.column_by_name("cores").unwrap().as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            assert!(rows.insert(times.value(row), cores.value(row)).is_none(), "a row came twice");
        }
    }
    rows
}

/// Runs a writer for a moment and kills it; gives the last batch that it acknowledged.
fn killed(folder: &Path, first: i64, moment: Duration) -> Option<i64> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_writer_loses_and_doubles_nothing", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut writer = Writer(child);
    let stdout = BufReader::new(writer.0.stdout.take().unwrap());
    let lines = std::thread::spawn(move || {
        let numbers = stdout.lines().map_while(Result::ok);
        numbers.filter_map(|line| line.rsplit_once("acknowledged ")?.1.parse::<i64>().ok()).last()
    });
    std::thread::sleep(moment);
    drop(writer);
    lines.join().unwrap()
}

#[test]
fn a_killed_writer_loses_and_doubles_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let first = std::env::var(FIRST).unwrap().parse().unwrap();
        return runtime.block_on(write_for_ever(Path::new(&folder), first));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut next = 0;
    for kill in 0..KILLS {
        let moment = Duration::from_millis(random.u64(60..400));
        if let Some(last) = killed(folder.path(), next, moment) {
            next = last + 1;
        }
        if next == 0 {
            continue;
        }
        runtime.block_on(async {
            let store = Store::open(options(folder.path())).await.unwrap();
            let rows = rows(&store.snapshot().unwrap()).await;
            let own = rows.range(BASE..);
            let count = own.clone().count() as i64;
            assert!(count >= next * ROWS_PER_BATCH, "kill {kill}: {count} rows of {next} batches");
            // The batch under way when the kill came may be there too, whole: it was never acknowledged.
            assert!(
                count <= (next + 1) * ROWS_PER_BATCH && count % ROWS_PER_BATCH == 0,
                "kill {kill}: {count}"
            );
            for (row, (time, cores)) in (0..).zip(own) {
                assert_eq!((*time, *cores), (BASE + row * STEP, row as f64), "kill {kill}");
            }
            let last = rows.get(&(BASE - STEP)).copied();
            assert_eq!(last, Some((count / ROWS_PER_BATCH - 1) as f64), "kill {kill}: the last value wins");
            next = count / ROWS_PER_BATCH;
            store.close().await.unwrap();
        });
    }
    assert!(next > 0, "no writer ever got to write");
}
