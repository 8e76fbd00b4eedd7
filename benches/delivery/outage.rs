//! No server for as long as it takes to queue all rows, then one that takes them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::counting::{Total, ticks};
use crate::pipeline::Pipeline;
use crate::{influxd, machines, process, setting};

/// What a row may take of the disk at most, for the look at what is free.
const ROW_BYTES: u64 = 200;
/// Between two lines of the table.
const SHOWN: Duration = Duration::from_secs(10);

pub async fn run() {
    let (rows, machines) = (setting("DELIVERY_ROWS", 50_000_000_u64), machines());
    let folder = tempfile::Builder::new().prefix("delivery-").tempdir_in(disk()).unwrap();
    let (needed, free) = (rows * ROW_BYTES, free(folder.path()));
    println!(
        "outage: {rows} rows of {machines} machines; up to {} MiB of disk are needed, {} MiB are free",
        needed >> 20,
        free >> 20
    );
    assert!(needed < free, "there is not enough room; set DELIVERY_ROWS to fewer");

    let inventing = Instant::now();
    let some = ticks(20 * machines as u64, machines).map(|batch| std::hint::black_box(batch).rows());
    let some: usize = some.sum();
    println!(
        "  inventing the rows takes {:.2} s of it",
        inventing.elapsed().as_secs_f64() * rows as f64 / some as f64
    );
    let expected = itself(&["expect", &rows.to_string(), &machines.to_string()]).wait_with_output().unwrap();
    let expected: Total = String::from_utf8(expected.stdout).unwrap().parse().unwrap();

    let port = influxd::free_port();
    let url = format!("http://127.0.0.1:{port}");
    println!("  {:<10} {:>12} {:>8} {:>10} {:>8} {:>8}", "", "rows", "s", "rows/s", "rss MiB", "peak MiB");
    process::forget_peak();
    let used = process::cpu();
    show("before", 0, Duration::ZERO);
    let began = Instant::now();
    let pipeline = Pipeline::start(&url, "database: db", folder.path(), ticks(rows, machines)).await;
    watch("queueing", began, rows, || pipeline.sink().numbers.backlog.map_or(0, |backlog| backlog.rows))
        .await;
    let took = began.elapsed();
    show("queued", rows, took);
    let cpu = process::cpu().own - used.own;
    let bytes = process::bytes_in(folder.path());
    println!(
        "  in the backlog: {:.0} rows/s, {:.1} bytes per row on disk, {:.2} CPU s per million rows",
        per_second(rows, took),
        bytes as f64 / rows as f64,
        cpu * 1e6 / rows as f64
    );
    // What an outage costs while nothing comes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    show("waiting", rows, began.elapsed());

    process::forget_peak();
    let used = process::cpu();
    let started = Instant::now();
    let mut server = itself(&["serve", &port.to_string()]);
    while pipeline.sink().balance.delivered == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "  the first rows are delivered {:.1} s after the server is back",
        started.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    watch("draining", began, rows, || pipeline.sink().balance.delivered).await;
    let took = began.elapsed();
    show("drained", rows, took);
    let cpu = process::cpu().own - used.own;
    println!(
        "  drained: {:.0} rows/s, {:.2} CPU s per million rows, of the server {:.2}",
        per_second(rows, took),
        cpu * 1e6 / rows as f64,
        process::cpu_of(server.id()) * 1e6 / rows as f64
    );

    let requests = pipeline.requests();
    let balance = pipeline.sink().balance;
    let ending = pipeline.stop().await;
    let left = process::bytes_in(folder.path());
    let arrived = crate::http().get(format!("{url}/totals")).send().await.unwrap().text().await.unwrap();
    let arrived: Total = arrived.parse().unwrap();
    let _ = server.kill();
    let _ = server.wait();
    let verdict = if arrived.has_the_lines_of(&expected) { "the same" } else { "NOT THE SAME" };
    println!(
        "  expected {} lines with the sum {:016x}, arrived {} with {:016x} in {} requests: {verdict}",
        expected.lines, expected.sum, arrived.lines, arrived.sum, arrived.requests
    );
    println!("  {requests} requests were sent, {left} bytes stay on disk, the account: {balance:?}");
    if ending != Default::default() {
        println!("  NOT EMPTY at the end: {ending:?}");
    }
}

/// Shows the memory now and then until all rows are there.
async fn watch(phase: &str, began: Instant, rows: u64, there: impl Fn() -> u64) {
    let mut shown = began;
    loop {
        let now = there();
        if now >= rows {
            return;
        }
        if shown.elapsed() >= SHOWN {
            shown = Instant::now();
            show(phase, now, began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn show(phase: &str, rows: u64, took: Duration) {
    println!(
        "  {phase:<10} {rows:>12} {:>8.1} {:>10.0} {:>8} {:>8}",
        took.as_secs_f64(),
        per_second(rows, took),
        process::resident(),
        process::peak()
    );
}

fn per_second(rows: u64, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { rows as f64 / took.as_secs_f64() }
}

/// This program once more; its input ends with this process.
fn itself(words: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// A folder on a disk: that of this program. Others may lie in memory.
fn disk() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn free(folder: &Path) -> u64 {
    let disk = rustix::fs::statvfs(folder).unwrap();
    disk.f_bavail * disk.f_frsize
}
