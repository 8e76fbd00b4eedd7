//! Starts a plan and stops it without losing rows; `reload` changes it while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::acknowledgement::Marks;
use super::carry::{Carrier, Replace, Route, Step};
use super::checkpoint::{CheckpointFile, keep};
use super::clock::{Clock, SystemClock};
use super::collect::Source;
use super::dead_letter::DeadLetters;
use super::log_limit::LogLimit;
use super::monitor::{Monitor, SourceState, TransformNumbers};
use super::plan::{Plan, SinkPlan, SourcePlan, TransformPlan};
use super::running::{Opened, RunningSink, RunningSource, SinkContext, open};
use crate::Result;
use crate::log::FolderLock;
use crate::model::Parcel;
use crate::provider::Collector;

/// Parcels between the sources and the first transform; a full channel makes the sources wait.
const CHANNEL: usize = 32;
/// Reloads that may wait at once for a sink that holds the pipeline up; one more is refused.
const RELOADS: usize = 16;
/// The middle task may take this long to end once nothing waits for room any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// A running pipeline.
pub struct Runner {
    clock: Arc<dyn Clock>,
    pub(super) drain: Duration,
    pub(super) monitor: Monitor,
    pub(super) marks: Arc<Marks>,
    pub(super) sources: Vec<RunningSource>,
    channel: mpsc::Sender<Parcel>,
    pub(super) replace: mpsc::Sender<Replace>,
    carrier: JoinHandle<()>,
    give_up: CancellationToken,
    pub(super) sinks: Vec<RunningSink>,
    /// Sinks that a reload took out, on their way to their end.
    pub(super) leaving: JoinSet<()>,
    pub(super) context: SinkContext,
    pub(super) keeper: Keeper,
}

/// The task that saves the checkpoints.
pub(super) struct Keeper {
    pub(super) file: CheckpointFile,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Given back once the last save is done.
    _lock: Option<FolderLock>,
}

/// How a pipeline ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Rows that were not taken within the drain limit, by sink; sinks without any are left out. Their marks have
    /// not moved: sources that can will bring them again.
    pub left: Vec<(String, u64)>,
    /// Rows that are safe in the backlogs of their sinks, by sink: the next run delivers them.
    pub kept: Vec<(String, u64)>,
}

impl Runner {
    /// Builds every source, opens every sink and starts to collect.
    ///
    /// # Errors
    /// If a source cannot be built, the checkpoints cannot be read, or a sink cannot be opened and trying again
    /// would not help; what was opened is closed again.
    pub async fn start(plan: Plan) -> Result<Self> {
        Self::start_with(plan, Arc::new(SystemClock)).await
    }

    /// [`Self::start`] with another clock.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(plan: Plan, clock: Arc<dyn Clock>) -> Result<Self> {
        let file = CheckpointFile::new(&plan.data);
        let lock = file.lock()?;
        let marks = Marks::resume(&file.load()?);
        let sources = build(plan.sources)?;
        let context = SinkContext {
            dead: Arc::new(DeadLetters::new(&plan.data, plan.dead_letter_bytes)),
            failed: CancellationToken::new(),
        };
        let sinks = open_all(plan.sinks).await?;
        let sinks: Vec<_> =
            sinks.into_iter().map(|(plan, sink)| RunningSink::start(plan, sink, &context)).collect();

        let (channel, parcels) = mpsc::channel(CHANNEL);
        let (replace, replacements) = mpsc::channel(RELOADS);
        let give_up = CancellationToken::new();
        let steps = steps(plan.transforms);
        let monitor = Monitor::new(Arc::clone(&clock), Arc::clone(&marks), Arc::clone(&context.dead));
        show(&monitor, &plan.name, &steps);
        let outlets = sinks.iter().map(|sink| sink.outlet.clone()).collect();
        let mut route = Route { steps, outlets, arrival: plan.arrival };
        route.announce();
        let carrier = Carrier {
            route,
            parcels,
            replace: replacements,
            dead: Arc::clone(&context.dead),
            clock: Arc::clone(&clock),
            give_up: give_up.clone(),
        };
        let failed = context.failed.clone();
        let carrier = tokio::spawn(async move {
            // Dropped at the end, and when the task panics.
            let _over = failed.drop_guard();
            carrier.run().await;
        });
        let keeper = Keeper::start(file, lock, &marks);
        let mut runner = Self {
            clock,
            drain: plan.drain,
            monitor,
            marks,
            sources: Vec::new(),
            channel,
            replace,
            carrier,
            give_up,
            sinks,
            leaving: JoinSet::new(),
            context,
            keeper,
        };
        runner.start_sources(sources);
        runner.forget_sources();
        runner.show_parts();
        Ok(runner)
    }

    /// What the pipeline shows of itself.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Ends when a task died that the pipeline cannot go on without; all one can do then is to stop.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.context.failed.clone().cancelled_owned()
    }

    pub(super) fn start_sources(&mut self, sources: Vec<(SourcePlan, Arc<dyn Collector>)>) {
        for (plan, collector) in sources {
            self.sources.push(RunningSource::start(Source {
                state: SourceState::new(&plan.name, plan.every),
                collector,
                deadline: plan.deadline,
                jitter: plan.jitter,
                channel: self.channel.clone(),
                marks: Arc::clone(&self.marks),
                clock: Arc::clone(&self.clock),
                stop: CancellationToken::new(),
                limit: LogLimit::default(),
            }));
        }
    }

    /// Forgets old checkpoints of sources that are not in the plan any more. Those in it forget their shards themselves,
    /// once they have found which there are.
    pub(super) fn forget_sources(&self) {
        self.marks.forget(self.clock.now(), |name, _| self.sources.iter().any(|s| s.state.name == name));
    }

    /// Shows which sources and sinks there are.
    pub(super) fn show_parts(&self) {
        let sources = self.sources.iter().map(|source| Arc::clone(&source.state)).collect();
        let sinks = self.sinks.iter().map(|sink| Arc::clone(&sink.outlet.state)).collect();
        self.monitor.update(|parts| {
            parts.sources = sources;
            parts.sinks = sinks;
        });
    }

    /// Stops the sources, lets the rows on their way reach the sinks within the drain limit, closes the sinks and
    /// saves the checkpoints.
    pub async fn stop(mut self) -> Ending {
        let deadline = Instant::now() + self.drain;
        self.monitor.update(|parts| parts.stopping = true);
        self.sources.iter().for_each(RunningSource::stop);
        for mut source in self.sources {
            source.ended(deadline).await;
        }
        // The last sender: the middle task ends when the channel is empty.
        drop(self.channel);
        let mut carrier = self.carrier;
        if timeout_at(deadline, &mut carrier).await.is_err() {
            self.give_up.cancel();
            if timeout(GOODBYE, &mut carrier).await.is_err() {
                tracing::error!("a transform does not end and is cut off");
                carrier.abort();
            }
        }
        for sink in &self.sinks {
            sink.outlet.queue.close();
        }
        let ends = self.sinks.into_iter().map(|sink| async move {
            let state = Arc::clone(&sink.outlet.state);
            let remains = sink.ended(deadline).await;
            // Dropping the shares tells the marks that these rows did not arrive.
            let held: usize = remains.left.iter().map(|parcel| parcel.batch.rows()).sum();
            drop(remains.left);
            // What is kept is known by whole batches only, so that it may hide what was left.
            let left = state.account.balance().queued.saturating_sub(remains.kept).max(held as u64);
            (state.name.clone(), left, remains.kept)
        });
        let ends = futures::future::join_all(ends).await;
        // Each has a limit of its own, which began to run at the reload.
        while self.leaving.join_next().await.is_some() {}
        self.keeper.end().await;
        let some = |rows: &dyn Fn(&(String, u64, u64)) -> u64| {
            let rows = ends.iter().map(|end| (end.0.clone(), rows(end)));
            rows.filter(|(_, rows)| *rows > 0).collect()
        };
        Ending { left: some(&|end| end.1), kept: some(&|end| end.2) }
    }
}

impl Ending {
    /// Rows left in all sinks.
    pub fn rows_left(&self) -> u64 {
        self.left.iter().map(|(_, rows)| rows).sum()
    }
}

impl Keeper {
    /// Starts to save whenever marks move.
    pub(super) fn start(file: CheckpointFile, lock: Option<FolderLock>, marks: &Arc<Marks>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep(Arc::clone(marks), file.clone(), stop.clone()));
        Self { file, stop, task, _lock: lock }
    }

    /// Saves once more and ends.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "keeping checkpoints failed");
        }
    }
}

/// Makes the collectors, all or none.
pub(super) fn build(plans: Vec<SourcePlan>) -> Result<Vec<(SourcePlan, Arc<dyn Collector>)>> {
    plans
        .into_iter()
        .map(|plan| {
            let collector = (plan.build)()?;
            Ok((plan, collector))
        })
        .collect()
}

/// Opens all or none.
pub(super) async fn open_all(plans: Vec<SinkPlan>) -> Result<Vec<(SinkPlan, Opened)>> {
    let mut opened = Vec::new();
    for plan in plans {
        match open(&plan).await {
            Ok(sink) => opened.push((plan, sink)),
            Err(error) => {
                for (plan, sink) in opened {
                    sink.close(&plan.name).await;
                }
                return Err(error);
            }
        }
    }
    Ok(opened)
}

/// The transforms with their numbers, ready to be led through.
pub(super) fn steps(plans: Vec<TransformPlan>) -> Vec<Step> {
    let step = |(index, plan): (usize, TransformPlan)| Step {
        numbers: Arc::new(Mutex::new(TransformNumbers {
            name: format!("{}.{}", index + 1, plan.kind),
            ..TransformNumbers::default()
        })),
        unchanged: plan.unchanged,
        transform: plan.transform,
    };
    plans.into_iter().enumerate().map(step).collect()
}

/// Shows the name and the transforms of a plan.
pub(super) fn show(monitor: &Monitor, name: &str, steps: &[Step]) {
    monitor.update(|parts| {
        name.clone_into(&mut parts.pipeline);
        parts.transforms = steps.iter().map(|step| Arc::clone(&step.numbers)).collect();
    });
}
