//! The embedded store: durable log, in-memory buffer, Parquet segments, one manifest.
//!
//! ```text
//! append ─> log (fsync) ─> memory ─ flush ─> segments (Parquet) ─ compaction ─> fewer segments ─ retention ─> gone
//!                             │                  │
//!                             └──── Snapshot ────┘   one manifest version and the rows not in segments yet
//! ```
//!
//! A row is identified by table, tags and time; where it was written more than once, each field has its last value
//! that is not null, across memory and segments. [`Store`] writes, one per folder; [`Reader`] reads, also from another
//! process while the store is written to, and sees every row whose append has returned.

mod assemble;
pub mod buffer;
pub mod columns;
mod compaction;
mod file;
mod flush;
mod manifest;
mod memory;
pub mod merge;
mod metrics;
mod open;
mod options;
mod output;
mod reader;
mod retention;
mod root;
mod scan;
mod segment;
mod series;
mod snapshot;
mod state;
mod types;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use compaction::CompactionReport;
pub use metrics::StoreStatistics;
pub use options::StoreOptions;
pub use reader::Reader;
pub use snapshot::{SegmentColumn, SegmentMeta, Snapshot, TableSnapshot, TagStatistics};
pub use writer::{Appended, RejectedBatch};

use self::state::Core;
use crate::model::MetricBatch;
use crate::{Error, Result};

/// Folder of the log.
const LOG: &str = "log";

/// A store opened for writing; cloning shares it.
///
/// Dropping the last clone without [`Store::close`] is safe: what is not in segments is in the log.
#[derive(Debug, Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    requests: Mutex<Option<mpsc::Sender<writer::Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}

impl Store {
    /// Opens the store in a folder, making it if it is not there, and reads the log that an earlier run left.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] if another writer has it; [`crate::ErrorKind::Invalid`] if options or manifest
    /// are wrong; others from the file system.
    pub async fn open(options: StoreOptions) -> Result<Self> {
        Ok(Self::start(Core::open(options).await?))
    }

    /// Starts the tasks of an open store.
    fn start(core: Arc<Core>) -> Self {
        let (requests, waiting) = mpsc::channel(writer::QUEUE);
        let writer = tokio::spawn(writer::run(Arc::clone(&core), waiting));
        let background = vec![
            tokio::spawn(flush::run(Arc::clone(&core))),
            tokio::spawn(retention::run(Arc::clone(&core))),
        ];
        let handle = Handle {
            core,
            requests: Mutex::new(Some(requests)),
            writer: Mutex::new(Some(writer)),
            background: Mutex::new(background),
        };
        Self { handle: Arc::new(handle) }
    }

    /// Stores batches; all that are not named in [`Appended::rejected`] are durable and readable on return. Waits while
    /// the buffer is full and being written to segments. Calls that wait at the same time share an fsync.
    ///
    /// # Errors
    /// Nothing can be said to be stored; the same call again is harmless. [`crate::ErrorKind::Capacity`] if the disk or
    /// the log is full.
    pub async fn append(&self, batches: &[MetricBatch]) -> Result<Appended> {
        let (reply, answer) = oneshot::channel();
        let requests = self.handle.requests.lock().clone().ok_or_else(Core::closed)?;
        let request = writer::Request { batches: batches.to_vec(), reply };
        requests.send(request).await.map_err(|_| Core::closed())?;
        drop(requests);
        answer.await.map_err(|_| Core::closed())?
    }

    /// Writes everything that is buffered to segments.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Capacity`] if the disk is full, others from the file system; the rows stay in the log and
    /// in memory.
    pub async fn flush(&self) -> Result<()> {
        flush::flush(&self.handle.core).await
    }

    /// Merges all segments that can be merged, and applies the retention.
    ///
    /// # Errors
    /// Nothing is changed by the part that failed.
    pub async fn compact(&self) -> Result<CompactionReport> {
        retention::drop_old(&self.handle.core).await?;
        let report = compaction::compact(&self.handle.core, compaction::Quiet::Always).await?;
        retention::delete_removed(&self.handle.core).await?;
        Ok(report)
    }

    /// The store as it is now. Sorts buffered rows that were not sorted before, so call it where computing is allowed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] if the manifest names columns that do not fit together.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.handle.core.snapshot()
    }

    /// What the store holds and did.
    pub fn statistics(&self) -> StoreStatistics {
        self.handle.core.statistics()
    }

    /// Finishes what is under way, flushes, and lets the folder go; all clones are closed by it.
    ///
    /// # Errors
    /// If the flush failed; the rows are in the log and the store is closed all the same.
    pub async fn close(self) -> Result<()> {
        let handle = &self.handle;
        drop(handle.requests.lock().take());
        let writer = handle.writer.lock().take();
        if let Some(writer) = writer {
            finished(writer.await)?;
        }
        handle.core.stop.cancel();
        let background = std::mem::take(&mut *handle.background.lock());
        for task in background {
            finished(task.await)?;
        }
        let flushed = flush::flush(&handle.core).await;
        // Whoever still commits finishes first; nobody commits afterwards.
        let _turn = handle.core.committing.lock().await;
        let Some(folder) = handle.core.folder.lock().take() else {
            return flushed;
        };
        handle.core.metrics.closed();
        let closed = root::blocking(move || folder.close()).await;
        flushed.and(closed)
    }
}

fn finished(result: std::result::Result<(), tokio::task::JoinError>) -> Result<()> {
    result.map_err(|e| Error::unavailable("close store", "a background task panicked").with_source(e))
}
