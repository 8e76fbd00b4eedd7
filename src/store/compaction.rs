//! Fewer, larger segments: reading pays for merging only where data overlaps, and compaction keeps that rare.
//!
//! Segments that can hold the same keys form a group: those of one fresh window, or, once a compacted window is over,
//! all in it. Groups that keep changing are merged in tiers of similar size, so that a row is rewritten a few times
//! only; quiet groups become one.
//!
//! Precedence stays right because each job takes runs that are neighbours in precedence within their group: whatever
//! is left out wins over all of them or loses to all of them, before and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SegmentMeta;
use super::manifest::{Edit, Manifest};
use super::memory::BATCH_ROWS;
use super::merge::merge;
use super::options::{Window, Windows};
use super::output::{Output, discard, written_at};
use super::root::apart;
use super::segment::{read_segment, segment_schema};
use super::state::{Core, now_nanos};
use crate::{Error, Result};

/// Most segments that one job merges: each open file takes some memory.
const FAN_IN: usize = 32;

/// So many runs of similar size are merged even while more are coming.
const TIER: usize = 4;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Jobs done.
    pub jobs: u64,
    /// Segments replaced.
    pub inputs: u64,
    /// Segments written.
    pub outputs: u64,
    /// Rows written.
    pub rows: u64,
}

/// When a group counts as quiet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Quiet {
    /// Always: merge whatever can be merged.
    Always,
    /// When its last segment was written so many milliseconds ago.
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

/// Does all jobs there are now.
pub(super) async fn compact(core: &Arc<Core>, quiet: Quiet) -> Result<CompactionReport> {
    let _turn = core.maintaining.lock().await;
    let mut report = CompactionReport::default();
    while let Some(job) = next_job(&core.manifest(), core.windows, now_nanos(), quiet) {
        let inputs = job.inputs.len() as u64;
        let outputs = run(core, job).await?;
        let rows = outputs.iter().map(|segment| segment.rows).sum();
        report.jobs += 1;
        report.inputs += inputs;
        report.outputs += outputs.len() as u64;
        report.rows += rows;
        core.metrics.compactions.inc();
        core.metrics.compacted_rows.inc_by(rows);
    }
    Ok(report)
}

/// Does one job and commits it.
async fn run(core: &Arc<Core>, job: Job) -> Result<Vec<SegmentMeta>> {
    let task = Arc::clone(core);
    let (job, outputs) = apart(async move {
        let outputs = write(&task, &job).await?;
        Ok((job, outputs))
    })
    .await?;
    let edit = Edit {
        added: outputs.iter().map(|segment| (job.table.clone(), segment.clone())).collect(),
        removed: job.inputs.iter().map(|segment| (job.table.clone(), segment.id.clone())).collect(),
        ..Edit::default()
    };
    if let Err(error) = core.commit(edit, |_| {}).await {
        discard(&core.root, outputs.iter()).await;
        return Err(error);
    }
    Ok(outputs)
}

async fn write(core: &Core, job: &Job) -> Result<Vec<SegmentMeta>> {
    let schemas = job.inputs.iter().map(segment_schema).collect::<Result<Vec<_>>>()?;
    let schema = super::columns::union_schema(schemas.iter())?;
    let sources = job
        .inputs
        .iter()
        .map(|segment| read_segment(Arc::clone(core.root.objects()), segment, None))
        .collect();
    let rows = merge(sources, Arc::clone(&schema), BATCH_ROWS);
    let precedence = job.inputs.iter().map(|segment| segment.precedence).max().unwrap_or_default();
    Output { root: &core.root, table: &job.table, window: job.window, precedence, stop: Some(&core.stop) }
        .write(schema, rows)
        .await
}

/// The job that is most worth doing, if any is.
pub(super) fn next_job(manifest: &Manifest, windows: Windows, now: i64, quiet: Quiet) -> Option<Job> {
    let jobs = manifest.tables.iter().flat_map(|(table, segments)| {
        groups(segments, windows, now).into_iter().filter_map(move |(window, group)| {
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
        Quiet::After(rest) => newest.saturating_add(rest) <= now,
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

/// The cheapest neighbours that one job can merge; all, if it can.
fn fitting<'a, 'g, 's>(runs: &'a [Run<'g, 's>]) -> &'a [Run<'g, 's>] {
    if runs.len() <= FAN_IN {
        return runs;
    }
    runs.windows(FAN_IN).min_by_key(|runs| runs.iter().map(|run| bytes(run)).sum::<u64>()).unwrap_or(runs)
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

/// How long a group rests before it is merged into one, in milliseconds.
pub(super) fn rest(core: &Core) -> Result<Quiet> {
    let rest = core.options.flush_interval.saturating_mul(3) / 2;
    i64::try_from(rest.as_millis())
        .map(Quiet::After)
        .map_err(|e| Error::invalid("plan compaction", "flush_interval is too long").with_source(e))
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
        next_job(&manifest, WINDOWS, now, quiet)
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
        assert_eq!(chosen.len(), FAN_IN + 1);
        assert_eq!(chosen.first(), Some(&9));
        assert_eq!(chosen[chosen.len() - 2..], [40, 40]);
    }

    #[test]
    fn the_rest_counts_from_the_last_segment() {
        let two = vec![segment(HOUR, 1, 1, 0), segment(HOUR, 2, 1, 7)];
        let ms = 1_000_000;
        assert_eq!(job(two.clone(), 16 * ms, Quiet::After(10)), None);
        assert!(job(two, 17 * ms, Quiet::After(10)).is_some());
    }
}
