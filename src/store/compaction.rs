//! Fewer, larger segments: reading pays for merging only where data overlaps, and compaction keeps that rare.
//!
//! [`choice`] says what is worth merging; here it is done. A group of segments that cannot be merged (a damaged file)
//! rests for a while and costs the others nothing.

mod choice;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use object_store::ObjectStore;

use super::SegmentMeta;
use super::manifest::Edit;
use super::memory::BATCH_ROWS;
use super::merge::{BatchStream, merge};
use super::options::Window;
use super::output::Output;
use super::root::apart;
use super::segment::{read_segment, segment_schema};
use super::state::{Core, now_nanos};
use crate::{Error, ErrorKind, Result};
use choice::{Job, next_job};

pub(super) use choice::Quiet;

/// How long a group rests whose merging failed: long enough that reading it again and again is no burden.
const POSTPONEMENT: Duration = Duration::from_secs(3_600);

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Jobs done.
    pub jobs: u64,
    /// Jobs that failed; the log says why. Their segments are as they were.
    pub failed: u64,
    /// Segments replaced.
    pub inputs: u64,
    /// Segments written.
    pub outputs: u64,
    /// Rows written.
    pub rows: u64,
}

/// Groups whose merging failed, by table and window, and when each may be tried again.
#[derive(Debug, Default)]
pub(super) struct Postponed(HashMap<(String, Window), Instant>);

impl Postponed {
    fn holds(&self, table: &str, window: Window) -> bool {
        self.0.iter().any(|((of, at), until)| of == table && *at == window && *until > Instant::now())
    }
}

/// Does all jobs there are now.
///
/// # Errors
/// Only what stops all jobs: a full disk, a commit that fails, or the end of the store.
pub(super) async fn compact(core: &Arc<Core>, quiet: Quiet) -> Result<CompactionReport> {
    let mut postponed = core.maintaining.lock().await;
    if matches!(quiet, Quiet::Always) {
        postponed.0.clear();
    }
    core.settle().await?;
    let mut report = CompactionReport::default();
    let choose = |postponed: &Postponed| {
        let resting = |table: &str, window| postponed.holds(table, window);
        next_job(&core.manifest(), core.windows, now_nanos(), quiet, resting)
    };
    while let Some(job) = choose(&postponed) {
        let group = (job.table.clone(), job.window);
        let outputs = match merged(core, &job).await {
            Ok(outputs) => outputs,
            Err(error) if core.stop.is_cancelled() || error.kind() == ErrorKind::Capacity => {
                return Err(error);
            }
            Err(error) => {
                tracing::error!(
                    table = group.0,
                    error = %error.chain(),
                    "segments cannot be merged; they stay as they are and it is tried again in an hour"
                );
                report.failed += 1;
                core.metrics.failed_compactions.inc();
                postponed.0.insert(group, Instant::now() + POSTPONEMENT);
                continue;
            }
        };
        let rows = outputs.iter().map(|segment| segment.rows).sum();
        report.jobs += 1;
        report.inputs += job.inputs.len() as u64;
        report.outputs += outputs.len() as u64;
        report.rows += rows;
        core.commit(replacing(job, outputs), |_| {}).await?;
        core.metrics.compactions.inc();
        core.metrics.compacted_rows.inc_by(rows);
    }
    postponed.0.retain(|_, until| *until > Instant::now());
    Ok(report)
}

/// The job's rows in new segments, which nothing names yet.
async fn merged(core: &Arc<Core>, job: &Job) -> Result<Vec<SegmentMeta>> {
    let (core, job) = (Arc::clone(core), job.clone());
    apart(async move { write(&core, &job).await }).await
}

/// The change that puts `outputs` in the place of a job's inputs.
fn replacing(job: Job, outputs: Vec<SegmentMeta>) -> Edit {
    Edit {
        added: outputs.into_iter().map(|segment| (job.table.clone(), segment)).collect(),
        removed: job.inputs.into_iter().map(|segment| (job.table.clone(), segment.id)).collect(),
        ..Edit::default()
    }
}

async fn write(core: &Core, job: &Job) -> Result<Vec<SegmentMeta>> {
    let schemas = job.inputs.iter().map(segment_schema).collect::<Result<Vec<_>>>()?;
    let schema = super::columns::union_schema(schemas.iter())?;
    let sources = job.inputs.chunk_by(choice::continues).map(|files| sorted(core.root.objects(), files));
    let rows = merge(sources.collect(), Arc::clone(&schema), BATCH_ROWS);
    let precedence = job.inputs.iter().map(|segment| segment.precedence).max().unwrap_or_default();
    Output {
        root: &core.root,
        table: &job.table,
        window: job.window,
        precedence,
        segment_bytes: core.options.segment_bytes,
        stop: Some(&core.stop),
    }
    .write(schema, rows)
    .await
}

/// What was once cut into these files, in one piece again; each is opened when the one before is at its end.
fn sorted(objects: &Arc<dyn ObjectStore>, files: &[SegmentMeta]) -> BatchStream {
    let (objects, files) = (Arc::clone(objects), files.to_vec());
    futures::stream::iter(files).flat_map(move |file| read_segment(Arc::clone(&objects), &file, None)).boxed()
}

/// How long a group rests before it is merged into one, in milliseconds.
pub(super) fn rest(core: &Core) -> Result<Quiet> {
    let rest = core.options.flush_interval.saturating_mul(3) / 2;
    i64::try_from(rest.as_millis())
        .map(Quiet::After)
        .map_err(|e| Error::invalid("plan compaction", "flush_interval is too long").with_source(e))
}
