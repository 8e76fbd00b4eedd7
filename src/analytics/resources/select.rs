//! SQL over a list of resources: which of them an expression is true for.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::UInt32Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::Row;
use crate::sql;
use crate::{Error, Result};

/// The column that numbers the rows while an expression is looked at.
const NUMBER: &str = "row number of the listing";

/// Which of `items` the expression is true for, by their places, in order.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] for an expression that is none, or that speaks of columns that are not there.
pub async fn matching<T: Row>(items: &[T], expression: &str) -> Result<Vec<usize>> {
    let batch = numbered(&super::batch(items)?)?;
    let failed = |error: datafusion::error::DataFusionError| match sql::refusal(&error) {
        Some((kind, reason)) => Error::new(kind, "read --where", format!("`{expression}`: {reason}")),
        None => Error::invalid("read --where", format!("`{expression}`: it is no SQL expression"))
            .with_source(error),
    };
    let config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(failed)?;
    let name = format!("{}s", T::KIND);
    context.register_table(&name, Arc::new(table)).map_err(failed)?;
    let frame = context.table(&name).await.map_err(failed)?;
    // Read as an expression, never as a statement: there is nothing in it that could write.
    let filter = frame.parse_sql_expr(expression).map_err(failed)?;
    let rows = frame.filter(filter).map_err(failed)?.collect().await.map_err(failed)?;
    let mut numbers: Vec<usize> = Vec::new();
    for batch in &rows {
        if let Some(column) = batch.column_by_name(NUMBER) {
            numbers
                .extend(column.as_primitive::<UInt32Type>().values().iter().map(|number| *number as usize));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn numbered(batch: &RecordBatch) -> Result<RecordBatch> {
    let count = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
    let numbers: arrow::array::ArrayRef = Arc::new(UInt32Array::from_iter_values(0..count));
    let schema = batch.schema();
    let named = schema.fields().iter().map(|field| field.name().clone()).zip(batch.columns().iter().cloned());
    RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)).chain([(
        NUMBER.to_owned(),
        numbers,
        false,
    )]))
    .map_err(|error| Error::invalid("number a listing", "the rows do not fit together").with_source(error))
}
