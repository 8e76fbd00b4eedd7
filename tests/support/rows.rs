//! Batches for the tests of the influxdb sink.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, StringDictionaryBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use barograph::model::{MetricBatch, REQUIRED_TAGS};

/// A time that no retention is too short for: a minute ago, in nanoseconds, on a whole second.
pub fn recent() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    (i64::try_from(now).unwrap() - 60) * 1_000_000_000
}

/// A row of the table of a test: its time, a number, and a text that few rows have.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub time: i64,
    pub value: f64,
    pub text: Option<String>,
}

/// Rows one nanosecond apart.
pub fn rows(start: i64, count: usize) -> Vec<Row> {
    let row = |at: usize| Row {
        time: start + i64::try_from(at).unwrap(),
        value: f64::from(u32::try_from(at).unwrap()) + 0.5,
        text: None,
    };
    (0..count).map(row).collect()
}

/// A batch of these rows.
pub fn batch(table: &str, rows: &[Row]) -> MetricBatch {
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("time", Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.time))))];
    for name in REQUIRED_TAGS {
        let mut tag = StringDictionaryBuilder::<Int32Type>::new();
        rows.iter().for_each(|_| tag.append_value("test"));
        columns.push((name, Arc::new(tag.finish())));
    }
    columns.push(("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value)))));
    columns.push(("text", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.text.as_deref())))));
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), *name != "time"))
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    MetricBatch::try_new(table, RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
        .unwrap()
}
