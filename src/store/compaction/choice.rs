//! What is worth merging.
//!
//! Segments that can hold the same keys form a group: those of one fresh window, or, once a compacted window is over,
//! all in it. Groups that keep changing are merged in tiers of similar size, so that a row is rewritten a few times
//! only; quiet groups become one, the later the more would be rewritten for the little that is new.
//!
//! Precedence stays right because each job takes runs that are neighbours in precedence within their group: whatever
//! is left out wins over all of them or loses to all of them, before and after.

use std::collections::BTreeMap;

use super::super::SegmentMeta;
use super::super::manifest::Manifest;
use super::super::options::{Window, Windows};
use super::super::output::written_at;

/// Most files that one job reads at the same time: each takes some memory.
const FAN_IN: usize = 32;

/// So many runs of similar size are merged even while more are coming.
const TIER: usize = 4;

/// A quiet group rests at most so many times longer because it is much larger than what came to it last.
const PATIENCE: u64 = 16;

/// When a group counts as quiet.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Quiet {
    /// Always: merge whatever can be merged.
    Always,
    /// When its last segment was written so many milliseconds ago, if merging rewrites little beside what is new; up to
    /// [`PATIENCE`] times later otherwise.
    After(i64),
}

/// Segments to be merged into one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) table: String,
    pub(super) window: Window,
    /// In rising precedence.
    pub(super) inputs: Vec<SegmentMeta>,
}

/// Whether the second file goes on where the first was cut off. One writing gives all its files one precedence and
/// window, and lists them in their order.
pub(super) fn continues(file: &SegmentMeta, next: &SegmentMeta) -> bool {
    let place = |segment: &SegmentMeta| (segment.precedence, segment.window_start, segment.window_end);
    place(file) == place(next)
}

/// The job that is most worth doing, if any is; groups that are `resting` are passed over.
pub(super) fn next_job(
    manifest: &Manifest,
    windows: Windows,
    now: i64,
    quiet: Quiet,
    resting: impl Fn(&str, Window) -> bool,
) -> Option<Job> {
    let resting = &resting;
    let jobs = manifest.tables.iter().flat_map(|(table, segments)| {
        let groups = groups(segments, windows, now).into_iter();
        groups.filter(move |(window, _)| !resting(table, *window)).filter_map(move |(window, group)| {
            choose(window, group, now / 1_000_000, quiet).map(|inputs| Job {
                table: table.clone(),
                window,
                inputs: inputs.into_iter().cloned().collect(),
            })
        })
    });
    // Where most files overlap, readers gain most.
    jobs.max_by_key(|job| job.inputs.len())
}

/// Segments by the window into which they can be merged.
fn groups(segments: &[SegmentMeta], windows: Windows, now: i64) -> BTreeMap<Window, Vec<&SegmentMeta>> {
    let mut by_compacted: BTreeMap<Window, Vec<&SegmentMeta>> = BTreeMap::new();
    for segment in segments {
        by_compacted.entry(windows.compacted(segment.window_start)).or_default().push(segment);
    }
    let mut groups: BTreeMap<Window, Vec<&SegmentMeta>> = BTreeMap::new();
    for (compacted, segments) in by_compacted {
        let own = |segment: &SegmentMeta| Window { start: segment.window_start, end: segment.window_end };
        // A compacted segment in a window that is not over (the clock went back) overlaps all fresh ones beside it:
        // they are left alone until the window is over.
        if windows.is_over(compacted, now) {
            groups.insert(compacted, segments);
        } else if segments
            .iter()
            .all(|segment| Window::of(segment.window_start, windows.segment) == own(segment))
        {
            for segment in segments {
                groups.entry(own(segment)).or_default().push(segment);
            }
        }
    }
    groups
}

/// Segments of one precedence: they share no keys, and go together or not at all.
type Run<'g, 's> = &'g [&'s SegmentMeta];

/// The neighbours in a group that are worth merging now, in rising precedence.
fn choose<'s>(
    target: Window,
    mut group: Vec<&'s SegmentMeta>,
    now: i64,
    quiet: Quiet,
) -> Option<Vec<&'s SegmentMeta>> {
    group.sort_by_key(|segment| segment.precedence);
    let runs: Vec<Run<'_, 's>> = group.chunk_by(|a, b| a.precedence == b.precedence).collect();
    let newest = group.iter().map(|segment| written_at(segment)).max().unwrap_or_default();
    let is_quiet = match quiet {
        Quiet::Always => true,
        Quiet::After(rest) => newest.saturating_add(rest.saturating_mul(patience(&runs))) <= now,
    };
    let chosen = if is_quiet {
        let pending = runs.len() > 1
            || group
                .iter()
                .any(|segment| segment.window_start != target.start || segment.window_end != target.end);
        pending.then(|| fitting(&runs))
    } else {
        tier(&runs)
    };
    chosen.map(|runs| runs.iter().flat_map(|run| run.iter().copied()).collect())
}

/// How many times as long as usual a group rests: a row that comes late to a large window should not have all of it
/// rewritten soon, for others may follow.
fn patience(runs: &[Run<'_, '_>]) -> i64 {
    let total: u64 = runs.iter().map(|run| bytes(run)).sum();
    let largest = runs.iter().map(|run| bytes(run)).max().unwrap_or_default();
    let times = largest.checked_div(total - largest).unwrap_or(1);
    i64::try_from(times.clamp(1, PATIENCE)).unwrap_or(1)
}

/// The neighbours that one job can merge with least rewriting for each run that goes; all, if it can.
fn fitting<'a, 'g, 's>(runs: &'a [Run<'g, 's>]) -> &'a [Run<'g, 's>] {
    let candidates = (0..runs.len()).filter_map(|first| {
        let mut files = 0;
        let fit = runs[first..].iter().take_while(|run| {
            files += run.chunk_by(|a, b| continues(a, b)).count();
            files <= FAN_IN
        });
        // Two are merged whatever they are; fewer are no progress.
        let fit = fit.count().max(2);
        runs.get(first..first + fit)
    });
    let candidates: Vec<_> = candidates.collect();
    if let Some(all) = candidates.first().filter(|first| first.len() == runs.len()) {
        return all;
    }
    let cost = |runs: &&[Run<'_, '_>]| {
        runs.iter().map(|run| bytes(run)).sum::<u64>() / (runs.len() as u64 - 1).max(1)
    };
    // Of equal cost the longest, which is the first.
    candidates.into_iter().min_by_key(cost).unwrap_or(runs)
}

/// The newest runs as long as each is not much larger than all after it together, if these are enough.
fn tier<'a, 'g, 's>(runs: &'a [Run<'g, 's>]) -> Option<&'a [Run<'g, 's>]> {
    let mut total = 0;
    let mut first = runs.len();
    for (index, run) in runs.iter().enumerate().rev() {
        let size = bytes(run);
        if total > 0 && size > 2 * total {
            break;
        }
        total += size;
        first = index;
    }
    let suffix = runs.get(first..)?;
    (suffix.len() >= TIER).then(|| fitting(suffix))
}

fn bytes(run: Run<'_, '_>) -> u64 {
    run.iter().map(|segment| segment.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;

    const WINDOWS: Windows = Windows { segment: 10, compacted: 100 };

    fn segment(window: (i64, i64), precedence: u64, bytes: u64, written_at: i64) -> SegmentMeta {
        SegmentMeta {
            id: format!("{written_at:012x}-{precedence:08x}"),
            path: String::new(),
            window_start: window.0,
            window_end: window.1,
            precedence,
            rows: bytes,
            bytes,
            min_time: window.0,
            max_time: window.1 - 1,
            tags: BTreeMap::new(),
            columns: Vec::new(),
        }
    }

    fn job(segments: Vec<SegmentMeta>, now: i64, quiet: Quiet) -> Option<(Window, Vec<u64>)> {
        let tables = BTreeMap::from([("cpu".to_owned(), segments)]);
        let manifest =
            Manifest { version: 9, log: Position::START, windows: WINDOWS, tables, removed: Vec::new() };
        next_job(&manifest, WINDOWS, now, quiet, |_, _| false)
            .map(|job| (job.window, job.inputs.iter().map(|segment| segment.precedence).collect()))
    }

    const HOUR: (i64, i64) = (0, 10);
    const DAY: (i64, i64) = (0, 100);

    #[test]
    fn a_group_that_changes_is_merged_in_tiers() {
        let mut segments: Vec<_> =
            [100, 10, 9, 8].iter().zip(1..).map(|(b, p)| segment(HOUR, p, *b, 0)).collect();
        let busy = Quiet::After(1_000_000);
        assert_eq!(job(segments.clone(), 50, busy), None);
        segments.push(segment(HOUR, 5, 7, 0));
        assert_eq!(job(segments, 50, busy), Some((Window { start: 0, end: 10 }, vec![2, 3, 4, 5])));
    }

    #[test]
    fn a_quiet_group_becomes_one_and_a_window_that_is_over_becomes_compacted() {
        let two = vec![segment(HOUR, 1, 100, 0), segment(HOUR, 2, 1, 0)];
        assert_eq!(job(two.clone(), 50, Quiet::Always), Some((Window { start: 0, end: 10 }, vec![1, 2])));
        let day = Window { start: 0, end: 100 };
        assert_eq!(job(two, 110, Quiet::Always), Some((day, vec![1, 2])));
        assert_eq!(job(vec![segment(HOUR, 1, 1, 0)], 110, Quiet::Always), Some((day, vec![1])));
        assert_eq!(job(vec![segment(DAY, 1, 1, 0)], 110, Quiet::Always), None);
    }

    #[test]
    fn fresh_segments_beside_a_compacted_one_wait_while_the_window_is_not_over() {
        let mixed = vec![segment(HOUR, 1, 1, 0), segment(DAY, 2, 1, 0), segment(HOUR, 3, 1, 0)];
        assert_eq!(job(mixed.clone(), 50, Quiet::Always), None);
        assert_eq!(job(mixed, 200, Quiet::Always), Some((Window { start: 0, end: 100 }, vec![1, 2, 3])));
    }

    #[test]
    fn a_job_takes_neighbours_and_never_splits_one_precedence() {
        let mut segments: Vec<_> = (1..=40).map(|p| segment(HOUR, p, 1_000 - p, 0)).collect();
        segments.push(segment((10, 20), 40, 1, 0));
        let (_, chosen) = job(segments, 500, Quiet::Always).unwrap();
        assert_eq!(chosen.len(), FAN_IN, "two files of the last precedence count as two");
        assert_eq!(chosen.first(), Some(&10));
        assert_eq!(chosen[chosen.len() - 2..], [40, 40]);
    }

    #[test]
    fn what_one_writing_cut_into_files_counts_as_one() {
        let segments: Vec<_> = (0..100).map(|i| segment(HOUR, 1 + i / 50, 1_000, 0)).collect();
        let (_, chosen) = job(segments, 50, Quiet::Always).unwrap();
        assert_eq!(chosen.len(), 100);
    }

    #[test]
    fn a_late_row_does_not_have_a_large_window_rewritten_soon() {
        let ms = 1_000_000;
        let late = vec![segment(DAY, 1, 1_000, 0), segment(DAY, 2, 1, 7)];
        assert_eq!(job(late.clone(), 18 * ms, Quiet::After(10)), None);
        assert_eq!(job(late.clone(), 166 * ms, Quiet::After(10)), None);
        assert!(job(late, 167 * ms, Quiet::After(10)).is_some());
        let much = vec![segment(DAY, 1, 1_000, 0), segment(DAY, 2, 900, 7)];
        assert!(job(much, 17 * ms, Quiet::After(10)).is_some());
    }

    #[test]
    fn a_resting_group_is_passed_over() {
        let two = |start: i64| [segment((start, start + 10), 1, 1, 0), segment((start, start + 10), 2, 1, 0)];
        let tables = BTreeMap::from([("cpu".to_owned(), [two(0), two(10)].concat())]);
        let manifest =
            Manifest { version: 9, log: Position::START, windows: WINDOWS, tables, removed: Vec::new() };
        let resting = |_: &str, window: Window| window.start == 0;
        let job = next_job(&manifest, WINDOWS, 50, Quiet::Always, resting).unwrap();
        assert_eq!(job.window, Window { start: 10, end: 20 });
    }

    #[test]
    fn the_rest_counts_from_the_last_segment() {
        let two = vec![segment(HOUR, 1, 1, 0), segment(HOUR, 2, 1, 7)];
        let ms = 1_000_000;
        assert_eq!(job(two.clone(), 16 * ms, Quiet::After(10)), None);
        assert!(job(two, 17 * ms, Quiet::After(10)).is_some());
    }
}
