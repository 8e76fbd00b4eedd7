//! One task per source: finds its shards, collects each at every tick, and hands the rows to the pipeline.
//!
//! Every call of the collector runs in a task of its own with a deadline. One that fails, panics or hangs costs its
//! own shard's tick and nothing else; a tick that comes while the shard is still busy is skipped and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::acknowledgement::{Collecting, Marks};
use super::backoff::Backoff;
use super::clock::{Clock, nanoseconds};
use super::log_limit::LogLimit;
use super::monitor::{SourcePhase, SourceState};
use super::schedule::Schedule;
use crate::model::{Ack, MetricBatch, Parcel};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::{Error, Result};

/// Shards are looked for again this often.
const REDISCOVER: Duration = Duration::from_secs(60);
/// Looking for shards may take this long, or the collection's deadline if that is longer.
const DISCOVERY_DEADLINE: Duration = Duration::from_secs(30);
/// Waits between two tries while there is nothing to measure.
const DISCOVERY_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The collector may take this long to close.
const GOODBYE: Duration = Duration::from_secs(5);
/// Larger batches travel in parts, so that the channel's bound in parcels is a bound in rows.
const PARCEL_ROWS: usize = 8_192;

/// Everything one source needs.
pub(super) struct Source {
    pub(super) state: Arc<SourceState>,
    pub(super) collector: Arc<dyn Collector>,
    /// Longest time for one collection.
    pub(super) deadline: Duration,
    /// The most that it waits after a tick.
    pub(super) jitter: Duration,
    pub(super) channel: mpsc::Sender<Parcel>,
    pub(super) marks: Arc<Marks>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
    pub(super) limit: LogLimit,
}

enum Done {
    Discovered(Result<Vec<Shard>>),
    Collected,
    Stopped,
}

impl Source {
    fn name(&self) -> &str {
        &self.state.name
    }

    /// Runs until `stop` is cancelled.
    pub(super) async fn run(self: Arc<Self>) {
        let mut schedule = self.schedule();
        let mut backoff = Backoff::new(DISCOVERY_BACKOFF.0, DISCOVERY_BACKOFF.1);
        let mut tasks: JoinSet<Done> = JoinSet::new();
        // The shard that each running task collects; the task that looks for shards has none.
        let mut busy: HashMap<Id, Option<Shard>> = HashMap::new();
        let mut shards: Vec<Shard> = Vec::new();
        let mut discover_at = Some(Instant::now());
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(joined) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    let (id, done) = match joined {
                        Ok((id, done)) => (id, Ok(done)),
                        Err(error) => (error.id(), Err(error)),
                    };
                    let shard = busy.remove(&id).flatten();
                    let found = match done {
                        Ok(Done::Discovered(found)) => found,
                        Ok(Done::Collected | Done::Stopped) => continue,
                        Err(panic) => {
                            let error = Error::unavailable("collect", "the collector panicked").with_source(panic);
                            match shard {
                                Some(shard) => {
                                    self.failed(&shard, &error);
                                    continue;
                                }
                                None => Err(error),
                            }
                        }
                    };
                    let waited = shards.is_empty();
                    let wait = self.discovered(found, &mut shards, &mut backoff);
                    if waited {
                        // Ticks that passed while there was nothing to measure were not skipped.
                        schedule = self.schedule();
                    }
                    discover_at = Some(Instant::now() + wait);
                }
                () = sleep_until(discover_at.unwrap_or_else(Instant::now)), if discover_at.is_some() => {
                    discover_at = None;
                    let handle = tasks.spawn(Arc::clone(&self).discover());
                    busy.insert(handle.id(), None);
                }
                tick = schedule.tick(), if !shards.is_empty() => {
                    self.ticked(tick);
                    for shard in &shards {
                        if busy.values().flatten().any(|at_work| at_work == shard) {
                            self.state.update(|numbers| numbers.skipped += 1);
                            continue;
                        }
                        let handle = tasks.spawn(Arc::clone(&self).collect(shard.clone(), tick.time));
                        busy.insert(handle.id(), Some(shard.clone()));
                    }
                }
            }
        }
        // Measuring ends at once; rows that are measured already still go into the channel, for as long as the stop
        // allows this task to live.
        while tasks.join_next().await.is_some() {}
        if timeout(GOODBYE, self.collector.close()).await.is_err() {
            tracing::warn!(source = self.name(), "the collector did not close in time");
        }
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(Arc::clone(&self.clock), self.state.every, self.jitter, self.name())
    }

    async fn discover(self: Arc<Self>) -> Done {
        let limit = self.deadline.max(DISCOVERY_DEADLINE);
        tokio::select! {
            () = self.stop.cancelled() => Done::Stopped,
            found = timeout(limit, self.collector.discover()) => Done::Discovered(found.unwrap_or_else(|_| {
                Err(Error::unavailable("look for what there is to measure", format!("no answer within {limit:?}")))
            })),
        }
    }

    /// Takes in what was found; returns when to look again. An answer that there is nothing ends the shards; no
    /// answer does not.
    fn discovered(
        &self,
        found: Result<Vec<Shard>>,
        shards: &mut Vec<Shard>,
        backoff: &mut Backoff,
    ) -> Duration {
        if let Ok(found) = &found {
            // That there is nothing is an answer, but the source waits on.
            let waited = if found.is_empty() { None } else { self.limit.forget("discovery") };
            if !found.is_empty() && found != shards {
                let names: Vec<_> = found.iter().map(|shard| shard.0.as_str()).collect();
                let waited = waited.map(tracing::field::display);
                tracing::info!(source = self.name(), shards = names.join(", "), waited, "source collects");
            } else if let Some(waited) = waited {
                tracing::info!(source = self.name(), %waited, "source waits no more");
            }
            self.marks.forget(self.clock.now(), |source, shard| {
                source != self.name() || found.iter().any(|found| found.0 == shard)
            });
            shards.clone_from(found);
            self.state.update(|numbers| numbers.shards.clone_from(found));
        }
        let reason = match found {
            Ok(found) if found.is_empty() => Error::unavailable("collect", "there is nothing to measure yet"),
            Ok(_) => {
                backoff.reset();
                self.state.update(|numbers| numbers.phase = SourcePhase::Running);
                return REDISCOVER;
            }
            Err(error) => error,
        };
        if let Some(left_out) = self.limit.pass("discovery") {
            tracing::warn!(source = self.name(), reason = reason.chain(), left_out, "source waits");
        }
        if shards.is_empty() {
            self.state.update(|numbers| numbers.phase = SourcePhase::Waiting(reason.to_string()));
        }
        backoff.after(&reason)
    }

    fn ticked(&self, tick: super::schedule::Tick) {
        if let Some(jump) = tick.jump {
            #[expect(clippy::cast_precision_loss, reason = "for people to read")]
            let seconds = jump as f64 / 1e9;
            tracing::warn!(source = self.name(), seconds, "the clock was set or the machine slept");
        }
        self.state.update(|numbers| {
            numbers.last_tick = Some(tick.time);
            numbers.skipped += tick.skipped;
            numbers.jumps += u64::from(tick.jump.is_some());
        });
    }

    async fn collect(self: Arc<Self>, shard: Shard, time: i64) -> Done {
        let window = self.marks.window(self.name(), &shard, time, nanoseconds(self.state.every));
        self.collector.told(time);
        for part in window.parts(self.collector.longest_window()) {
            let collecting = self.marks.collecting(self.name(), &shard, part);
            match self.read(&shard, part, &collecting).await {
                Ok(Some(reached)) => collecting.reached(reached).settle(),
                Ok(None) => return Done::Stopped,
                Err(error) => {
                    // What is later waits for what is earlier: the next tick begins here again.
                    collecting.failed();
                    self.failed(&shard, &error);
                    break;
                }
            }
        }
        Done::Collected
    }

    /// Reads a window piece by piece and sends its rows on their way; returns how far it is final, or nothing if the run
    /// is being stopped.
    async fn read(&self, shard: &Shard, window: Window, collecting: &Collecting) -> Result<Option<i64>> {
        let mut pieces = self.collector.pieces(shard, window);
        let (mut reached, mut faults, mut taken) = (window.end, Vec::new(), Duration::ZERO);
        loop {
            let began = Instant::now();
            let piece = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                piece = timeout(self.deadline, pieces.next()) => piece,
            };
            taken += began.elapsed();
            self.state.update(|numbers| numbers.last_duration = taken);
            let piece = piece.unwrap_or_else(|_| {
                let reason = format!("no answer within the deadline of {:?}", self.deadline);
                Some(Err(Error::unavailable("collect", reason)))
            });
            let Some(piece) = piece else { break };
            let Collection { batches, faults: failed, reached: to } = piece?;
            reached = to.unwrap_or(reached).min(reached);
            faults.extend(failed);
            if !self.send(&batches, collecting.ack()).await {
                return Ok(None);
            }
        }
        // Where nothing was asked for yet, what failed before is neither over nor still so.
        if reached > window.start || window.end <= window.start {
            self.collected(shard, &faults);
        }
        Ok(Some(reached))
    }

    fn collected(&self, shard: &Shard, faults: &[Error]) {
        self.state.update(|numbers| {
            numbers.collections += 1;
            numbers.faults += u64::try_from(faults.len()).unwrap_or(u64::MAX);
        });
        if let Some(lasted) = self.limit.forget(&shard.0) {
            tracing::info!(source = self.name(), shard = shard.0, %lasted, "source collects again");
        }
        // No name of a shard holds this character, so that no other shard's keys begin in the same way.
        let of_shard = format!("{}\0", shard.0);
        let failing: Vec<String> = faults.iter().map(|fault| of_shard.clone() + &part(fault)).collect();
        for (part, lasted) in self.limit.over(&of_shard, &failing) {
            tracing::info!(source = self.name(), shard = shard.0, part, %lasted, "a part fails no more");
        }
        for (fault, key) in faults.iter().zip(&failing) {
            if let Some(left_out) = self.limit.pass(key) {
                let error = fault.chain();
                tracing::warn!(
                    source = self.name(),
                    shard = shard.0,
                    error,
                    left_out,
                    "a part was not collected"
                );
            }
        }
    }

    /// Sends rows on their way; not if a stop ran out of time, which closes the channel: the mark stays.
    async fn send(&self, batches: &[MetricBatch], ack: &Ack) -> bool {
        for part in batches.iter().flat_map(parts) {
            let Ok(place) = self.channel.reserve().await else { return false };
            let rows = u64::try_from(part.rows()).unwrap_or(u64::MAX);
            self.state.update(|numbers| numbers.rows += rows);
            place.send(Parcel::new(part, ack.clone()));
        }
        true
    }

    fn failed(&self, shard: &Shard, error: &Error) {
        self.state.update(|numbers| {
            numbers.failures += 1;
            numbers.last_error = Some(error.to_string());
        });
        if let Some(left_out) = self.limit.pass(&shard.0) {
            tracing::warn!(
                source = self.name(),
                shard = shard.0,
                error = error.chain(),
                left_out,
                "collection failed"
            );
        }
    }
}

/// What failed, as operation and resource.
fn part(fault: &Error) -> String {
    [Some(fault.operation()), fault.resource()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A batch in parts of at most [`PARCEL_ROWS`], without copying.
fn parts(batch: &MetricBatch) -> impl Iterator<Item = MetricBatch> + '_ {
    (0..batch.rows())
        .step_by(PARCEL_ROWS)
        .map(|start| batch.slice(start, PARCEL_ROWS.min(batch.rows() - start)))
}
