//! A source and a sink at work: the tasks behind them, and how each is started and ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::account::Policy;
use super::carry::Outlet;
use super::collect::Source;
use super::dead_letter::DeadLetters;
use super::deliver::Delivery;
use super::log_limit::LogLimit;
use super::monitor::{SinkPhase, SinkState, SourcePhase, SourceState};
use super::plan::SinkPlan;
use super::queue::Queue;
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
    task: JoinHandle<OpenedSink>,
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
    pub(super) fn start(plan: SinkPlan, sink: OpenedSink, context: &SinkContext) -> Self {
        let state = SinkState::new(&plan.name);
        let queue = Arc::new(Queue::new(plan.queue_rows));
        let outlet = Outlet { state, queue, overflow: plan.overflow };
        Self::resume(plan, sink, outlet, context)
    }

    /// Starts to deliver what waits in the queue of the sink that this one continues.
    fn resume(plan: SinkPlan, sink: OpenedSink, mut outlet: Outlet, context: &SinkContext) -> Self {
        let (pause, abort) = (CancellationToken::new(), CancellationToken::new());
        if outlet.state.name != plan.name {
            outlet.state = outlet.state.renamed(&plan.name);
        }
        outlet.overflow = plan.overflow;
        outlet.queue.set_limit(plan.queue_rows);
        let delivery = Delivery {
            state: Arc::clone(&outlet.state),
            queue: Arc::clone(&outlet.queue),
            dead: Arc::clone(&context.dead),
            batch_rows: plan.batch_rows,
            pause: pause.clone(),
            abort: abort.clone(),
            limit: LogLimit::default(),
        };
        let (open, failed, name) = (Arc::clone(&plan.open), context.failed.clone(), plan.name.clone());
        let task = tokio::spawn(async move {
            let run = AssertUnwindSafe(delivery.run(sink, open)).catch_unwind();
            run.await.unwrap_or_else(|_| {
                tracing::error!(sink = name, "the delivery panicked");
                failed.cancel();
                None
            })
        });
        Self { outlet, plan, pause, abort, task }
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
        match cut.run_until_cancelled(open(&plan)).await.unwrap_or_else(|| Err(cut_short())) {
            Ok(sink) => (Self::resume(plan, sink, outlet, context), Ok(())),
            Err(error) => (Self::resume(old, None, outlet, context), Err(error)),
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
        Self::resume(old, None, outlet, context)
    }

    /// Ends the delivery and closes the sink; what it did not write waits in the queue.
    async fn halt(self, deadline: Instant, cut: &CancellationToken) -> (SinkPlan, Outlet) {
        self.pause.cancel();
        let patience = cut.run_until_cancelled(sleep_until(deadline));
        let sink = end(&self.plan.name, self.task, &self.abort, patience).await;
        self.outlet.state.update(|numbers| numbers.phase = SinkPhase::Opening);
        close(&self.plan.name, sink).await;
        (self.plan, self.outlet)
    }

    /// Waits until the closed queue is empty, or `deadline`, and closes the sink. Returns what was left.
    pub(super) async fn ended(self, deadline: Instant) -> Vec<Parcel> {
        let sink = end(&self.plan.name, self.task, &self.abort, sleep_until(deadline)).await;
        close(&self.plan.name, sink).await;
        self.outlet.queue.drain()
    }

    /// A reload took the sink out: what it does not take in time is dropped by that policy.
    pub(super) async fn removed(self, deadline: Instant) {
        let state = Arc::clone(&self.outlet.state);
        self.outlet.queue.close();
        let mut dropped = 0;
        for parcel in self.ended(deadline).await {
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
    }
}

/// The error of a reload that a stop ended.
pub(super) fn cut_short() -> Error {
    Error::unavailable("reload", "the pipeline is being stopped")
}

/// An open sink; `None` if its delivery has to open it.
pub(super) type OpenedSink = Option<Arc<dyn Sink>>;

/// Opens a sink at a start or reload; `None` if it is worth trying again, which its delivery then does.
///
/// # Errors
/// Trying again will not help.
pub(super) async fn open(plan: &SinkPlan) -> Result<OpenedSink> {
    // A task of its own: whoever stops waiting must not leave a folder half opened.
    let opened = tokio::spawn((plan.open)()).await;
    let opened = opened.unwrap_or_else(|error| {
        Err(Error::unavailable("open sink", "it was stopped or panicked").with_source(error))
    });
    match opened {
        Ok(sink) => Ok(Some(sink)),
        Err(error) if error.retry() == Retry::Never => Err(error),
        Err(error) => {
            tracing::warn!(
                sink = plan.name,
                error = error.chain(),
                "the sink does not open yet; its rows wait"
            );
            Ok(None)
        }
    }
}

/// Waits for the end of a delivery for as long as `patience` lasts, then cuts its write off.
async fn end(
    name: &str,
    mut task: JoinHandle<OpenedSink>,
    abort: &CancellationToken,
    patience: impl Future,
) -> OpenedSink {
    tokio::select! {
        biased;
        ended = &mut task => return ended.unwrap_or(None),
        // Whatever the stop spent on other sinks, this one may finish what it has.
        _ = async { tokio::join!(patience, sleep(GOODBYE)) } => {}
    }
    abort.cancel();
    match timeout(GOODBYE, &mut task).await {
        Ok(ended) => ended.unwrap_or(None),
        Err(_) => {
            tracing::error!(sink = name, "the sink does not let go of a write and is cut off");
            task.abort();
            None
        }
    }
}

/// Closes a sink, with a limit; a failure is told and nothing more can be done.
pub(super) async fn close(name: &str, sink: OpenedSink) {
    let Some(sink) = sink else { return };
    let closing = AssertUnwindSafe(sink.close()).catch_unwind();
    match timeout(CLOSE_LIMIT, closing).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(sink = name, error = error.chain(), "the sink did not close"),
        Ok(Err(_)) => tracing::error!(sink = name, "the sink panicked while closing"),
        Err(_) => tracing::error!(sink = name, limit = ?CLOSE_LIMIT, "the sink did not close in time"),
    }
}
