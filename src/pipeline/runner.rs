//! Starts a plan, changes it while it runs, and stops it without losing rows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
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
use super::running::{RunningSink, RunningSource, SinkContext, close, open};
use crate::Result;
use crate::model::Parcel;
use crate::provider::Collector;

/// Parcels between the sources and the first transform; a full channel makes the sources wait.
const CHANNEL: usize = 32;
/// The middle task may take this long to end once nothing waits for room any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// A running pipeline.
pub struct Runner {
    clock: Arc<dyn Clock>,
    drain: Duration,
    monitor: Monitor,
    marks: Arc<Marks>,
    sources: Vec<RunningSource>,
    channel: mpsc::Sender<Parcel>,
    replace: mpsc::Sender<Replace>,
    carrier: JoinHandle<()>,
    give_up: CancellationToken,
    sinks: Vec<RunningSink>,
    context: SinkContext,
    keeper: Keeper,
}

struct Keeper {
    file: CheckpointFile,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How a pipeline ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// Rows that were not taken within the drain limit, by sink; sinks without any are left out. Their marks have
    /// not moved: sources that can will bring them again.
    pub left: Vec<(String, u64)>,
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
        let marks = Marks::resume(&file.load()?);
        let sources = build(plan.sources)?;
        let context =
            SinkContext { dead: Arc::new(DeadLetters::new(&plan.data)), failed: CancellationToken::new() };
        let sinks = open_all(plan.sinks).await?;
        let sinks: Vec<_> =
            sinks.into_iter().map(|(plan, sink)| RunningSink::start(plan, sink, &context)).collect();

        let (channel, parcels) = mpsc::channel(CHANNEL);
        let (replace, replacements) = mpsc::channel(1);
        let give_up = CancellationToken::new();
        let steps = steps(plan.transforms);
        let monitor = Monitor::new(Arc::clone(&clock), Arc::clone(&marks));
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
        let keeper = Keeper::start(file, &marks);
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
            context,
            keeper,
        };
        runner.start_sources(sources);
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

    /// Notes that a new pipeline file was refused before it came to a plan.
    pub fn refused(&self) {
        self.monitor.update(|parts| parts.reloads_refused += 1);
    }

    /// Changes over to another plan. Sources, transforms and sinks that it marks as unchanged go on undisturbed; a sink
    /// that changed keeps what waits for it.
    ///
    /// # Errors
    /// If a source cannot be built or a sink not be opened; the old plan goes on.
    pub async fn reload(&mut self, plan: Plan) -> Result<()> {
        let result = self.change_over(plan).await;
        self.monitor.update(|parts| match result {
            Ok(()) => parts.reloads += 1,
            Err(_) => parts.reloads_refused += 1,
        });
        result
    }

    async fn change_over(&mut self, plan: Plan) -> Result<()> {
        let deadline = Instant::now() + plan.drain;
        let (kept, changed): (Vec<_>, Vec<_>) = plan.sources.into_iter().partition(|source| {
            source.unchanged && self.sources.iter().any(|running| running.state.name == source.name)
        });
        let order: Vec<String> = plan.sinks.iter().map(|sink| sink.name.clone()).collect();
        let (known, new): (Vec<_>, Vec<_>) =
            plan.sinks.into_iter().partition(|sink| self.sinks.iter().any(|s| s.name() == sink.name));

        // Nothing is touched before everything that can fail beside the running parts has worked.
        let new_sources = build(changed)?;
        let mut new_sinks = open_all(new).await?;
        if let Err(error) = self.replace_sinks(known, deadline).await {
            for (plan, sink) in new_sinks.drain(..) {
                close(&plan.name, sink).await;
            }
            return Err(error);
        }

        self.drain = plan.drain;
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|running| kept.iter().any(|source| source.name == running.state.name));
        self.sources = stay;
        gone.iter().for_each(RunningSource::stop);
        for source in gone {
            source.ended(deadline).await;
        }

        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sinks)
            .into_iter()
            .partition(|sink| order.iter().any(|n| n == sink.name()));
        self.sinks = stay;
        // A sink that blocks must not block its own removal.
        gone.iter().for_each(|sink| sink.outlet.queue.close());
        let started = new_sinks.into_iter().map(|(plan, sink)| RunningSink::start(plan, sink, &self.context));
        self.sinks.extend(started);
        self.sinks.sort_by_key(|sink| order.iter().position(|name| name == sink.name()));

        let steps = steps(plan.transforms);
        show(&self.monitor, &plan.name, &steps);
        let outlets = self.sinks.iter().map(|sink| sink.outlet.clone()).collect();
        let route = Route { steps, outlets, arrival: plan.arrival };
        let (done, replaced) = oneshot::channel();
        let switch = async {
            if self.replace.send((route, done)).await.is_ok() {
                // Only a pipeline that failed drops the answer.
                let _ = replaced.await;
            }
        };
        if timeout_at(deadline, switch).await.is_err() {
            tracing::warn!(
                "a sink holds the pipeline up; the new transforms take over as soon as it takes rows"
            );
        }
        for sink in gone {
            sink.removed(deadline).await;
        }
        if self.keeper.file.folder() != plan.data {
            let next = Keeper::start(CheckpointFile::new(&plan.data), &self.marks);
            std::mem::replace(&mut self.keeper, next).end().await;
        }
        self.start_sources(new_sources);
        self.show_parts();
        Ok(())
    }

    /// Replaces the sinks whose configuration changed; if one cannot be opened, those already replaced change back.
    async fn replace_sinks(&mut self, plans: Vec<SinkPlan>, deadline: Instant) -> Result<()> {
        let mut undo: Vec<SinkPlan> = Vec::new();
        for plan in plans.into_iter().filter(|plan| !plan.unchanged) {
            let old = self.sinks.iter().find(|sink| sink.name() == plan.name).map(|sink| sink.plan().clone());
            match self.replace_sink(plan, deadline).await {
                Ok(()) => undo.extend(old),
                Err(error) => {
                    for old in undo {
                        if let Err(error) = self.replace_sink(old, deadline).await {
                            tracing::error!(error = error.chain(), "the sink cannot change back");
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn replace_sink(&mut self, plan: SinkPlan, deadline: Instant) -> Result<()> {
        let Some(index) = self.sinks.iter().position(|sink| sink.name() == plan.name) else { return Ok(()) };
        let running = self.sinks.remove(index);
        let (running, result) = running.replace(plan, deadline, &self.context).await;
        self.sinks.insert(index, running);
        result
    }

    fn start_sources(&mut self, sources: Vec<(SourcePlan, Arc<dyn Collector>)>) {
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

    fn show_parts(&self) {
        let sources = self.sources.iter().map(|source| Arc::clone(&source.state)).collect();
        let sinks = self.sinks.iter().map(|sink| Arc::clone(&sink.outlet.state)).collect();
        self.monitor.update(|parts| {
            parts.sources = sources;
            parts.sinks = sinks;
        });
    }

    /// Stops the sources, lets the rows on their way reach the sinks within the drain limit, closes the sinks and
    /// saves the checkpoints.
    pub async fn stop(self) -> Ending {
        let deadline = Instant::now() + self.drain;
        self.monitor.update(|parts| parts.stopping = true);
        self.sources.iter().for_each(RunningSource::stop);
        for source in self.sources {
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
            // Dropping the shares tells the marks that these rows did not arrive.
            drop(sink.ended(deadline).await);
            (state.name.clone(), state.account.balance().queued)
        });
        let left = futures::future::join_all(ends).await;
        self.keeper.end().await;
        Ending { left: left.into_iter().filter(|(_, rows)| *rows > 0).collect() }
    }
}

impl Ending {
    /// Rows left in all sinks.
    pub fn rows_left(&self) -> u64 {
        self.left.iter().map(|(_, rows)| rows).sum()
    }
}

impl Keeper {
    fn start(file: CheckpointFile, marks: &Arc<Marks>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep(Arc::clone(marks), file.clone(), stop.clone()));
        Self { file, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "keeping checkpoints failed");
        }
    }
}

fn build(plans: Vec<SourcePlan>) -> Result<Vec<(SourcePlan, Arc<dyn Collector>)>> {
    plans
        .into_iter()
        .map(|plan| {
            let collector = (plan.build)()?;
            Ok((plan, collector))
        })
        .collect()
}

/// Opens all or none.
async fn open_all(plans: Vec<SinkPlan>) -> Result<Vec<(SinkPlan, Option<Box<dyn crate::sink::Sink>>)>> {
    let mut opened = Vec::new();
    for plan in plans {
        match open(&plan).await {
            Ok(sink) => opened.push((plan, sink)),
            Err(error) => {
                for (plan, sink) in opened {
                    close(&plan.name, sink).await;
                }
                return Err(error);
            }
        }
    }
    Ok(opened)
}

fn steps(plans: Vec<TransformPlan>) -> Vec<Step> {
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

fn show(monitor: &Monitor, name: &str, steps: &[Step]) {
    monitor.update(|parts| {
        name.clone_into(&mut parts.pipeline);
        parts.transforms = steps.iter().map(|step| Arc::clone(&step.numbers)).collect();
    });
}
