//! A running query: a task of its own that computes ahead by a few batches, and the stream that reads them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{EngineOptions, explain};
use crate::store::Snapshot;
use crate::{Error, Result};

/// Batches computed before they are asked for.
const AHEAD: usize = 2;

/// The rows of a query, batch by batch; the first error is the last item. Dropping it cancels the query.
pub struct Answer {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl Answer {
    /// The columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// All batches at once, for answers known to be small.
    ///
    /// # Errors
    /// The first error of the query.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// State of the reading side.
struct Reading {
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    /// Holds the one task; dropping the set aborts it.
    task: JoinSet<()>,
    /// Time that may still be waited for the engine.
    left: Duration,
    options: Arc<EngineOptions>,
    snapshot: Arc<Snapshot>,
}

/// Runs the stream in a task, so that the timeout holds even while an operator does not yield. `started` is when the
/// query began. The task holds the snapshot, so that its files stay until the query has ended.
pub(super) fn start(
    mut source: SendableRecordBatchStream,
    started: Instant,
    options: Arc<EngineOptions>,
    snapshot: Snapshot,
) -> Answer {
    let snapshot = Arc::new(snapshot);
    let pinned = Arc::clone(&snapshot);
    let schema = source.schema();
    let (sender, batches) = mpsc::channel(AHEAD);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let _pinned = pinned;
        while let Some(batch) = source.next().await {
            let failed = batch.is_err();
            // A send fails only when nobody reads any more.
            if sender.send(batch).await.is_err() || failed {
                return;
            }
        }
    });
    let left = options.timeout.saturating_sub(started.elapsed());
    let reading = Reading { batches, task, left, options, snapshot };
    let batches = stream::unfold(Some(reading), |reading| async move { next(reading?).await }).boxed();
    Answer { schema, batches }
}

async fn next(mut reading: Reading) -> Option<(Result<RecordBatch>, Option<Reading>)> {
    let asked = Instant::now();
    match tokio::time::timeout(reading.left, reading.batches.recv()).await {
        Ok(Some(Ok(batch))) => {
            reading.left = reading.left.saturating_sub(asked.elapsed());
            Some((Ok(batch), Some(reading)))
        }
        Ok(Some(Err(error))) => {
            let error = explain::of_query("run the query", error, &reading.options, &reading.snapshot);
            Some((Err(error), None))
        }
        Ok(None) => match reading.task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                let reason = "the query stopped with an internal fault; please report it with the statement";
                Some((Err(Error::unavailable("run the query", reason).with_source(error)), None))
            }
            _ => None,
        },
        Err(_) => Some((Err(explain::timed_out(&reading.options)), None)),
    }
}
