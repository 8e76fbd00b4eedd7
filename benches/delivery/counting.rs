//! What arrives, known exactly: the number of lines and a sum over them that does not depend on their order. A line that
//! is lost, doubled or changed shows in one of the two.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::AddAssign;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use arrow::array::AsArray as _;
use arrow::datatypes::Float64Type;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use barograph::model::MetricBatch;
use barograph::sink::lines::Lines;
use flate2::read::GzDecoder;
use parking_lot::Mutex;

use crate::fleet::Fleet;

const SECOND: i64 = 1_000_000_000;
/// 2026-06-01T00:00:00Z.
const START: i64 = 1_780_272_000 * SECOND;
/// Machines report every ten seconds.
pub const EVERY: i64 = 10 * SECOND;

/// Lines, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub lines: u64,
    pub sum: u64,
    /// Requests that they came in; says nothing about the lines.
    pub requests: u64,
}

impl Total {
    fn add(&mut self, line: &[u8]) {
        self.lines += 1;
        self.sum = self.sum.wrapping_add(hash(line));
    }

    pub fn has_the_lines_of(&self, other: &Self) -> bool {
        (self.lines, self.sum) == (other.lines, other.sum)
    }
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.sum = self.sum.wrapping_add(other.sum);
        self.requests += other.requests;
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.lines, self.sum, self.requests)
    }
}

impl FromStr for Total {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [lines, sum, requests] => Ok(Self { lines, sum, requests }),
            _ => Err(format!("{text:?} is no total")),
        }
    }
}

/// The line without its line break. Every byte counts, and so does its place.
fn hash(line: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = line.as_chunks::<8>();
    let mut hash = line.len() as u64;
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    hash ^ (hash >> 29)
}

/// The rows of the outage: numbered by their time and machine, so that no two lines are equal.
pub fn ticks(rows: u64, machines: usize) -> impl Iterator<Item = MetricBatch> + Send {
    let mut fleet = Fleet::new(machines, 7);
    let ticks = rows.div_ceil(machines as u64);
    let mut left = usize::try_from(rows).unwrap();
    (0..i64::try_from(ticks).unwrap()).map(move |tick| {
        let batch = fleet.tick(START + tick * EVERY);
        let rows = left.min(batch.rows());
        left -= rows;
        batch.slice(0, rows)
    })
}

/// Prints what [`ticks`] are as lines. The lines are written here and not by the encoder, whose faults would show.
pub fn print_expected(rows: u64, machines: usize) {
    let first = ticks(1, 1).next().unwrap();
    let mut encoded = Lines::default();
    encoded.encode(std::slice::from_ref(&first));
    let line = String::from_utf8(encoded.bytes(0..1).to_vec()).unwrap();
    let mut written = String::new();
    write_line(&mut written, &series(&first, 0), &first, 0);
    if line.trim_end() != written {
        eprintln!("the encoder writes\n{line}and not\n{written}");
    }

    let (sender, receiver) = sync_channel::<MetricBatch>(4);
    let receiver = Mutex::new(receiver);
    let total = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| expected(&receiver))).collect();
        ticks(rows, machines).for_each(|batch| sender.send(batch).unwrap());
        drop(sender);
        let mut total = Total::default();
        workers.into_iter().for_each(|worker| total += worker.join().unwrap());
        total
    });
    println!("{total}");
}

fn expected(batches: &Mutex<Receiver<MetricBatch>>) -> Total {
    let mut total = Total::default();
    let mut machines: Vec<String> = Vec::new();
    let mut line = String::new();
    loop {
        let Ok(batch) = batches.lock().recv() else { return total };
        // Each tick has the same machines in the same order.
        (machines.len()..batch.rows()).for_each(|row| machines.push(series(&batch, row)));
        for (row, series) in machines.iter().enumerate().take(batch.rows()) {
            line.clear();
            write_line(&mut line, series, &batch, row);
            total.add(line.as_bytes());
        }
    }
}

/// Measurement and tags; those of the fleet need no escapes.
fn series(batch: &MetricBatch, row: usize) -> String {
    let tags: BTreeMap<_, _> =
        batch.tag_names().filter_map(|name| Some((name, batch.tag(name, row)?))).collect();
    tags.iter().fold(batch.table().to_owned(), |line, (name, value)| format!("{line},{name}={value}"))
}

fn write_line(line: &mut String, series: &str, batch: &MetricBatch, row: usize) {
    use std::fmt::Write as _;

    line.push_str(series);
    let records = batch.records();
    let mut separator = ' ';
    for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        if let Some(values) = column.as_primitive_opt::<Float64Type>() {
            write!(line, "{separator}{}={:?}", field.name(), values.value(row)).unwrap();
            separator = ',';
        }
    }
    write!(line, " {}", batch.times()[row]).unwrap();
}

type Totals = State<Arc<Mutex<Total>>>;

/// A server that answers as InfluxDB 1.x does, stores nothing and counts everything, until its input ends: with the
/// process that started it.
pub async fn serve(port: u16) {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    let version = [("x-influxdb-version", "1.6.7")];
    let app = Router::new()
        .route("/ping", get(move || async move { (StatusCode::NO_CONTENT, version) }))
        .route("/write", post(write))
        .route("/totals", get(|State(total): Totals| async move { total.lock().to_string() }))
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::select! {
        served = axum::serve(listener, app) => served.unwrap(),
        _ = ended => {}
    }
}

async fn write(State(total): Totals, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
        return StatusCode::BAD_REQUEST;
    }
    let mut lines = BufReader::with_capacity(64 << 10, GzDecoder::new(body.as_ref()));
    let (mut counted, mut line) = (Total { requests: 1, ..Total::default() }, Vec::new());
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => counted.add(line.strip_suffix(b"\n").unwrap_or(&line)),
            Err(_) => return StatusCode::BAD_REQUEST,
        }
    }
    *total.lock() += counted;
    StatusCode::NO_CONTENT
}
