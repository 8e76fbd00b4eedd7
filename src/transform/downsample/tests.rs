use std::collections::HashMap as Map;

use arrow::array::AsArray;
use proptest::prelude::*;

use super::super::testing::{cpu, parcel};
use super::*;
use crate::model::{Ack, BatchBuilder, Identity};

const SECOND: i64 = 1_000_000_000;

fn downsample(aggregate: &[(&str, Aggregate)], grace: u64) -> Downsample {
    let aggregate = aggregate.iter().map(|(name, how)| ((*name).into(), *how)).collect();
    let config = Config {
        table: Some("cpu".into()),
        every: Span::seconds(10),
        aggregate,
        grace: Span::seconds(grace),
    };
    Downsample::new(&config).unwrap()
}

/// One row per (second, core, value).
fn rows(rows: &[(i64, &str, f64)]) -> MetricBatch {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
    for (second, core, value) in rows {
        let mut row = builder.row(second * SECOND);
        row.set("core", *core).unwrap().set("utilization", *value).unwrap();
    }
    builder.finish().unwrap()
}

fn values(parcels: &[Parcel], field: &str) -> Map<(i64, String), f64> {
    let mut values = Map::new();
    for parcel in parcels {
        for row in 0..parcel.batch.rows() {
            let core = parcel.batch.tag("core", row).unwrap_or_default().to_owned();
            let key = (parcel.batch.times()[row] / SECOND, core);
            values.insert(key, parcel.batch.float(field, row).unwrap());
        }
    }
    values
}

#[tokio::test]
async fn an_interval_is_open_at_its_start_and_closed_at_its_end() {
    let mut down = downsample(&[], 0);
    let (parcel, settled) =
        parcel(rows(&[(0, "0", 9.0), (1, "0", 1.0), (10, "0", 3.0), (11, "0", 5.0), (5, "1", 7.0)]));
    assert!(down.apply(parcel).await.unwrap().is_empty());
    let first = down.flush(10 * SECOND).await.unwrap();
    let found = values(&first, "utilization");
    assert_eq!(found, Map::from([((0, "0".into()), 9.0), ((10, "0".into()), 2.0), ((10, "1".into()), 7.0)]));
    first.into_iter().for_each(Parcel::settle);
    assert!(!settled(), "a row of the batch waits in a later interval");
    let rest = down.flush(i64::MAX).await.unwrap();
    assert_eq!(values(&rest, "utilization"), Map::from([((20, "0".into()), 5.0)]));
    rest.into_iter().for_each(Parcel::settle);
    assert!(settled());
}

#[tokio::test]
async fn grace_waits_for_late_rows_and_later_ones_are_dropped() {
    let mut down = downsample(&[], 5);
    down.apply(parcel(rows(&[(4, "0", 1.0)])).0).await.unwrap();
    assert!(down.flush(12 * SECOND).await.unwrap().is_empty());
    down.apply(parcel(rows(&[(6, "0", 3.0)])).0).await.unwrap();
    let out = down.flush(15 * SECOND).await.unwrap();
    assert_eq!(values(&out, "utilization"), Map::from([((10, "0".into()), 2.0)]));
    let (late, settled) = parcel(rows(&[(7, "0", 100.0)]));
    down.apply(late).await.unwrap();
    assert!(settled(), "dropped, and nobody waits for it");
    assert!(down.flush(i64::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_row_that_ends_an_interval_may_arrive_as_late_as_its_source_allows() {
    let mut down = downsample(&[], 0);
    down.expect_within(Duration::from_secs(3));
    down.apply(parcel(rows(&[(5, "0", 1.0)])).0).await.unwrap();
    assert!(down.flush(12 * SECOND).await.unwrap().is_empty());
    down.apply(parcel(rows(&[(10, "0", 3.0)])).0).await.unwrap();
    let out = down.flush(13 * SECOND).await.unwrap();
    assert_eq!(values(&out, "utilization"), Map::from([((10, "0".into()), 2.0)]));
}

#[tokio::test]
async fn each_field_has_its_own_aggregate() {
    for (aggregate, expected) in [
        (Aggregate::Mean, 2.0),
        (Aggregate::Min, 1.0),
        (Aggregate::Max, 3.0),
        (Aggregate::Sum, 6.0),
        (Aggregate::First, 3.0),
        (Aggregate::Last, 2.0),
        (Aggregate::Count, 3.0),
    ] {
        let mut down = downsample(&[("utilization", aggregate)], 0);
        down.apply(parcel(rows(&[(2, "0", 1.0), (1, "0", 3.0), (3, "0", 2.0)])).0).await.unwrap();
        let out = down.flush(i64::MAX).await.unwrap();
        assert_eq!(values(&out, "utilization"), Map::from([((10, "0".into()), expected)]), "{aggregate:?}");
    }
}

#[tokio::test]
async fn booleans_and_strings_keep_the_last_and_other_tables_pass() {
    let mut builder = BatchBuilder::new("status", &Identity::host("web-1")).unwrap();
    builder.row(1).set("state", "Starting").unwrap().set("up", false).unwrap();
    builder.row(2).set("state", "Running").unwrap().set("up", true).unwrap();
    let batch = builder.finish().unwrap();
    let out = downsample(&[], 0).apply(parcel(batch.clone()).0).await.unwrap();
    assert_eq!(out[0].batch, batch);

    let config =
        Config { table: None, every: Span::seconds(10), aggregate: BTreeMap::new(), grace: no_grace() };
    let mut down = Downsample::new(&config).unwrap();
    down.apply(parcel(batch).0).await.unwrap();
    let out = down.flush(i64::MAX).await.unwrap();
    let records = out[0].batch.records();
    assert_eq!(records.column_by_name("state").unwrap().as_string::<i32>().value(0), "Running");
    assert!(records.column_by_name("up").unwrap().as_boolean().value(0));
}

#[tokio::test]
async fn a_column_that_changes_its_role_or_too_many_series_refuse_the_parcel_only() {
    let status = |name: &str, value: &str, tag: bool| {
        let records = cpu(1).into_records().project(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let text: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![value]));
        let kind = if tag { crate::model::tag_type() } else { arrow::datatypes::DataType::Utf8 };
        let column = arrow::compute::cast(&text, &kind).unwrap();
        let named = arrow::datatypes::Field::new(name, kind, true);
        let mut fields: Vec<_> = records.schema().fields().iter().cloned().collect();
        fields.push(named.into());
        let mut columns = records.columns().to_vec();
        columns.push(column);
        let schema = arrow::datatypes::Schema::new(fields).into();
        MetricBatch::try_new("own", arrow::array::RecordBatch::try_new(schema, columns).unwrap()).unwrap()
    };
    let config =
        Config { table: None, every: Span::seconds(10), aggregate: BTreeMap::new(), grace: no_grace() };
    for first in [true, false] {
        let mut down = Downsample::new(&config).unwrap();
        down.apply(parcel(status("state", "a", first)).0).await.unwrap();
        let refused = down.apply(parcel(status("state", "a", !first)).0).await.unwrap_err();
        assert_eq!(refused.parcel.batch, status("state", "a", !first));
        assert!(refused.error.to_string().contains("own.state"), "{}", refused.error);
        assert_eq!(down.flush(i64::MAX).await.unwrap().len(), 1, "the first parcel is unharmed");
    }
    let mut down = Downsample { max_series: 2, ..Downsample::new(&config).unwrap() };
    down.apply(parcel(cpu(2)).0).await.unwrap();
    let refused = down.apply(parcel(cpu(1)).0).await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Quota);
    assert_eq!(down.flush(i64::MAX).await.unwrap().len(), 2, "time 0 and time 1");
}

#[tokio::test]
async fn an_interval_that_cannot_be_given_out_is_told_and_costs_no_other() {
    let mut down = downsample(&[], 0);
    let (first, kept) = parcel(rows(&[(5, "0", 1.0), (15, "0", 2.0)]));
    down.apply(first).await.unwrap();
    // No batch that is valid leads to rows without their tags; this window is made by hand.
    let (lost, waits) = parcel(cpu(1));
    let mut window = Window::default();
    window.wait_for(&lost.acks);
    down.windows.entry(10 * SECOND).or_default().insert("disk".into(), window);
    lost.settle();
    let unfinished = down.flush(i64::MAX).await.unwrap_err();
    assert!(unfinished.error.to_string().contains("disk"), "{}", unfinished.error);
    unfinished.acks.into_iter().for_each(Ack::settle);
    assert!(waits());
    let rest = down.flush(i64::MAX).await.unwrap();
    let expected = Map::from([((10, "0".into()), 1.0), ((20, "0".into()), 2.0)]);
    assert_eq!(values(&rest, "utilization"), expected);
    assert!(down.flush(i64::MAX).await.unwrap().is_empty());
    rest.into_iter().for_each(Parcel::settle);
    assert!(kept());
}

#[test]
fn an_interval_needs_a_length() {
    let config =
        Config { table: None, every: Span::seconds(0), aggregate: BTreeMap::new(), grace: no_grace() };
    assert!(Downsample::new(&config).is_err());
    assert_eq!(cpu(1).rows(), 1);
}

proptest! {
    #[test]
    fn sums_and_counts_are_conserved(
        batches in proptest::collection::vec(proptest::collection::vec((0_i64..40, 0_u8..3, 0_i64..100), 1..20), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut down = downsample(&[("utilization", Aggregate::Sum)], 0);
            let mut expected: Map<(i64, String), f64> = Map::new();
            let mut waiting = Vec::new();
            for batch in &batches {
                let named: Vec<_> = batch.iter().map(|(t, core, v)| (*t, core.to_string(), *v as f64)).collect();
                for (time, core, value) in &named {
                    let end = (time + 9).div_euclid(10) * 10;
                    *expected.entry((end, core.clone())).or_default() += value;
                }
                let named: Vec<_> = named.iter().map(|(t, core, v)| (*t, core.as_str(), *v)).collect();
                let (parcel, settled) = parcel(rows(&named));
                down.apply(parcel).await.unwrap();
                waiting.push(settled);
            }
            let out = down.flush(i64::MAX).await.unwrap();
            assert_eq!(values(&out, "utilization"), expected);
            assert!(waiting.iter().all(|settled| !settled()));
            out.into_iter().for_each(Parcel::settle);
            assert!(waiting.iter().all(|settled| settled()));
        });
    }
}
