//! What happens to rows between source and sink: one file per transform. Transforms know the model only.

mod columns;
mod comparison;
pub mod downsample;
pub mod drop;
pub mod filter;
pub mod keep;
pub mod rename;
mod session;
pub mod sql;
pub mod tag;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Ack, MetricBatch, Parcel};
use crate::{Error, Result};

pub use downsample::Downsample;
pub use drop::Drop;
pub use filter::Filter;
pub use keep::Keep;
pub use rename::Rename;
pub use sql::Sql;
pub use tag::Tag;

/// A step of the pipeline.
#[async_trait]
pub trait Transform: Send {
    /// Turns one parcel into any number of parcels. Rows that the transform removes on purpose are counted by the
    /// caller as dropped by policy; whoever keeps rows for later keeps their acknowledgements with them.
    ///
    /// # Errors
    /// The parcel could not be transformed; it comes back untouched inside [`Refused`], to be dead-lettered.
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused>;

    /// Gives up rows that were kept, whose window ended at or before `now` (nanoseconds since 1970 UTC); at a stop
    /// the pipeline passes `i64::MAX`.
    ///
    /// # Errors
    /// Some of the rows that were kept cannot be given up; they are gone from the transform, and what else there is comes
    /// with the next call.
    async fn flush(&mut self, now: i64) -> Result<Vec<Parcel>, Unfinished> {
        let _ = now;
        Ok(Vec::new())
    }

    /// Rows may from now on come as late as this after their tick. Said before the first row, and again when a reload
    /// changes the sources and leaves the transform as it is.
    fn expect_within(&mut self, arrival: Duration) {
        let _ = arrival;
    }
}

/// A parcel that a transform or sink cannot take, and why.
#[derive(Debug)]
pub struct Refused {
    /// The parcel as it came.
    pub parcel: Parcel,
    /// Why.
    pub error: Error,
}

/// Rows that a transform kept and cannot give up, and why.
#[derive(Debug)]
pub struct Unfinished {
    /// How many rows they would have been.
    pub rows: usize,
    /// Everyone who waits for them.
    pub acks: Vec<Ack>,
    /// Why.
    pub error: Error,
}

/// Whether a transform that may name a table is meant for this batch.
fn concerns(table: Option<&str>, batch: &MetricBatch) -> bool {
    table.is_none_or(|table| table == batch.table())
}

/// Replaces a parcel's batch, or refuses the parcel as it came. A batch without rows ends here, settled.
fn replace(parcel: Parcel, batch: Result<MetricBatch>) -> Result<Vec<Parcel>, Refused> {
    match batch {
        Ok(batch) if batch.rows() == 0 => {
            parcel.settle();
            Ok(Vec::new())
        }
        Ok(batch) => Ok(vec![Parcel { batch, acks: parcel.acks }]),
        Err(error) => Err(Refused { parcel, error }),
    }
}
