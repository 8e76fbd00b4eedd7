//! Reading a whole table without pruning: the plain way, which every cleverer way has to agree with.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;

use super::Snapshot;
use super::memory::BATCH_ROWS;
use super::merge::{BatchStream, merge};
use super::segment::read_segment;
use crate::{Error, ErrorKind, Result};

impl Snapshot {
    /// All rows of a table, sorted by tags then time, each key once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such table; the stream gives what goes wrong in reading.
    pub fn scan(&self, table: &str) -> Result<BatchStream> {
        let Some(table) = self.tables.get(table) else {
            let known: Vec<_> = self.tables.keys().map(String::as_str).collect();
            let reason = format!("the store has no such table; it has {}", known.join(", "));
            return Err(Error::new(ErrorKind::NotFound, "read table", reason).with_resource(table));
        };
        let mut segments: Vec<_> = table.segments.iter().collect();
        segments.sort_by_key(|segment| segment.precedence);
        let segments =
            segments.into_iter().map(|segment| read_segment(Arc::clone(&self.objects), segment, None));
        let buffer = table.buffer.iter().cloned().map(stream);
        Ok(merge(segments.chain(buffer).collect(), Arc::clone(&table.schema), BATCH_ROWS))
    }
}

/// Batches in memory as a stream; they are shared, not copied.
pub(super) fn stream(
    batches: impl IntoIterator<Item = RecordBatch, IntoIter: Send + 'static>,
) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}
