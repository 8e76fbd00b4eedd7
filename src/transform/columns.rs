//! What the transforms of columns share: which names may be touched, and putting a batch together again.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema};

use crate::model::{MetricBatch, REQUIRED_TAGS, TIME};
use crate::{Error, Result};

/// A column of a batch.
pub(super) type Column = (FieldRef, ArrayRef);

/// The columns of a batch in order.
pub(super) fn of(batch: &MetricBatch) -> impl Iterator<Item = Column> + '_ {
    let records = batch.records();
    records.schema_ref().fields().iter().cloned().zip(records.columns().iter().cloned())
}

/// The same rows of the same table with other columns.
pub(super) fn with(batch: &MetricBatch, columns: impl IntoIterator<Item = Column>) -> Result<MetricBatch> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
    let records = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|e| {
            Error::invalid("change columns of", "Arrow refused them")
                .with_resource(batch.table())
                .with_source(e)
        })?;
    MetricBatch::try_new(batch.table(), records)
}

/// Refuses to take a column away without which a row has no identity.
pub(super) fn removable(name: &str, operation: &str) -> Result<()> {
    if name == TIME || REQUIRED_TAGS.contains(&name) {
        let reason = format!("a row is identified by it; {TIME} and {} stay", REQUIRED_TAGS.join(", "));
        return Err(Error::invalid(operation, reason).with_resource(name));
    }
    Ok(())
}
