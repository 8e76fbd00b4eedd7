//! Where measurements come from. A provider knows the model and nothing else of ours.
//!
//! Discovery and collection are separate: [`Collector::discover`] says what there is to measure, in shards that each
//! keep their own high-water mark, and [`Collector::collect`] measures one shard for one window.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::MetricBatch;
use crate::{Error, Result};

pub mod host;
#[cfg(feature = "kvm")]
pub mod kvm;
#[cfg(not(feature = "kvm"))]
#[path = "kvm/absent.rs"]
pub mod kvm;
pub mod rates;

/// Whether this build can reach libvirt. Without it `kvm` sources are understood, and refused with that reason.
pub const KVM: bool = cfg!(feature = "kvm");

/// A part of a source with its own checkpoint: a region of an account, a hypervisor connection, this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub String);

/// The time a collection is for, in nanoseconds since 1970 UTC, start exclusive and end inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Everything up to here was collected before.
    pub start: i64,
    /// The tick that this collection belongs to; live sources stamp their rows with it.
    pub end: i64,
}

/// What one collection brought.
#[derive(Debug, Default)]
pub struct Collection {
    /// Rows by table; tables without rows are left out.
    pub batches: Vec<MetricBatch>,
    /// What failed beside the rows that came: one bad guest or disk never costs the others.
    pub faults: Vec<Error>,
}

impl Window {
    /// The window in parts of at most `longest`, oldest first.
    pub fn parts(self, longest: Option<Duration>) -> impl Iterator<Item = Self> {
        let length =
            longest.map_or(i64::MAX, |longest| i64::try_from(longest.as_nanos()).unwrap_or(i64::MAX)).max(1);
        let mut start = self.start;
        let mut first = true;
        std::iter::from_fn(move || {
            if start >= self.end && !first {
                return None;
            }
            first = false;
            let part = Self { start, end: start.saturating_add(length).min(self.end) };
            start = part.end;
            Some(part)
        })
    }
}

impl Collection {
    /// Rows in all batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(MetricBatch::rows).sum()
    }
}

/// A source of measurements.
#[async_trait]
pub trait Collector: Send + Sync {
    /// The shards there are now. Called at the start and again while running; a shard that is missing has ended.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] while the other side does not answer: the pipeline waits and asks again.
    async fn discover(&self) -> Result<Vec<Shard>>;

    /// Measures one shard. Calls for the same shard never overlap.
    ///
    /// # Errors
    /// Only when nothing could be measured; a part that failed goes into [`Collection::faults`].
    async fn collect(&self, shard: &Shard, window: Window) -> Result<Collection>;

    /// How much of the past can be brought by one collection, of a source that can read it: what is longer is asked for
    /// in parts of this length, oldest first, so that making up for a long stop takes no more memory than a short one.
    /// `None` for a source that only knows what is now.
    fn longest_window(&self) -> Option<Duration> {
        None
    }

    /// Lets connections and threads go; called once, after the last collection.
    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_in_parts_is_the_whole_window_once() {
        let window = Window { start: 5, end: 27 };
        let parts: Vec<_> =
            window.parts(Some(Duration::from_nanos(10))).map(|part| (part.start, part.end)).collect();
        assert_eq!(parts, [(5, 15), (15, 25), (25, 27)]);
        assert!(window.parts(None).eq([window]));
        let empty = Window { start: 5, end: 5 };
        assert!(empty.parts(Some(Duration::ZERO)).eq([empty]));
    }
}
