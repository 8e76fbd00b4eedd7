mod disk;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::Retry;
use crate::model::{BatchBuilder, Identity};

/// A batch that can be told from every other by its number; larger numbers make larger batches.
fn batch(number: i64) -> MetricBatch {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
    for row in 0..=number % 7 {
        let core = row.to_string();
        builder.row(number).set("core", &core).unwrap().set("utilization", 0.5).unwrap();
    }
    builder.finish().unwrap()
}

fn number(batch: &MetricBatch) -> i64 {
    batch.times()[0]
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 8_000, ..LogOptions::default() }
}

fn read(folder: &Path, from: Position) -> Vec<(Position, i64)> {
    let frames = LogReader::open(folder, from).unwrap();
    frames.map(Result::unwrap).map(|(position, batch)| (position, number(&batch))).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_from_any_position() {
    let folder = tempfile::tempdir().unwrap();
    let (log, recovery) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(recovery.truncated_bytes, 0);
    let first = log.append(&[batch(1), batch(2)]).await.unwrap();
    let second = log.append(&[batch(3)]).await.unwrap();
    assert_eq!(log.end(), second);
    let all = read(folder.path(), Position::START);
    assert_eq!(all.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(read(folder.path(), first), [(second, 3)]);
    assert_eq!(read(folder.path(), second), []);
    assert_eq!(read(folder.path(), Position::START)[2].0, second);
}

#[tokio::test]
async fn many_appends_at_once_are_all_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let appends = (0..200).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { (log.append(&[batch(n)]).await.unwrap(), n) })
    });
    let mut said = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        said.push(append.await.unwrap());
    }
    said.sort_unstable();
    assert_eq!(read(folder.path(), Position::START), said);
}

#[tokio::test]
async fn a_reader_beside_the_writer_sees_whole_batches_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let path = folder.path().to_owned();
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let watcher = std::thread::spawn(move || {
        let mut longest = 0;
        while stopped.try_recv().is_err() {
            let mut frames = LogReader::open(&path, Position::START).unwrap();
            let numbers: Vec<_> = frames.by_ref().map(|frame| number(&frame.unwrap().1)).collect();
            assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{numbers:?}");
            assert_eq!(frames.skipped(), 0);
            assert!(numbers.len() >= longest, "what was there stays there");
            longest = numbers.len();
        }
    });
    for n in 0..150 {
        log.append(&[batch(n)]).await.unwrap();
    }
    stop.send(()).unwrap();
    watcher.join().unwrap();
}

#[tokio::test]
async fn a_full_log_refuses_until_it_is_trimmed_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4_000, max_bytes: 12_000, ..LogOptions::default() };
    let (log, _) = Log::open(folder.path(), options).unwrap();
    let mut ends = Vec::new();
    let error = loop {
        match log.append(&[batch(7)]).await {
            Ok(end) => ends.push(end),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!(error.retry(), Retry::Later);
    assert!(log.bytes() <= 12_000);
    assert_eq!(read(folder.path(), Position::START).len(), ends.len());
    log.trim(*ends.last().unwrap()).unwrap();
    log.append(&[batch(7)]).await.unwrap();
    let again = LogReader::open(folder.path(), ends[0]).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound, "a gap is said, never silent");
}

#[tokio::test]
async fn a_closed_log_says_so_and_a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(Log::open(folder.path(), small()).unwrap_err().kind(), ErrorKind::Conflict);
    let clone = log.clone();
    log.close().unwrap();
    let error = clone.append(&[batch(1)]).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(clone.trim(Position { segment: 9, offset: 0 }).is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn closing_while_appends_wait_answers_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let appends: Vec<_> = (0..300)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(&[batch(n)]).await.map(|end| (end, n)) })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    // Blocks the only thread on which the appends could go on.
    log.close().unwrap();
    let mut said = Vec::new();
    for append in appends {
        match append.await.unwrap() {
            Ok(done) => said.push(done),
            Err(error) => assert!(error.to_string().contains("closed"), "{error}"),
        }
    }
    said.sort_unstable();
    assert_eq!(read(folder.path(), Position::START), said);
}

#[tokio::test]
async fn a_position_is_never_given_twice_even_if_the_end_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), LogOptions::default()).unwrap();
    let kept = log.append(&[batch(1)]).await.unwrap();
    let lost = log.append(&[batch(2)]).await.unwrap();
    log.close().unwrap();
    let file = OpenOptions::new().write(true).open(segments::path(folder.path(), 0)).unwrap();
    file.set_len(lost.offset - 3).unwrap();
    let (log, recovery) = Log::open(folder.path(), LogOptions::default()).unwrap();
    assert_eq!(recovery.truncated_bytes, lost.offset - kept.offset - 3);
    assert_eq!(log.end(), kept);
    let next = log.append(&[batch(3)]).await.unwrap();
    assert_eq!(read(folder.path(), lost), [(next, 3)], "who saw the lost end misses nothing that came after");
    assert_eq!(read(folder.path(), kept), [(next, 3)]);
    assert_eq!(read(folder.path(), Position { segment: 0, offset: u64::MAX }), [(next, 3)]);
}

#[tokio::test]
async fn another_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(segments::path(folder.path(), 0), b"BARLOG99 something new").unwrap();
    let error = Log::open(folder.path(), small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(fs::read(segments::path(folder.path(), 0)).unwrap(), b"BARLOG99 something new");
}

#[tokio::test]
async fn a_failing_disk_costs_only_the_append_that_met_it() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) =
        Log::open(folder.path(), LogOptions { segment_bytes: 1, ..LogOptions::default() }).unwrap();
    log.append(&[batch(1)]).await.unwrap();
    // The next append needs a new segment whose name is taken by something that cannot be written.
    fs::create_dir(segments::path(folder.path(), 2)).unwrap();
    assert!(log.append(&[batch(2)]).await.is_err());
    fs::remove_dir(segments::path(folder.path(), 2)).unwrap();
    log.append(&[batch(3)]).await.unwrap();
    let numbers: Vec<_> = read(folder.path(), Position::START).into_iter().map(|(_, n)| n).collect();
    assert_eq!(numbers, [1, 3]);
}

/// What can happen to a log.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<i64>),
    Trim(usize),
    Reopen,
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0_i64..1_000, 0..4).prop_map(Step::Append),
        1 => (0_usize..100).prop_map(Step::Trim),
        1 => Just(Step::Reopen),
        2 => (0_usize..100).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_that_can_be_cut_at_the_front(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 6_000, ..LogOptions::default() };
        let mut log = Some(Log::open(folder.path(), options).unwrap().0);
        // Each frame's end and number; positions before `trimmed` are gone.
        let mut model: Vec<(Position, i64)> = Vec::new();
        let mut trimmed = Position::START;
        for step in steps {
            let open = log.as_ref().unwrap();
            match step {
                Step::Append(numbers) => {
                    let batches: Vec<_> = numbers.iter().map(|n| batch(*n)).collect();
                    let end = runtime.block_on(open.append(&batches)).unwrap();
                    let from = model.last().map_or(trimmed, |(position, _)| *position);
                    let fresh = read(folder.path(), from);
                    prop_assert_eq!(fresh.iter().map(|(_, n)| *n).collect::<Vec<_>>(), numbers);
                    prop_assert_eq!(fresh.last().map_or(end, |(position, _)| *position), end);
                    model.extend(fresh);
                }
                Step::Trim(at) if !model.is_empty() => {
                    let upto = model[at % model.len()].0;
                    open.trim(upto).unwrap();
                    trimmed = trimmed.max(upto);
                }
                Step::Reopen => {
                    let end = open.end();
                    log.take().unwrap().close().unwrap();
                    let (again, recovery) = Log::open(folder.path(), options).unwrap();
                    prop_assert_eq!(recovery.truncated_bytes, 0);
                    prop_assert_eq!(recovery.corrupt_frames, 0);
                    prop_assert_eq!(again.end(), end);
                    prop_assert_eq!(again.bytes(), recovery.bytes);
                    log = Some(again);
                }
                Step::Read(at) if !model.is_empty() => {
                    let from = model[at % model.len()].0;
                    if from >= trimmed {
                        let after: Vec<_> = model.iter().filter(|(p, _)| *p > from).copied().collect();
                        prop_assert_eq!(read(folder.path(), from), after);
                    } else {
                        prop_assert_eq!(LogReader::open(folder.path(), from).unwrap_err().kind(), ErrorKind::NotFound);
                    }
                }
                Step::Trim(_) | Step::Read(_) => {}
            }
        }
    }

    #[test]
    fn damage_costs_only_the_frames_that_it_touches(
        faults in proptest::collection::vec((0_u8..3, any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        for n in 0..24 {
            runtime.block_on(log.append(&[batch(n)])).unwrap();
        }
        log.close().unwrap();
        let frames = read(folder.path(), Position::START);
        prop_assert!(frames.last().unwrap().0.segment > 1, "several segments");

        // Bytes that each segment lost or changed.
        let mut hurt: BTreeMap<u64, Vec<std::ops::Range<u64>>> = BTreeMap::new();
        let numbers = segments::list(folder.path()).unwrap();
        for (kind, place, value) in faults {
            let segment = numbers[place.index(numbers.len())];
            let path = segments::path(folder.path(), segment);
            let mut bytes = fs::read(&path).unwrap();
            if bytes.len() <= 8 {
                continue;
            }
            let at = 8 + place.index(bytes.len() - 8);
            let touched = hurt.entry(segment).or_default();
            match kind {
                0 => {
                    bytes[at] ^= value.max(1);
                    touched.push(at as u64..at as u64 + 1);
                }
                1 => {
                    let end = (at + 300).min(bytes.len());
                    bytes[at..end].fill(value);
                    touched.push(at as u64..end as u64);
                }
                _ => {
                    bytes.truncate(at);
                    touched.push(at as u64..u64::MAX);
                }
            }
            fs::write(&path, bytes).unwrap();
        }
        let mut start = BTreeMap::new();
        let mut sound = Vec::new();
        for (end, n) in &frames {
            let begin = start.insert(end.segment, end.offset).unwrap_or(8);
            let touched = hurt.get(&end.segment).into_iter().flatten();
            if !touched.clone().any(|range| range.start < end.offset && begin < range.end) {
                sound.push((*end, *n));
            }
        }
        let found = read(folder.path(), Position::START);
        // A fault may write what was there already, so more may be found, but nothing that never was.
        for frame in &sound {
            prop_assert!(found.contains(frame), "{frame:?} is intact but was not found");
        }
        for frame in &found {
            prop_assert!(frames.contains(frame), "{frame:?} is invented");
        }
        // The log goes on after any damage.
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        runtime.block_on(log.append(&[batch(999)])).unwrap();
        let again = read(folder.path(), Position::START);
        prop_assert_eq!(again.last().map(|(_, n)| *n), Some(999));
        for frame in &sound {
            prop_assert!(again.contains(frame), "{frame:?} was lost by opening");
        }
    }
}
