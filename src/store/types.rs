//! One type per column and table: what keeps a batch out of the log that could never be merged with the rest.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;

use super::{SegmentColumn, SegmentMeta};
use crate::model::{FieldType, MetricBatch, tag_type, time_type};
use crate::{Error, ErrorKind, Result};

/// The types of all columns that the store has seen, by table. A clone is cheap and changes alone, so that what an
/// append would bring can be tried and forgotten if the append fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Types(Arc<HashMap<String, HashMap<String, DataType>>>);

impl Types {
    /// The types of the live segments.
    pub(super) fn of<'a>(segments: impl Iterator<Item = (&'a str, &'a SegmentMeta)>) -> Self {
        let mut types: HashMap<String, HashMap<String, DataType>> = HashMap::new();
        for (table, segment) in segments {
            let known = types.entry(table.to_owned()).or_default();
            for column in &segment.columns {
                if let Some(data_type) = data_type(column) {
                    known.entry(column.name.clone()).or_insert(data_type);
                }
            }
        }
        Self(Arc::new(types))
    }

    /// Takes the batch's columns in, or says which one has another type in the store; then nothing is taken in.
    pub(super) fn admit(&mut self, batch: &MetricBatch) -> Result<()> {
        let schema = batch.records().schema_ref();
        let known = self.0.get(batch.table());
        let mut fresh = Vec::new();
        for field in schema.fields() {
            match known.and_then(|known| known.get(field.name())) {
                Some(data_type) if data_type == field.data_type() => {}
                Some(data_type) => {
                    return Err(conflict(batch.table(), field.name(), data_type, field.data_type()));
                }
                None => fresh.push(field),
            }
        }
        if !fresh.is_empty() {
            let known = Arc::make_mut(&mut self.0).entry(batch.table().to_owned()).or_default();
            known.extend(fresh.into_iter().map(|field| (field.name().clone(), field.data_type().clone())));
        }
        Ok(())
    }
}

/// The Arrow type behind a segment column's kind.
fn data_type(column: &SegmentColumn) -> Option<DataType> {
    Some(match column.kind.as_str() {
        "time" => time_type(),
        "tag" => tag_type(),
        "float" => FieldType::Float.arrow(),
        "integer" => FieldType::Integer.arrow(),
        "boolean" => FieldType::Boolean.arrow(),
        "string" => FieldType::String.arrow(),
        _ => return None,
    })
}

/// What people call a column of this type.
fn word(data_type: &DataType) -> &'static str {
    match FieldType::from_arrow(data_type) {
        Some(FieldType::Float) => "a float field",
        Some(FieldType::Integer) => "an integer field",
        Some(FieldType::Boolean) => "a boolean field",
        Some(FieldType::String) => "a string field",
        None if *data_type == tag_type() => "a tag",
        None => "the time",
    }
}

fn conflict(table: &str, column: &str, stored: &DataType, offered: &DataType) -> Error {
    let reason = format!(
        "the column is {} in the store and {} in the batch; rename one of them",
        word(stored),
        word(offered)
    );
    Error::new(ErrorKind::Invalid, "store column", reason)
        .with_provider("store")
        .with_resource(format!("{table}.{column}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch};
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn with_column(name: &str, column: ArrayRef) -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
        builder.row(1).set("utilization", 0.5).unwrap();
        let records = builder.finish().unwrap().into_records();
        let mut fields: Vec<_> = records.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
        let columns = records.columns().iter().cloned().chain([column]).collect();
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        MetricBatch::try_new("cpu", records).unwrap()
    }

    #[test]
    fn the_first_type_stays_and_a_refused_batch_leaves_no_trace() {
        let mut types = Types::default();
        types.admit(&with_column("x", Arc::new(arrow::array::Int64Array::from(vec![1])))).unwrap();
        let text = with_column("x", Arc::new(arrow::array::StringArray::from(vec!["1"])));
        let error = types.admit(&text).unwrap_err();
        assert!(error.to_string().contains("cpu.x: the column is an integer field in the store"), "{error}");
        types.admit(&with_column("y", Arc::new(arrow::array::StringArray::from(vec!["1"])))).unwrap();
        let tag = with_column("y", arrow::array::new_null_array(&tag_type(), 1));
        assert!(types.admit(&tag).unwrap_err().to_string().contains("a tag in the batch"));
    }
}
