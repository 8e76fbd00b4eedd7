//! A table in parts, and the naive model of what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimestampNanosecondType};
use arrow::util::display::array_value_to_string;
use object_store::memory::InMemory;

use crate::analytics::{Engine, EngineOptions};
use crate::model::{tag_type, time_type};
use crate::store::{Snapshot, TableSnapshot};
use crate::{Error, Result};

/// Identity of a row: `host`, `zone`, `time`. The same order as the store's: null first.
pub(super) type Key = (Option<&'static str>, Option<&'static str>, i64);

/// A row of the test table: its key, and the fields `load` and `state`.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) load: Option<f64>,
    pub(super) state: Option<&'static str>,
}

pub(super) fn row(host: &'static str, time: i64, load: impl Into<Option<f64>>) -> Row {
    Row { key: (Some(host), None, time), load: load.into(), state: None }
}

/// What the table says: rows by key, last value that is not null.
pub(super) type Model = BTreeMap<Key, (Option<f64>, Option<&'static str>)>;

/// One store with one table `load` in several parts, and its model.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) snapshot: Snapshot,
    pub(super) model: Model,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with_options(EngineOptions { partitions: 2, ..EngineOptions::default() })
    }

    pub(super) fn with_options(options: EngineOptions) -> Self {
        let table = TableSnapshot { schema: schema(), segments: Vec::new(), buffer: Vec::new() };
        let snapshot = Snapshot {
            version: 1,
            read_at: Instant::now(),
            tables: BTreeMap::from([("load".to_owned(), table)]),
            objects: Arc::new(InMemory::new()),
            _pin: None,
        };
        Self { engine: Engine::new(options).unwrap(), snapshot, model: Model::new() }
    }

    pub(super) fn table(&mut self) -> &mut TableSnapshot {
        self.snapshot.tables.get_mut("load").unwrap()
    }

    fn learn(&mut self, rows: Vec<Row>) -> RecordBatch {
        let mut part = Model::new();
        for row in rows {
            for model in [&mut part, &mut self.model] {
                let (load, state) = model.entry(row.key).or_default();
                *load = row.load.or(*load);
                *state = row.state.or(*state);
            }
        }
        batch(&part)
    }

    /// Adds a segment above all others. Columns without a value are left out of the file.
    pub(super) async fn segment(&mut self, rows: Vec<Row>) {
        let batch = self.learn(rows);
        let number = self.table().segments.len() as u64;
        let objects = Arc::clone(&self.snapshot.objects);
        let meta = super::writer::write(objects, number, without_empty(&batch)).await;
        self.table().segments.push(meta);
    }

    /// Adds rows in memory above all others.
    pub(super) fn run(&mut self, rows: Vec<Row>) {
        let batch = without_empty(&self.learn(rows));
        self.table().buffer.push(vec![batch]);
    }

    pub(super) async fn try_query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.engine.query(&self.snapshot, sql).await?.collect().await
    }

    pub(super) async fn query(&self, sql: &str) -> Vec<RecordBatch> {
        self.try_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.chain()))
    }

    pub(super) async fn error(&self, sql: &str) -> Error {
        self.try_query(sql).await.expect_err(sql)
    }

    /// The answer as lines of values joined by a space.
    pub(super) async fn lines(&self, sql: &str) -> Vec<String> {
        let batches = self.query(sql).await;
        let lines = batches.iter().flat_map(|batch| {
            (0..batch.num_rows()).map(|row| {
                let values = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
                values.collect::<Vec<_>>().join(" ")
            })
        });
        lines.collect()
    }

    /// The text of a plan, with metrics.
    pub(super) async fn analyze(&self, sql: &str) -> String {
        self.lines(&format!("EXPLAIN ANALYZE {sql}")).await.join("\n")
    }

    /// The rows of a query over all columns, as a model.
    pub(super) async fn select(&self, filter: &str) -> Model {
        let sql = format!("SELECT time, host, zone, load, state FROM load WHERE {filter}");
        let mut model = Model::new();
        for batch in self.query(&sql).await {
            for index in 0..batch.num_rows() {
                let (key, values) = read(&batch, index);
                assert!(model.insert(key, values).is_none(), "{key:?} stands twice in the answer of {sql}");
            }
        }
        model
    }
}

/// The table's schema in the store's column order.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", time_type(), false),
        Field::new("host", tag_type(), true),
        Field::new("zone", tag_type(), true),
        Field::new("load", DataType::Float64, true),
        Field::new("state", DataType::Utf8, true),
    ]))
}

fn batch(model: &Model) -> RecordBatch {
    let tag = |values: Vec<Option<&str>>| cast(&StringArray::from(values), &tag_type()).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(model.keys().map(|key| key.2))),
        tag(model.keys().map(|key| key.0).collect()),
        tag(model.keys().map(|key| key.1).collect()),
        Arc::new(model.values().map(|values| values.0).collect::<Float64Array>()),
        Arc::new(model.values().map(|values| values.1).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn without_empty(batch: &RecordBatch) -> RecordBatch {
    let used: Vec<_> = (0..batch.num_columns())
        .filter(|index| batch.column(*index).logical_null_count() < batch.num_rows())
        .collect();
    batch.project(&used).unwrap()
}

/// Words that rows are made of, so that answers can be compared with the model.
pub(super) const WORDS: [&str; 6] = ["a", "b", "c", "x", "y", "up"];

fn read(batch: &RecordBatch, row: usize) -> (Key, (Option<f64>, Option<&'static str>)) {
    let text = |column: usize| {
        let column = cast(batch.column(column), &DataType::Utf8).unwrap();
        let column = column.as_string::<i32>();
        let value = column.is_valid(row).then(|| column.value(row))?;
        Some(*WORDS.iter().find(|word| **word == value).unwrap())
    };
    let load = batch.column(3).as_primitive::<Float64Type>();
    let time = batch.column(0).as_primitive::<TimestampNanosecondType>().value(row);
    ((text(1), text(2), time), (load.is_valid(row).then(|| load.value(row)), text(4)))
}
