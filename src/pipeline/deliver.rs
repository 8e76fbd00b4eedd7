//! Delivery to one sink: opens it, as often as it takes, and writes the parcels of each lane together, tries again as the
//! error allows, and settles what has found its end.
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

use super::account::Policy;
use super::backoff::Backoff;
use super::dead_letter::DeadLetters;
use super::log_limit::{LogLimit, lasted};
use super::monitor::SinkState;
use super::queue::{Batching, Queue};
use super::target::Target;
use crate::model::{MetricBatch, Parcel};
use crate::sink::{Sink, Written};
use crate::{Error, ErrorKind, Result, Retry};

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

/// Opens a sink in a task of its own: whoever stops waiting, for a server that does not answer or at a stop, must not
/// leave a folder half opened.
pub(super) async fn open_apart(open: &OpenSink) -> Result<Arc<dyn Sink>> {
    tokio::spawn(open()).await.unwrap_or_else(|error| {
        Err(Error::unavailable("open sink", "it was stopped or panicked").with_source(error))
    })
}

/// Everything that delivery to one sink needs; each lane has a clone.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) state: Arc<SinkState>,
    pub(super) target: Arc<Target>,
    pub(super) dead: Arc<DeadLetters>,
    pub(super) batching: Batching,
    /// Bounds of the waits between two tries to open the sink.
    pub(super) backoff: (Duration, Duration),
    /// Whether the rows come out of a backlog, which takes them while the sink does not.
    pub(super) durable: bool,
    /// Ends the task after the write in progress; what was not written goes back into the queue.
    pub(super) pause: CancellationToken,
    /// Ends the task at once; what was not acknowledged goes back into the queue.
    pub(super) abort: CancellationToken,
}

/// What became of one load.
enum Attempt {
    Written(Written),
    Refused(Error),
    Interrupted,
}

impl Delivery {
    /// Delivers what comes through one lane, until its queue is closed and empty, or until paused or aborted.
    pub(super) async fn run(&self, sink: &dyn Sink, queue: &Queue) {
        loop {
            let parcels = tokio::select! {
                biased;
                () = self.abort.cancelled() => return,
                () = self.pause.cancelled() => return,
                parcels = queue.pop(self.batching) => parcels,
            };
            let Some(parcels) = parcels else { return };
            if !self.durable {
                let oldest = parcels.first().and_then(|parcel| parcel.batch.times().first().copied());
                self.state.update(|numbers| numbers.oldest = oldest);
            }
            if let Err(left) = self.deliver(sink, parcels).await {
                return queue.put_back(left);
            }
            if !self.durable {
                self.state.update(|numbers| numbers.oldest = None);
            }
        }
    }

    /// Opens the sink, as often as it takes; `None` when interrupted.
    pub(super) async fn open(&self, open: &OpenSink) -> Option<Arc<dyn Sink>> {
        // Whoever starts without a sink has told that it does not open, or why it was closed.
        let (began, limit) = (Instant::now(), LogLimit::default());
        let mut backoff = Backoff::new(self.backoff.0, self.backoff.1);
        loop {
            let opened = tokio::select! {
                biased;
                () = self.abort.cancelled() => return None,
                () = self.pause.cancelled() => return None,
                opened = open_apart(open) => opened,
            };
            let error = match opened {
                Ok(sink) => {
                    tracing::info!(sink = self.state.name, lasted = %lasted(began), "sink is open");
                    return Some(sink);
                }
                Err(error) => error,
            };
            if self.durable {
                // Its rows are taken and safe: that is no reason to call the pipeline not ready.
                self.target.unopened(&error);
            }
            if let Some(left_out) = limit.pass("open") {
                let error = error.chain();
                tracing::warn!(sink = self.state.name, error, left_out, "sink does not open");
            }
            let wait = backoff.after(&error);
            tokio::select! {
                biased;
                () = self.abort.cancelled() => return None,
                () = self.pause.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The sink is open.
    pub(super) fn opened(&self) {
        self.target.opened();
    }

    /// Writes parcels to their end; gives back those without one when interrupted.
    async fn deliver(&self, sink: &dyn Sink, parcels: Vec<Parcel>) -> Result<(), Vec<Parcel>> {
        // Loads still to be written, the next one last.
        let mut loads = vec![parcels];
        let mut refusals = 0;
        while let Some(mut load) = loads.pop() {
            let kept = match self.attempt(sink, &load).await {
                Attempt::Written(written) => self.settle(load, written).await,
                Attempt::Refused(error) => {
                    refusals += 1;
                    if refusals < REFUSALS
                        && let Some(second) = halve(&mut load)
                    {
                        loads.push(second);
                        loads.push(load);
                        Ok(())
                    } else {
                        self.give_up_rows(load, &error).await
                    }
                }
                Attempt::Interrupted => Err(load),
            };
            if let Err(load) = kept {
                loads.push(load);
                return Err(loads.into_iter().rev().flatten().collect());
            }
        }
        Ok(())
    }

    /// Writes one load, as often as its errors allow.
    async fn attempt(&self, sink: &dyn Sink, load: &[Parcel]) -> Attempt {
        let batches: Vec<MetricBatch> = load.iter().map(|parcel| parcel.batch.clone()).collect();
        let mut panics = 0;
        loop {
            let turn = tokio::select! {
                biased;
                () = self.abort.cancelled() => return Attempt::Interrupted,
                turn = self.target.turn() => turn,
                () = self.pause.cancelled() => return Attempt::Interrupted,
            };
            let write = AssertUnwindSafe(sink.write(&batches)).catch_unwind();
            let result = tokio::select! {
                biased;
                () = self.abort.cancelled() => return Attempt::Interrupted,
                result = write => result,
            };
            let error = match result {
                Ok(Ok(written)) => {
                    self.target.worked(&turn);
                    return Attempt::Written(written);
                }
                Ok(Err(error)) if speaks_about_rows(&error) => {
                    // It has read them, so it is there.
                    self.target.answered(&turn);
                    return Attempt::Refused(error);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    panics += 1;
                    if panics >= PANICS {
                        let reason = "the sink panicked";
                        return Attempt::Refused(Error::new(ErrorKind::Unsupported, "write", reason));
                    }
                    Error::unavailable("write", "the sink panicked")
                }
            };
            self.target.failed(&error);
            drop(turn);
        }
    }

    /// Books what a write did; gives the load back if its dead letters cannot be kept before the end.
    async fn settle(&self, load: Vec<Parcel>, written: Written) -> Result<(), Vec<Parcel>> {
        let total: u64 = load.iter().map(rows).sum();
        let mut dead = Vec::new();
        for rejected in &written.rejected {
            let batch = load.get(rejected.batch).map(|parcel| parcel.batch.select(&rejected.rows));
            match batch {
                Some(Ok(batch)) => {
                    if !self.set_aside(&rejected.error, &batch).await {
                        return Err(load);
                    }
                    dead.push((batch.rows() as u64, rejected.error.kind()));
                }
                Some(Err(error)) => {
                    tracing::error!(sink = self.state.name, error = error.chain(), "a rejection");
                }
                None => {}
            }
        }
        for (rows, kind) in &dead {
            self.state.account.dead_letter(*rows, kind.as_str());
        }
        let rest = total - dead.iter().map(|(rows, _)| rows).sum::<u64>().min(total);
        let empty = written.empty.min(rest);
        self.state.account.drop_rows(empty, Policy::Empty);
        let delivered = written.rows.min(rest - empty);
        self.state.account.deliver(delivered);
        let unaccounted = rest - empty - delivered;
        if unaccounted > 0 {
            let error = Error::new(ErrorKind::Unsupported, "write", "the sink did not account for the rows");
            self.dead.note(&self.state.name, "", unaccounted, &error);
            self.state.account.dead_letter(unaccounted, error.kind().as_str());
        }
        load.into_iter().for_each(Parcel::settle);
        Ok(())
    }

    /// Dead-letters a load; gives back what cannot be kept before the end.
    async fn give_up_rows(&self, load: Vec<Parcel>, error: &Error) -> Result<(), Vec<Parcel>> {
        let mut load = load.into_iter();
        while let Some(parcel) = load.next() {
            if !self.set_aside(error, &parcel.batch).await {
                return Err(std::iter::once(parcel).chain(load).collect());
            }
            self.state.account.dead_letter(rows(&parcel), error.kind().as_str());
            parcel.settle();
        }
        Ok(())
    }

    async fn set_aside(&self, error: &Error, batch: &MetricBatch) -> bool {
        self.dead.set_aside(&self.state.name, error, batch, &self.abort).await
    }
}

/// Whether an error is about the rows: trying again gives the same answer, and the sink is not to blame.
pub(super) fn speaks_about_rows(error: &Error) -> bool {
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
