//! The schema of sorted rows, and bringing batches into it.
//!
//! Everything sorted in the store has its columns in one order: `time`, the tags by name, the fields by name. Rows are
//! sorted by the tags in that order, null first and then by bytes, and by `time` after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use crate::model::{Role, TIME, column_role, time_type};
use crate::{Error, ErrorKind, Result};

/// The sorted schema with every column of the given ones.
///
/// # Errors
/// [`ErrorKind::Conflict`] if two of them have a column of one name and two types.
pub fn union_schema<'a>(schemas: impl Iterator<Item = &'a SchemaRef>) -> Result<SchemaRef> {
    let mut tags: BTreeMap<&str, &FieldRef> = BTreeMap::new();
    let mut fields: BTreeMap<&str, &FieldRef> = BTreeMap::new();
    for field in schemas.flat_map(|schema| schema.fields()) {
        let columns = match column_role(field) {
            Some(Role::Time) => continue,
            Some(Role::Tag) => &mut tags,
            Some(Role::Field) => &mut fields,
            None => return Err(no_column(field)),
        };
        let known = columns.entry(field.name()).or_insert(field);
        if known.data_type() != field.data_type() {
            return Err(conflict(known, field));
        }
    }
    if let Some(name) = tags.keys().find(|name| fields.contains_key(*name)) {
        return Err(conflict(tags[name], fields[name]));
    }
    let time = Field::new(TIME, time_type(), false);
    let rest = tags.into_values().chain(fields.into_values());
    let rest = rest.map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Ok(Arc::new(Schema::new(std::iter::once(time).chain(rest).collect::<Vec<_>>())))
}

/// The batch with exactly the columns of `schema`: reordered, and null where it has none.
///
/// # Errors
/// [`ErrorKind::Conflict`] if a column has another type than `schema` says.
pub fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| column(batch, field)).collect::<Result<Vec<_>>>()?;
    assemble(schema, columns)
}

/// The batch's column for `field`, or nulls.
pub(super) fn column(batch: &RecordBatch, field: &Field) -> Result<ArrayRef> {
    match batch.schema_ref().column_with_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some((index, own)) if own.data_type() == field.data_type() => Ok(Arc::clone(batch.column(index))),
        Some((_, own)) => Err(conflict(field, own)),
    }
}

/// A batch out of columns that fit by construction.
pub(super) fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| arrow("put columns together", e))
}

/// Places of the tag columns in a sorted schema.
pub(super) fn tags(schema: &Schema) -> std::ops::Range<usize> {
    let is_tag = |field: &&FieldRef| column_role(field) == Some(Role::Tag);
    1..1 + schema.fields().iter().skip(1).take_while(is_tag).count()
}

/// An error of Arrow's on the store's rows.
pub(super) fn arrow(operation: &str, error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Invalid, operation, "Arrow refused it").with_provider("store").with_source(error)
}

fn conflict(known: &Field, other: &Field) -> Error {
    let reason = format!("it is {} here and {} there", known.data_type(), other.data_type());
    Error::new(ErrorKind::Conflict, "join columns", reason).with_provider("store").with_resource(known.name())
}

fn no_column(field: &Field) -> Error {
    Error::invalid("join columns", format!("{} is no type of the store's", field.data_type()))
        .with_provider("store")
        .with_resource(field.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity, tag_type};
    use arrow::array::Array;
    use arrow::datatypes::DataType;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(
            columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    #[test]
    fn columns_are_time_then_tags_then_fields_by_name() {
        let a = schema(&[("z", DataType::Float64), ("time", time_type()), ("b", tag_type())]);
        let b = schema(&[
            ("time", time_type()),
            ("a", tag_type()),
            ("c", DataType::Int64),
            ("z", DataType::Float64),
        ]);
        let union = union_schema([&a, &b].into_iter()).unwrap();
        let names: Vec<_> = union.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["time", "a", "b", "c", "z"]);
        assert_eq!(tags(&union), 1..3);
    }

    #[test]
    fn one_name_with_two_types_is_a_conflict() {
        let a = schema(&[("x", DataType::Float64)]);
        for other in [DataType::Int64, tag_type()] {
            let error = union_schema([&a, &schema(&[("x", other)])].into_iter()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains('x'), "{error}");
        }
    }

    #[test]
    fn missing_columns_become_null() {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
        builder.row(1).set("utilization", 0.5).unwrap();
        let batch = builder.finish().unwrap().into_records();
        let more = schema(&[("core", tag_type()), ("steal", DataType::Float64)]);
        let union = union_schema([&batch.schema(), &more].into_iter()).unwrap();
        let adapted = adapt(&batch, &union).unwrap();
        assert_eq!(adapted.schema(), union);
        assert_eq!(adapted.column_by_name("core").unwrap().logical_null_count(), 1);
        assert_eq!(adapted.column_by_name("steal").unwrap().null_count(), 1);
        assert_eq!(adapted.column_by_name("utilization").unwrap().null_count(), 0);
    }
}
