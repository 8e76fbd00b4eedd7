//! A collection of a shard: what is to be asked for, in requests that are made side by side, and their answers as rows, each
//! on its way before the next is waited for.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;

use super::SECOND;
use super::billing::{Meter, billed};
use super::budget::Purse;
use super::mapping::Mapping;
use super::pace::Cost;
use super::part::Part;
use super::ranges::{Step, steps};
use super::request::{Answer, Asker, Fate, Range};
use super::rows::Rows;
use super::settle::Seen;
use super::shard::{Asked, ShardState};
use super::status;
use super::target::Target;
use super::targets::Maker;
use crate::provider::{Collection, Window};
use crate::{Error, Result};

/// Requests on their way at once: enough for the quota where an answer takes a quarter of a second, and each answer takes
/// some megabytes.
const SIDE_BY_SIDE: usize = 12;
/// What is looked back for when something new is found, in seconds: ListMetrics may know it a quarter of an hour late.
const BACK: i64 = 3_600;
/// What fails for longer holds the shard's mark back no more, in seconds.
const HELD: i64 = 12 * 3_600;
/// What is not allowed is tried again after this, in seconds.
const FORBIDDEN: i64 = 3_600;
/// Age of what counts for the quota of recent datapoints, in seconds.
const RECENT: i64 = 3 * 3_600;

/// What all collections of a source share.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) mapping: Arc<Mapping>,
    pub(super) meter: Meter,
    pub(super) purse: Arc<Purse>,
    /// Columns of the tags that the file asks for.
    pub(super) columns: Vec<Arc<str>>,
    /// Seconds between two ticks of the source; 0 if nobody said.
    pub(super) every: i64,
}

/// A window of a shard.
pub(super) struct Reading {
    pub(super) context: Context,
    pub(super) shard: Arc<ShardState>,
    pub(super) window: Window,
    /// The time that it is, in nanoseconds; the window may end before it.
    pub(super) now: i64,
}

/// Metrics to be read.
struct Job {
    reading: Reading,
    targets: Vec<Target>,
    /// Requests that failed as a whole, and how many there were.
    outcome: Mutex<(usize, usize, Vec<Error>)>,
    faults: Mutex<Vec<Error>>,
}

enum Prepared {
    Done(Collection),
    Ask(Arc<Job>, Vec<Step>),
}

impl Reading {
    /// Reads it, an answer at a time.
    pub(super) fn pieces(self) -> BoxStream<'static, Result<Collection>> {
        let prepared = stream::once(self.prepare());
        let pieces = prepared.flat_map(|prepared| match prepared {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(Prepared::Done(collection)) => stream::iter([Ok(collection)]).boxed(),
            Ok(Prepared::Ask(job, steps)) => {
                let reader = Arc::clone(&job);
                let answers = stream::iter(steps).flat_map(move |step| {
                    let reader = Arc::clone(&reader);
                    let requests = stream::iter(step).map(move |(range, targets)| {
                        let job = Arc::clone(&reader);
                        async move { job.read(range, &targets).await }
                    });
                    requests.buffer_unordered(SIDE_BY_SIDE).boxed()
                });
                answers.chain(stream::once(async move { job.finish() })).boxed()
            }
        });
        pieces.boxed()
    }

    async fn prepare(self) -> Result<Prepared> {
        match &self.shard.what {
            Asked::Inventory => self.inventory().await.map(Prepared::Done),
            Asked::Metrics(part) => {
                let part = part.clone();
                self.metrics(&part).await
            }
        }
    }

    fn rows(&self) -> Rows {
        Rows::new(&self.context.mapping.tables, &self.context.columns)
    }

    async fn inventory(&self) -> Result<Collection> {
        let place = &self.shard.place;
        let Window { start, end } = self.window;
        // Nobody knows what instances did in the past.
        if end < self.now {
            return Ok(Collection::default());
        }
        let (snapshot, faults) = place.snapshot(self.now / SECOND, start / SECOND).await?;
        let mut rows = self.rows();
        let mut memory = self.shard.memory.lock();
        let names = (place.session.id(), place.region.as_str());
        status::rows(&mut rows, names, &snapshot, &place.happened(), &mut memory.told, end)?;
        Ok(Collection { batches: rows.finish()?, faults, reached: None })
    }

    async fn metrics(self, part: &Part) -> Result<Prepared> {
        let (now, start) = (self.now / SECOND, self.window.start / SECOND);
        let (shard, context, period) = (&self.shard, &self.context, part.period);
        let not_now =
            || Prepared::Done(Collection { reached: Some(self.window.start), ..Collection::default() });
        let natural = period.max(context.every);
        let interval = context.purse.interval(natural);
        // At the same time again it is the next part of a long window.
        if shard.memory.lock().polled.is_some_and(|polled| (1..interval).contains(&(now - polled))) {
            return Ok(not_now());
        }
        let place = &shard.place;
        let mut faults = Vec::new();
        // Metrics of one's own may be readable where EC2 is not.
        let snapshot = match place.snapshot(now, start).await {
            Ok((snapshot, found)) => {
                faults.extend(found);
                Some(snapshot)
            }
            Err(error) if part.namespace == "AWS/EC2" || part.namespace == "AWS/EBS" => return Err(error),
            Err(error) => {
                faults.push(error);
                None
            }
        };
        let mut maker = Maker {
            place,
            mapping: &context.mapping,
            part,
            columns: &context.columns,
            snapshot: snapshot.as_deref(),
            now,
            silent: now - start > RECENT,
            faults,
        };
        let all = maker.targets().await?;
        let faults = std::mem::take(&mut maker.faults);
        let (down, to) = (start.div_euclid(period) * period, self.window.end / SECOND / period * period);
        let mut memory = shard.memory.lock();
        if memory.expected != Some(self.window.start) {
            memory.seen.clear();
            memory.known = false;
        }
        let keys: HashSet<Arc<str>> = all.iter().map(|target| Arc::clone(&target.key)).collect();
        memory.keep(&keys, now);
        let back = now - BACK.max(2 * i64::try_from(place.config.list_every.0.as_secs()).unwrap_or(0));
        let back = back.div_euclid(period) * period;
        let mut targets: Vec<(i64, Target)> = Vec::new();
        for target in all {
            let Some(from) = memory.begin(&target, down, back) else { continue };
            let seen = memory.seen.entry(Arc::clone(&target.key)).or_insert_with(|| Seen::new(from));
            seen.settled = seen.settled.max(from);
            if from < to {
                targets.push((from, target));
            }
        }
        memory.known = true;
        if targets.is_empty() {
            memory.expected = Some(self.window.end);
            return Ok(Prepared::Done(Collection { faults, ..Collection::default() }));
        }
        let cost: u64 = targets.iter().map(|(_, target)| billed(&target.ask, place.config.billed_by)).sum();
        if !context.purse.may(&shard.name, cost, natural, now, &context.meter) {
            return Ok(not_now());
        }
        // Known again when all of it was read.
        memory.expected = None;
        memory.polled = Some(now);
        drop(memory);
        targets.sort_by_key(|(from, _)| *from);
        let steps = steps(&targets, to, period, now);
        let targets = targets.into_iter().map(|(_, target)| target).collect();
        let job = Job { reading: self, targets, outcome: Mutex::default(), faults: Mutex::new(faults) };
        Ok(Prepared::Ask(Arc::new(job), steps))
    }
}

impl Job {
    /// Makes a request and rows of its answer.
    async fn read(&self, range: Range, numbers: &[usize]) -> Result<Collection> {
        let Reading { context, shard, now, .. } = &self.reading;
        let now = now / SECOND;
        let place = &shard.place;
        let targets: Vec<&Target> = numbers.iter().map(|number| &self.targets[*number]).collect();
        let forbidden = shard.memory.lock().forbidden.clone();
        let quotas = &place.config.quotas;
        let rate = if now - range.from <= RECENT { quotas.recent_datapoints } else { quotas.old_datapoints };
        let share = place.config.quota_share;
        let asker = Asker {
            client: place.session.cloudwatch(&place.region),
            pace: &place.pace,
            cost: Cost { calls: quotas.get_metric_data * share, datapoints: 0, rate: rate * share },
            place: &place.name(),
            called: &|| context.meter.called(),
            billed: &|metrics| {
                context.meter.bill(metrics);
                context.purse.bill(metrics);
            },
        };
        let before = place.pace.throttles();
        let (answers, faults) = asker
            .ask(&targets, range, |target, figure| {
                !forbidden.is_empty() && forbidden.contains_key(&(Arc::clone(&targets[target].key), figure))
            })
            .await;
        context.meter.throttled(place.pace.throttles().saturating_sub(before));
        self.count(&answers, faults);
        let mut rows = self.reading.rows();
        self.take(range, &targets, answers, &mut rows)?;
        Ok(Collection { batches: rows.finish()?, ..Collection::default() })
    }

    fn count(&self, answers: &[Answer], faults: Vec<Error>) {
        let nothing = answers.iter().flat_map(|answer| &answer.fates).all(|fate| *fate == Fate::Failed);
        let mut outcome = self.outcome.lock();
        outcome.1 += 1;
        if nothing {
            outcome.0 += 1;
            outcome.2.extend(faults);
        } else {
            self.faults.lock().extend(faults);
        }
    }

    fn take(&self, range: Range, targets: &[&Target], answers: Vec<Answer>, rows: &mut Rows) -> Result<()> {
        let now = self.reading.now / SECOND;
        let mut memory = self.reading.shard.memory.lock();
        let memory = &mut *memory;
        let fine = match &self.reading.shard.what {
            Asked::Metrics(part) => range.period == part.period,
            Asked::Inventory => false,
        };
        for (target, Answer { grid, fates }) in targets.iter().zip(answers) {
            for figure in (0..fates.len()).filter(|figure| fates[*figure] == Fate::Forbidden) {
                memory.forbidden.entry((Arc::clone(&target.key), figure)).or_insert(now + FORBIDDEN);
            }
            let whole = fates.iter().all(|fate| *fate != Fate::Failed);
            let Some(seen) = memory.seen.get_mut(&target.key) else { continue };
            if fine {
                let copy = grid.clone();
                let news = seen.take(grid, whole, now, &mut memory.lag);
                rows.figures(target, &copy, &news.rows)?;
            } else {
                // What is that old does not change any more.
                let all: Vec<usize> = (0..grid.rows()).collect();
                rows.figures(target, &grid, &all)?;
                if whole && range.from <= seen.settled {
                    seen.settled = seen.settled.max(range.to);
                }
            }
        }
        Ok(())
    }

    /// Where the next window begins.
    fn finish(&self) -> Result<Collection> {
        let (failed, all, mut reasons) = std::mem::take(&mut *self.outcome.lock());
        if failed == all && !reasons.is_empty() {
            return Err(reasons.swap_remove(0));
        }
        let Reading { context, shard, window, now } = &self.reading;
        let mut memory = shard.memory.lock();
        let settled = self.targets.iter().filter_map(|target| memory.seen.get(&target.key));
        let settled = settled.map(|seen| seen.settled).min().unwrap_or(window.end / SECOND);
        let held = if window.end < *now { i64::MIN } else { now / SECOND - HELD };
        let settled = settled.max(held).saturating_mul(SECOND);
        // Always a little further, so that a window that begins elsewhere is known to be one whose rows were lost.
        let reached = settled.max(window.start.saturating_add(1)).min(window.end);
        memory.expected = Some(reached);
        if let Some(lag) = memory.lag.published {
            context.meter.lag(lag);
        }
        let mut faults = std::mem::take(&mut *self.faults.lock());
        faults.extend(reasons);
        Ok(Collection { batches: Vec::new(), faults, reached: Some(reached) })
    }
}
