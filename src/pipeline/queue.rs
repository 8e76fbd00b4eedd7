//! The queue before a sink, bounded by rows. When a reload replaces the sink, what waits here goes to the one that
//! continues it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::Parcel;

/// What happens to rows when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The pipeline waits, and so do the sources: nothing is lost that can wait.
    #[default]
    Block,
    /// The newest rows are dropped and counted as such: a sink that may lag never holds up the others.
    Drop,
}

/// What is taken out of a queue together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Rows at most, if they come in smaller parcels.
    pub rows: usize,
    /// How long fewer rows wait for more.
    pub age: Duration,
}

impl Batching {
    /// Whatever waits, up to so many rows.
    pub fn at_once(rows: usize) -> Self {
        Self { rows, age: Duration::ZERO }
    }
}

/// Parcels on their way to one sink.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    limit: AtomicUsize,
    filled: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    parcels: VecDeque<Parcel>,
    rows: usize,
    /// Since when the oldest waits.
    since: Option<Instant>,
    closed: bool,
}

impl Queue {
    /// An empty queue for at most `limit` rows; one parcel always fits, however large.
    pub(super) fn new(limit: usize) -> Self {
        let limit = AtomicUsize::new(limit);
        Self { state: Mutex::default(), limit, filled: Notify::new(), room: Notify::new() }
    }

    /// A reload changed the bound; what waits already stays.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.room.notify_waiters();
    }

    /// Adds a parcel, or gives it back if it has no room or the queue is closed.
    pub(super) fn try_push(&self, parcel: Parcel) -> Result<(), Parcel> {
        let mut state = self.state.lock();
        let rows = parcel.batch.rows();
        if state.closed
            || (state.rows > 0 && state.rows.saturating_add(rows) > self.limit.load(Ordering::Relaxed))
        {
            return Err(parcel);
        }
        state.rows += rows;
        state.since.get_or_insert_with(Instant::now);
        state.parcels.push_back(parcel);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Adds a parcel as soon as there is room; gives it back if the queue is closed.
    pub(super) async fn push(&self, mut parcel: Parcel) -> Result<(), Parcel> {
        loop {
            // Made before the look, so that room which comes between look and wait is not missed.
            let room = self.room.notified();
            match self.try_push(parcel) {
                Ok(()) => return Ok(()),
                Err(back) if self.state.lock().closed => return Err(back),
                Err(back) => parcel = back,
            }
            room.await;
        }
    }

    /// Takes what waits, oldest first: at least one parcel, and more while the sum stays within the rows of a batch.
    /// Fewer rows wait for more until the oldest has the age. `None` once the queue is closed and empty.
    pub(super) async fn pop(&self, batching: Batching) -> Option<Vec<Parcel>> {
        loop {
            let filled = self.filled.notified();
            let due = {
                let mut state = self.state.lock();
                let due = state.since.map(|since| since + batching.age);
                let ripe = state.closed
                    || state.rows >= batching.rows
                    || due.is_some_and(|due| batching.age.is_zero() || due <= Instant::now());
                if ripe && !state.parcels.is_empty() {
                    let taken = state.take(batching.rows);
                    drop(state);
                    self.room.notify_waiters();
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
                due
            };
            match due {
                None => filled.await,
                Some(due) => tokio::select! {
                    () = filled => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// Puts back what was taken and not delivered, before everything else.
    pub(super) fn put_back(&self, parcels: Vec<Parcel>) {
        let mut state = self.state.lock();
        for parcel in parcels.into_iter().rev() {
            state.rows += parcel.batch.rows();
            state.parcels.push_front(parcel);
        }
        state.since = (!state.parcels.is_empty()).then(Instant::now);
        drop(state);
        self.filled.notify_one();
    }

    /// No more parcels come; those inside can still be taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
        self.room.notify_waiters();
    }

    /// Takes everything that is left.
    pub(super) fn drain(&self) -> Vec<Parcel> {
        let mut state = self.state.lock();
        (state.rows, state.since) = (0, None);
        state.parcels.drain(..).collect()
    }

    /// Rows that wait.
    #[cfg(test)]
    pub(super) fn rows(&self) -> usize {
        self.state.lock().rows
    }
}

impl State {
    fn take(&mut self, rows: usize) -> Vec<Parcel> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while let Some(parcel) = self.parcels.front() {
            let next = parcel.batch.rows();
            if !taken.is_empty() && sum + next > rows {
                break;
            }
            sum += next;
            taken.extend(self.parcels.pop_front());
        }
        self.rows -= sum;
        // What stays is as good as new: it could not have gone with the others.
        self.since = (!self.parcels.is_empty()).then(Instant::now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::doubles::parcel;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_waits_for_room_and_small_parcels_leave_together() {
        let queue = Arc::new(Queue::new(10));
        for _ in 0..3 {
            queue.push(parcel(3)).await.unwrap();
        }
        assert!(queue.try_push(parcel(2)).is_err());
        let pushing = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.push(parcel(2)).await.is_ok() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!pushing.is_finished());
        assert_eq!(queue.pop(Batching::at_once(6)).await.unwrap().len(), 2);
        assert!(pushing.await.unwrap());
        assert_eq!(queue.rows(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn few_rows_wait_for_more_but_not_longer_than_their_age_and_not_for_a_closed_queue() {
        let queue = Queue::new(100);
        let batching = Batching { rows: 10, age: Duration::from_secs(5) };
        let began = Instant::now();
        queue.push(parcel(3)).await.unwrap();
        assert_eq!(queue.pop(batching).await.unwrap().len(), 1);
        assert_eq!(began.elapsed().as_secs(), 5);
        for _ in 0..4 {
            queue.push(parcel(3)).await.unwrap();
        }
        assert_eq!(queue.pop(batching).await.unwrap().len(), 3, "full: at once");
        queue.close();
        assert_eq!(queue.pop(batching).await.unwrap().len(), 1);
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn one_parcel_larger_than_the_queue_still_passes() {
        let queue = Queue::new(10);
        queue.push(parcel(1_000)).await.unwrap();
        assert!(queue.try_push(parcel(1)).is_err());
        assert_eq!(queue.pop(Batching::at_once(100)).await.unwrap()[0].batch.rows(), 1_000);
    }

    #[tokio::test]
    async fn what_was_put_back_comes_first_and_in_order() {
        let queue = Queue::new(100);
        for rows in [1, 2, 3] {
            queue.push(parcel(rows)).await.unwrap();
        }
        let taken = queue.pop(Batching::at_once(3)).await.unwrap();
        queue.put_back(taken);
        assert_eq!(queue.rows(), 6);
        let order: Vec<_> =
            queue.pop(Batching::at_once(100)).await.unwrap().iter().map(|p| p.batch.rows()).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_more_and_ends_when_empty() {
        let queue = Queue::new(100);
        queue.push(parcel(1)).await.unwrap();
        queue.close();
        assert!(queue.push(parcel(1)).await.is_err());
        assert!(queue.pop(Batching::at_once(100)).await.is_some());
        assert!(queue.pop(Batching::at_once(100)).await.is_none());
    }
}
