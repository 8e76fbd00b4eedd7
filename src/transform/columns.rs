//! What the transforms of columns share: which names may be touched, and putting a batch together again.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use crate::model::{Catalog, Column as Declared, MetricBatch, REQUIRED_TAGS, TIME, time_type};
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

/// The rows of a batch with the columns of [`declared`]; null in those that the batch lacks.
pub(super) fn complete(batch: &MetricBatch, declared: &SchemaRef) -> Result<RecordBatch> {
    let records = batch.records();
    let missing = declared.fields().iter().skip(records.num_columns());
    let mut columns = records.columns().to_vec();
    columns.extend(missing.map(|field| new_null_array(field.data_type(), batch.rows())));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
    RecordBatch::try_new_with_options(Arc::clone(declared), columns, &options).map_err(|e| {
        Error::invalid("complete the columns of", "Arrow refused them")
            .with_resource(batch.table())
            .with_source(e)
    })
}

/// Refuses to take a column away without which a row has no identity.
pub(super) fn removable(name: &str, operation: &str) -> Result<()> {
    if name == TIME || REQUIRED_TAGS.contains(&name) {
        let reason = format!("a row is identified by it; {TIME} and {} stay", REQUIRED_TAGS.join(", "));
        return Err(Error::invalid(operation, reason).with_resource(name));
    }
    Ok(())
}
