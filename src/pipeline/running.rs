//! A source and a sink at work: the tasks behind them, and how each is started and ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::account::Policy;
use super::backlog::{self, Backlog, BacklogPlan};
use super::backoff::Backoff;
use super::carry::Outlet;
use super::collect::Source;
use super::dead_letter::DeadLetters;
use super::deliver::{Delivery, open_apart};
use super::log_limit::LogLimit;
use super::monitor::{SinkPhase, SinkState, SourcePhase, SourceState};
use super::plan::SinkPlan;
use super::queue::Queue;
use super::target::Target;
use crate::model::Parcel;
use crate::sink::Sink;
use crate::{Error, Result, Retry};

/// A task that was told to end at once may take this long.
const GOODBYE: Duration = Duration::from_secs(5);
/// A sink may take this long to finish what it has, a store to flush its buffer.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

/// A source at work.
pub(super) struct RunningSource {
    pub(super) state: Arc<SourceState>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningSource {
    /// Starts the task of a source; it is stopped through `source.stop`.
    pub(super) fn start(source: Source) -> Self {
        let (state, stop) = (Arc::clone(&source.state), source.stop.clone());
        let watched = Arc::clone(&state);
        let task = tokio::spawn(async move {
            if AssertUnwindSafe(Arc::new(source).run()).catch_unwind().await.is_err() {
                tracing::error!(source = watched.name, "the source panicked and is over; the others go on");
                let reason = "the source panicked; restart or reload to have it back".to_owned();
                watched.update(|numbers| numbers.phase = SourcePhase::Waiting(reason));
            }
        });
        Self { state, stop, task }
    }

    /// Begins to end it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the end; at `deadline` it is cut off, and rows still in its hands are lost to this run. May be asked
    /// again after a wait that was given up.
    pub(super) async fn ended(&mut self, deadline: Instant) {
        self.stop.cancel();
        if self.task.is_finished() {
            return;
        }
        if timeout_at(deadline, &mut self.task).await.is_err() {
            tracing::warn!(source = self.state.name, "the source did not end in time and is cut off");
            self.task.abort();
        }
    }
}

/// A sink at work.
pub(super) struct RunningSink {
    pub(super) outlet: Outlet,
    plan: SinkPlan,
    pause: CancellationToken,
    abort: CancellationToken,
    /// A stop need not wait any longer: the rows are on disk and the sink does not take them.
    safe: BoxFuture<'static, ()>,
    task: JoinHandle<Opened>,
}

/// What sinks need from the pipeline around them.
#[derive(Clone)]
pub(super) struct SinkContext {
    pub(super) dead: Arc<DeadLetters>,
    /// Cancelled when a task that the pipeline cannot go on without has died.
    pub(super) failed: CancellationToken,
}

impl RunningSink {
    /// Starts to deliver to a sink that is new in the pipeline. Without an open sink the task opens it.
    pub(super) fn start(plan: SinkPlan, opened: Opened, context: &SinkContext) -> Self {
        let state = SinkState::new(&plan.name);
        let queue = Arc::new(Queue::new(plan.queue_rows));
        let outlet = Outlet { state, queue, overflow: plan.overflow };
        Self::resume(plan, opened, outlet, true, context)
    }

    /// Starts to deliver what waits for the sink that this one continues. What waits in a backlog is accepted again if
    /// it is `new` to the account.
    fn resume(plan: SinkPlan, opened: Opened, mut outlet: Outlet, new: bool, context: &SinkContext) -> Self {
        let abort = CancellationToken::new();
        let pause = abort.child_token();
        if outlet.state.name != plan.name {
            outlet.state = outlet.state.renamed(&plan.name);
        }
        outlet.overflow = plan.overflow;
        outlet.queue.set_limit(plan.queue_rows);
        let target = Arc::new(Target::new(Arc::clone(&outlet.state), plan.backoff));
        let delivery = Delivery {
            state: Arc::clone(&outlet.state),
            target: Arc::clone(&target),
            dead: Arc::clone(&context.dead),
            batching: plan.batching,
            backoff: plan.backoff,
            durable: plan.backlog.is_some(),
            pause: pause.clone(),
            abort: abort.clone(),
        };
        let (failed, name) = (context.failed.clone(), plan.name.clone());
        let spooled = CancellationToken::new();
        let work = Work { delivery, plan: plan.clone(), queue: Arc::clone(&outlet.queue), new };
        let work = work.run(opened, spooled.clone());
        let task = tokio::spawn(async move {
            let run = AssertUnwindSafe(work).catch_unwind();
            run.await.unwrap_or_else(|_| {
                tracing::error!(sink = name, "the delivery panicked");
                failed.cancel();
                Opened::default()
            })
        });
        let durable = plan.backlog.is_some();
        let safe = Box::pin(async move {
            if !durable {
                std::future::pending::<()>().await;
            }
            spooled.cancelled().await;
            target.failing().await;
        });
        Self { outlet, plan, pause, abort, safe, task }
    }

    /// The sink's name.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// What it was built from.
    pub(super) fn plan(&self) -> &SinkPlan {
        &self.plan
    }

    /// Replaces the sink and keeps its queue: ends the delivery after the write in progress (at `deadline` within
    /// it), closes the sink and opens the new one. If that cannot be opened the old one takes over again.
    ///
    /// # Errors
    /// The new sink cannot be opened, and trying again will not help; or `cut` was cancelled before it was.
    pub(super) async fn replace(
        self,
        plan: SinkPlan,
        deadline: Instant,
        cut: &CancellationToken,
        context: &SinkContext,
    ) -> (Self, Result<()>) {
        let (old, outlet) = self.halt(deadline, cut).await;
        // What waits in a folder that the old one did not have is new to the account.
        let new = !old.shares_folder(&plan);
        match cut.run_until_cancelled(open(&plan)).await.unwrap_or_else(|| Err(cut_short())) {
            Ok(opened) => (Self::resume(plan, opened, outlet, new, context), Ok(())),
            Err(error) => (Self::resume(old, Opened::default(), outlet, false, context), Err(error)),
        }
    }

    /// Takes a replacement back: `old` is opened by its delivery, as often as it takes, because there is nothing else
    /// to fall back on.
    pub(super) async fn restore(
        self,
        old: SinkPlan,
        deadline: Instant,
        cut: &CancellationToken,
        context: &SinkContext,
    ) -> Self {
        let (_, outlet) = self.halt(deadline, cut).await;
        Self::resume(old, Opened::default(), outlet, false, context)
    }

    /// Ends the delivery and closes the sink; what it did not write waits in the queue, or in its backlog.
    async fn halt(self, deadline: Instant, cut: &CancellationToken) -> (SinkPlan, Outlet) {
        self.pause.cancel();
        // Whatever the reload spent on other sinks, this one may finish what it has.
        let until = cut.run_until_cancelled(sleep_until(deadline));
        let patience = async { tokio::join!(until, sleep(GOODBYE)) };
        let opened = end(&self.plan.name, self.task, &self.abort, patience).await;
        self.outlet.state.update(|numbers| numbers.phase = SinkPhase::Opening);
        opened.close(&self.plan.name).await;
        (self.plan, self.outlet)
    }

    /// Waits until the closed queue is empty and all is delivered, or `deadline`, and closes the sink. One with a backlog
    /// does not wait for a sink that takes no rows.
    pub(super) async fn ended(self, deadline: Instant) -> Remains {
        let patience = async {
            tokio::select! {
                // Whatever the stop spent on other sinks, this one may finish what it has.
                _ = async { tokio::join!(sleep_until(deadline), sleep(GOODBYE)) } => {}
                () = self.safe => {}
            }
        };
        let opened = end(&self.plan.name, self.task, &self.abort, patience).await;
        // One that was cut off is known as it was shown last.
        let shown = || self.outlet.state.numbers.lock().backlog.as_ref().map_or(0, |backlog| backlog.rows);
        let kept = opened.backlog.as_ref().map_or_else(shown, Backlog::rows);
        opened.close(&self.plan.name).await;
        Remains { left: self.outlet.queue.drain(), kept }
    }

    /// A reload took the sink out: what it does not take in time is dropped by that policy, unless it is on disk.
    pub(super) async fn removed(self, deadline: Instant) {
        let (state, backlog) = (Arc::clone(&self.outlet.state), self.plan.backlog.clone());
        self.outlet.queue.close();
        let mut dropped = 0;
        let remains = self.ended(deadline).await;
        for parcel in remains.left {
            let rows = u64::try_from(parcel.batch.rows()).unwrap_or(u64::MAX);
            state.account.drop_rows(rows, Policy::Removed);
            dropped += rows;
            parcel.settle();
        }
        if dropped > 0 {
            tracing::warn!(
                sink = state.name,
                rows = dropped,
                "rows were dropped: the removed sink did not take them in time"
            );
        }
        if let Some(backlog) = backlog.filter(|_| remains.kept > 0) {
            let (folder, rows) = (backlog.folder.display(), remains.kept);
            tracing::warn!(sink = state.name, rows, %folder, "rows of the removed sink stay in its backlog");
        }
    }
}

/// What a sink did not take before its end.
pub(super) struct Remains {
    /// Parcels that are nowhere else.
    pub(super) left: Vec<Parcel>,
    /// Rows that are safe in the backlog: the next run delivers them.
    pub(super) kept: u64,
}

/// The error of a reload that a stop ended.
pub(super) fn cut_short() -> Error {
    Error::unavailable("reload", "the pipeline is being stopped")
}

/// What is open of a sink.
#[derive(Default)]
pub(super) struct Opened {
    /// `None` if its delivery has to open it.
    sink: Option<Arc<dyn Sink>>,
    /// `None` if it has none, or its delivery has to open it.
    backlog: Option<Backlog>,
}

impl Opened {
    /// Closes what is open, with a limit; a failure is told and nothing more can be done.
    pub(super) async fn close(self, name: &str) {
        if let Some(sink) = self.sink {
            let closing = AssertUnwindSafe(sink.close()).catch_unwind();
            match timeout(CLOSE_LIMIT, closing).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    tracing::error!(sink = name, error = error.chain(), "the sink did not close");
                }
                Ok(Err(_)) => tracing::error!(sink = name, "the sink panicked while closing"),
                Err(_) => {
                    tracing::error!(sink = name, limit = ?CLOSE_LIMIT, "the sink did not close in time");
                }
            }
        }
        if let Some(backlog) = self.backlog {
            backlog.close().await;
        }
    }
}

/// Opens a sink and its backlog at a start or reload. A sink that is worth trying again is left to its delivery.
///
/// # Errors
/// Trying again will not help.
pub(super) async fn open(plan: &SinkPlan) -> Result<Opened> {
    let backlog = match plan.backlog.clone() {
        Some(plan) => Some(open_backlog(plan).await?),
        None => None,
    };
    match open_apart(&plan.open).await {
        Ok(sink) => Ok(Opened { sink: Some(sink), backlog }),
        Err(error) if error.retry() == Retry::Never && backlog.is_none() => Err(error),
        Err(error) => {
            tracing::warn!(
                sink = plan.name,
                error = error.chain(),
                "the sink does not open yet; its rows wait"
            );
            Ok(Opened { sink: None, backlog })
        }
    }
}

async fn open_backlog(plan: BacklogPlan) -> Result<Backlog> {
    spawn_blocking(move || Backlog::open(&plan))
        .await
        .map_err(|error| Error::unavailable("open the backlog", "the task failed").with_source(error))?
}

/// The work of a sink's task.
struct Work {
    delivery: Delivery,
    plan: SinkPlan,
    queue: Arc<Queue>,
    new: bool,
}

impl Work {
    /// Until everything is delivered, or it was paused or aborted. Tells when all rows are in the backlog.
    async fn run(self, opened: Opened, spooled: CancellationToken) -> Opened {
        let Opened { sink, backlog } = opened;
        let Some(plan) = self.plan.backlog.clone() else {
            let sink = self.opened(sink).await;
            if let Some(sink) = &sink {
                self.delivery.run(sink.as_ref(), &self.queue).await;
            }
            return Opened { sink, backlog: None };
        };
        let backlog = match backlog {
            Some(backlog) => backlog,
            None => match self.open_backlog(plan).await {
                Some(backlog) => backlog,
                None => return Opened { sink, backlog: None },
            },
        };
        if self.new {
            self.delivery.state.account.accept(backlog.rows());
        }
        let sink = self.through(&backlog, sink, spooled).await;
        Opened { sink, backlog: Some(backlog) }
    }

    /// Delivers through an open backlog.
    async fn through(
        &self,
        backlog: &Backlog,
        sink: Option<Arc<dyn Sink>>,
        spooled: CancellationToken,
    ) -> Option<Arc<dyn Sink>> {
        let context = Arc::new(backlog::Context {
            backlog: backlog.clone(),
            state: Arc::clone(&self.delivery.state),
            dead: Arc::clone(&self.delivery.dead),
            limit: LogLimit::default(),
            stop: self.delivery.pause.clone(),
        });
        // One batch while another is written: more would only be in memory what is on disk already.
        let lane_rows = self.plan.batching.rows;
        let lanes: Vec<_> = (0..self.plan.lanes.max(1)).map(|_| Arc::new(Queue::new(lane_rows))).collect();
        let over = CancellationToken::new();
        let mut keeping = JoinSet::new();
        let (keeper, until) = (Arc::clone(&context), over.clone());
        keeping.spawn(async move { Backlog::keep(&keeper, until).await });
        let mut moving = JoinSet::new();
        let (spooler, queue) = (Arc::clone(&context), Arc::clone(&self.queue));
        moving.spawn(async move {
            Backlog::spool(&spooler, &queue).await;
            spooled.cancel();
        });
        let ways = lanes.clone();
        moving.spawn(async move { Backlog::feed(&context, &ways).await });
        let sink = self.opened(sink).await;
        if let Some(sink) = &sink {
            for lane in lanes {
                let (delivery, sink) = (self.delivery.clone(), Arc::clone(sink));
                moving.spawn(async move { delivery.run(sink.as_ref(), &lane).await });
            }
        }
        joined(moving).await;
        self.delivery.state.account.drop_rows(backlog.dropped_on_the_way(), Policy::Overflow);
        over.cancel();
        joined(keeping).await;
        sink
    }

    async fn opened(&self, sink: Option<Arc<dyn Sink>>) -> Option<Arc<dyn Sink>> {
        let sink = match sink {
            Some(sink) => sink,
            None => self.delivery.open(&self.plan.open).await?,
        };
        self.delivery.opened();
        Some(sink)
    }

    /// As often as it takes; `None` when interrupted.
    async fn open_backlog(&self, plan: BacklogPlan) -> Option<Backlog> {
        let mut backoff = Backoff::new(self.plan.backoff.0, self.plan.backoff.1);
        loop {
            let error = match open_backlog(plan.clone()).await {
                Ok(backlog) => return Some(backlog),
                Err(error) => error,
            };
            tracing::error!(sink = self.plan.name, error = error.chain(), "the backlog does not open");
            self.delivery.pause.run_until_cancelled(sleep(backoff.after(&error))).await?;
        }
    }
}

/// Waits for all; a panic of one goes on here.
async fn joined(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Waits for the end of a delivery for as long as `patience` lasts, then cuts its write off.
async fn end(
    name: &str,
    mut task: JoinHandle<Opened>,
    abort: &CancellationToken,
    patience: impl Future,
) -> Opened {
    tokio::select! {
        biased;
        ended = &mut task => return ended.unwrap_or_default(),
        _ = patience => {}
    }
    abort.cancel();
    match timeout(GOODBYE, &mut task).await {
        Ok(ended) => ended.unwrap_or_default(),
        Err(_) => {
            tracing::error!(sink = name, "the sink does not let go of a write and is cut off");
            task.abort();
            Opened::default()
        }
    }
}
