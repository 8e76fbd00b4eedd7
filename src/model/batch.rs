//! Rows of one measurement table as an Arrow record batch whose shape has been checked.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimestampNanosecondType};

use super::table::{Catalog, ColumnKind, FieldType, REQUIRED_TAGS, Role, TIME, tag_type, time_type};
use crate::{Error, Result};

/// Rows of one table.
///
/// Whoever holds one knows: the first column is `time` (`Timestamp(ns)` without zone, never null); every
/// `Dictionary(Int32, Utf8)` column is a tag and the [required tags](REQUIRED_TAGS) are there and never null; all
/// other columns are fields of the four types; column names are unique; and a column that the built-in table
/// declares has the declared type.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricBatch {
    table: Arc<str>,
    records: RecordBatch,
}

impl MetricBatch {
    /// Checks a record batch against the rules above; `time` may stand anywhere and is moved to the front.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`], naming the table and the column at fault.
    pub fn try_new(table: &str, records: RecordBatch) -> Result<Self> {
        let records = time_first(records).map_err(|reason| refused(table, TIME, reason))?;
        let schema = records.schema();
        let declared = Catalog::builtin()?.table(table).ok();
        let mut names = std::collections::HashSet::new();
        for field in schema.fields() {
            let name = field.name();
            if !names.insert(name.as_str()) {
                return Err(refused(table, name, "the column stands twice"));
            }
            let role = column_role(field).ok_or_else(|| {
                refused(
                    table,
                    name,
                    format!(
                        "{} is not a column type; tags are Dictionary(Int32, Utf8), fields Float64, Int64, \
                         Boolean or Utf8, and time is Timestamp(ns) without a zone",
                        field.data_type()
                    ),
                )
            })?;
            if role == Role::Time && name != TIME {
                return Err(refused(table, name, "only the time column holds a timestamp"));
            }
            if let Some(column) = declared.and_then(|table| table.column(name))
                && column.arrow().data_type() != field.data_type()
            {
                let wanted = match column.kind {
                    ColumnKind::Tag => "a tag".to_owned(),
                    ColumnKind::Field(kind) => format!("a field of type {kind:?}").to_lowercase(),
                };
                return Err(refused(
                    table,
                    name,
                    format!("the table declares {wanted}, not {}", field.data_type()),
                ));
            }
        }
        for required in REQUIRED_TAGS {
            let Some(column) = records.column_by_name(required) else {
                return Err(refused(table, required, "the tag is required and missing"));
            };
            if column.data_type() != &tag_type() || column.logical_null_count() > 0 {
                return Err(refused(table, required, "the tag is required and must not be null"));
            }
        }
        if records.column(0).null_count() > 0 {
            return Err(refused(table, TIME, "time must not be null"));
        }
        Ok(Self { table: table.into(), records })
    }

    /// Name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The rows.
    pub fn records(&self) -> &RecordBatch {
        &self.records
    }

    /// The rows, given away.
    pub fn into_records(self) -> RecordBatch {
        self.records
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.records.num_rows()
    }

    /// The time column in nanoseconds since 1970 UTC.
    pub fn times(&self) -> &[i64] {
        self.records.column(0).as_primitive::<TimestampNanosecondType>().values()
    }

    /// The value of a tag in one row.
    pub fn tag(&self, name: &str, row: usize) -> Option<&str> {
        let keys = self.records.column_by_name(name)?.as_dictionary_opt::<Int32Type>()?;
        let values = keys.values().as_string_opt::<i32>()?;
        keys.key(row).filter(|key| values.is_valid(*key)).map(|key| values.value(key))
    }

    /// The value of a float field in one row.
    pub fn float(&self, name: &str, row: usize) -> Option<f64> {
        let column =
            self.records.column_by_name(name)?.as_primitive_opt::<arrow::datatypes::Float64Type>()?;
        column.is_valid(row).then(|| column.value(row))
    }

    /// Names of the tag columns in column order.
    pub fn tag_names(&self) -> impl Iterator<Item = &str> {
        self.records
            .schema_ref()
            .fields()
            .iter()
            .filter(|field| column_role(field) == Some(Role::Tag))
            .map(|f| f.name().as_str())
    }

    /// Rows `offset..offset + length`, without copying.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self { table: Arc::clone(&self.table), records: self.records.slice(offset, length) }
    }

    /// These rows, ascending, in a batch of their own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if there is no such row.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.len() == self.rows() && rows.iter().copied().eq(0..self.rows()) {
            return Ok(self.clone());
        }
        let unable = |reason: &str| Error::invalid("select rows of", reason).with_resource(self.table());
        if rows.iter().any(|row| *row >= self.rows()) {
            return Err(unable("it has fewer rows"));
        }
        let places = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
        let records = take_record_batch(&self.records, &places);
        let records = records.map_err(|e| unable("Arrow cannot take them out").with_source(e))?;
        Ok(Self { table: Arc::clone(&self.table), records })
    }
}

/// What a column is for, or `None` if a batch cannot hold such a column.
pub fn column_role(field: &Field) -> Option<Role> {
    match field.data_type() {
        data_type if *data_type == time_type() => Some(Role::Time),
        data_type if *data_type == tag_type() => Some(Role::Tag),
        data_type => FieldType::from_arrow(data_type).map(|_| Role::Field),
    }
}

/// The schema of a table with nothing but `time` and the common tags.
pub fn empty_schema() -> SchemaRef {
    let tags = super::COMMON_TAGS.iter().map(|name| Field::new(*name, tag_type(), true));
    Arc::new(Schema::new(
        std::iter::once(Field::new(TIME, time_type(), false)).chain(tags).collect::<Vec<_>>(),
    ))
}

/// Puts `time` first and makes its field non-null, so that equal shapes have equal schemas.
fn time_first(records: RecordBatch) -> std::result::Result<RecordBatch, String> {
    let schema = records.schema();
    let index = schema.index_of(TIME).map_err(|_| "the column is missing".to_owned())?;
    let data_type = schema.field(index).data_type();
    if *data_type != time_type() {
        let zone = matches!(data_type, DataType::Timestamp(_, Some(_)));
        let hint = if zone { "; convert it to UTC and drop the zone" } else { "" };
        return Err(format!("{data_type} is not Timestamp(ns){hint}"));
    }
    if index == 0 && !schema.field(0).is_nullable() {
        return Ok(records);
    }
    if records.column(index).null_count() > 0 {
        return Err("time must not be null".into());
    }
    let order = std::iter::once(index).chain((0..schema.fields().len()).filter(|i| *i != index));
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = order
        .map(|i| {
            let field = schema.field(i).clone();
            let nullable = i != index;
            (field.with_nullable(nullable), Arc::clone(records.column(i)))
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| e.to_string())
}

fn refused(table: &str, column: &str, reason: impl Into<String>) -> Error {
    Error::invalid("build a batch with column", reason).with_resource(format!("{table}.{column}"))
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Identity};
    use super::*;
    use arrow::array::{Float64Array, TimestampNanosecondArray};

    fn good() -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        builder.row(1_000).set("utilization", 0.5).unwrap();
        builder.finish().unwrap()
    }

    fn replace(batch: &MetricBatch, name: &str, field: Field, column: ArrayRef) -> Result<MetricBatch> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (old, values) in batch.records().schema().fields().iter().zip(batch.records().columns()) {
            let new = old.name() == name;
            fields.push(if new { Arc::new(field.clone()) } else { Arc::clone(old) });
            columns.push(if new { Arc::clone(&column) } else { Arc::clone(values) });
        }
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        MetricBatch::try_new(batch.table(), records)
    }

    #[test]
    fn a_time_with_a_zone_another_unit_or_a_null_is_refused() {
        let zoned: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("Europe/Paris"));
        let field = Field::new(TIME, zoned.data_type().clone(), false);
        let error = replace(&good(), TIME, field, zoned).unwrap_err();
        assert!(error.to_string().contains("convert it to UTC"), "{error}");
        let null: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![None]));
        let field = Field::new(TIME, null.data_type().clone(), true);
        assert!(replace(&good(), TIME, field, null).unwrap_err().to_string().contains("must not be null"));
    }

    #[test]
    fn a_declared_field_of_another_type_and_a_null_required_tag_are_refused() {
        let integer: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
        let field = Field::new("utilization", DataType::Int64, true);
        let error = replace(&good(), "utilization", field, integer).unwrap_err();
        assert!(error.to_string().contains("cpu.utilization"), "{error}");

        let nulls = arrow::array::new_null_array(&tag_type(), 1);
        let error =
            replace(&good(), "observer", Field::new("observer", tag_type(), true), nulls).unwrap_err();
        assert!(error.to_string().contains("observer"), "{error}");
    }

    #[test]
    fn a_missing_tag_a_second_column_and_an_unknown_type_are_refused() {
        let batch = good();
        let without = |name: &str| {
            let keep: Vec<_> = (0..batch.records().num_columns())
                .filter(|i| batch.records().schema().field(*i).name() != name)
                .collect();
            MetricBatch::try_new("cpu", batch.records().project(&keep).unwrap())
        };
        assert!(without("resource_id").unwrap_err().to_string().contains("required and missing"));
        assert!(without("time").unwrap_err().to_string().contains("missing"));
        assert!(without("region").is_ok());

        let float32: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![1.0]));
        let field = Field::new("region", DataType::Float32, true);
        let error = replace(&batch, "region", field, float32).unwrap_err();
        assert!(error.to_string().contains("Float32"), "{error}");
        let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let error =
            replace(&batch, "region", Field::new("zone", DataType::Float64, true), float).unwrap_err();
        assert!(error.to_string().contains("zone"), "{error}");
    }

    #[test]
    fn time_moves_to_the_front() {
        let batch = good();
        let last = batch.records().num_columns() - 1;
        let order: Vec<_> = (1..=last).chain([0]).collect();
        let moved = MetricBatch::try_new("cpu", batch.records().project(&order).unwrap()).unwrap();
        assert_eq!(moved.times(), [1_000]);
        assert_eq!(moved.records().schema().field(0).name(), TIME);
    }
}
