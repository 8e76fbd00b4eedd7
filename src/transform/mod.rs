//! What happens to rows between source and sink: one file per transform. Transforms know the model only.

use async_trait::async_trait;

use crate::Result;
use crate::model::Parcel;

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
    async fn flush(&mut self, now: i64) -> Result<Vec<Parcel>, Refused> {
        let _ = now;
        Ok(Vec::new())
    }
}

/// A parcel that a transform or sink cannot take, and why.
#[derive(Debug)]
pub struct Refused {
    /// The parcel as it came.
    pub parcel: Parcel,
    /// Why.
    pub error: crate::Error,
}
