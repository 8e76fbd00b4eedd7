//! Stand-ins for sources, transforms, sinks and the clock, for the tests of this room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::clock::{Clock, nanoseconds};
use super::deliver::OpenSink;
use super::plan::{Plan, SinkPlan, SourcePlan, TransformPlan};
use super::queue::{Batching, Overflow};
use crate::model::{Ack, BatchBuilder, Identity, MetricBatch, Parcel};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::sink::{Rejected, Sink, Written};
use crate::transform::{Refused, Transform, Unfinished};
use crate::{Error, ErrorKind, Result};

/// A clock that follows tokio's time and can be set.
pub(super) struct TestClock {
    start: i64,
    began: Instant,
    offset: AtomicI64,
}

impl TestClock {
    pub(super) fn at(start: i64) -> Arc<Self> {
        Arc::new(Self { start, began: Instant::now(), offset: AtomicI64::new(0) })
    }

    /// Sets the clock forward or back.
    pub(super) fn step(&self, nanoseconds: i64) {
        self.offset.fetch_add(nanoseconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> i64 {
        self.start + self.offset.load(Ordering::SeqCst) + nanoseconds(self.began.elapsed())
    }
}

/// Rows of `cpu` at `time`, with `utilization` counting up from 0.
pub(super) fn batch(time: i64, rows: usize) -> MetricBatch {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
    for row in 0..rows {
        builder
            .row(time)
            .set("core", row.to_string().as_str())
            .unwrap()
            .set("utilization", row as f64)
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Rows that nobody waits for.
pub(super) fn parcel(rows: usize) -> Parcel {
    Parcel::new(batch(0, rows), Ack::none())
}

/// What a test source does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    Rows(usize),
    Fault(usize),
    /// It is not time to ask.
    Idle,
    Fail,
    Panic,
    Hang,
    Take(Duration),
}

/// A source that does as it is told, the same for ever after the last.
pub(super) struct TestSource {
    pub(super) shards: Mutex<Result<Vec<Shard>, String>>,
    acts: Mutex<VecDeque<Act>>,
    pub(super) windows: Mutex<Vec<(String, Window)>>,
    pub(super) rows: AtomicU64,
    pub(super) closed: AtomicBool,
    pub(super) at_once: AtomicUsize,
    pub(super) overlapped: AtomicBool,
}

impl TestSource {
    pub(super) fn new(acts: &[Act]) -> Arc<Self> {
        Arc::new(Self {
            shards: Mutex::new(Ok(vec![Shard("local".into())])),
            acts: Mutex::new(acts.iter().copied().collect()),
            windows: Mutex::default(),
            rows: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            at_once: AtomicUsize::new(0),
            overlapped: AtomicBool::new(false),
        })
    }

    fn next(&self) -> Act {
        let mut acts = self.acts.lock();
        if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0] }
    }

    pub(super) fn ends(&self) -> Vec<i64> {
        self.windows.lock().iter().map(|(_, window)| window.end / 1_000_000_000).collect()
    }
}

#[async_trait]
impl Collector for TestSource {
    async fn discover(&self) -> Result<Vec<Shard>> {
        self.shards.lock().clone().map_err(|reason| Error::unavailable("connect", reason))
    }

    async fn collect(&self, shard: &Shard, window: Window) -> Result<Collection> {
        self.windows.lock().push((shard.0.clone(), window));
        let act = self.next();
        let mut collection = Collection::default();
        let rows = match act {
            Act::Rows(rows) => rows,
            Act::Fault(rows) => {
                collection.faults.push(Error::unavailable("read", "one disk is stuck"));
                rows
            }
            Act::Idle => {
                collection.reached = Some(window.start);
                0
            }
            Act::Fail => return Err(Error::unavailable("poll", "down")),
            Act::Panic => panic!("on purpose"),
            Act::Hang => std::future::pending().await,
            Act::Take(time) => {
                if self.at_once.fetch_add(1, Ordering::SeqCst) > 0 {
                    self.overlapped.store(true, Ordering::SeqCst);
                }
                tokio::time::sleep(time).await;
                self.at_once.fetch_sub(1, Ordering::SeqCst);
                1
            }
        };
        self.rows.fetch_add(rows as u64, Ordering::SeqCst);
        if rows > 0 {
            collection.batches.push(batch(window.end, rows));
        }
        Ok(collection)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// How a test sink behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    /// Every write fails and may be tried again.
    Down,
    /// Every write fails, trying again is pointless, and the rows are not at fault.
    Denied,
    /// Rows with `utilization` equal to this make the write fail as a whole.
    Refuses(u32),
    /// Takes everything but one row of each write.
    RejectsOne,
    /// Takes the time before it writes.
    Slow(Duration),
    Panics,
    Hangs,
}

/// What a test sink took, shared with the test.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) mood: Mutex<Mood>,
    pub(super) rows: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) opens: AtomicU64,
    pub(super) closes: AtomicU64,
    pub(super) batches: Mutex<Vec<MetricBatch>>,
}

impl Taken {
    pub(super) fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            rows: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            closes: AtomicU64::new(0),
            batches: Mutex::default(),
        })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }
}

pub(super) struct TestSink(pub(super) Arc<Taken>);

#[async_trait]
impl Sink for TestSink {
    async fn write(&self, batches: &[MetricBatch]) -> Result<Written> {
        let mut rows: u64 = batches.iter().map(|batch| batch.rows() as u64).sum();
        let mut rejected = Vec::new();
        let mood = *self.0.mood.lock();
        match mood {
            Mood::Good => {}
            Mood::Down => return Err(Error::unavailable("write", "down")),
            Mood::Denied => return Err(Error::new(ErrorKind::Denied, "write", "the token was revoked")),
            Mood::Refuses(value) => {
                let bad = |batch: &MetricBatch| {
                    (0..batch.rows()).any(|row| batch.float("utilization", row) == Some(f64::from(value)))
                };
                if batches.iter().any(bad) {
                    return Err(Error::invalid("write", "a row is bad"));
                }
            }
            Mood::RejectsOne => {
                rows -= 1;
                rejected.push(Rejected {
                    batch: 0,
                    rows: vec![0],
                    error: Error::invalid("write", "too old"),
                });
            }
            Mood::Slow(time) => tokio::time::sleep(time).await,
            Mood::Panics => panic!("on purpose"),
            Mood::Hangs => std::future::pending().await,
        }
        self.0.rows.fetch_add(rows, Ordering::SeqCst);
        self.0.writes.fetch_add(1, Ordering::SeqCst);
        self.0.batches.lock().extend_from_slice(batches);
        Ok(Written { rows, rejected, ..Written::default() })
    }

    async fn close(&self) -> Result<()> {
        self.0.closes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Gives the first half of each parcel and refuses parcels of one row.
pub(super) struct Halver;

#[async_trait]
impl Transform for Halver {
    async fn apply(&mut self, mut parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if parcel.batch.rows() == 1 {
            return Err(Refused { parcel, error: Error::invalid("halve", "one row has no half") });
        }
        parcel.batch = parcel.batch.slice(0, parcel.batch.rows() / 2);
        Ok(vec![parcel])
    }
}

/// Gives every parcel as it came.
pub(super) struct Passing;

#[async_trait]
impl Transform for Passing {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        Ok(vec![parcel])
    }
}

/// Keeps all parcels until it is flushed at a stop.
#[derive(Default)]
pub(super) struct Keeper(Vec<Parcel>);

#[async_trait]
impl Transform for Keeper {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        self.0.push(parcel);
        Ok(Vec::new())
    }

    async fn flush(&mut self, now: i64) -> Result<Vec<Parcel>, Unfinished> {
        Ok(if now == i64::MAX { std::mem::take(&mut self.0) } else { Vec::new() })
    }
}

/// Keeps all parcels, and at a stop cannot give up any but the last.
#[derive(Default)]
pub(super) struct Failing(Vec<Parcel>);

#[async_trait]
impl Transform for Failing {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        self.0.push(parcel);
        Ok(Vec::new())
    }

    async fn flush(&mut self, now: i64) -> Result<Vec<Parcel>, Unfinished> {
        if now < i64::MAX {
            return Ok(Vec::new());
        }
        if self.0.len() > 1 {
            let Parcel { batch, acks } = self.0.remove(0);
            let error = Error::invalid("give out", "on purpose");
            return Err(Unfinished { rows: batch.rows(), acks, error });
        }
        Ok(std::mem::take(&mut self.0))
    }
}

/// Panics at every parcel.
pub(super) struct Panicker;

#[async_trait]
impl Transform for Panicker {
    async fn apply(&mut self, _: Parcel) -> Result<Vec<Parcel>, Refused> {
        panic!("on purpose");
    }
}

pub(super) fn source(name: &str, every: u64, source: &Arc<TestSource>) -> SourcePlan {
    let source = Arc::clone(source);
    SourcePlan {
        name: name.into(),
        every: Duration::from_secs(every),
        deadline: Duration::from_secs(every),
        jitter: Duration::from_secs(5),
        unchanged: false,
        build: Box::new(move || Ok(Arc::<TestSource>::clone(&source))),
    }
}

pub(super) fn opener(taken: &Arc<Taken>) -> OpenSink {
    let taken = Arc::clone(taken);
    Arc::new(move || {
        let taken = Arc::clone(&taken);
        Box::pin(async move {
            taken.opens.fetch_add(1, Ordering::SeqCst);
            Ok(Arc::new(TestSink(taken)) as Arc<dyn Sink>)
        })
    })
}

pub(super) fn sink(name: &str, taken: &Arc<Taken>) -> SinkPlan {
    SinkPlan {
        name: name.into(),
        unchanged: false,
        folder: None,
        queue_rows: 100,
        batching: Batching::at_once(50),
        lanes: 1,
        backoff: super::target::BACKOFF,
        backlog: None,
        overflow: Overflow::Block,
        open: opener(taken),
    }
}

/// A sink that cannot be opened twice at once, because it has a folder for itself.
pub(super) fn exclusive(name: &str, folder: &str, taken: &Arc<Taken>) -> SinkPlan {
    let (open, held) = (opener(taken), Arc::clone(taken));
    let open: OpenSink = Arc::new(move || {
        if held.opens.load(Ordering::SeqCst) > held.closes.load(Ordering::SeqCst) {
            return Box::pin(async { Err(Error::new(ErrorKind::Conflict, "open", "somebody has it")) });
        }
        open()
    });
    SinkPlan { folder: Some(folder.into()), open, ..sink(name, taken) }
}

pub(super) fn transform(transform: impl Transform + 'static) -> TransformPlan {
    TransformPlan { kind: "test", unchanged: false, transform: Box::new(transform) }
}

pub(super) fn plan(folder: &std::path::Path, sources: Vec<SourcePlan>, sinks: Vec<SinkPlan>) -> Plan {
    Plan {
        name: "test".into(),
        data: folder.to_owned(),
        dead_letter_bytes: 1 << 30,
        drain: Duration::from_secs(10),
        sources,
        transforms: Vec::new(),
        arrival: Duration::ZERO,
        sinks,
    }
}
