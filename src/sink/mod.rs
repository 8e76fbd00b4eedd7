//! Where rows go. A sink knows the model, the log and the store, never a provider.

pub mod line_protocol;
pub mod stdout;
pub mod store;

use async_trait::async_trait;

use crate::model::MetricBatch;
use crate::{Error, Result};

/// A destination of rows. Each sink has its own bounded queue and its own task, so calls never overlap.
#[async_trait]
pub trait Sink: Send {
    /// Takes batches and returns once all rows that it did not reject are durable.
    ///
    /// # Errors
    /// Nothing is durable; the caller keeps the batches and, if [`Error::retry`] allows, calls again with the same
    /// batches: a repeated row replaces itself.
    async fn write(&mut self, batches: &[MetricBatch]) -> Result<Written>;

    /// Finishes what was started; called once, after the last write.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a write did.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that are durable now.
    pub rows: u64,
    /// Rows that can never be taken, and why: they are dead-lettered.
    pub rejected: Vec<Rejected>,
}

/// Rows that a sink can never take.
#[derive(Debug)]
pub struct Rejected {
    /// Place in the call of the batch that holds them, if they are all of it.
    pub batch: Option<usize>,
    /// How many.
    pub rows: u64,
    /// Why.
    pub error: Error,
}
