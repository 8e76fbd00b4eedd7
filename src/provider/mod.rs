//! Where measurements come from. A provider knows the model and nothing else of ours.
//!
//! Discovery and collection are separate: [`Collector::discover`] says what there is to measure, in shards that each
//! keep their own high-water mark, and [`Collector::collect`] measures one shard for one window.

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

    /// Lets connections and threads go; called once, after the last collection.
    async fn close(&self) {}
}
