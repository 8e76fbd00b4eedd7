//! One task per sink: takes parcels from the sink's queue, writes them together, tries again as the error allows, and
//! settles what has found its end.
//!
//! What an error means for the rows depends on its kind. `Invalid`, `Unsupported` and `Conflict` without retry speak
//! about the rows: the load is halved until the bad part is alone, which is dead-lettered. Everything else speaks
//! about the sink: the rows are kept and written again later, without end, because a full disk is emptied and a
//! revoked permission is given back.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::dead_letter::DeadLetters;
use super::log_limit::{LogLimit, lasted};
use super::monitor::{SinkPhase, SinkState};
use super::queue::Queue;
use crate::model::{MetricBatch, Parcel};
use crate::sink::{Sink, Written};
use crate::{Error, ErrorKind, Result, Retry};

/// Waits between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often one load may be refused before its pieces are dead-lettered whole. Finding one bad row among 16,384
/// takes 15; a load in which everything is bad must not become a write for each row.
const REFUSALS: u32 = 64;
/// The kinds of errors that speak about the rows, if trying again cannot help.
pub(super) const ABOUT_ROWS: [ErrorKind; 3] =
    [ErrorKind::Invalid, ErrorKind::Unsupported, ErrorKind::Conflict];
/// Panics of the sink over the same rows before the rows are taken to be the cause.
const PANICS: u32 = 3;

/// Opens a sink; may be called again, for a reload that is taken back.
pub type OpenSink = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Sink>>> + Send + Sync>;

/// Everything one delivery task needs.
pub(super) struct Delivery {
    pub(super) state: Arc<SinkState>,
    pub(super) queue: Arc<Queue>,
    pub(super) dead: Arc<DeadLetters>,
    /// Rows written together at most, if they come in smaller parcels.
    pub(super) batch_rows: usize,
    /// Ends the task after the write in progress; what was not written goes back into the queue.
    pub(super) pause: CancellationToken,
    /// Ends the task at once; what was not acknowledged goes back into the queue.
    pub(super) abort: CancellationToken,
    pub(super) limit: LogLimit,
}

/// What became of one load.
enum Attempt {
    Written(Written),
    Refused(Error),
    Interrupted,
}

impl Delivery {
    /// Delivers until the queue is closed and empty, or until paused or aborted. Gives the sink back to be closed.
    /// Without a sink it opens one first, as often as it takes.
    pub(super) async fn run(self, sink: Option<Arc<dyn Sink>>, open: OpenSink) -> Option<Arc<dyn Sink>> {
        let sink = match sink {
            Some(sink) => sink,
            None => {
                // Whoever starts without a sink has told that it does not open, or why it was closed.
                let began = Instant::now();
                let sink = self.open(open).await?;
                tracing::info!(sink = self.state.name, lasted = %lasted(began), "sink is open");
                sink
            }
        };
        self.state.update(|numbers| numbers.phase = SinkPhase::Open);
        loop {
            let parcels = tokio::select! {
                biased;
                () = self.abort.cancelled() => break,
                () = self.pause.cancelled() => break,
                parcels = self.queue.pop(self.batch_rows) => parcels,
            };
            let Some(parcels) = parcels else { break };
            if let Err(left) = self.deliver(sink.as_ref(), parcels).await {
                self.queue.put_back(left);
                break;
            }
        }
        Some(sink)
    }

    async fn open(&self, open: OpenSink) -> Option<Arc<dyn Sink>> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match open().await {
                Ok(sink) => return Some(sink),
                Err(error) => {
                    if let Some(left_out) = self.limit.pass("open") {
                        tracing::warn!(
                            sink = self.state.name,
                            error = error.chain(),
                            left_out,
                            "sink does not open"
                        );
                    }
                    if !self.wait(backoff.after(&error)).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Writes parcels to their end; gives back those without one when interrupted.
    async fn deliver(&self, sink: &dyn Sink, parcels: Vec<Parcel>) -> Result<(), Vec<Parcel>> {
        // Loads still to be written, the next one last.
        let mut loads = vec![parcels];
        let mut refusals = 0;
        while let Some(mut load) = loads.pop() {
            match self.attempt(sink, &load).await {
                Attempt::Written(written) => self.settle(load, written).await,
                Attempt::Refused(error) => {
                    refusals += 1;
                    if refusals < REFUSALS
                        && let Some(second) = halve(&mut load)
                    {
                        loads.push(second);
                        loads.push(load);
                    } else {
                        self.give_up_rows(load, &error).await;
                    }
                }
                Attempt::Interrupted => {
                    loads.push(load);
                    return Err(loads.into_iter().rev().flatten().collect());
                }
            }
        }
        Ok(())
    }

    /// Writes one load, as often as its errors allow.
    async fn attempt(&self, sink: &dyn Sink, load: &[Parcel]) -> Attempt {
        let batches: Vec<MetricBatch> = load.iter().map(|parcel| parcel.batch.clone()).collect();
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let mut panics = 0;
        loop {
            let write = AssertUnwindSafe(sink.write(&batches)).catch_unwind();
            let result = tokio::select! {
                biased;
                () = self.abort.cancelled() => return Attempt::Interrupted,
                result = write => result,
            };
            let error = match result {
                Ok(Ok(written)) => {
                    self.state.update(|numbers| {
                        numbers.phase = SinkPhase::Open;
                        numbers.writes += 1;
                    });
                    if let Some(lasted) = self.limit.forget("write") {
                        tracing::info!(sink = self.state.name, %lasted, "sink writes again");
                    }
                    return Attempt::Written(written);
                }
                Ok(Err(error)) if speaks_about_rows(&error) => return Attempt::Refused(error),
                Ok(Err(error)) => error,
                Err(_) => {
                    panics += 1;
                    if panics >= PANICS {
                        return Attempt::Refused(Error::new(
                            ErrorKind::Unsupported,
                            "write",
                            "the sink panicked",
                        ));
                    }
                    Error::unavailable("write", "the sink panicked")
                }
            };
            self.state.update(|numbers| {
                numbers.phase = SinkPhase::Retrying(error.to_string());
                numbers.retries += 1;
            });
            let wait = backoff.after(&error);
            if let Some(left_out) = self.limit.pass("write") {
                let error = error.chain();
                tracing::warn!(sink = self.state.name, error, ?wait, left_out, "write failed; the rows wait");
            }
            if !self.wait(wait).await {
                return Attempt::Interrupted;
            }
        }
    }

    async fn settle(&self, load: Vec<Parcel>, written: Written) {
        let total: u64 = load.iter().map(rows).sum();
        let mut rest = total;
        for rejected in &written.rejected {
            let rejected_rows = u64::try_from(rejected.rows.len()).unwrap_or(u64::MAX).min(rest);
            rest -= rejected_rows;
            let batch = load.get(rejected.batch).map(|parcel| &parcel.batch);
            self.dead.record(&self.state.name, rejected_rows, &rejected.error, batch).await;
            self.state.account.dead_letter(rejected_rows, rejected.error.kind().as_str());
        }
        let delivered = written.rows.min(rest);
        self.state.account.deliver(delivered);
        let unaccounted = rest - delivered;
        if unaccounted > 0 {
            let error = Error::new(ErrorKind::Unsupported, "write", "the sink did not account for the rows");
            self.dead.record(&self.state.name, unaccounted, &error, None).await;
            self.state.account.dead_letter(unaccounted, error.kind().as_str());
        }
        load.into_iter().for_each(Parcel::settle);
    }

    async fn give_up_rows(&self, load: Vec<Parcel>, error: &Error) {
        for parcel in load {
            let count = rows(&parcel);
            self.dead.record(&self.state.name, count, error, Some(&parcel.batch)).await;
            self.state.account.dead_letter(count, error.kind().as_str());
            parcel.settle();
        }
    }

    /// Whether the time passed without interruption.
    async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.abort.cancelled() => false,
            () = self.pause.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

fn speaks_about_rows(error: &Error) -> bool {
    error.retry() == Retry::Never && ABOUT_ROWS.contains(&error.kind())
}

/// Takes the second half out of a load: half of the parcels, or half of the rows of the only one. `None` if it is a
/// single row.
fn halve(load: &mut Vec<Parcel>) -> Option<Vec<Parcel>> {
    if load.len() > 1 {
        return Some(load.split_off(load.len() / 2));
    }
    let parcel = load.first_mut()?;
    let count = parcel.batch.rows();
    if count < 2 {
        return None;
    }
    let second = parcel.batch.slice(count / 2, count - count / 2);
    parcel.batch = parcel.batch.slice(0, count / 2);
    Some(vec![Parcel { batch: second, acks: parcel.acks.clone() }])
}

fn rows(parcel: &Parcel) -> u64 {
    u64::try_from(parcel.batch.rows()).unwrap_or(u64::MAX)
}
