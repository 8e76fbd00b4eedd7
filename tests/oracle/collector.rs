//! The process under test: a real pipeline with a source that issues numbered rows.
//!
//! A row has a number, which is its time in steps, and a series. The source of [`Mode::Replay`] can issue any window again;
//! that of [`Mode::Gauge`] only what is now, and notes in a journal what it issued before it hands it over.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use async_trait::async_trait;
use barograph::model::{MetricBatch, REQUIRED_TAGS};
use barograph::pipeline::plan::SourcePlan;
use barograph::pipeline::{Clock, Metrics, Plan, Runner, SystemClock};
use barograph::provider::{Collection, Collector, Shard, Window};
use barograph::telemetry::Telemetry;
use serde::{Deserialize, Serialize};

const ORDERS: &str = "BAROGRAPH_ORACLE_ORDERS";
/// Nanoseconds between two numbers.
pub const STEP: i64 = 2_000_000;
/// Series with a row for each number.
pub const SERIES: i64 = 4;
/// The table of the rows.
pub const TABLE: &str = "oracle";
/// Time between two collections.
pub const EVERY: Duration = Duration::from_millis(20);

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    pub pipeline: String,
    pub data: PathBuf,
    /// Where it writes its journal and its balance.
    pub notes: PathBuf,
    pub mode: Mode,
    /// Every so many numbers a row is one that the server refuses; none if 0.
    pub poison: i64,
    /// Steps of the clock: after so many milliseconds, by so many.
    pub clock: Vec<(u64, i64)>,
    /// Issues nothing after this time, and ends by itself once everything is delivered.
    pub until: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Replay,
    Gauge,
}

/// What a child says of itself at its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Balance {
    pub accepted: u64,
    pub delivered: u64,
    pub dead_lettered: u64,
    pub queued: u64,
    pub dropped: u64,
    pub damaged: u64,
}

impl Orders {
    /// The command that obeys them.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe().unwrap());
        command.args(["collector", "--exact", "--nocapture"]);
        command.env(ORDERS, serde_json::to_string(self).unwrap());
        command
    }
}

/// Whether a row is one that the server refuses.
pub fn is_poison(number: i64, series: i64, poison: i64) -> bool {
    poison > 0 && (number * SERIES + series) % poison == 0
}

pub fn run_if_asked() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(obey(orders));
    runtime.shutdown_background();
}

async fn obey(orders: Orders) {
    let telemetry = Telemetry::default();
    let config = barograph::config::check(&orders.pipeline, "oracle.yaml").unwrap();
    let mut plan = Plan::new(&config, None, Some(&orders.data), &telemetry).unwrap();
    plan.drain = Duration::from_millis(500);
    let issued = Arc::new(AtomicI64::new(0));
    let (collector_orders, collector_issued) = (orders.clone(), Arc::clone(&issued));
    plan.sources = vec![SourcePlan {
        name: "numbers".into(),
        every: EVERY,
        deadline: Duration::from_secs(60),
        jitter: Duration::ZERO,
        unchanged: false,
        build: Box::new(move || {
            let (orders, issued) = (collector_orders.clone(), Arc::clone(&collector_issued));
            Ok(Arc::new(Numbers { orders, issued }) as Arc<dyn Collector>)
        }),
    }];
    for sink in &mut plan.sinks {
        // Outages of a run are short.
        sink.backoff = (Duration::from_millis(5), Duration::from_millis(100));
    }
    let clock = Arc::new(SteppedClock(AtomicI64::new(0)));
    let runner = Runner::start_with(plan, Arc::<SteppedClock>::clone(&clock)).await.unwrap();
    for (after, by) in orders.clock.clone() {
        let clock = Arc::clone(&clock);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            clock.0.fetch_add(by * 1_000_000, Ordering::SeqCst);
        });
    }
    let (monitor, metrics) = (runner.monitor(), Metrics::new(&telemetry));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let balance = read(&metrics.encode(Some(&monitor)), &orders.notes);
            let over = orders.until.is_some_and(|until| issued.load(Ordering::SeqCst) >= until);
            if over && balance.queued == 0 {
                return;
            }
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        () = watch => {}
    }
    runner.stop().await;
    let balance = read(&metrics.encode(Some(&monitor)), &orders.notes);
    std::fs::write(orders.notes.join("balance.json"), serde_json::to_string(&balance).unwrap()).unwrap();
}

/// The exported counters; that they do not balance is a fault, which is noted.
fn read(text: &str, notes: &Path) -> Balance {
    let sum = |name: &str, label: &str| -> u64 {
        let lines =
            text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    };
    let rows = |name: &str| sum(&format!("barograph_pipeline_rows_{name}"), "component=\"influx\"");
    let balance = Balance {
        accepted: rows("accepted_total"),
        delivered: rows("delivered_total"),
        dead_lettered: rows("dead_lettered_total"),
        queued: rows("queued"),
        dropped: rows("dropped_total"),
        damaged: sum("barograph_pipeline_rows_dropped_total", "reason=\"damaged\""),
    };
    let Balance { accepted, delivered, dead_lettered, queued, dropped, .. } = balance;
    if accepted != delivered + dead_lettered + queued + dropped {
        std::fs::write(notes.join("unbalanced"), format!("{balance:?}\n{text}")).unwrap();
    }
    balance
}

/// The clock of this machine, set forward and back.
struct SteppedClock(AtomicI64);

impl Clock for SteppedClock {
    fn now(&self) -> i64 {
        SystemClock.now() + self.0.load(Ordering::SeqCst)
    }
}

struct Numbers {
    orders: Orders,
    issued: Arc<AtomicI64>,
}

#[async_trait]
impl Collector for Numbers {
    async fn discover(&self) -> barograph::Result<Vec<Shard>> {
        Ok(vec![Shard("all".into())])
    }

    async fn collect(&self, _: &Shard, window: Window) -> barograph::Result<Collection> {
        let Orders { mode, poison, notes, .. } = &self.orders;
        let start = match mode {
            Mode::Replay => window.start,
            Mode::Gauge => window.start.max(window.end - EVERY.as_nanos() as i64),
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        let mut journal = String::new();
        let last = window.end.min(self.orders.until.unwrap_or(i64::MAX));
        for number in start / STEP + 1..=last / STEP {
            for series in 0..SERIES {
                let rows = if is_poison(number, series, *poison) { &mut bad } else { &mut good };
                rows.push((number, series));
            }
            let _ = writeln!(journal, "{number} {}", window.end);
        }
        if *mode == Mode::Gauge {
            let file = OpenOptions::new().create(true).append(true).open(notes.join("journal"));
            file.unwrap().write_all(journal.as_bytes()).unwrap();
        }
        self.issued.fetch_max(window.end, Ordering::SeqCst);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5; good.len()]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["poison"; bad.len()]));
        let parts = [(good, floats), (bad, texts)].into_iter().filter(|(rows, _)| !rows.is_empty());
        let batches = parts.map(|(rows, values)| batch(&rows, values)).collect();
        Ok(Collection { batches, ..Collection::default() })
    }
}

/// These numbers of these series; the field `v` is what the server has another type for.
fn batch(rows: &[(i64, i64)], v: ArrayRef) -> MetricBatch {
    let times: TimestampNanosecondArray = rows.iter().map(|(number, _)| Some(number * STEP)).collect();
    let numbers: Int64Array = rows.iter().map(|(number, _)| Some(*number)).collect();
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("time", Arc::new(times)), ("n", Arc::new(numbers)), ("v", v)];
    for tag in REQUIRED_TAGS.into_iter().chain(["device"]) {
        let value = |series: &i64| if tag == "device" { series.to_string() } else { "oracle".to_owned() };
        let values: DictionaryArray<Int32Type> = rows
            .iter()
            .map(|(_, series)| value(series))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect();
        columns.push((tag, Arc::new(values)));
    }
    MetricBatch::try_new(TABLE, RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}
