//! Sinks behind a backlog, on stand-ins for the source and the other side, with a real log; and so in real time, for a
//! paused clock runs on while a disk works.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::doubles::*;
use super::super::plan::{SinkPlan, SourcePlan};
use super::super::runner::Runner;
use super::*;
use crate::Retry;
use crate::pipeline::{Monitor, SinkPhase};

fn behind(folder: &Path, when_full: WhenFull, max_bytes: u64, taken: &Arc<Taken>) -> SinkPlan {
    let folder = folder.join("backlog");
    SinkPlan {
        folder: Some(folder.clone()),
        lanes: 2,
        backlog: Some(BacklogPlan { folder, max_bytes, when_full }),
        ..sink("influx", taken)
    }
}

/// A source that brings rows every 20 ms.
fn fast(from: &Arc<TestSource>) -> SourcePlan {
    let every = Duration::from_millis(20);
    SourcePlan { every, jitter: Duration::ZERO, deadline: Duration::from_secs(60), ..source("host", 1, from) }
}

async fn start(folder: &Path, from: &Arc<TestSource>, sink: SinkPlan) -> Runner {
    let plan = plan(folder, vec![fast(from)], vec![sink]);
    Runner::start_with(plan, TestClock::at(1_763_000_000_000_000_000)).await.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// How often each (time, core) arrived.
fn arrivals(taken: &Taken) -> BTreeMap<(i64, String), u32> {
    let mut arrivals = BTreeMap::new();
    for batch in taken.batches.lock().iter() {
        for row in 0..batch.rows() {
            let key = (batch.times()[row], batch.tag("core", row).unwrap().to_owned());
            *arrivals.entry(key).or_default() += 1;
        }
    }
    arrivals
}

fn balance(monitor: &Monitor) -> crate::pipeline::Balance {
    let view = monitor.view();
    assert!(view.sinks[0].balance.holds(), "{:?}", view.sinks[0].balance);
    view.sinks[0].balance.clone()
}

#[tokio::test]
async fn an_outage_costs_disk_only_and_a_restart_goes_on_where_the_sink_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(100)]), Taken::new(Mood::Down));
    let plan = || behind(folder.path(), WhenFull::Block, 1 << 30, &to);
    let runner = start(folder.path(), &from, plan()).await;
    let monitor = runner.monitor();
    until("five thousand rows wait", || balance(&monitor).queued >= 5_000).await;
    let view = monitor.view();
    assert!(matches!(view.sinks[0].numbers.phase, SinkPhase::Down(_)), "{:?}", view.sinks[0].numbers.phase);
    assert!(view.sinks[0].numbers.backlog.as_ref().unwrap().rows > 4_000);
    assert!(view.sinks[0].oldest > Duration::from_millis(500), "{:?}", view.sinks[0].oldest);
    assert!(view.not_ready().is_empty(), "rows are taken: {:?}", view.not_ready());
    let ending = runner.stop().await;
    assert_eq!(ending.left, [], "everything is on disk");
    let kept = ending.kept[0].1;
    assert_eq!(kept, from.rows.load(Ordering::SeqCst));
    assert_eq!(to.rows(), 0);

    // The next run has a source without rows: what arrives comes from the disk.
    *to.mood.lock() = Mood::Good;
    let quiet = TestSource::new(&[Act::Rows(0)]);
    let runner = start(folder.path(), &quiet, plan()).await;
    let monitor = runner.monitor();
    until("all rows arrive", || to.rows() == kept).await;
    assert_eq!((balance(&monitor).accepted, balance(&monitor).delivered), (kept, kept));
    let ending = runner.stop().await;
    assert_eq!((ending.left, ending.kept), (Vec::new(), Vec::new()));
    assert!(arrivals(&to).values().all(|times| *times == 1));
    assert_eq!(arrivals(&to).len() as u64, kept);

    let runner = start(folder.path(), &quiet, plan()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(balance(&runner.monitor()).accepted, 0, "nothing is delivered twice");
    runner.stop().await;
}

#[tokio::test]
async fn rows_of_one_series_stay_in_order_over_lanes_and_failures() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(20)]), Taken::new(Mood::Good));
    let runner = start(folder.path(), &from, behind(folder.path(), WhenFull::Block, 1 << 30, &to)).await;
    for round in 0..20 {
        *to.mood.lock() = if round % 2 == 0 { Mood::Down } else { Mood::Slow(Duration::from_millis(5)) };
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
    *to.mood.lock() = Mood::Good;
    let monitor = runner.monitor();
    until("the sink writes again", || balance(&monitor).queued == 0).await;
    runner.stop().await;
    assert_eq!(to.rows(), from.rows.load(Ordering::SeqCst));
    let mut last = BTreeMap::new();
    for batch in to.batches.lock().iter() {
        for row in 0..batch.rows() {
            let (core, time) = (batch.tag("core", row).unwrap().to_owned(), batch.times()[row]);
            let before = last.insert(core, time);
            assert!(before.is_none_or(|before| before < time), "a row overtook another");
        }
    }
}

#[tokio::test]
async fn a_full_backlog_makes_the_sources_wait_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(50)]), Taken::new(Mood::Down));
    let plan = behind(folder.path(), WhenFull::Block, 200_000, &to);
    let runner = start(folder.path(), &from, plan).await;
    let monitor = runner.monitor();
    let blocked = || monitor.view().sinks[0].numbers.backlog.as_ref().is_some_and(|b| b.blocked.is_some());
    until("the backlog is full", blocked).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rows = from.rows.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(from.rows.load(Ordering::SeqCst), rows, "the source waits");
    assert!(monitor.view().sinks[0].numbers.backlog.as_ref().unwrap().bytes <= 200_000);
    *to.mood.lock() = Mood::Good;
    until("the backlog takes rows again", || from.rows.load(Ordering::SeqCst) > rows && !blocked()).await;
    runner.stop().await;
    let balance = balance(&monitor);
    assert_eq!((balance.delivered, balance.dropped_rows()), (balance.accepted, 0));
    assert_eq!(arrivals(&to).len() as u64, balance.accepted);
}

#[tokio::test]
async fn drop_oldest_counts_what_it_drops_and_keeps_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(50)]), Taken::new(Mood::Down));
    let plan = behind(folder.path(), WhenFull::DropOldest, 400_000, &to);
    let runner = start(folder.path(), &from, plan).await;
    let monitor = runner.monitor();
    until("rows are dropped", || balance(&monitor).dropped_rows() > 5_000).await;
    assert!(monitor.view().sinks[0].numbers.backlog.as_ref().unwrap().bytes <= 400_000);
    *to.mood.lock() = Mood::Good;
    until("rows arrive", || to.rows() > 0).await;
    runner.stop().await;
    let balance = balance(&monitor);
    assert_eq!(balance.dropped["overflow"] + balance.delivered, balance.accepted);
    assert_eq!(arrivals(&to).len() as u64, balance.delivered);
    let newest = from.windows.lock().last().unwrap().1.end;
    assert!(arrivals(&to).keys().any(|(time, _)| *time == newest), "the newest rows are there");
}

#[tokio::test]
async fn damaged_bytes_cost_their_frames_only_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(100)]), Taken::new(Mood::Down));
    let plan = || behind(folder.path(), WhenFull::Block, 1 << 30, &to);
    let runner = start(folder.path(), &from, plan()).await;
    let monitor = runner.monitor();
    until("rows wait", || balance(&monitor).queued >= 2_000).await;
    let kept = runner.stop().await.kept[0].1;
    let file = std::fs::read_dir(folder.path().join("backlog"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "log"))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();

    *to.mood.lock() = Mood::Good;
    let quiet = TestSource::new(&[Act::Rows(0)]);
    let runner = start(folder.path(), &quiet, plan()).await;
    let monitor = runner.monitor();
    let over = || balance(&monitor).accepted > 0 && balance(&monitor).queued == 0;
    until("the rest arrives", over).await;
    let balance = balance(&monitor);
    runner.stop().await;
    let damaged = balance.dropped["damaged"];
    assert!(damaged > 0 && damaged < kept / 2, "{damaged} of {kept}");
    assert_eq!(balance.accepted, kept);
    assert_eq!(arrivals(&to).len() as u64, kept - damaged);
}

#[tokio::test]
async fn a_reload_keeps_what_waits_and_what_asks_for_patience_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(10)]), Taken::new(Mood::Denied));
    let mut runner = start(folder.path(), &from, behind(folder.path(), WhenFull::Block, 1 << 30, &to)).await;
    let monitor = runner.monitor();
    until("rows wait", || balance(&monitor).queued >= 500).await;
    let phase = monitor.view().sinks[0].numbers.phase.clone();
    assert_eq!(phase.as_str(), "misconfigured", "{phase:?}");

    let next = Taken::new(Mood::Good);
    let plan =
        plan(folder.path(), vec![fast(&from)], vec![behind(folder.path(), WhenFull::Block, 1 << 29, &next)]);
    runner.reload(plan, &CancellationToken::new()).await.unwrap();
    until("rows arrive at the new sink", || next.rows() >= 500).await;
    runner.stop().await;
    let balance = balance(&monitor);
    assert_eq!((balance.delivered, balance.queued), (balance.accepted, 0));
    assert_eq!(arrivals(&next).len() as u64, from.rows.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_backlog_that_another_process_has_open_is_refused_with_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let plan =
        BacklogPlan { folder: folder.path().join("backlog"), max_bytes: 1 << 20, when_full: WhenFull::Block };
    let _first = Backlog::open(&plan).unwrap();
    let error = Backlog::open(&plan).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (crate::ErrorKind::Conflict, Retry::Never));
    assert!(error.to_string().contains("backlog"), "{error}");
}
