//! One run: a server, bad weather, a collector that is killed again and again, and the reckoning in the end.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use barograph::pipeline::{CheckpointFile, LetterFolder};

use crate::collector::{Balance, Mode, Orders, SERIES, STEP, is_poison};
use crate::disk::{self, SmallDisk};
use crate::proxy::{Proxy, Weather};
use crate::server::{Kind, Rows, Server};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a run tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    kind: Kind,
    mode: Mode,
    full_disk: bool,
    flips: bool,
}

impl Scenario {
    pub fn faults(kind: Kind) -> Self {
        Self { kind, mode: Mode::Replay, full_disk: false, flips: false }
    }

    pub fn full_disk(kind: Kind) -> Self {
        Self { full_disk: true, ..Self::faults(kind) }
    }

    pub fn flips(kind: Kind) -> Self {
        Self { flips: true, ..Self::faults(kind) }
    }

    pub fn gauge(kind: Kind) -> Self {
        Self { mode: Mode::Gauge, ..Self::faults(kind) }
    }
}

/// What came out of a run.
pub struct Report {
    rows: usize,
    letters: usize,
    both: usize,
    lives: usize,
    damaged: usize,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, letters, both, lives, damaged, took } = self;
        write!(f, "{rows} rows in the server, {letters} in letters, {both} in both, ")?;
        write!(f, "{damaged} damaged, {lives} lives, {took:.1?}")
    }
}

/// A child, ended with the test.
struct Life(Child);

impl Life {
    fn start(orders: &Orders) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(orders.notes.join("log")).unwrap();
        let child = orders.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.expect("the collector can be started"))
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to stop, or waits until it does.
    async fn ended(mut self, ask: bool, notes: &Path) -> Option<Balance> {
        if ask {
            let status = std::process::Command::new("kill").arg(self.0.id().to_string()).status();
            assert!(status.unwrap().success());
        }
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "the collector does not end:\n{}", log(notes));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One that was asked before it could listen has died of it.
        let balance = std::fs::read_to_string(notes.join("balance.json")).ok()?;
        drop(std::fs::remove_file(notes.join("balance.json")));
        Some(serde_json::from_str(&balance).unwrap())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log(notes: &Path) -> String {
    let log = std::fs::read_to_string(notes.join("log")).unwrap_or_default();
    log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_nanos_opt().unwrap()
}

fn pipeline(kind: Kind, proxy: &Proxy) -> String {
    let at = match kind {
        Kind::RealOne => "version: v1, database: db",
        Kind::Two => "version: v2, org: lab, bucket: db",
        Kind::Three => "version: v3, database: db",
        Kind::Victoria => "version: v1, database: db",
    };
    format!(
        "name: oracle\nsettings: {{ listen: none, queue_rows: 4096 }}\n\
         sources: {{ host: {{ type: host, every: 1h }} }}\n\
         sinks:\n  influx: {{ type: influxdb, url: \"http://{}\", {at}, timeout: 2s, in_flight: 3, \
         batch: {{ rows: 500, age: 10ms }} }}\n",
        proxy.address
    )
}

fn poison(scenario: Scenario, random: &mut fastrand::Rng) -> i64 {
    match scenario {
        Scenario { kind: Kind::Victoria, .. } => 0,
        // Each letter takes a block of the small disk.
        Scenario { full_disk: true, .. } => random.i64(4_000..10_000),
        _ => random.i64(50..2_000),
    }
}

/// Everything that was promised to arrive, so far.
struct Promised {
    from: i64,
    /// Of gauges: numbers whose window was acknowledged before its collector died.
    numbers: BTreeSet<i64>,
}

impl Promised {
    fn checkpoint(data: &Path) -> i64 {
        let file = CheckpointFile::new(data).load().unwrap();
        file.get("numbers").and_then(|shards| shards.get("all")).copied().unwrap_or(0)
    }

    /// Takes in what a collector that has died had acknowledged.
    fn take_in(&mut self, data: &Path, notes: &Path) {
        let mark = Self::checkpoint(data);
        let journal = std::fs::read_to_string(notes.join("journal")).unwrap_or_default();
        for line in journal.lines() {
            let Some((number, end)) = line.split_once(' ') else { continue };
            let (Ok(number), Ok(end)) = (number.parse(), end.parse::<i64>()) else { continue };
            if end <= mark {
                self.numbers.insert(number);
            }
        }
        drop(std::fs::remove_file(notes.join("journal")));
    }
}

pub async fn run(scenario: Scenario, seed: u64) -> Report {
    let began = Instant::now();
    println!("{scenario:?}, ORACLE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let (data, notes) = (folder.path().join("data"), folder.path().join("notes"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&notes).unwrap();
    let _disk = scenario.full_disk.then(|| SmallDisk::mount(&data, 3_000));
    let server = Server::start(scenario.kind).await;
    let proxy = Proxy::before(server.address()).await;
    // Where the disk is to fill up there is much to be made up for.
    let behind = if scenario.full_disk { 15_000_000_000 } else { 0 };
    let from = (now() - behind) / STEP * STEP;
    CheckpointFile::new(&data).save(&[("numbers".into(), [("all".into(), from)].into())].into()).unwrap();
    let mut promised = Promised { from, numbers: BTreeSet::new() };
    let mut orders = Orders {
        pipeline: pipeline(scenario.kind, &proxy),
        data: data.clone(),
        notes: notes.clone(),
        mode: scenario.mode,
        poison: poison(scenario, &mut random),
        clock: Vec::new(),
        until: None,
    };

    let lives = if scenario.full_disk { 2 } else { random.usize(2..5) };
    for life in 0..lives {
        orders.clock.clear();
        if scenario.mode == Mode::Replay && random.u8(0..3) == 0 {
            orders.clock.push((random.u64(50..400), random.i64(-1_500..1_500)));
        }
        let collector = Life::start(&orders);
        if scenario.full_disk && life == 0 {
            proxy.set(Weather::Down);
            full(&data, &notes).await;
        } else {
            for _ in 0..random.usize(2..8) {
                proxy.set(Weather::any(&mut random));
                tokio::time::sleep(Duration::from_millis(random.u64(20..250))).await;
            }
        }
        if random.u8(0..3) == 0 {
            let balance = collector.ended(true, &notes).await;
            assert_eq!(balance.map_or(0, |balance| balance.damaged), 0);
        } else {
            collector.kill();
        }
        promised.take_in(&data, &notes);
        if !scenario.full_disk && random.bool() {
            disk::tear(&data, &mut random);
        }
    }

    if scenario.flips {
        // What waits now is damaged: a life in which nothing is delivered comes before.
        proxy.set(Weather::Down);
        let collector = Life::start(&orders);
        tokio::time::sleep(Duration::from_millis(500)).await;
        collector.kill();
        promised.take_in(&data, &notes);
        disk::flip(&data, &mut random);
    }

    // The faults stop; a last collector brings everything home, and beyond whatever the clock was set to.
    proxy.set(Weather::Fair);
    orders.clock.clear();
    let until = now() + 2_000_000_000;
    orders.until = Some(until);
    let balance = Life::start(&orders).ended(false, &notes).await;
    let balance = balance.unwrap_or_else(|| panic!("no balance:\n{}", log(&notes)));
    promised.take_in(&data, &notes);
    assert_eq!(balance.queued, 0);
    if let Ok(unbalanced) = std::fs::read_to_string(notes.join("unbalanced")) {
        panic!("the counters did not balance: {unbalanced}");
    }

    let rows = server.rows().await;
    let letters = letters(&data);
    let missing = reckon(&orders, &promised, Promised::checkpoint(&data).min(until), &rows, &letters);
    if scenario.flips {
        assert!(missing.len() as u64 <= balance.damaged, "{} of {} damaged", missing.len(), balance.damaged);
    } else {
        assert_eq!(balance.damaged, 0);
        assert!(
            missing.is_empty(),
            "{} rows are lost, as {:?}:\n{}",
            missing.len(),
            &missing[..1],
            log(&notes)
        );
    }
    let both = letters.iter().filter(|key| rows.contains_key(*key)).count();
    Report {
        both,
        rows: rows.len(),
        letters: letters.len(),
        lives: lives + 1,
        damaged: missing.len(),
        took: began.elapsed(),
    }
}

/// Waits until the disk is full and the backlog says so.
async fn full(data: &Path, notes: &Path) {
    let began = Instant::now();
    loop {
        let log = std::fs::read_to_string(notes.join("log")).unwrap_or_default();
        if log.contains("the backlog takes no rows") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{} does not fill up:\n{log}", data.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// Rows in the dead letters: device and time.
fn letters(data: &Path) -> BTreeSet<(String, i64)> {
    let folder = LetterFolder::new(data);
    let mut rows = BTreeSet::new();
    for entry in folder.list().unwrap() {
        let letter = folder.read(&entry).unwrap();
        for row in 0..letter.batch.rows() {
            rows.insert((letter.batch.tag("device", row).unwrap().to_owned(), letter.batch.times()[row]));
        }
    }
    rows
}

/// What is missing of what was promised. Everything that is there must be right.
///
/// A good row may be in both places: bad weather refused it after it had been stored and the answer was lost, or before a
/// kill, after which it was delivered again. One that the server must refuse is never in the server.
fn reckon(
    orders: &Orders,
    promised: &Promised,
    mark: i64,
    rows: &Rows,
    letters: &BTreeSet<(String, i64)>,
) -> Vec<(i64, i64)> {
    for ((device, time), number) in rows {
        assert_eq!(*time, number * STEP, "a row of another time");
        let series: i64 = device.parse().unwrap();
        assert!(!is_poison(*number, series, orders.poison), "a row that the server must refuse");
    }
    let numbers: Vec<i64> = match orders.mode {
        Mode::Replay => (promised.from / STEP + 1..=mark / STEP).collect(),
        Mode::Gauge => promised.numbers.iter().copied().collect(),
    };
    assert!(numbers.len() > 100, "hardly anything was tried: {}", numbers.len());
    let mut missing = Vec::new();
    for number in numbers {
        for series in 0..SERIES {
            let key = (series.to_string(), number * STEP);
            let there = rows.contains_key(&key);
            let set_aside = letters.contains(&key);
            if !set_aside && (!there || is_poison(number, series, orders.poison)) {
                missing.push((number, series));
            }
        }
    }
    missing
}
