//! Writers, readers and background work at the same time.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::store::Reader;

/// A store that flushes and compacts all the time.
fn busy(path: &Path) -> StoreOptions {
    StoreOptions {
        buffer_bytes: 64 << 10,
        flush_interval: Duration::from_millis(20),
        maintenance_interval: Duration::from_millis(10),
        grace: Duration::from_secs(60),
        ..StoreOptions::new(path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_acknowledged_row_while_rows_are_written_flushed_and_compacted() {
    const ROWS: i64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(busy(folder.path())).await.unwrap();
    let acknowledged = Arc::new(AtomicI64::new(0));
    let writer = {
        let (store, acknowledged) = (store.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for i in 0..ROWS {
                store.append(&[row("a", BASE + i, &[("cores", i as f64)])]).await.unwrap();
                acknowledged.store(i + 1, Ordering::SeqCst);
            }
        })
    };
    let reader = Reader::open(folder.path()).unwrap();
    let mut looks = 0;
    while acknowledged.load(Ordering::SeqCst) < ROWS {
        for inside in [false, true] {
            let at_least = acknowledged.load(Ordering::SeqCst);
            let snapshot = if inside { store.snapshot().unwrap() } else { reader.snapshot().await.unwrap() };
            let seen = read(&snapshot).await;
            let times: Vec<_> = seen.keys().map(|key| key.3 - BASE).collect();
            assert!(times.len() as i64 >= at_least, "inside {inside}: {} of {at_least}", times.len());
            assert!(times.iter().copied().eq(0..times.len() as i64), "inside {inside}: a row is missing");
            looks += 1;
        }
    }
    writer.await.unwrap();
    assert!(looks > 2);
    store.close().await.unwrap();
    let snapshot = Reader::open(folder.path()).unwrap().snapshot().await.unwrap();
    assert!(snapshot.tables["cpu"].buffer.is_empty(), "closing flushes");
    assert_eq!(read(&snapshot).await.len() as i64, ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_all_become_durable_and_a_full_buffer_only_makes_them_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions { buffer_bytes: 20 << 10, ..quiet(folder.path()) }).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for i in 0..20 {
                let name = format!("host-{task}");
                let appended = store.append(&[row(&name, BASE + i, &[("cores", 1.0)])]).await.unwrap();
                assert_eq!(appended.rows, 1);
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert!(store.statistics().flushes > 0);
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 160);
    drop(store);
    let again = open_when_free(folder.path()).await;
    assert_eq!(read(&again.snapshot().unwrap()).await.len(), 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_the_store_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..50 {
        let batches = [row("a", BASE + i, &[("cores", 1.0)])];
        let append = store.append(&batches);
        let _ = tokio::time::timeout(Duration::from_micros(i as u64 * 20), append).await;
    }
    store.append(&[row("z", BASE, &[("cores", 1.0)])]).await.unwrap();
    let inside = read(&store.snapshot().unwrap()).await;
    let outside = read(&Reader::open(folder.path()).unwrap().snapshot().await.unwrap()).await;
    assert_eq!(inside, outside);
    store.close().await.unwrap();
    assert_eq!(read(&Reader::open(folder.path()).unwrap().snapshot().await.unwrap()).await, inside);
}
