//! Answers against the naive model.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::support::{Model, Rig, Row, row};
use crate::analytics::{Engine, EngineOptions};
use crate::model::{BatchBuilder, Identity};
use crate::store::{Reader, Store, StoreOptions};

/// Runs a future on a runtime of its own, for property tests.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn keep(model: &Model, pass: impl Fn(&Row) -> bool) -> Model {
    let row = |(key, (load, state)): (_, &(_, _))| Row { key, load: *load, state: *state };
    let kept = model.iter().filter(|(key, values)| pass(&row((**key, values))));
    kept.map(|(key, values)| (*key, *values)).collect()
}

#[tokio::test]
async fn a_filter_on_a_field_does_not_raise_an_older_value_from_the_dead() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 9.0), row("a", 2, 9.0), row("b", 1, 1.0)]).await;
    rig.segment(vec![row("a", 1, 1.0), row("b", 1, 9.0)]).await;
    rig.run(vec![row("a", 2, 2.0)]);
    let sql = "SELECT host, load FROM load WHERE load > 5 ORDER BY host";
    assert_eq!(rig.lines(sql).await, ["b 9.0"]);
    assert_eq!(rig.lines("SELECT count(*) FROM load WHERE load > 5").await, ["1"]);
    assert_eq!(rig.lines("SELECT max(load) FROM load WHERE host = 'a'").await, ["2.0"]);
    let top = "SELECT host FROM load ORDER BY load DESC, host LIMIT 1";
    assert_eq!(rig.lines(top).await, ["b"]);
}

#[tokio::test]
async fn a_null_does_not_replace_a_value() {
    let mut rig = Rig::new();
    rig.segment(vec![Row { state: Some("up"), ..row("a", 1, 5.0) }]).await;
    rig.segment(vec![Row { state: None, ..row("a", 1, None) }, row("b", 1, 1.0)]).await;
    rig.run(vec![row("a", 1, 6.0)]);
    assert_eq!(rig.lines("SELECT load, state FROM load WHERE host = 'a'").await, ["6.0 up"]);
}

#[tokio::test]
async fn columns_that_a_part_lacks_are_null_in_its_rows() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0)]).await;
    rig.segment(vec![Row { key: (Some("a"), Some("x"), 100), load: None, state: Some("up") }]).await;
    rig.run(vec![Row { key: (None, Some("y"), 200), load: Some(3.0), state: None }]);
    let sql = "SELECT host, zone, load, state FROM load ORDER BY time";
    assert_eq!(rig.lines(sql).await, ["a  1.0 ", "a x  up", " y 3.0 "]);
    assert_eq!(rig.lines("SELECT count(*) FROM load WHERE zone IS NULL").await, ["1"]);
    assert_eq!(rig.lines("SELECT count(*) FROM load WHERE state = 'up'").await, ["1"]);
    assert_eq!(rig.select("true").await, rig.model);
}

#[tokio::test]
async fn a_null_tag_is_a_key_of_its_own() {
    let mut rig = Rig::new();
    let of = |zone, load| Row { key: (Some("a"), zone, 1), load: Some(load), state: None };
    rig.segment(vec![of(None, 1.0), of(Some("x"), 2.0)]).await;
    rig.segment(vec![of(None, 3.0)]).await;
    rig.run(vec![of(Some("x"), 4.0), of(Some("y"), 5.0)]);
    let sql = "SELECT zone, load FROM load ORDER BY zone NULLS FIRST";
    assert_eq!(rig.lines(sql).await, [" 3.0", "x 4.0", "y 5.0"]);
    assert_eq!(rig.lines("SELECT load FROM load WHERE zone IS NULL").await, ["3.0"]);
}

#[tokio::test]
async fn counts_and_extremes_hold_with_and_without_overlap() {
    let mut rig = Rig::new();
    let sql = "SELECT count(*), min(time)::bigint, max(time)::bigint FROM load";
    rig.segment(vec![row("a", 1, 1.0), row("b", 2, 1.0)]).await;
    rig.segment(vec![row("a", 3, 1.0)]).await;
    assert_eq!(rig.lines(sql).await, ["3 1 3"]);
    rig.segment(vec![row("b", 2, 2.0)]).await;
    rig.run(vec![row("a", 3, 2.0), row("a", 9, 1.0)]);
    assert_eq!(rig.lines(sql).await, ["4 1 9"]);
    assert_eq!(
        rig.lines("SELECT count(*) FROM load WHERE time >= '1970-01-01T00:00:00.000000003'").await,
        ["2"]
    );
}

#[tokio::test]
async fn a_store_written_flushed_and_revised_reads_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions::new(folder.path())).await.unwrap();
    let batch = |time: i64, utilization: f64| {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        builder.row(time).set("utilization", utilization).unwrap();
        builder.finish().unwrap()
    };
    let hour = 3_600_000_000_000;
    store.append(&[batch(1, 0.9), batch(hour + 1, 0.8)]).await.unwrap();
    store.flush().await.unwrap();
    store.append(&[batch(1, 0.1)]).await.unwrap();
    store.flush().await.unwrap();
    store.append(&[batch(hour + 1, 0.2), batch(hour + 2, 0.7)]).await.unwrap();

    let engine = Engine::new(EngineOptions::default()).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let sql = "SELECT time::bigint AS t, utilization FROM cpu WHERE utilization > 0.5";
    for snapshot in [store.snapshot().unwrap(), reader.snapshot().await.unwrap()] {
        let answer = engine.query(&snapshot, sql).await.unwrap().collect().await.unwrap();
        let rows: usize = answer.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 1);
        let answer = engine.query(&snapshot, "SELECT count(*) FROM cpu").await.unwrap().collect().await;
        assert_eq!(answer.unwrap()[0].column(0).as_primitive::<Int64Type>().value(0), 3);
        assert_eq!(engine.tables(&snapshot)[0].name, "cpu");
    }
    store.compact().await.unwrap();
    let snapshot = store.snapshot().unwrap();
    let answer = engine.query(&snapshot, sql).await.unwrap().collect().await.unwrap();
    assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_empty_table_answers_nothing_and_names_its_columns() {
    let rig = Rig::new();
    assert_eq!(rig.lines("SELECT count(*) FROM load").await, ["0"]);
    let answer = rig.engine.query(&rig.snapshot, "SELECT * FROM load").await.unwrap();
    assert_eq!(answer.schema().fields().len(), 5);
    assert!(answer.collect().await.unwrap().iter().all(|batch| batch.num_rows() == 0));
}

#[tokio::test]
async fn the_tables_are_where_influxdb_3_has_them() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0)]).await;
    for sql in [
        "SELECT load FROM iox.load",
        "SELECT load FROM public.iox.load",
        "SELECT avg(load) FROM load GROUP BY date_bin(INTERVAL '1 minute', time, TIMESTAMP '1970-01-01T00:00:00Z')",
        "WITH last AS (SELECT * FROM load) SELECT load FROM last",
    ] {
        assert_eq!(rig.lines(sql).await, ["1.0"], "{sql}");
    }
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox'";
    assert_eq!(rig.lines(sql).await, ["load"]);
    assert_eq!(rig.lines("SHOW TABLES").await.iter().filter(|line| line.contains("iox load")).count(), 1);
    assert_eq!(rig.lines("DESCRIBE load").await.len(), 5);
}

#[tokio::test]
async fn the_tables_command_reads_the_manifest() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 5, 1.0), row("b", 7, 1.0)]).await;
    rig.run(vec![row("a", 2, 2.0)]);
    let tables = rig.engine.tables(&rig.snapshot);
    assert_eq!(tables.len(), 1);
    let table = &tables[0];
    assert_eq!((table.name.as_str(), table.rows, table.buffered_rows, table.segments), ("load", 3, 1, 1));
    assert_eq!((table.min_time, table.max_time), (Some(2), Some(7)));
    assert_eq!((table.tags.join(" "), table.fields.join(" ")), ("host zone".into(), "load state".into()));
    assert!(table.bytes > 0);
}

fn any_row() -> impl Strategy<Value = Row> {
    let host = proptest::option::weighted(0.8, prop_oneof![Just("a"), Just("b"), Just("c")]);
    let zone = proptest::option::of(prop_oneof![Just("x"), Just("y")]);
    let load = proptest::option::weighted(0.8, (0..10_u8).prop_map(f64::from));
    let state = proptest::option::of(Just("up"));
    (host, zone, 0..12_i64, load, state).prop_map(|(host, zone, time, load, state)| Row {
        key: (host, zone, time),
        load,
        state,
    })
}

/// Rows of one part, lying in a window of time, and whether the part is a segment.
fn any_part() -> impl Strategy<Value = (bool, Vec<Row>)> {
    (any::<bool>(), 0..4_i64, proptest::collection::vec(any_row(), 1..12)).prop_map(
        |(segment, window, mut rows)| {
            for row in &mut rows {
                row.key.2 += window * 8;
            }
            (segment, rows)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_parts_say_what_the_model_says(parts in proptest::collection::vec(any_part(), 1..6)) {
        wait(async {
            let mut rig = Rig::new();
            // Segments first: what is in memory is above every segment.
            for (_, rows) in parts.iter().filter(|part| part.0) {
                rig.segment(rows.clone()).await;
            }
            for (_, rows) in parts.iter().filter(|part| !part.0) {
                rig.run(rows.clone());
            }
            assert_eq!(rig.select("true").await, rig.model);
            assert_eq!(rig.select("load > 4").await, keep(&rig.model, |row| row.load > Some(4.0)));
            assert_eq!(rig.select("host = 'b'").await, keep(&rig.model, |row| row.key.0 == Some("b")));
            assert_eq!(
                rig.select("time < TIMESTAMP '1970-01-01T00:00:00.000000015' AND zone IS NULL AND load < 8").await,
                keep(&rig.model, |row| {
                    row.key.2 < 15 && row.key.1.is_none() && row.load.is_some_and(|load| load < 8.0)
                })
            );
            assert_eq!(
                rig.select("host IN ('a', 'c') OR state = 'up'").await,
                keep(&rig.model, |row| matches!(row.key.0, Some("a" | "c")) || row.state.is_some())
            );
            assert_eq!(rig.lines("SELECT count(*) FROM load").await, [rig.model.len().to_string()]);
            let newest: Vec<_> = rig.lines("SELECT time::bigint AS t FROM load ORDER BY time DESC LIMIT 3").await;
            let mut times: Vec<_> = rig.model.keys().map(|key| key.2).collect();
            times.sort_by(|a, b| b.cmp(a));
            assert_eq!(newest, times.iter().take(3).map(ToString::to_string).collect::<Vec<_>>());
        });
    }
}
