//! A source of AWS, driven as the pipeline drives it, with simulated time: the windows are all the time that there is. What
//! it hands on is kept as a store keeps it.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use barograph::Error;
use barograph::model::MetricBatch;
use barograph::provider::aws::{AwsCollector, Config};
use barograph::provider::{Collector, Shard, Window};
use futures::StreamExt;

pub const SECOND: i64 = 1_000_000_000;

/// What a source has handed on, as a store keeps it: rows replace themselves field by field.
pub struct Source {
    pub collector: AwsCollector,
    pub marks: BTreeMap<String, i64>,
    pub every: i64,
    /// By table, tags in one text, and time in seconds.
    pub rows: BTreeMap<(String, String, i64), BTreeMap<String, f64>>,
    pub texts: BTreeMap<(String, String, i64), BTreeMap<String, String>>,
    /// Values that were replaced by others.
    pub replaced: usize,
    /// Rows as they came, the same ones again counted again.
    pub came: usize,
    pub faults: Vec<String>,
    pub failures: usize,
}

impl Source {
    pub fn new(config: &Config, every: i64) -> Self {
        Self {
            collector: AwsCollector::new(config).unwrap().of_source(
                "cloud",
                std::time::Duration::from_secs(every.unsigned_abs()),
                &barograph::telemetry::Telemetry::default(),
            ),
            marks: BTreeMap::new(),
            every,
            rows: BTreeMap::new(),
            texts: BTreeMap::new(),
            replaced: 0,
            came: 0,
            faults: Vec::new(),
            failures: 0,
        }
    }

    /// The process ends and another goes on with the marks and the store.
    pub fn restart(&mut self, config: &Config) {
        self.collector = Self::new(config, self.every).collector;
    }

    pub async fn shards(&self) -> Vec<Shard> {
        self.collector.discover().await.unwrap()
    }

    /// One tick.
    pub async fn poll(&mut self, now: i64) {
        for shard in self.shards().await {
            let start = *self.marks.entry(shard.0.clone()).or_insert((now - self.every) * SECOND);
            let window = Window { start, end: now * SECOND };
            self.collector.told(window.end);
            for part in window.parts(self.collector.longest_window()) {
                match self.window(&shard, part).await {
                    Ok(reached) => {
                        let mark = self.marks.get_mut(&shard.0).unwrap();
                        // Windows touch, or the later one waits for the earlier.
                        if part.start <= *mark {
                            *mark = reached.clamp(part.start, part.end);
                        }
                    }
                    Err(error) => {
                        self.failures += 1;
                        self.faults.push(error.chain());
                        break;
                    }
                }
            }
        }
    }

    async fn window(&mut self, shard: &Shard, window: Window) -> Result<i64, Error> {
        let mut batches = Vec::new();
        let mut reached = window.end;
        let mut pieces = self.collector.pieces(shard, window);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            reached = piece.reached.unwrap_or(reached).min(reached);
            self.faults.extend(piece.faults.iter().map(Error::chain));
            batches.extend(piece.batches);
        }
        drop(pieces);
        batches.iter().for_each(|batch| self.keep(batch));
        Ok(reached)
    }

    fn keep(&mut self, batch: &MetricBatch) {
        let records = batch.records();
        let schema = records.schema();
        for row in 0..batch.rows() {
            self.came += 1;
            let mut tags = String::new();
            let (mut fields, mut texts) = (BTreeMap::new(), BTreeMap::new());
            for (field, column) in schema.fields().iter().zip(records.columns()) {
                if column.is_null(row) {
                    continue;
                }
                match field.data_type() {
                    DataType::Dictionary(..) => {
                        tags += &format!("{}={} ", field.name(), batch.tag(field.name(), row).unwrap());
                    }
                    DataType::Float64 => {
                        fields.insert(field.name().clone(), column.as_primitive::<Float64Type>().value(row));
                    }
                    DataType::Boolean => {
                        fields.insert(
                            field.name().clone(),
                            f64::from(u8::from(column.as_boolean().value(row))),
                        );
                    }
                    DataType::Utf8 => {
                        texts.insert(field.name().clone(), column.as_string::<i32>().value(row).to_owned());
                    }
                    _ => {}
                }
            }
            let key = (batch.table().to_owned(), tags, batch.times()[row] / SECOND);
            let known = self.rows.entry(key.clone()).or_default();
            for (name, value) in fields {
                if known.insert(name, value).is_some_and(|before| before.to_bits() != value.to_bits()) {
                    self.replaced += 1;
                }
            }
            self.texts.entry(key).or_default().extend(texts);
        }
    }

    /// The values of a column of a resource, by time; `with` are words that the tags have.
    pub fn values(&self, table: &str, id: &str, with: &[&str], field: &str) -> BTreeMap<i64, f64> {
        let id = format!("resource_id={id} ");
        let of = |(name, tags, _): &&(String, String, i64)| {
            name == table && tags.contains(&id) && with.iter().all(|word| tags.contains(word))
        };
        let found = self.rows.iter().filter(|(key, _)| of(key));
        found.filter_map(|((.., time), fields)| Some((*time, *fields.get(field)?))).collect()
    }

    /// The same of texts.
    pub fn words(&self, table: &str, id: &str, field: &str) -> Vec<(i64, String)> {
        let id = format!("resource_id={id} ");
        let of = self.texts.iter().filter(|((name, tags, _), _)| name == table && tags.contains(&id));
        of.filter_map(|((.., time), fields)| Some((*time, fields.get(field)?.clone()))).collect()
    }
}
