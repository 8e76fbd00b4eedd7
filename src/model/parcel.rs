//! A batch on its way, with the acknowledgement that travels back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::MetricBatch;

/// What became of everything that shared an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every holder settled: the rows are durable, dead-lettered or dropped by a stated policy.
    Settled,
    /// Some holder let go without settling; the rows must be collected or sent again.
    Lost,
}

type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// A share in an acknowledgement.
///
/// Cloning makes another share. When the last share is gone the origin is told once: [`Outcome::Settled`] if each
/// share was [settled](Ack::settle), [`Outcome::Lost`] if any was merely dropped, as it is when a task panics.
#[derive(Debug)]
pub struct Ack {
    origin: Arc<Origin>,
    settled: bool,
}

struct Origin {
    lost: AtomicBool,
    callback: Mutex<Option<Callback>>,
}

impl Ack {
    /// The first share; `callback` runs once, on whichever thread lets go last, and must not block.
    pub fn new(callback: impl FnOnce(Outcome) + Send + 'static) -> Self {
        let callback: Callback = Box::new(callback);
        let origin = Origin { lost: AtomicBool::new(false), callback: Mutex::new(Some(callback)) };
        Self { origin: Arc::new(origin), settled: false }
    }

    /// A share that nobody waits for.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// This holder's duty is done.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Clone for Ack {
    fn clone(&self) -> Self {
        Self { origin: Arc::clone(&self.origin), settled: false }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if !self.settled {
            self.origin.lost.store(true, Ordering::Release);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let outcome = if *self.lost.get_mut() { Outcome::Lost } else { Outcome::Settled };
        if let Some(callback) = self.callback.get_mut().take() {
            callback(outcome);
        }
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// A batch and the acknowledgements that its rows owe; a transform that joins batches joins their shares.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The rows; their timestamps are final.
    pub batch: MetricBatch,
    /// Everyone who waits for these rows.
    pub acks: Vec<Ack>,
}

impl Parcel {
    /// A batch that one origin waits for.
    pub fn new(batch: MetricBatch, ack: Ack) -> Self {
        Self { batch, acks: vec![ack] }
    }

    /// Settles every share: the rows are where they were meant to go.
    pub fn settle(self) {
        self.acks.into_iter().for_each(Ack::settle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn probe() -> (Ack, mpsc::Receiver<Outcome>) {
        let (sender, receiver) = mpsc::sync_channel(8);
        (Ack::new(move |outcome| sender.send(outcome).unwrap()), receiver)
    }

    #[test]
    fn the_origin_hears_once_after_the_last_share() {
        let (first, heard) = probe();
        let second = first.clone();
        first.settle();
        assert!(heard.try_recv().is_err());
        second.settle();
        assert_eq!(heard.recv(), Ok(Outcome::Settled));
        assert!(heard.recv().is_err());
    }

    #[test]
    fn one_dropped_share_means_lost() {
        let (first, heard) = probe();
        drop(first.clone());
        first.settle();
        assert_eq!(heard.recv(), Ok(Outcome::Lost));
    }

    #[test]
    fn a_panicking_holder_does_not_settle() {
        let (first, heard) = probe();
        let second = first.clone();
        let thread = std::thread::spawn(move || {
            let _held = second;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        first.settle();
        assert_eq!(heard.recv(), Ok(Outcome::Lost));
    }
}
