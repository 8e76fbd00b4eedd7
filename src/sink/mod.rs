//! Where rows go. A sink knows the model, the log and the store, never a provider.

pub mod backlog;
pub mod influxdb;
pub mod line_protocol;
pub mod lines;
pub mod stdout;
pub mod store;

use async_trait::async_trait;

use crate::model::MetricBatch;
use crate::{Error, Result};

/// A destination of rows. Each sink has its own bounded queue and its own tasks.
///
/// Writes may overlap when the pipeline has several lanes to the sink; rows of one series always take the same lane, so
/// that their order stays.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes batches and returns once all rows that it did not reject are durable.
    ///
    /// # Errors
    /// Not everything is durable; the caller keeps the batches and, if [`Error::retry`] allows, calls again with the same
    /// batches: a repeated row replaces itself.
    async fn write(&self, batches: &[MetricBatch]) -> Result<Written>;

    /// Finishes what was started; called once, after the last write.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// What a write did. Every row of the call is in one of the three.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that are durable now.
    pub rows: u64,
    /// Rows that hold no value the sink could write: nothing is lost with them.
    pub empty: u64,
    /// Rows that can never be taken, and why: they are dead-lettered.
    pub rejected: Vec<Rejected>,
}

/// Rows of one batch that a sink can never take, all for the same reason.
#[derive(Debug)]
pub struct Rejected {
    /// Place of the batch in the call.
    pub batch: usize,
    /// Places of the rows in the batch, ascending.
    pub rows: Vec<usize>,
    /// Why.
    pub error: Error,
}

impl Rejected {
    /// All rows of a batch.
    pub fn whole(place: usize, batch: &MetricBatch, error: Error) -> Self {
        Self { batch: place, rows: (0..batch.rows()).collect(), error }
    }
}
