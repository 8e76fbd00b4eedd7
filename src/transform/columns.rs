//! What the transforms of columns share: which names may be touched, and putting a batch together again.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::model::{
    CLOUD_TAG, Catalog, Column as Declared, MetricBatch, REQUIRED_TAGS, TIME, tag_type, time_type,
};
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

/// The columns of a schema, and after them those that the table declares beside them, if it is one that is built in.
///
/// SQL is understood over these: a batch leaves columns out that no row of it used.
pub(super) fn declared(table: &str, schema: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    if let Ok(table) = Catalog::builtin()?.table(table) {
        let time = Field::new(TIME, time_type(), false);
        let all = std::iter::once(time).chain(table.columns().iter().map(Declared::arrow));
        fields.extend(all.filter(|field| schema.column_with_name(field.name()).is_none()).map(Arc::new));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// These columns, and beside them the tag of a cloud that the engine missed among them; `None` if it missed something else.
///
/// Which resources have such a tag is not known before they are seen: where none has it, it is null.
pub(super) fn with_missed_tag(columns: &SchemaRef, error: &DataFusionError) -> Option<SchemaRef> {
    let DataFusionError::SchemaError(missed, _) = error.find_root() else { return None };
    let SchemaError::FieldNotFound { field, .. } = missed.as_ref() else { return None };
    if !field.name.starts_with(CLOUD_TAG) || columns.column_with_name(&field.name).is_some() {
        return None;
    }
    let tag = Arc::new(Field::new(&field.name, tag_type(), true));
    Some(Arc::new(Schema::new(columns.fields().iter().cloned().chain([tag]).collect::<Vec<_>>())))
}

/// The rows with these columns, of which they have the first; null in the others.
pub(super) fn complete(records: &RecordBatch, full: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let missing = full.fields().iter().skip(records.num_columns());
    let mut columns = records.columns().to_vec();
    columns.extend(missing.map(|field| new_null_array(field.data_type(), records.num_rows())));
    let options = RecordBatchOptions::new().with_row_count(Some(records.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(full), columns, &options)
}

/// Refuses to take a column away without which a row has no identity.
pub(super) fn removable(name: &str, operation: &str) -> Result<()> {
    if name == TIME || REQUIRED_TAGS.contains(&name) {
        let reason = format!("a row is identified by it; {TIME} and {} stay", REQUIRED_TAGS.join(", "));
        return Err(Error::invalid(operation, reason).with_resource(name));
    }
    Ok(())
}

/// Whether a new column may be called so: anything to read, but not the name of the time.
pub(super) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name != TIME && !name.contains(char::is_control)
}
