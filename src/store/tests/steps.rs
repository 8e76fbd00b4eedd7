//! One promise per test.

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::model::tag_type;
use crate::store::Reader;
use crate::{ErrorKind, Retry};

pub(super) fn with_column(batch: &MetricBatch, name: &str, column: ArrayRef) -> MetricBatch {
    let records = batch.records();
    let mut fields: Vec<_> = records.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
    let columns = records.columns().iter().cloned().chain([column]).collect();
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    MetricBatch::try_new(batch.table(), records).unwrap()
}

pub(super) fn files(path: &Path) -> usize {
    let tables = std::fs::read_dir(path.join("segments")).unwrap();
    tables.map(|table| std::fs::read_dir(table.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test]
async fn late_rows_and_repeated_rows_merge_field_by_field_across_buffer_and_segments() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.append(&[row("a", BASE, &[("utilization", 0.1), ("cores", 4.0)])]).await.unwrap();
    store.flush().await.unwrap();
    store.append(&[row("a", BASE, &[("utilization", 0.2)])]).await.unwrap();
    store.flush().await.unwrap();
    store
        .append(&[row("a", BASE, &[("steal", 0.5)]), row("a", BASE - HOUR, &[("steal", 0.7)])])
        .await
        .unwrap();
    let expected: Rows = [
        (BASE - HOUR, vec![("steal", 0.7)]),
        (BASE, vec![("cores", 4.0), ("steal", 0.5), ("utilization", 0.2)]),
    ]
    .into_iter()
    .map(|(time, fields)| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (("cpu".to_owned(), "a".to_owned(), None, time), fields)
    })
    .collect();
    assert_eq!(read(&store.snapshot().unwrap()).await, expected);
    store.flush().await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await, expected);
    let report = store.compact().await.unwrap();
    assert_eq!(
        (report.inputs, report.outputs, report.rows),
        (3, 1, 1),
        "the late row is in a window of its own"
    );
    assert_eq!(read(&store.snapshot().unwrap()).await, expected);
}

#[tokio::test]
async fn a_second_writer_is_told_who_writes_and_a_reader_needs_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let error = Store::open(quiet(folder.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert!(Reader::open(folder.path()).unwrap().snapshot().await.unwrap().tables.is_empty());
    store.close().await.unwrap();
    open(folder.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn no_store_is_not_found_and_says_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = Reader::open(folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("--data"), "{error}");
}

#[tokio::test]
async fn new_tags_and_fields_appear_beside_old_segments_and_survive_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.append(&[row("a", BASE, &[("cores", 1.0)])]).await.unwrap();
    store.flush().await.unwrap();
    let tag: ArrayRef =
        Arc::new(["lab"].into_iter().map(Some).collect::<arrow::array::DictionaryArray<Int32Type>>());
    assert_eq!(tag.data_type(), &tag_type());
    let plain = row("a", BASE, &[("cores", 2.0)]);
    let wider =
        with_column(&with_column(&plain, "tag_site", tag), "note", Arc::new(StringArray::from(vec!["x"])));
    store.append(&[wider]).await.unwrap();
    for _ in 0..3 {
        let snapshot = store.snapshot().unwrap();
        let table = &snapshot.tables["cpu"];
        assert!(table.schema.column_with_name("tag_site").is_some());
        assert!(table.schema.column_with_name("note").is_some());
        let merged: Vec<RecordBatch> = snapshot.scan("cpu").unwrap().try_collect().await.unwrap();
        let rows: usize = merged.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 2, "another tag is another key");
        store.flush().await.unwrap();
        store.compact().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_of_another_type_is_rejected_before_the_log_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let number = with_column(&row("a", BASE, &[]), "x", Arc::new(Int64Array::from(vec![1])));
    let text = with_column(&row("b", BASE, &[]), "x", Arc::new(StringArray::from(vec!["1"])));
    let appended = store.append(&[number.clone(), text.clone(), number]).await.unwrap();
    assert_eq!(appended.rows, 2);
    assert_eq!(appended.rejected.len(), 1);
    assert_eq!(appended.rejected[0].index, 1);
    assert_eq!(appended.rejected[0].error.retry(), Retry::Never);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(store.append(&[text]).await.unwrap().rejected.len(), 1, "the segments remember the type");
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_closed_store_shows_no_gauges_and_keeps_its_counters() {
    let folder = tempfile::tempdir().unwrap();
    let options = quiet(folder.path());
    let telemetry = options.telemetry.clone();
    let store = Store::open(options).await.unwrap();
    store.append(&[row("a", BASE, &[("cores", 1.0)])]).await.unwrap();
    store.flush().await.unwrap();
    assert!(telemetry.encode().contains("barograph_store_segments{component=\"store\"} 1"));
    store.close().await.unwrap();
    let text = telemetry.encode();
    assert!(!text.contains("barograph_store_segments{"), "{text}");
    assert!(text.contains("barograph_store_flushes_total{component=\"store\"} 1"), "{text}");
}

#[tokio::test]
async fn retention_drops_whole_windows_and_their_files_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        retention: Some(Duration::from_secs(86_400)),
        grace: Duration::ZERO,
        ..quiet(folder.path())
    };
    let store = Store::open(options).await.unwrap();
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    store.append(&[row("a", BASE, &[("cores", 1.0)]), row("a", now, &[("cores", 2.0)])]).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(files(folder.path()), 2);
    let before = store.snapshot().unwrap();
    store.compact().await.unwrap();
    assert_eq!(files(folder.path()), 2, "a snapshot still reads the file");
    assert_eq!(read(&before).await.len(), 2);
    drop(before);
    assert_eq!(read(&store.snapshot().unwrap()).await.keys().map(|key| key.3).collect::<Vec<_>>(), [now]);
    store.compact().await.unwrap();
    assert_eq!(files(folder.path()), 1);
}

#[tokio::test]
async fn replaced_files_stay_for_the_grace_and_strangers_are_swept_at_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..3 {
        store.append(&[row("a", BASE + i, &[("cores", 1.0)])]).await.unwrap();
        store.flush().await.unwrap();
    }
    let reader = Reader::open(folder.path()).unwrap().snapshot().await.unwrap();
    store.compact().await.unwrap();
    assert_eq!(files(folder.path()), 4);
    std::fs::write(folder.path().join("segments/cpu/left-over.parquet"), b"half").unwrap();
    std::fs::write(folder.path().join("segments/cpu/left-over.parquet#1"), b"half").unwrap();
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(files(folder.path()), 4, "the grace holds across a restart, strangers are gone");
    assert_eq!(read(&reader).await.len(), 3);
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
}

#[tokio::test]
async fn a_long_chain_of_manifests_stays_short_on_disk_and_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..200 {
        store.append(&[row("a", BASE + i, &[("cores", 1.0)])]).await.unwrap();
        store.flush().await.unwrap();
    }
    let count = std::fs::read_dir(folder.path().join("manifest")).unwrap().count();
    assert!(count <= 128, "{count} manifest files");
    let statistics = store.statistics();
    assert_eq!((statistics.segments, statistics.flushes, statistics.buffered_rows), (200, 200, 0));
    store.compact().await.unwrap();
    assert_eq!(store.statistics().segments, 1);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 200);
}

#[tokio::test]
async fn a_commit_that_was_cut_off_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.append(&[row("a", BASE, &[("cores", 1.0)])]).await.unwrap();
    let version = store.statistics().version;
    drop(store.snapshot().unwrap());
    let next = folder.path().join(format!("manifest/{:020}.json", version + 1));
    std::fs::write(&next, b"{\"version\":").unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(read(&reader.snapshot().await.unwrap()).await.len(), 1);
    // The writer does not know the file, so it must not overwrite it either.
    assert_eq!(store.flush().await.unwrap_err().kind(), ErrorKind::Conflict);
    let _ = store.close().await;
    let store = open(folder.path()).await;
    store.flush().await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_flush_that_fails_keeps_rows_readable_and_is_made_good_later() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { buffer_bytes: 12 << 10, ..quiet(folder.path()) };
    let store = Store::open(options.clone()).await.unwrap();
    // Where the table's folder should be is a file, so no segment can be written.
    let obstacle = folder.path().join("segments/cpu");
    std::fs::write(&obstacle, b"").unwrap();
    let mut stored = 0;
    let error = loop {
        match store.append(&[row("a", BASE + stored, &[("cores", 1.0)])]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "the buffer has no bound");
    };
    assert_eq!(error.retry(), Retry::Later);
    assert!(error.to_string().contains("buffer is full"), "{error}");
    assert_eq!(read(&store.snapshot().unwrap()).await.len() as i64, stored);
    assert!(store.flush().await.is_err());

    std::fs::remove_file(&obstacle).unwrap();
    store.flush().await.unwrap();
    store.append(&[row("a", BASE + stored, &[("cores", 1.0)])]).await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await.len() as i64, stored + 1);
    store.close().await.unwrap();
    let store = Store::open(options).await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await.len() as i64, stored + 1);
}

#[tokio::test]
async fn a_first_opening_that_was_cut_off_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("manifest")).unwrap();
    std::fs::write(folder.path().join(format!("manifest/{:020}.json", 1)), b"").unwrap();
    let error = Reader::open(folder.path()).unwrap().snapshot().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let store = open(folder.path()).await;
    store.append(&[row("a", BASE, &[("cores", 1.0)])]).await.unwrap();
    store.close().await.unwrap();
    let snapshot = Reader::open(folder.path()).unwrap().snapshot().await.unwrap();
    assert_eq!(read(&snapshot).await.len(), 1);
}

#[tokio::test]
async fn a_missing_or_damaged_manifest_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..3 {
        store.append(&[row("a", BASE + i, &[("cores", 1.0)])]).await.unwrap();
        store.flush().await.unwrap();
    }
    let version = store.statistics().version;
    store.close().await.unwrap();

    let newest = folder.path().join(format!("manifest/{version:020}.json"));
    let kept = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, b"{").unwrap();
    let error = Store::open(quiet(folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("backup"), "{error}");
    assert_eq!((files(folder.path()), newest.exists()), (3, true));

    let away = folder.path().join("away");
    std::fs::rename(folder.path().join("manifest"), &away).unwrap();
    let error = Store::open(quiet(folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("no manifest"), "{error}");
    assert_eq!(files(folder.path()), 3);

    std::fs::remove_dir_all(folder.path().join("manifest")).unwrap();
    std::fs::rename(&away, folder.path().join("manifest")).unwrap();
    std::fs::write(&newest, kept).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
}
