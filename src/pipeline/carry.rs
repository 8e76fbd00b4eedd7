//! The middle of the pipeline: one task takes parcels from the channel, leads them through the transforms in order,
//! and fans them out into the sinks' queues.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::account::Policy;
use super::clock::Clock;
use super::dead_letter::DeadLetters;
use super::monitor::{SinkState, TransformNumbers};
use super::queue::{Overflow, Queue};
use crate::model::{Ack, MetricBatch, Parcel};
use crate::transform::{Refused, Transform, Unfinished};
use crate::{Error, ErrorKind};

/// Transforms that keep rows are asked this often whether they give some up.
const FLUSH: Duration = Duration::from_secs(1);

/// A transform and what it did.
pub(super) struct Step {
    pub(super) numbers: Arc<Mutex<TransformNumbers>>,
    /// The step in this place before a reload may go on in its stead.
    pub(super) unchanged: bool,
    pub(super) transform: Box<dyn Transform>,
}

/// The way into one sink.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) state: Arc<SinkState>,
    pub(super) queue: Arc<Queue>,
    pub(super) overflow: Overflow,
}

/// The way that parcels take.
#[derive(Default)]
pub(super) struct Route {
    pub(super) steps: Vec<Step>,
    pub(super) outlets: Vec<Outlet>,
    /// The longest that rows may come after their tick.
    pub(super) arrival: Duration,
}

impl Route {
    /// Tells every transform how late rows may come.
    pub(super) fn announce(&mut self) {
        self.steps.iter_mut().for_each(|step| step.transform.expect_within(self.arrival));
    }
}

/// A new way, and whom to tell once the old one is empty and gone.
pub(super) type Replace = (Route, oneshot::Sender<()>);

/// The task.
pub(super) struct Carrier {
    pub(super) route: Route,
    pub(super) parcels: mpsc::Receiver<Parcel>,
    pub(super) replace: mpsc::Receiver<Replace>,
    pub(super) dead: Arc<DeadLetters>,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when a stop has run out of time: nothing waits for room any more.
    pub(super) give_up: CancellationToken,
}

impl Carrier {
    /// Runs until all sources are gone, then empties the transforms and closes the queues. When time has run out the
    /// rows still on the way stay in the accounts as queued.
    pub(super) async fn run(mut self) {
        let mut flush = tokio::time::interval(FLUSH);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some((route, done)) = self.replace.recv() => {
                    self.change_over(route).await;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
                _ = flush.tick() => self.flush(0, self.clock.now()).await,
                parcel = self.parcels.recv() => match parcel {
                    Some(parcel) => self.carry(parcel).await,
                    None => break,
                },
            }
        }
        self.flush(0, i64::MAX).await;
        for outlet in &self.route.outlets {
            outlet.queue.close();
        }
    }

    async fn carry(&mut self, parcel: Parcel) {
        let rows = count(&parcel);
        for outlet in &self.route.outlets {
            outlet.state.account.accept(rows);
        }
        self.lead(vec![parcel], 0).await;
    }

    /// Takes another way. Transforms that go on keep what they kept; the others are emptied.
    async fn change_over(&mut self, mut next: Route) {
        let pairs = next.steps.iter().zip(&self.route.steps);
        let kept = pairs.take_while(|(step, _)| step.unchanged).count();
        self.flush(kept, i64::MAX).await;
        for (step, running) in next.steps.iter_mut().zip(self.route.steps.drain(..kept)) {
            step.transform = running.transform;
            running.numbers.lock().clone_into(&mut step.numbers.lock());
        }
        next.announce();
        self.route = next;
    }

    /// Asks each transform from `first` on for the rows it kept; what one gives passes the ones after it.
    async fn flush(&mut self, first: usize, now: i64) {
        for index in first..self.route.steps.len() {
            while self.flush_step(index, now).await {}
        }
    }

    /// Tells whether the transform must be asked again: rows that it cannot give up come one failure at a time.
    async fn flush_step(&mut self, index: usize, now: i64) -> bool {
        let Some(step) = self.route.steps.get_mut(index) else { return false };
        let result = AssertUnwindSafe(step.transform.flush(now)).catch_unwind().await;
        match result {
            Ok(Ok(given)) => {
                let rows = given.iter().map(count).sum();
                step.numbers.lock().rows_out += rows;
                self.route.outlets.iter().for_each(|outlet| outlet.state.account.transform(0, rows));
                self.lead(given, index + 1).await;
                false
            }
            Ok(Err(unfinished)) => {
                self.give_up_rows(index, unfinished).await;
                true
            }
            Err(_) => {
                tracing::error!(transform = step.numbers.lock().name, "the transform panicked at a flush");
                false
            }
        }
    }

    /// Leads parcels through the transforms from `first` on, and into the queues.
    async fn lead(&mut self, mut parcels: Vec<Parcel>, first: usize) {
        for index in first..self.route.steps.len() {
            let mut next = Vec::with_capacity(parcels.len());
            for parcel in parcels {
                next.extend(self.step(index, parcel).await);
            }
            parcels = next;
        }
        for parcel in parcels {
            self.fan_out(parcel).await;
        }
    }

    async fn step(&mut self, index: usize, parcel: Parcel) -> Vec<Parcel> {
        let Some(step) = self.route.steps.get_mut(index) else { return vec![parcel] };
        let before = count(&parcel);
        let batch = parcel.batch.clone();
        step.numbers.lock().rows_in += before;
        let result = AssertUnwindSafe(step.transform.apply(parcel)).catch_unwind().await;
        match result {
            Ok(Ok(given)) => {
                let after = given.iter().map(count).sum();
                step.numbers.lock().rows_out += after;
                self.route.outlets.iter().for_each(|outlet| outlet.state.account.transform(before, after));
                given
            }
            Ok(Err(refused)) => {
                self.refuse(index, refused).await;
                Vec::new()
            }
            Err(_) => {
                // The shares went down with the transform, so the mark stays and the rows come again; these ones are
                // over.
                let error = Error::new(ErrorKind::Unsupported, "transform", "the transform panicked");
                self.refuse(index, Refused { parcel: Parcel { batch, acks: Vec::new() }, error }).await;
                Vec::new()
            }
        }
    }

    async fn refuse(&mut self, index: usize, refused: Refused) {
        let rows = count(&refused.parcel);
        let Refused { parcel: Parcel { batch, acks }, error } = refused;
        // When time has run out the shares are dropped, and the rows come again.
        if self.dead_letter(index, rows, &error, Some(&batch)).await {
            acks.into_iter().for_each(Ack::settle);
        }
    }

    /// Kept rows were booked as dropped when the transform took them; they come back to be counted.
    async fn give_up_rows(&mut self, index: usize, unfinished: Unfinished) {
        let Unfinished { rows, acks, error } = unfinished;
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.route.outlets.iter().for_each(|outlet| outlet.state.account.accept(rows));
        self.dead_letter(index, rows, &error, None).await;
        acks.into_iter().for_each(Ack::settle);
    }

    /// Whether the rows are set aside; where they are not known they are only told of.
    async fn dead_letter(
        &mut self,
        index: usize,
        rows: u64,
        error: &Error,
        batch: Option<&MetricBatch>,
    ) -> bool {
        let name = self.route.steps.get(index).map(|step| {
            let mut numbers = step.numbers.lock();
            numbers.refused += rows;
            numbers.name.clone()
        });
        let name = name.as_deref().unwrap_or("transform");
        let kept = match batch {
            Some(batch) => self.dead.set_aside(name, error, batch, &self.give_up).await,
            None => {
                self.dead.note(name, "", rows, error);
                true
            }
        };
        if kept {
            for outlet in &self.route.outlets {
                outlet.state.account.dead_letter(rows, error.kind().as_str());
            }
        }
        kept
    }

    async fn fan_out(&mut self, parcel: Parcel) {
        if parcel.batch.rows() == 0 {
            return parcel.settle();
        }
        for outlet in &self.route.outlets {
            let rows = count(&parcel);
            match outlet.overflow {
                Overflow::Block => tokio::select! {
                    // A sink with room gets its rows even when the stop has no more time for one without.
                    biased;
                    result = outlet.queue.push(parcel.clone()) => if let Err(refused) = result {
                        // Only a reload that removes the sink closes its queue while rows come.
                        outlet.state.account.drop_rows(rows, Policy::Removed);
                        refused.settle();
                    },
                    // The rows stay queued in the account; their share is dropped, so the mark stays.
                    () = self.give_up.cancelled() => {}
                },
                Overflow::Drop => {
                    if let Err(refused) = outlet.queue.try_push(parcel.clone()) {
                        outlet.state.account.drop_rows(rows, Policy::Overflow);
                        refused.settle();
                    }
                }
            }
        }
        parcel.settle();
    }
}

fn count(parcel: &Parcel) -> u64 {
    u64::try_from(parcel.batch.rows()).unwrap_or(u64::MAX)
}
