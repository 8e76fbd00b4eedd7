//! Resources as tables, one for each kind, for SQL and for printing. Column names are stable: scripts rely on them.

mod columns;
mod select;

use std::sync::Arc;

use arrow::array::RecordBatch;
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
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
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

#[cfg(test)]
mod tests;
