//! Time, memory, cancelling, and files that vanish.

use std::time::{Duration, Instant};

use futures::StreamExt;
use object_store::ObjectStoreExt;

use super::support::{Rig, row};
use crate::analytics::{Engine, EngineOptions, explain, longest_timeout};
use crate::{ErrorKind, Retry};

/// Takes minutes and holds no more than a batch.
const SLOW: &str =
    "SELECT sum(a.value * b.value) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b";

/// Never ends.
const ENDLESS: &str =
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT 1 - n FROM t) SELECT count(*) FROM t WHERE n > 1";

fn options() -> EngineOptions {
    EngineOptions { partitions: 2, ..EngineOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_ends_at_its_timeout() {
    let rig = Rig::with_options(EngineOptions { timeout: Duration::from_millis(300), ..options() });
    for sql in [SLOW, ENDLESS] {
        let started = Instant::now();
        let error = rig.error(sql).await;
        assert!(started.elapsed() < Duration::from_secs(20), "{sql}: {:?}", started.elapsed());
        assert_eq!(error.kind(), ErrorKind::Quota, "{sql}: {}", error.chain());
        let text = error.to_string();
        assert!(text.contains("timeout of 300ms") && text.contains("--timeout"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_use_up_the_time() {
    let mut rig = Rig::with_options(EngineOptions { timeout: Duration::from_secs(2), ..options() });
    rig.segment(vec![row("a", 1, 1.0)]).await;
    let sql = "SELECT value FROM generate_series(1, 100000)";
    let mut answer = rig.engine.query(&rig.snapshot, sql).await.unwrap();
    let mut rows = answer.next().await.unwrap().unwrap().num_rows();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    while let Some(batch) = answer.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_needs_too_much_memory_says_which_limit() {
    let sql =
        "SELECT value, array_agg(value + 1) FROM generate_series(1, 1000000) GROUP BY value ORDER BY 2 DESC";
    let rig = Rig::with_options(EngineOptions { memory: 4 << 20, spill: 0, ..options() });
    let error = rig.error(sql).await;
    assert_eq!(error.kind(), ErrorKind::Quota, "{}", error.chain());
    assert!(error.to_string().contains("memory limit of 4MiB"), "{error}");
    assert!(error.to_string().contains("--memory"), "{error}");
    assert!(!error.chain().contains("datafusion"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_sort_goes_to_disk_within_its_limit() {
    let sql = "SELECT value, (value * 7919) % 1000003 AS key FROM generate_series(1, 1000000) ORDER BY key";
    let rig = Rig::with_options(EngineOptions { memory: 12 << 20, ..options() });
    assert_eq!(rig.query(sql).await.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1_000_000);
    let tight = Rig::with_options(EngineOptions { memory: 12 << 20, spill: 64 << 10, ..options() });
    let error = tight.error(sql).await;
    assert!(error.to_string().contains("temporary files of 64KiB"), "{}", error.chain());
    assert!(error.to_string().contains("--spill"), "{error}");
    assert!(!error.chain().contains("datafusion"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_answer_cancels_and_gives_the_snapshot_back() {
    let mut rig = Rig::new();
    let pin = std::sync::Arc::new(());
    rig.snapshot._pin = Some(pin.clone());
    let answer = rig.engine.query(&rig.snapshot, SLOW).await.unwrap();
    rig.snapshot._pin = None;
    assert_eq!(std::sync::Arc::strong_count(&pin), 2, "the running query holds the snapshot");
    drop(answer);
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::sync::Arc::strong_count(&pin) > 1 {
        assert!(Instant::now() < deadline, "the query still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_named_with_its_times_and_what_to_do() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0), row("a", 2_000_000_000, 1.0)]).await;
    let path = rig.table().segments[0].location();
    rig.snapshot.objects.delete(&path).await.unwrap();
    let error = rig.error("SELECT * FROM load").await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::NotFound, Retry::Never));
    let times = "rows of load from 1970-01-01T00:00:00.000000001Z to 1970-01-01T00:00:02Z";
    for words in ["load/0.parquet", times, "from a backup"] {
        assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
    }
    // The same through a merge.
    rig.run(vec![row("a", 1, 2.0)]);
    let error = rig.error("SELECT * FROM load").await;
    assert!(error.to_string().contains("from a backup"), "{}", error.chain());
    // Leaving the time out helps, as the error says.
    assert!(rig.query("SELECT * FROM load WHERE time > '1970-01-01T00:00:02Z'").await.is_empty());
}

#[test]
fn a_file_that_is_gone_after_the_time_for_which_the_store_keeps_it_is_no_damage() {
    let age = longest_timeout() + Duration::from_secs(60);
    let error = explain::vanished("segments/load/0.parquet", &Rig::new().snapshot, age);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later));
    assert!(error.to_string().contains("for 15m") && error.to_string().contains("again"), "{error}");
}

#[test]
fn a_timeout_beyond_the_time_for_which_the_store_keeps_files_is_refused() {
    let engine = |timeout| Engine::new(EngineOptions { timeout, ..options() });
    assert!(engine(longest_timeout()).is_ok());
    let error = engine(longest_timeout() + Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("after 15m"), "{error}");
}
