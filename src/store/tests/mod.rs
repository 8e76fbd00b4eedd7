//! The store against a plain map, with everything that can happen to it in between.

mod faults;
mod model;
mod sharing;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampNanosecondType};
use futures::TryStreamExt;

use super::{Snapshot, Store, StoreOptions};
use crate::model::{BatchBuilder, Identity, MetricBatch};

pub(super) const HOUR: i64 = 3_600_000_000_000;

/// 2026-03-01T00:00:00Z in nanoseconds: days that are over.
pub(super) const BASE: i64 = 1_772_323_200_000_000_000;

/// Table, resource, core and time of a row, and its fields that are not null.
pub(super) type Rows = BTreeMap<(String, String, Option<String>, i64), BTreeMap<String, f64>>;

/// A store that does nothing by itself.
pub(super) fn quiet(path: &Path) -> StoreOptions {
    StoreOptions {
        flush_interval: Duration::from_secs(3_600),
        maintenance_interval: Duration::from_secs(3_600),
        ..StoreOptions::new(path)
    }
}

pub(super) async fn open(path: &Path) -> Store {
    Store::open(quiet(path)).await.unwrap()
}

/// Opens a store that was dropped rather than closed: as soon as its tasks are gone the folder is free.
pub(super) async fn open_when_free(path: &Path) -> Store {
    for _ in 0..1_000 {
        match Store::open(quiet(path)).await {
            Ok(store) => return store,
            Err(error) => assert_eq!(error.kind(), crate::ErrorKind::Conflict),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a dropped store keeps its folder")
}

/// A batch of one row of `cpu`.
pub(super) fn row(resource: &str, time: i64, fields: &[(&str, f64)]) -> MetricBatch {
    rows(&[(resource, None, time, fields)])
}

pub(super) type RowSpec<'a> = (&'a str, Option<&'a str>, i64, &'a [(&'a str, f64)]);

pub(super) fn rows(specs: &[RowSpec<'_>]) -> MetricBatch {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("unused")).unwrap();
    for (resource, core, time, fields) in specs {
        builder.identify(&Identity::host(resource));
        let mut row = builder.row(*time);
        row.set("core", *core).unwrap();
        for (name, value) in *fields {
            row.set(name, *value).unwrap();
        }
    }
    builder.finish().unwrap()
}

/// All rows of a snapshot, merged. Panics if a key comes twice.
pub(super) async fn read(snapshot: &Snapshot) -> Rows {
    let mut all = Rows::new();
    for name in snapshot.tables.keys() {
        let merged: Vec<RecordBatch> = snapshot.scan(name).unwrap().try_collect().await.unwrap();
        for batch in &merged {
            collect(name, batch, &mut all);
        }
    }
    all
}

fn collect(table: &str, batch: &RecordBatch, all: &mut Rows) {
    let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampNanosecondType>();
    let tag = |name: &str, row: usize| {
        let column = batch.column_by_name(name)?.as_dictionary::<Int32Type>();
        let values = column.values().as_string::<i32>();
        column.key(row).filter(|key| values.is_valid(*key)).map(|key| values.value(key).to_owned())
    };
    for row in 0..batch.num_rows() {
        let key = (table.to_owned(), tag("resource_id", row).unwrap(), tag("core", row), times.value(row));
        let fields = batch.schema_ref().fields().iter().zip(batch.columns()).filter_map(|(field, column)| {
            let values = column.as_primitive_opt::<Float64Type>()?;
            values.is_valid(row).then(|| (field.name().clone(), values.value(row)))
        });
        assert!(all.insert(key.clone(), fields.collect()).is_none(), "{key:?} came twice");
    }
}
