//! The pipeline as a whole, on stand-ins and paused time.

mod backfill;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::checkpoint::CheckpointFile;
use super::dead_letter::LetterFolder;
use super::doubles::*;
use super::monitor::{SinkPhase, SourcePhase, View};
use super::plan::{Plan, SinkPlan, SourcePlan};
use super::queue::Overflow;
use super::runner::Runner;
use crate::provider::Shard;
use crate::{Error, ErrorKind};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_763_000_000 * SECOND;

async fn start(plan: Plan) -> Runner {
    Runner::start_with(plan, TestClock::at(START)).await.unwrap()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn assert_balanced(view: &View) {
    for sink in &view.sinks {
        assert!(sink.balance.holds(), "{}: {:?}", sink.name, sink.balance);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_go_from_source_to_every_sink_and_the_checkpoint_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (from, one, two) = (TestSource::new(&[Act::Rows(3)]), Taken::new(Mood::Good), Taken::new(Mood::Good));
    let runner = start(plan(
        folder.path(),
        vec![source("host", 10, &from)],
        vec![sink("one", &one), sink("two", &two)],
    ))
    .await;
    let monitor = runner.monitor();
    assert_eq!(monitor.view().not_ready().len(), 1 + 2, "{:?}", monitor.view().not_ready());
    pass(35).await;
    assert!(monitor.view().not_ready().is_empty());
    let ending = runner.stop().await;
    assert_eq!(ending.rows_left(), 0);
    let windows = from.windows.lock().len() as u64;
    assert!((3..=4).contains(&windows), "{windows}");
    for taken in [&one, &two] {
        assert_eq!(taken.rows(), 3 * windows);
        assert_eq!(taken.closes.load(Ordering::SeqCst), 1);
    }
    assert!(from.closed.load(Ordering::SeqCst));
    let view = monitor.view();
    assert_balanced(&view);
    assert_eq!(view.sources[0].numbers.rows, 3 * windows);
    for sink in &view.sinks {
        assert_eq!((sink.balance.accepted, sink.balance.delivered), (3 * windows, 3 * windows));
    }
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(folder.path()).load().unwrap()["host"]["local"], last);
    // Rows carry the aligned tick.
    assert!(
        one.batches.lock().iter().all(|batch| batch.times().iter().all(|time| time % (10 * SECOND) == 0))
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_run_collects_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mark = START - 3_600 * SECOND;
    let file = CheckpointFile::new(folder.path());
    file.save(&[("host".into(), [("local".into(), mark)].into())].into()).unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(1)]), Taken::new(Mood::Good));
    let runner = start(plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)])).await;
    pass(25).await;
    runner.stop().await;
    let windows = from.windows.lock().clone();
    assert_eq!(windows[0].1.start, mark);
    assert_eq!(windows[1].1.start, windows[0].1.end);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_of_what_is_gone_are_kept_for_30_days() {
    let folder = tempfile::tempdir().unwrap();
    let day = 86_400 * SECOND;
    let (old, young) = (START - 31 * day, START - 29 * day);
    let file = CheckpointFile::new(folder.path());
    let of = |shards: &[(&str, i64)]| shards.iter().map(|(shard, at)| ((*shard).into(), *at)).collect();
    let saved = [
        ("guests".into(), of(&[("vanished", old), ("away", young)])),
        // It cannot say yet which shards there are, so all may still come.
        ("waits".into(), of(&[("local", old)])),
        ("removed".into(), of(&[("local", old)])),
        ("paused".into(), of(&[("local", young)])),
    ];
    file.save(&saved.into()).unwrap();
    let (guests, waits) = (TestSource::new(&[Act::Rows(1)]), TestSource::new(&[Act::Rows(1)]));
    *waits.shards.lock() = Err("no socket".into());
    let sources = vec![source("guests", 10, &guests), source("waits", 10, &waits)];
    let mut runner = start(plan(folder.path(), sources, vec![sink("one", &Taken::new(Mood::Good))])).await;
    pass(25).await;
    let names = |source: &str| file.load().unwrap().remove(source).map(|shards| shards.into_keys().collect());
    assert_eq!(names("guests"), Some(vec!["away".to_owned(), "local".to_owned()]));
    assert_eq!(names("waits"), Some(vec!["local".to_owned()]));
    assert_eq!(names("removed"), None);
    assert_eq!(names("paused"), Some(vec!["local".to_owned()]));

    // A reload takes a source out: its old marks go with it, the young ones stay.
    let next = plan(
        folder.path(),
        vec![SourcePlan { unchanged: true, ..source("guests", 10, &guests) }],
        vec![SinkPlan { unchanged: true, ..sink("one", &Taken::new(Mood::Good)) }],
    );
    runner.reload(next, &CancellationToken::new()).await.unwrap();
    pass(2).await;
    assert_eq!(names("waits"), None);
    assert_eq!(names("paused"), Some(vec!["local".to_owned()]));
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn panicking_failing_and_stuck_sources_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let sources = [
        ("good", TestSource::new(&[Act::Rows(1)])),
        ("panics", TestSource::new(&[Act::Panic])),
        ("fails", TestSource::new(&[Act::Fail])),
        ("hangs", TestSource::new(&[Act::Hang])),
        ("faulty", TestSource::new(&[Act::Fault(2)])),
    ];
    let to = Taken::new(Mood::Good);
    let plans = sources.iter().map(|(name, double)| source(name, 10, double)).collect();
    let runner = start(plan(folder.path(), plans, vec![sink("one", &to)])).await;
    pass(105).await;
    let view = runner.monitor().view();
    let numbers = |name: &str| view.sources.iter().find(|s| s.name == name).unwrap().numbers.clone();
    assert!(numbers("good").collections >= 10, "{:?}", numbers("good"));
    assert!(numbers("panics").failures >= 10);
    assert!(numbers("panics").last_error.unwrap().contains("panicked"));
    assert!(numbers("fails").failures >= 10);
    assert!(numbers("hangs").failures >= 5);
    assert!(numbers("hangs").last_error.unwrap().contains("deadline of 10s"));
    assert!(numbers("faulty").faults >= 10 && numbers("faulty").failures == 0);
    assert_eq!(runner.stop().await.rows_left(), 0);
    assert_eq!(to.rows(), numbers("good").rows + numbers("faulty").rows);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_never_collected_twice_at_once_and_skipped_ticks_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, to) = (TestSource::new(&[Act::Take(Duration::from_secs(25))]), Taken::new(Mood::Good));
    let mut plans = vec![source("slow", 10, &slow)];
    plans[0].deadline = Duration::from_secs(60);
    let runner = start(plan(folder.path(), plans, vec![sink("one", &to)])).await;
    pass(100).await;
    let numbers = runner.monitor().view().sources[0].numbers.clone();
    assert!(!slow.overlapped.load(Ordering::SeqCst));
    assert!(numbers.skipped >= 5, "{numbers:?}");
    assert!(slow.ends().windows(2).all(|pair| pair[1] - pair[0] == 30), "{:?}", slow.ends());
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_waits_and_says_why_until_there_is_something_to_measure() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(1)]), Taken::new(Mood::Good));
    *from.shards.lock() = Err("no socket".into());
    let runner = start(plan(folder.path(), vec![source("guests", 10, &from)], vec![sink("one", &to)])).await;
    let monitor = runner.monitor();
    pass(30).await;
    let phase = monitor.view().sources[0].numbers.phase.clone();
    assert!(matches!(&phase, SourcePhase::Waiting(reason) if reason.contains("no socket")), "{phase:?}");
    assert!(monitor.view().not_ready().is_empty());
    assert_eq!(to.rows(), 0);
    assert_eq!(monitor.view().sources[0].lag, Duration::from_secs(30));

    *from.shards.lock() = Ok(vec![Shard("a".into()), Shard("b".into())]);
    pass(90).await;
    assert_eq!(monitor.view().sources[0].numbers.phase, SourcePhase::Running);
    assert!(to.rows() > 4);
    assert_eq!(monitor.view().sources[0].numbers.skipped, 0);

    *from.shards.lock() = Ok(vec![Shard("b".into())]);
    pass(65).await;
    let seen = from.windows.lock().len();
    pass(30).await;
    assert!(from.windows.lock()[seen..].iter().all(|(shard, _)| shard == "b"));

    // The connection is lost, but the shards are still known: they are collected as before.
    *from.shards.lock() = Err("the daemon restarts".into());
    pass(65).await;
    assert_eq!(monitor.view().sources[0].numbers.phase, SourcePhase::Running);

    // There is nothing to measure any more: the lag goes on from the last mark.
    *from.shards.lock() = Ok(Vec::new());
    pass(120).await;
    let view = monitor.view();
    assert!(view.sources[0].numbers.shards.is_empty());
    assert!((1..200).contains(&view.sources[0].lag.as_secs()), "{:?}", view.sources[0].lag);
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lag_of_a_source_that_never_answered_begins_at_the_last_runs_mark() {
    let folder = tempfile::tempdir().unwrap();
    let shards = [("local".into(), START - 60 * SECOND), ("gone".into(), START - 900 * SECOND)];
    CheckpointFile::new(folder.path()).save(&[("guests".into(), shards.into())].into()).unwrap();
    let from = TestSource::new(&[Act::Rows(1)]);
    *from.shards.lock() = Err("no socket".into());
    let sinks = vec![sink("one", &Taken::new(Mood::Good))];
    let runner = start(plan(folder.path(), vec![source("guests", 10, &from)], sinks)).await;
    pass(30).await;
    assert_eq!(runner.monitor().view().sources[0].lag, Duration::from_secs(90));
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_account_balances_under_a_failing_and_a_slow_sink() {
    let folder = tempfile::tempdir().unwrap();
    let from = TestSource::new(&[Act::Rows(7)]);
    let (down, slow) = (Taken::new(Mood::Down), Taken::new(Mood::Slow(Duration::from_millis(1_500))));
    let sinks = vec![sink("down", &down), sink("slow", &slow)];
    let runner = start(plan(folder.path(), vec![source("host", 1, &from)], sinks)).await;
    let monitor = runner.monitor();
    for _ in 0..20 {
        pass(1).await;
        let view = monitor.view();
        assert_balanced(&view);
        assert_eq!(view.sinks[0].balance.delivered, 0);
        assert_eq!(view.sinks[1].balance.delivered, slow.rows());
    }
    let before = monitor.view();
    assert!(matches!(before.sinks[0].numbers.phase, SinkPhase::Down(_)));
    assert_eq!(before.sinks[0].balance.queued, before.sinks[0].balance.accepted);
    // The full queue of the one that is down holds up the sources: memory is bounded, and ticks are skipped.
    pass(600).await;
    let held = monitor.view();
    assert!(held.sinks[0].balance.queued <= 100 + 50 + 7, "{:?}", held.sinks[0].balance);
    assert!(held.sources[0].numbers.skipped > 100, "{:?}", held.sources[0].numbers);

    *down.mood.lock() = Mood::Good;
    pass(60).await;
    assert_eq!(runner.stop().await.rows_left(), 0);
    let after = monitor.view();
    assert_balanced(&after);
    for (sink, taken) in after.sinks.iter().zip([&down, &slow]) {
        assert_eq!(sink.balance.delivered, from.rows.load(Ordering::SeqCst));
        assert_eq!(sink.balance.delivered, taken.rows());
        assert_eq!(sink.balance.queued, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_runs_out_of_time_tells_what_was_left_and_keeps_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    for mood in [Mood::Down, Mood::Hangs] {
        let (from, bad, good) = (TestSource::new(&[Act::Rows(5)]), Taken::new(mood), Taken::new(Mood::Good));
        let sinks = vec![sink("bad", &bad), sink("good", &good)];
        let runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
        let monitor = runner.monitor();
        pass(45).await;
        let mark = from.windows.lock()[0].1.start;
        let ending = runner.stop().await;
        let rows = from.rows.load(Ordering::SeqCst);
        assert_eq!(ending.left, [("bad".to_owned(), rows)]);
        assert_balanced(&monitor.view());
        assert_eq!(good.rows(), rows);
        assert_eq!(bad.closes.load(Ordering::SeqCst), 1);
        let saved = CheckpointFile::new(folder.path()).load().unwrap();
        assert!(saved.get("host").is_none_or(|shards| shards["local"] == mark), "{saved:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_row_is_dead_lettered_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(40)]), Taken::new(Mood::Refuses(17)));
    let runner = start(plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)])).await;
    let monitor = runner.monitor();
    pass(25).await;
    assert_eq!(runner.stop().await.rows_left(), 0);
    let (balance, ticks) = (monitor.view().sinks[0].balance.clone(), from.windows.lock().len() as u64);
    assert!(balance.holds());
    assert_eq!(balance.dead_lettered["invalid"], ticks);
    assert_eq!(balance.delivered, 39 * ticks);
    assert_eq!(to.rows(), 39 * ticks);
    let letters = LetterFolder::new(folder.path());
    let entries = letters.list().unwrap();
    assert_eq!(entries.len() as u64, ticks);
    for entry in entries {
        let letter = letters.read(&entry).unwrap();
        assert_eq!((letter.batch.rows(), letter.batch.float("utilization", 0)), (1, Some(17.0)));
    }
    // A dead-lettered row has found its end: the mark moves on.
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(folder.path()).load().unwrap()["host"]["local"], last);
}

#[tokio::test(start_paused = true)]
async fn rejected_rows_and_a_panicking_sink_are_accounted_for_and_a_denied_sink_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let from = TestSource::new(&[Act::Rows(4), Act::Rows(0)]);
    let (rejects, panics, denied) =
        (Taken::new(Mood::RejectsOne), Taken::new(Mood::Panics), Taken::new(Mood::Denied));
    let sinks = vec![sink("rejects", &rejects), sink("panics", &panics), sink("denied", &denied)];
    let runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
    let monitor = runner.monitor();
    pass(300).await;
    let view = monitor.view();
    assert_balanced(&view);
    let balance = |name: &str| view.sinks.iter().find(|sink| sink.name == name).unwrap().balance.clone();
    assert_eq!((balance("rejects").delivered, balance("rejects").dead_lettered_rows()), (3, 1));
    assert_eq!((balance("panics").delivered, balance("panics").dead_lettered_rows()), (0, 4));
    assert_eq!((balance("denied").queued, balance("denied").dead_lettered_rows()), (4, 0));
    *denied.mood.lock() = Mood::Good;
    pass(60).await;
    assert_eq!(denied.rows(), 4);
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn transforms_are_accounted_for_and_kept_rows_come_out_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(10), Act::Rows(1), Act::Rows(0)]), Taken::new(Mood::Good));
    let mut plan = plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)]);
    plan.transforms = vec![transform(Halver), transform(Keeper::default())];
    let runner = start(plan).await;
    let monitor = runner.monitor();
    pass(50).await;
    assert_eq!(to.rows(), 0);
    let saved = monitor.view().sources[0].lag;
    assert!(saved > Duration::from_secs(30), "{saved:?}");
    assert_eq!(runner.stop().await.rows_left(), 0);
    let view = monitor.view();
    assert_balanced(&view);
    assert_eq!(to.rows(), 5);
    let balance = &view.sinks[0].balance;
    // 11 collected and 5 made by the second transform; 5 dropped by the first and 5 by the second; 1 refused.
    assert_eq!((balance.accepted, balance.delivered), (16, 5));
    assert_eq!((balance.dropped["transform"], balance.dead_lettered["invalid"]), (10, 1));
    assert_eq!((view.transforms[0].rows_in, view.transforms[0].rows_out), (11, 5));
    assert_eq!(view.transforms[0].name, "1.test");
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(folder.path()).load().unwrap()["host"]["local"], last);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_transform_costs_its_rows_and_not_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(2)]), Taken::new(Mood::Good));
    let mut plan = plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)]);
    plan.transforms = vec![transform(Panicker)];
    let runner = start(plan).await;
    let monitor = runner.monitor();
    pass(35).await;
    let view = monitor.view();
    assert_balanced(&view);
    assert_eq!(view.sinks[0].balance.dead_lettered["unsupported"], from.rows.load(Ordering::SeqCst));
    assert_eq!(view.sinks[0].balance.queued, 0);
    assert_eq!(runner.stop().await.rows_left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_may_overflow_never_holds_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (from, stuck, good) =
        (TestSource::new(&[Act::Rows(30)]), Taken::new(Mood::Hangs), Taken::new(Mood::Good));
    let overflowing = SinkPlan { overflow: Overflow::Drop, ..sink("stuck", &stuck) };
    let runner =
        start(plan(folder.path(), vec![source("host", 10, &from)], vec![overflowing, sink("good", &good)]))
            .await;
    let monitor = runner.monitor();
    pass(205).await;
    let view = monitor.view();
    assert_balanced(&view);
    assert_eq!(view.sources[0].numbers.skipped, 0);
    assert_eq!(good.rows(), from.rows.load(Ordering::SeqCst));
    let balance = &view.sinks[0].balance;
    assert!(balance.queued <= 130 && balance.dropped["overflow"] > 400, "{balance:?}");
    runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_is_unchanged_and_hands_waiting_rows_to_a_changed_sink() {
    let folder = tempfile::tempdir().unwrap();
    let (from, added) = (TestSource::new(&[Act::Rows(3)]), TestSource::new(&[Act::Rows(1)]));
    let (kept, broken, gone) = (Taken::new(Mood::Good), Taken::new(Mood::Down), Taken::new(Mood::Good));
    let sinks = vec![sink("kept", &kept), sink("changed", &broken), sink("gone", &gone)];
    let mut runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
    let monitor = runner.monitor();
    pass(45).await;

    let (repaired, new) = (Taken::new(Mood::Good), Taken::new(Mood::Good));
    let mut next = plan(
        folder.path(),
        vec![source("host", 10, &from), source("added", 10, &added)],
        vec![sink("new", &new), sink("changed", &repaired), sink("kept", &kept)],
    );
    next.sources[0].unchanged = true;
    next.sinks[2].unchanged = true;
    runner.reload(next, &CancellationToken::new()).await.unwrap();
    pass(30).await;
    assert_eq!(kept.opens.load(Ordering::SeqCst), 1);
    assert_eq!((gone.closes.load(Ordering::SeqCst), broken.closes.load(Ordering::SeqCst)), (1, 1));
    assert!(!from.closed.load(Ordering::SeqCst));
    let names: Vec<_> = monitor.view().sinks.iter().map(|sink| sink.name.clone()).collect();
    assert_eq!(names, ["new", "changed", "kept"]);
    assert_eq!(runner.stop().await.rows_left(), 0);
    let view = monitor.view();
    assert_balanced(&view);
    assert_eq!(view.reloads, 1);
    let all = from.rows.load(Ordering::SeqCst) + added.rows.load(Ordering::SeqCst);
    assert_eq!((kept.rows(), repaired.rows()), (all, all));
    assert!(new.rows() > 0 && new.rows() < all);
    assert!(added.rows.load(Ordering::SeqCst) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_lets_a_transform_that_did_not_change_keep_its_rows_and_empties_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for (unchanged, expected) in [([true, true], false), ([true, false], true), ([false, false], true)] {
        let (from, to) = (TestSource::new(&[Act::Rows(3)]), Taken::new(Mood::Good));
        let with_keeper = || {
            let mut plan = plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)]);
            plan.transforms = vec![transform(Passing), transform(Keeper::default())];
            plan
        };
        let mut runner = start(with_keeper()).await;
        let monitor = runner.monitor();
        pass(35).await;
        let mut next = with_keeper();
        next.sources[0].unchanged = true;
        next.sinks[0].unchanged = true;
        next.transforms.iter_mut().zip(unchanged).for_each(|(plan, unchanged)| plan.unchanged = unchanged);
        runner.reload(next, &CancellationToken::new()).await.unwrap();
        pass(1).await;
        assert_eq!(to.rows() > 0, expected, "{unchanged:?}");
        pass(20).await;
        runner.stop().await;
        assert_eq!(to.rows(), from.rows.load(Ordering::SeqCst), "{unchanged:?}");
        assert_balanced(&monitor.view());
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_transform_kept_and_cannot_give_up_are_dead_lettered() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(3)]), Taken::new(Mood::Good));
    let mut plan = plan(folder.path(), vec![source("host", 10, &from)], vec![sink("one", &to)]);
    plan.transforms = vec![transform(Failing::default())];
    let runner = start(plan).await;
    let monitor = runner.monitor();
    pass(35).await;
    runner.stop().await;
    let view = monitor.view();
    assert_balanced(&view);
    let all = from.rows.load(Ordering::SeqCst);
    assert!(all > 3, "more than one parcel was kept");
    assert_eq!((to.rows(), view.sinks[0].balance.dead_lettered["invalid"]), (3, all - 3));
    assert_eq!(view.transforms[0].refused, all - 3);
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(folder.path()).load().unwrap()["host"]["local"], last);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_cannot_open_a_sink_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = TestSource::new(&[Act::Rows(3)]);
    let (one, two, spare) = (Taken::new(Mood::Good), Taken::new(Mood::Good), Taken::new(Mood::Good));
    let mut runner = start(plan(
        folder.path(),
        vec![source("host", 10, &from)],
        vec![sink("one", &one), sink("two", &two)],
    ))
    .await;
    let monitor = runner.monitor();
    pass(25).await;
    let cannot = SinkPlan {
        open: Arc::new(|| {
            Box::pin(async { Err(Error::new(ErrorKind::Conflict, "open", "another process has it")) })
        }),
        ..sink("two", &two)
    };
    // The first changed sink opens, the second does not: both are as before afterwards.
    let next =
        plan(folder.path(), vec![], vec![sink("one", &Taken::new(Mood::Good)), cannot, sink("new", &spare)]);
    let error = runner.reload(next, &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    assert_eq!(spare.closes.load(Ordering::SeqCst), 1);
    pass(30).await;
    assert_eq!(runner.stop().await.rows_left(), 0);
    let all = from.rows.load(Ordering::SeqCst);
    assert!(all >= 15);
    assert_eq!((one.rows(), two.rows()), (all, all));
    assert_eq!((monitor.view().reloads, monitor.view().reloads_refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_may_rename_sinks_and_move_their_folders_and_rows_stay_with_the_folder() {
    for (case, after) in [
        ("renamed", vec![("c", "x"), ("b", "y")]),
        ("traded", vec![("a", "y"), ("b", "./x")]),
        ("moved on", vec![("a", "z"), ("b", "x")]),
        ("all at once", vec![("b", "z"), ("c", "y"), ("d", "x")]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let from = TestSource::new(&[Act::Rows(3)]);
        let folders = ["x", "y", "z"].map(|name| (name, Taken::new(Mood::Good)));
        let taken =
            |name: &str| &folders.iter().find(|(n, _)| *n == name.trim_start_matches("./")).unwrap().1;
        let sinks = |plans: &[(&str, &str)]| {
            plans.iter().map(|(name, path)| exclusive(name, path, taken(path))).collect::<Vec<_>>()
        };
        // The rows for x wait until after the reload.
        *taken("x").mood.lock() = Mood::Down;
        let sources = || vec![SourcePlan { unchanged: true, ..source("host", 10, &from) }];
        let mut runner = start(plan(folder.path(), sources(), sinks(&[("a", "x"), ("b", "y")]))).await;
        let monitor = runner.monitor();
        pass(45).await;
        let next = plan(folder.path(), sources(), sinks(&after));
        let reloaded = runner.reload(next, &CancellationToken::new()).await;
        reloaded.unwrap_or_else(|error| panic!("{case}: {error}"));
        *taken("x").mood.lock() = Mood::Good;
        let names: Vec<_> = monitor.view().sinks.iter().map(|sink| sink.name.clone()).collect();
        assert_eq!(names, after.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{case}");
        pass(45).await;
        assert_eq!(runner.stop().await.rows_left(), 0, "{case}");
        let (view, all) = (monitor.view(), from.rows.load(Ordering::SeqCst));
        assert_balanced(&view);
        assert_eq!(taken("x").rows(), all, "{case}");
        let of_x = after.iter().position(|(_, path)| path.ends_with('x')).unwrap();
        assert_eq!(view.sinks[of_x].balance.delivered, all, "{case}: the account goes on");
        for (name, taken) in &folders {
            let counts = (taken.opens.load(Ordering::SeqCst), taken.closes.load(Ordering::SeqCst));
            assert_eq!(counts.0, counts.1, "{case}: {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_renamed_sink_has_its_old_name_again_after_a_refused_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to, other) =
        (TestSource::new(&[Act::Rows(3)]), Taken::new(Mood::Good), Taken::new(Mood::Good));
    let sinks = vec![exclusive("old", "x", &to), sink("other", &other)];
    let mut runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
    let monitor = runner.monitor();
    pass(25).await;
    let cannot = SinkPlan {
        open: Arc::new(|| Box::pin(async { Err(Error::new(ErrorKind::Denied, "open", "not allowed")) })),
        ..sink("other", &other)
    };
    let next = plan(folder.path(), vec![], vec![exclusive("new", "x", &to), cannot]);
    assert!(runner.reload(next, &CancellationToken::new()).await.is_err());
    pass(30).await;
    let view = monitor.view();
    assert_eq!(view.sinks[0].name, "old");
    assert_eq!(view.sinks[0].numbers.phase, SinkPhase::Open);
    assert_eq!(runner.stop().await.rows_left(), 0);
    let all = from.rows.load(Ordering::SeqCst);
    assert_eq!((to.rows(), other.rows(), monitor.view().sinks[0].balance.delivered), (all, all, all));
}

#[tokio::test(start_paused = true)]
async fn checkpoints_and_dead_letters_follow_the_data_folder_at_a_reload() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (TestSource::new(&[Act::Rows(3)]), Taken::new(Mood::RejectsOne));
    let parts = || (vec![source("host", 10, &from)], vec![sink("one", &to)]);
    let (sources, sinks) = parts();
    let mut runner = start(plan(before.path(), sources, sinks)).await;
    let (sources, sinks) = parts();
    runner.reload(plan(after.path(), sources, sinks), &CancellationToken::new()).await.unwrap();
    pass(25).await;
    runner.stop().await;
    assert!(!LetterFolder::new(after.path()).list().unwrap().is_empty());
    assert_eq!(LetterFolder::new(before.path()).list().unwrap(), []);
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(after.path()).load().unwrap()["host"]["local"], last);
}

#[tokio::test(start_paused = true)]
async fn a_reload_can_remove_the_sink_that_holds_everything_up() {
    let folder = tempfile::tempdir().unwrap();
    let (from, stuck, good) =
        (TestSource::new(&[Act::Rows(30)]), Taken::new(Mood::Hangs), Taken::new(Mood::Good));
    let sinks = vec![sink("stuck", &stuck), sink("good", &good)];
    let mut runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
    let monitor = runner.monitor();
    pass(300).await;
    let held = good.rows();
    let mut next = plan(folder.path(), vec![source("host", 10, &from)], vec![sink("good", &good)]);
    next.sources[0].unchanged = true;
    next.sinks[0].unchanged = true;
    let began = Instant::now();
    runner.reload(next, &CancellationToken::new()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "the new plan does not wait for the sink that goes");
    pass(60).await;
    assert!(good.rows() > held + 100, "{} after {held}", good.rows());
    assert_eq!(runner.stop().await.rows_left(), 0);
    assert_eq!(good.rows(), from.rows.load(Ordering::SeqCst));
    assert_balanced(&monitor.view());
    // Dropped by policy is an end: the mark moves on.
    let last = from.windows.lock().last().unwrap().1.end;
    assert_eq!(CheckpointFile::new(folder.path()).load().unwrap()["host"]["local"], last);
}

#[tokio::test(start_paused = true)]
async fn reloads_while_a_sink_holds_everything_up_all_take_effect_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (from, stuck) = (TestSource::new(&[Act::Rows(30)]), Taken::new(Mood::Down));
    let mut runner =
        start(plan(folder.path(), vec![source("host", 10, &from)], vec![sink("stuck", &stuck)])).await;
    let monitor = runner.monitor();
    pass(300).await;
    let added: Vec<_> = (0..3).map(|_| Taken::new(Mood::Good)).collect();
    let mut names = Vec::new();
    for (index, taken) in added.iter().enumerate() {
        names.push(format!("added-{index}"));
        let mut next = plan(
            folder.path(),
            vec![source("host", 10, &from)],
            names.iter().map(|name| sink(name, taken)).chain([sink("stuck", &stuck)]).collect(),
        );
        next.drain = Duration::from_secs(20);
        next.sources[0].unchanged = true;
        next.sinks.iter_mut().for_each(|sink| sink.unchanged = sink.name != names[index]);
        runner.reload(next, &CancellationToken::new()).await.unwrap();
    }
    assert!(added.iter().all(|taken| taken.rows() == 0), "the sink still holds everything up");
    *stuck.mood.lock() = Mood::Good;
    pass(60).await;
    assert!(added.iter().all(|taken| taken.rows() > 0), "every sink that was added gets rows");
    assert_eq!(runner.stop().await.rows_left(), 0);
    assert_balanced(&monitor.view());
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_a_reload_short_whatever_it_waits_for() {
    let unchanged = |sink: SinkPlan| SinkPlan { unchanged: true, ..sink };
    let never = SinkPlan {
        open: Arc::new(|| Box::pin(std::future::pending())),
        ..sink("new", &Taken::new(Mood::Good))
    };
    let stuck = Taken::new(Mood::Hangs);
    for (waits_for, sinks) in [
        ("the write of a sink that changes", vec![sink("stuck", &stuck)]),
        ("a sink that opens", vec![unchanged(sink("stuck", &stuck)), never]),
        ("a source that has no room for its rows", vec![unchanged(sink("stuck", &stuck))]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let from = TestSource::new(&[Act::Rows(30)]);
        let sources = vec![source("host", 10, &from)];
        let mut runner = start(plan(folder.path(), sources, vec![sink("stuck", &stuck)])).await;
        let monitor = runner.monitor();
        pass(900).await;
        let mut next = plan(folder.path(), vec![source("host", 20, &from)], sinks);
        next.drain = Duration::from_secs(3_600);
        let cut = CancellationToken::new();
        let (token, began) = (cut.clone(), Instant::now());
        tokio::spawn(async move {
            pass(60).await;
            token.cancel();
        });
        let error = runner.reload(next, &cut).await.unwrap_err();
        assert!(error.to_string().contains("is being stopped"), "{waits_for}: {error}");
        let waited = began.elapsed().as_secs();
        assert!((60..90).contains(&waited), "{waits_for}: {waited}");
        assert!(runner.stop().await.rows_left() > 0);
        assert_balanced(&monitor.view());
        assert_eq!(stuck.closes.load(Ordering::SeqCst), stuck.opens.load(Ordering::SeqCst), "{waits_for}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_be_opened_fails_the_start_unless_it_may_come_up_later() {
    let folder = tempfile::tempdir().unwrap();
    let (from, good) = (TestSource::new(&[Act::Rows(1)]), Taken::new(Mood::Good));
    let failing = |kind: ErrorKind| SinkPlan {
        open: Arc::new(move || Box::pin(async move { Err(Error::new(kind, "open store", "not now")) })),
        ..sink("bad", &good)
    };
    let sinks = vec![sink("good", &good), failing(ErrorKind::Conflict)];
    assert!(Runner::start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await.is_err());
    assert_eq!(good.closes.load(Ordering::SeqCst), 1);

    let sinks = vec![sink("good", &good), failing(ErrorKind::Unavailable)];
    let runner = start(plan(folder.path(), vec![source("host", 10, &from)], sinks)).await;
    pass(25).await;
    assert!(good.rows() > 0);
    assert_eq!(runner.monitor().view().not_ready(), ["sink bad is not open"]);
    assert!(runner.stop().await.rows_left() > 0);
}

#[tokio::test(start_paused = true)]
async fn the_metrics_balance_and_forget_what_a_reload_took_out() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (TestSource::new(&[Act::Rows(4)]), Taken::new(Mood::RejectsOne));
    let mut runner =
        start(plan(folder.path(), vec![source("host", 10, &from)], vec![sink("old", &to)])).await;
    let metrics = super::Metrics::new(&crate::telemetry::Telemetry::default());
    let text = metrics.encode(Some(&runner.monitor()));
    for (what, reasons) in [
        ("dead_lettered", ["invalid", "unsupported", "conflict"]),
        ("dropped", ["transform", "overflow", "removed"]),
    ] {
        for reason in reasons {
            let line =
                format!("barograph_pipeline_rows_{what}_total{{component=\"old\",reason=\"{reason}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
    assert!(text.contains("barograph_source_lag_seconds{component=\"host\"} 0.0\n"), "{text}");
    pass(25).await;
    let text = metrics.encode(Some(&runner.monitor()));
    let ticks = from.windows.lock().len() as u64;
    for line in [
        format!("barograph_pipeline_rows_accepted_total{{component=\"old\"}} {}", 4 * ticks),
        format!("barograph_pipeline_rows_delivered_total{{component=\"old\"}} {}", 3 * ticks),
        format!(
            "barograph_pipeline_rows_dead_lettered_total{{component=\"old\",reason=\"invalid\"}} {ticks}"
        ),
        "barograph_pipeline_rows_queued{component=\"old\"} 0.0".to_owned(),
        format!("barograph_source_rows_total{{component=\"host\"}} {}", 4 * ticks),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let next =
        plan(folder.path(), vec![source("host", 10, &from)], vec![sink("new", &Taken::new(Mood::Good))]);
    runner.reload(next, &CancellationToken::new()).await.unwrap();
    let text = metrics.encode(Some(&runner.monitor()));
    assert!(!text.contains("\"old\"") && text.contains("component=\"new\""), "{text}");
    runner.stop().await;
}
