//! Telemetry of an invented fleet of virtual machines: what a collector of one cloud account sees, tick by tick.
//!
//! Tags are as many and as long as a cloud's are; values wander like load does and are rounded like a monitoring
//! service rounds them, so that compression is neither flattered nor hurt.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema, SchemaRef};
use barograph::model::MetricBatch;

/// Fields of the `cpu` table that the fleet reports.
const FIELDS: [&str; 5] = ["cores", "load_1m", "steal", "utilization", "utilization_max"];

/// A fleet whose machines report once a tick.
pub struct Fleet {
    schema: SchemaRef,
    tags: Vec<ArrayRef>,
    load: Vec<f64>,
    chance: fastrand::Rng,
}

impl Fleet {
    /// `size` machines in two accounts, eight regions and 24 zones. Equal seeds give equal telemetry.
    pub fn new(size: usize, seed: u64) -> Self {
        let tags: [(&str, Vec<String>); 8] = [
            ("provider", each(size, |_| "aws".into())),
            ("account", each(size, |i| format!("{:012}", 314_159_265_358 + i % 2))),
            ("region", each(size, |i| format!("eu-west-{}", i % 8 + 1))),
            ("zone", each(size, |i| format!("eu-west-{}{}", i % 8 + 1, ['a', 'b', 'c'][i % 3]))),
            ("resource_type", each(size, |_| "instance".into())),
            (
                "resource_id",
                each(size, |i| format!("i-{:017x}", (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a))),
            ),
            ("resource_name", each(size, |i| format!("web-{i:05}.example.com"))),
            ("observer", each(size, |_| "hypervisor".into())),
        ];
        let mut fields = vec![Field::new("time", barograph::model::time_type(), false)];
        fields.extend(tags.iter().map(|(name, _)| Field::new(*name, barograph::model::tag_type(), true)));
        fields.extend(FIELDS.iter().map(|name| Field::new(*name, arrow::datatypes::DataType::Float64, true)));
        let mut chance = fastrand::Rng::with_seed(seed);
        let load = (0..size).map(|_| chance.f64() * 0.6).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            tags: tags.iter().map(|(_, values)| dictionary(values)).collect(),
            load,
            chance,
        }
    }

    /// One row of `cpu` for every machine at `time`, in nanoseconds since 1970 UTC.
    pub fn tick(&mut self, time: i64) -> MetricBatch {
        let size = self.load.len();
        let chance = &mut self.chance;
        for load in &mut self.load {
            *load = (*load + (chance.f64() - 0.5) * 0.05).clamp(0.0, 1.0);
        }
        let rounded = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(TimestampNanosecondArray::from(vec![time; size]))];
        columns.extend(self.tags.iter().map(Arc::clone));
        let field = |value: &mut dyn FnMut(usize, f64) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(
                self.load.iter().enumerate().map(|(i, load)| value(i, *load)),
            ))
        };
        columns.push(field(&mut |i, _| [2.0, 4.0, 8.0, 16.0][i % 4]));
        columns.push(field(&mut |i, load| (load * [2.0, 4.0, 8.0, 16.0][i % 4] * 100.0).round() / 100.0));
        columns.push(field(&mut |_, load| if load > 0.8 { rounded(load - 0.8) } else { 0.0 }));
        columns.push(field(&mut |_, load| rounded(load)));
        columns.push(field(&mut |_, load| rounded((load + chance.f64() * 0.1).min(1.0))));
        let records = RecordBatch::try_new(Arc::clone(&self.schema), columns).unwrap();
        MetricBatch::try_new("cpu", records).unwrap()
    }
}

fn each(size: usize, value: impl Fn(usize) -> String) -> Vec<String> {
    (0..size).map(value).collect()
}

fn dictionary(values: &[String]) -> ArrayRef {
    let mut distinct: Vec<&String> = values.iter().collect();
    distinct.sort();
    distinct.dedup();
    let keys: Int32Array =
        values.iter().map(|value| distinct.binary_search(&value).ok().map(|key| key as i32)).collect();
    let distinct: StringArray = distinct.into_iter().map(Some).collect();
    Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(distinct)))
}
