//! What a running pipeline shows of itself: read by health checks, self-metrics and the live status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::account::{Account, Balance};
use super::acknowledgement::Marks;
use super::clock::{Clock, duration};
use super::dead_letter::DeadLetters;
use crate::provider::Shard;

/// Where a source stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourcePhase {
    /// It looks for what there is to measure, for the first time.
    #[default]
    Starting,
    /// There is nothing to measure yet, and why.
    Waiting(String),
    /// It collects.
    Running,
}

/// Where a sink stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SinkPhase {
    /// It is being opened, and why that takes more than one try.
    #[default]
    Opening,
    /// It takes rows.
    Open,
    /// It asks for fewer requests, and why; the rows wait.
    Throttled(String),
    /// It refuses until somebody repairs the configuration or the permission, and why; the rows wait.
    Misconfigured(String),
    /// It does not answer or has trouble of its own, and why; the rows wait.
    Down(String),
}

impl SinkPhase {
    /// Every word for it.
    pub(super) const ALL: [&'static str; 5] = ["opening", "ok", "throttled", "misconfigured", "down"];

    /// The health as a word, for the status and for metric labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "ok",
            Self::Throttled(_) => "throttled",
            Self::Misconfigured(_) => "misconfigured",
            Self::Down(_) => "down",
        }
    }

    /// Why it takes no rows.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Opening | Self::Open => None,
            Self::Throttled(reason) | Self::Misconfigured(reason) | Self::Down(reason) => Some(reason),
        }
    }
}

/// What a source did since it was started.
#[derive(Debug, Clone, Default)]
pub struct SourceNumbers {
    /// Where it stands.
    pub phase: SourcePhase,
    /// The shards there are now.
    pub shards: Vec<Shard>,
    /// Collections that brought an answer.
    pub collections: u64,
    /// Collections that brought nothing but an error, a deadline or a panic.
    pub failures: u64,
    /// Parts of collections that failed while the rest came.
    pub faults: u64,
    /// Ticks that passed while the collection before was still running.
    pub skipped: u64,
    /// Times that the clock was set or the machine slept.
    pub jumps: u64,
    /// Rows handed to the pipeline.
    pub rows: u64,
    /// The tick of the newest collection, nanoseconds since 1970 UTC.
    pub last_tick: Option<i64>,
    /// How long the last collection took.
    pub last_duration: Duration,
    /// Why the last collection that failed did.
    pub last_error: Option<String>,
}

/// What a sink did since it was opened, beside its account.
#[derive(Debug, Clone, Default)]
pub struct SinkNumbers {
    /// Where it stands.
    pub phase: SinkPhase,
    /// Writes that the sink took.
    pub writes: u64,
    /// Writes that failed and were tried again, by kind of error.
    pub retries: BTreeMap<&'static str, u64>,
    /// What waits on disk, if it has a backlog.
    pub backlog: Option<BacklogNumbers>,
    /// Time of the first row of the oldest batch on its way, nanoseconds since 1970 UTC.
    pub oldest: Option<i64>,
}

/// What a backlog holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BacklogNumbers {
    /// Rows that the sink has not acknowledged.
    pub rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// The most that it may take of the disk.
    pub max_bytes: u64,
    /// Why it takes no rows now.
    pub blocked: Option<String>,
    /// Why what is in it cannot be read now.
    pub unreadable: Option<String>,
}

impl BacklogNumbers {
    /// Why rows do not move through it, if they do not.
    pub fn stuck(&self) -> Option<&str> {
        self.unreadable.as_deref().or(self.blocked.as_deref())
    }
}

/// One source as the others see it.
#[derive(Debug)]
pub(super) struct SourceState {
    pub(super) name: String,
    pub(super) every: Duration,
    started: Instant,
    pub(super) numbers: Mutex<SourceNumbers>,
}

/// One sink as the others see it.
#[derive(Debug, Default)]
pub(super) struct SinkState {
    pub(super) name: String,
    /// Goes on under the new name when a reload renames the sink.
    pub(super) account: Arc<Account>,
    pub(super) numbers: Mutex<SinkNumbers>,
}

/// What one transform did.
#[derive(Debug, Clone, Default)]
pub struct TransformNumbers {
    /// Its place and kind, as `1.tag`.
    pub name: String,
    /// Rows it took.
    pub rows_in: u64,
    /// Rows it gave.
    pub rows_out: u64,
    /// Rows it refused.
    pub refused: u64,
}

/// A source at one moment.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// Name in the pipeline file.
    pub name: String,
    /// Its interval.
    pub every: Duration,
    /// What it did.
    pub numbers: SourceNumbers,
    /// Age of the oldest durable mark among its shards: what would be collected again after a crash. While there are
    /// no shards, of the newest mark that it ever had, or else the time since it was started.
    pub lag: Duration,
}

/// A sink at one moment.
#[derive(Debug, Clone)]
pub struct SinkView {
    /// Name in the pipeline file.
    pub name: String,
    /// What became of its rows.
    pub balance: Balance,
    /// What it did.
    pub numbers: SinkNumbers,
    /// Age of the oldest row on its way; nothing while none waits.
    pub oldest: Duration,
}

/// A pipeline at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// Name in the pipeline file.
    pub pipeline: String,
    /// The sources in file order.
    pub sources: Vec<SourceView>,
    /// The transforms in file order.
    pub transforms: Vec<TransformNumbers>,
    /// The sinks in file order.
    pub sinks: Vec<SinkView>,
    /// Rows of dead letters that had to make room for newer ones.
    pub letters_discarded: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// The pipeline is being stopped.
    pub stopping: bool,
}

/// A window into a running pipeline; cloning shares it.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    marks: Arc<Marks>,
    dead: Arc<DeadLetters>,
    parts: RwLock<Parts>,
}

#[derive(Default)]
pub(super) struct Parts {
    pub(super) pipeline: String,
    pub(super) sources: Vec<Arc<SourceState>>,
    pub(super) transforms: Vec<Arc<Mutex<TransformNumbers>>>,
    pub(super) sinks: Vec<Arc<SinkState>>,
    pub(super) reloads: u64,
    pub(super) reloads_refused: u64,
    pub(super) stopping: bool,
}

impl Monitor {
    pub(super) fn new(clock: Arc<dyn Clock>, marks: Arc<Marks>, dead: Arc<DeadLetters>) -> Self {
        Self(Arc::new(Inner { clock, marks, dead, parts: RwLock::default() }))
    }

    /// Changes what is shown; `change` must not block.
    pub(super) fn update(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.0.parts.write());
    }

    /// Everything now. Each account is read in one step, so that it balances.
    pub fn view(&self) -> View {
        let now = self.0.clock.now();
        let parts = self.0.parts.read();
        let source = |state: &Arc<SourceState>| {
            let numbers = state.numbers.lock().clone();
            let mark = match numbers.shards.as_slice() {
                // Which of its marks are still of use is not known; the newest at least was reached.
                [] => newest(&self.0.marks, &state.name),
                shards => shards.iter().filter_map(|s| self.0.marks.durable(&state.name, s)).min(),
            };
            let lag = mark.map_or_else(|| state.started.elapsed(), |mark| duration(now.saturating_sub(mark)));
            SourceView { name: state.name.clone(), every: state.every, numbers, lag }
        };
        let sink = |state: &Arc<SinkState>| {
            let numbers = state.numbers.lock().clone();
            let oldest = numbers.oldest.map(|time| duration(now.saturating_sub(time))).unwrap_or_default();
            SinkView { name: state.name.clone(), balance: state.account.balance(), numbers, oldest }
        };
        View {
            pipeline: parts.pipeline.clone(),
            sources: parts.sources.iter().map(source).collect(),
            transforms: parts.transforms.iter().map(|numbers| numbers.lock().clone()).collect(),
            sinks: parts.sinks.iter().map(sink).collect(),
            letters_discarded: self.0.dead.discarded(),
            reloads: parts.reloads,
            reloads_refused: parts.reloads_refused,
            stopping: parts.stopping,
        }
    }
}

fn newest(marks: &Marks, source: &str) -> Option<i64> {
    marks.checkpoints().get(source)?.values().copied().max()
}

impl SourceState {
    pub(super) fn new(name: &str, every: Duration) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), every, started: Instant::now(), numbers: Mutex::default() })
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SourceNumbers)) {
        change(&mut self.numbers.lock());
    }
}

impl SinkState {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), ..Self::default() })
    }

    /// The same sink under another name.
    pub(super) fn renamed(&self, name: &str) -> Arc<Self> {
        let numbers = Mutex::new(self.numbers.lock().clone());
        Arc::new(Self { name: name.to_owned(), account: Arc::clone(&self.account), numbers })
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SinkNumbers)) {
        change(&mut self.numbers.lock());
    }
}

impl View {
    /// What keeps the pipeline from being ready; empty when every sink is open and every source has either tried
    /// once or says what it waits for, until it is being stopped.
    pub fn not_ready(&self) -> Vec<String> {
        let sinks = self.sinks.iter().filter(|sink| sink.numbers.phase == SinkPhase::Opening);
        let sources = self.sources.iter().filter(|source| {
            let numbers = &source.numbers;
            let waits = matches!(numbers.phase, SourcePhase::Waiting(_));
            !waits && numbers.collections + numbers.failures == 0
        });
        self.stopping
            .then(|| "the pipeline is being stopped".to_owned())
            .into_iter()
            .chain(sinks.map(|sink| format!("sink {} is not open", sink.name)))
            .chain(sources.map(|source| format!("source {} has not collected yet", source.name)))
            .collect()
    }
}
