//! Making up for a stop: a source that can read the past, and an hour in which nothing ran.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::super::checkpoint::CheckpointFile;
use super::super::doubles::{Mood, Taken, TestClock, plan, sink};
use super::super::plan::SourcePlan;
use super::super::runner::Runner;
use crate::model::{BatchBuilder, Identity};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::{Error, Result};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_763_000_000 * SECOND;
/// Series with a row a second.
const SERIES: usize = 50;

/// What happened at every second, for ever; it fails now and then.
#[derive(Default)]
struct Past {
    windows: Mutex<Vec<Window>>,
    asked: AtomicU64,
    most_rows: AtomicUsize,
}

#[async_trait]
impl Collector for Past {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Ok(vec![Shard("all".into())])
    }

    async fn collect(&self, _: &Shard, window: Window) -> Result<Collection> {
        if self.asked.fetch_add(1, Ordering::SeqCst) % 7 == 6 {
            return Err(Error::unavailable("read", "throttled"));
        }
        self.windows.lock().push(window);
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1"))?;
        for second in window.start / SECOND + 1..=window.end / SECOND {
            for series in 0..SERIES {
                let core = series.to_string();
                builder.row(second * SECOND).set("core", &core)?.set("utilization", 0.5)?;
            }
        }
        let collection = Collection { batches: vec![builder.finish()?], ..Collection::default() };
        self.most_rows.fetch_max(collection.rows(), Ordering::SeqCst);
        Ok(collection)
    }

    fn longest_window(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
}

fn source(past: &Arc<Past>) -> SourcePlan {
    let past = Arc::clone(past);
    SourcePlan {
        name: "past".into(),
        every: Duration::from_secs(10),
        deadline: Duration::from_secs(10),
        jitter: Duration::ZERO,
        unchanged: false,
        build: Box::new(move || Ok(Arc::<Past>::clone(&past))),
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_a_collector_leaves_no_gap_and_no_double_and_takes_no_more_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (past, to) = (Arc::new(Past::default()), Taken::new(Mood::Good));
    let run = async |clock: i64, seconds: u64| {
        let sources = vec![source(&past)];
        let runner =
            Runner::start_with(plan(folder.path(), sources, vec![sink("one", &to)]), TestClock::at(clock));
        let runner = runner.await.unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert_eq!(runner.stop().await.rows_left(), 0);
    };
    run(START, 35).await;
    let before = CheckpointFile::new(folder.path()).load().unwrap()["past"]["all"];
    run(START + 3_600 * SECOND, 185).await;
    let after = CheckpointFile::new(folder.path()).load().unwrap()["past"]["all"];
    assert!(after - before >= 3_600 * SECOND, "the hour is made up for: {} s", (after - before) / SECOND);

    let first = past.windows.lock().iter().map(|window| window.start).min().unwrap();
    let mut seen = BTreeSet::new();
    for batch in to.batches.lock().iter() {
        for row in 0..batch.rows() {
            let new = seen.insert((batch.times()[row], batch.tag("core", row).unwrap().to_owned()));
            assert!(new, "a row came twice");
        }
    }
    let seconds = usize::try_from((after - first) / SECOND).unwrap();
    assert_eq!(seen.len(), seconds * SERIES, "every second of every series");
    assert_eq!(past.most_rows.load(Ordering::SeqCst), 60 * SERIES, "a minute at a time");
}
