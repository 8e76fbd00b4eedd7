use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringDictionaryBuilder, TimestampNanosecondArray};
use arrow::datatypes::{Field, Int32Type, Schema};
use futures::TryStreamExt;
use proptest::prelude::*;

use super::super::buffer::{Buffer, times};
use super::super::columns::union_schema;
use super::*;
use crate::model::{tag_type, time_type};

/// Tags `a` and `b`, and time.
type Key = (Option<String>, Option<String>, i64);
/// Fields `x` (float) and `y` (integer).
type Values = (Option<i64>, Option<i64>);

#[derive(Debug, Clone)]
struct Row {
    key: Key,
    values: Values,
}

fn row() -> impl Strategy<Value = Row> {
    let tag = || prop_oneof![Just(None), "[a-c]{1,2}".prop_map(Some), Just(Some("a\0b".to_owned()))];
    let value = || proptest::option::of(0_i64..100);
    ((tag(), tag(), 0_i64..6), (value(), value())).prop_map(|(key, values)| Row { key, values })
}

/// A batch of rows; without its second tag and second field if `narrow`.
fn batch(rows: &[Row], narrow: bool) -> RecordBatch {
    let tag = |value: fn(&Row) -> Option<&String>| -> ArrayRef {
        let mut builder = StringDictionaryBuilder::<Int32Type>::new();
        rows.iter().for_each(|row| builder.append_option(value(row)));
        Arc::new(builder.finish())
    };
    let mut columns: Vec<(Field, ArrayRef)> = vec![
        (
            Field::new("x", arrow::datatypes::DataType::Float64, true),
            Arc::new(rows.iter().map(|row| row.values.0.map(|x| x as f64)).collect::<Float64Array>()),
        ),
        (
            Field::new("time", time_type(), false),
            Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.key.2))),
        ),
        (Field::new("a", tag_type(), true), tag(|row| row.key.0.as_ref())),
    ];
    if !narrow {
        let y: Int64Array = rows.iter().map(|row| row.values.1).collect();
        columns.push((Field::new("y", arrow::datatypes::DataType::Int64, true), Arc::new(y)));
        columns.push((Field::new("b", tag_type(), true), tag(|row| row.key.1.as_ref())));
    }
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn narrowed(rows: &[Row]) -> Vec<Row> {
    rows.iter()
        .map(|row| Row { key: (row.key.0.clone(), None, row.key.2), values: (row.values.0, None) })
        .collect()
}

fn apply(model: &mut BTreeMap<Key, Values>, rows: &[Row]) {
    for row in rows {
        let values = model.entry(row.key.clone()).or_default();
        values.0 = row.values.0.or(values.0);
        values.1 = row.values.1.or(values.1);
    }
}

/// Rows of sorted batches in order, read value by value.
fn rows_of(batches: &[RecordBatch]) -> Vec<(Key, Values)> {
    use arrow::array::{Array, AsArray};
    let mut rows = Vec::new();
    for batch in batches {
        let tag = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_dictionary::<Int32Type>();
            column.key(row).map(|key| column.values().as_string::<i32>().value(key).to_owned())
        };
        let x = batch.column_by_name("x").map(|x| x.as_primitive::<arrow::datatypes::Float64Type>());
        let y = batch.column_by_name("y").map(|y| y.as_primitive::<arrow::datatypes::Int64Type>());
        for row in 0..batch.num_rows() {
            let x = x.filter(|x| x.is_valid(row)).map(|x| x.value(row) as i64);
            let y = y.filter(|y| y.is_valid(row)).map(|y| y.value(row));
            rows.push(((tag("a", row), tag("b", row), times(batch.column(0))[row]), (x, y)));
        }
    }
    rows
}

fn sorted(batches: &[RecordBatch], batch_rows: usize) -> Vec<RecordBatch> {
    let mut buffer = Buffer::default();
    batches.iter().for_each(|batch| buffer.push(batch.clone()));
    buffer.sorted(batch_rows).unwrap()
}

fn stream(batches: Vec<RecordBatch>) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}

fn run(sources: Vec<Vec<RecordBatch>>, batch_rows: usize) -> Vec<RecordBatch> {
    let schemas: Vec<_> = sources.iter().flatten().map(RecordBatch::schema).collect();
    let schema = union_schema(schemas.iter()).unwrap();
    let merged = merge(sources.into_iter().map(stream).collect(), schema, batch_rows);
    futures::executor::block_on(merged.try_collect()).unwrap()
}

proptest! {
    #[test]
    fn the_buffer_sorts_like_a_map(
        parts in proptest::collection::vec((proptest::collection::vec(row(), 0..30), any::<bool>()), 0..6),
        batch_rows in 1_usize..20,
    ) {
        let mut model = BTreeMap::new();
        let mut batches = Vec::new();
        for (rows, narrow) in parts {
            let rows = if narrow { narrowed(&rows) } else { rows };
            apply(&mut model, &rows);
            batches.push(batch(&rows, narrow));
        }
        let sorted = sorted(&batches, batch_rows);
        prop_assert!(sorted.iter().all(|batch| (1..=batch_rows).contains(&batch.num_rows())));
        prop_assert_eq!(rows_of(&sorted), model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn merging_is_writing_one_after_the_other(
        sources in proptest::collection::vec(
            (proptest::collection::vec(row(), 0..40), any::<bool>(), 1_usize..9), 0..5),
        batch_rows in 1_usize..20,
    ) {
        let mut model = BTreeMap::new();
        let mut streams = Vec::new();
        for (rows, narrow, size) in sources {
            let rows = if narrow { narrowed(&rows) } else { rows };
            apply(&mut model, &rows);
            streams.push(sorted(&[batch(&rows, narrow)], size));
        }
        let merged = run(streams, batch_rows);
        prop_assert!(merged.iter().all(|batch| (1..=batch_rows).contains(&batch.num_rows())));
        prop_assert_eq!(rows_of(&merged), model.into_iter().collect::<Vec<_>>());
    }
}

/// `count` rows of one series from `start` on, one per nanosecond.
fn series(name: &str, start: i64, count: i64) -> RecordBatch {
    let rows: Vec<_> = (start..start + count)
        .map(|time| Row { key: (Some(name.into()), None, time), values: (Some(time), None) })
        .collect();
    sorted(&[batch(&rows, false)], usize::MAX).remove(0)
}

#[test]
fn sources_that_do_not_overlap_are_passed_through() {
    let first = series("a", 0, 5_000);
    let second = series("b", 0, 5_000);
    let merged = run(vec![vec![second.clone()], vec![first.clone()]], 8_192);
    assert_eq!(merged, [first, second]);
}

#[test]
fn a_run_longer_than_a_batch_is_cut() {
    let merged =
        run(vec![vec![series("a", 0, 3_000)], vec![series("a", 2_999, 3_000), series("b", 0, 10)]], 700);
    assert!(merged.iter().all(|batch| batch.num_rows() <= 700));
    assert_eq!(merged.iter().map(RecordBatch::num_rows).sum::<usize>(), 5_999 + 10);
}

#[test]
fn a_source_that_fails_ends_the_result_with_its_error() {
    let schema = series("a", 0, 1).schema();
    let broken = futures::stream::iter([Err(crate::Error::unavailable("read", "broken"))]).boxed();
    let mut merged = merge(vec![stream(vec![series("a", 0, 3)]), broken], schema, 10);
    let first = futures::executor::block_on(merged.next());
    assert!(first.unwrap().unwrap_err().to_string().contains("broken"));
    assert!(futures::executor::block_on(merged.next()).is_none());
}
