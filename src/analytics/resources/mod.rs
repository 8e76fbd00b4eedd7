//! Resources as tables, one for each kind, for SQL and for printing. Column names are stable: scripts rely on them.

mod columns;
mod select;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use serde_json::{Map, Value};

pub use select::matching;

use crate::model::resource::Kind;
use crate::{Error, Result};

/// A resource as a row.
pub trait Row {
    /// The kind; with an `s` it is the name of the table.
    const KIND: Kind;

    /// All columns, with their types.
    const COLUMNS: &'static [(&'static str, Type)];

    /// The columns that a person sees on a terminal.
    const SHORT: &'static [&'static str];

    /// The values by column; what is not known is left out.
    fn row(&self) -> Map<String, Value>;
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `Utf8`.
    Text,
    /// `Int64`.
    Integer,
    /// `Float64`.
    Float,
    /// `Boolean`.
    Boolean,
    /// `Timestamp(ns)`.
    Time,
    /// `Map(Utf8, Utf8)`, so that SQL finds one tag by its name: `tags['team']`.
    Tags,
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::Tags => {
                let key = Arc::new(Field::new("key", DataType::Utf8, false));
                let value = Arc::new(Field::new("value", DataType::Utf8, true));
                let entries =
                    Field::new("entries", DataType::Struct([key, value].into_iter().collect()), false);
                DataType::Map(Arc::new(entries), false)
            }
        }
    }
}

/// The schema of a kind's table; every column may be null.
pub fn schema<T: Row>() -> SchemaRef {
    let fields = T::COLUMNS.iter().map(|(name, kind)| Field::new(*name, kind.arrow(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of a kind's table.
///
/// # Errors
/// A value does not fit its column: a fault of this program.
pub fn batch<T: Row>(items: &[T]) -> Result<RecordBatch> {
    let failed = |error| {
        Error::invalid(format!("make a table of {}s", T::KIND), "a value does not fit its column")
            .with_source(error)
    };
    let schema = schema::<T>();
    if items.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let rows: Vec<_> = items.iter().map(T::row).collect();
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(rows.len())
        .with_strict_mode(true)
        .build_decoder()
        .map_err(failed)?;
    decoder.serialize(&rows).map_err(failed)?;
    Ok(decoder.flush().map_err(failed)?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

/// The rows with tags as one JSON text each, for forms that have no maps.
///
/// # Errors
/// The columns do not fit together: a fault of this program.
pub fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let text = column.as_map_opt().map(texts);
        let column = text.map_or_else(|| Arc::clone(column), |text| Arc::new(text) as ArrayRef);
        (field.name().clone(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).map_err(|error| {
        Error::invalid("print a listing", "its columns do not fit together").with_source(error)
    })
}

fn texts(maps: &MapArray) -> StringArray {
    let text = |row: usize| {
        let entries = maps.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let tags = keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value?.into())));
        Value::Object(tags.collect()).to_string()
    };
    (0..maps.len()).map(|row| maps.is_valid(row).then(|| text(row))).collect()
}

#[cfg(test)]
mod tests;
