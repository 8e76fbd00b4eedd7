//! From memory to segments: freeze, sort, write, commit, trim the log.
//!
//! Rows stay readable in memory until the commit that makes their segments live, and stay in the log until that commit
//! is durable; so whatever fails or dies in between loses nothing, and files without a commit are swept at the next
//! opening.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use tokio::time::Instant;

use super::SegmentMeta;
use super::manifest::{Edit, FRESH};
use super::memory::{BATCH_ROWS, Chunk};
use super::merge::{BatchStream, merge};
use super::options::{Window, Windows};
use super::output::{Output, discard};
use super::root::{apart, blocking};
use super::scan::stream;
use super::state::{Core, Flushing, now_nanos};
use crate::{Error, Result};

/// Wait after a flush that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Flushes when the buffer is full or its oldest row has waited long enough, until stopped.
pub(super) async fn run(core: Arc<Core>) {
    let mut retry_at: Option<Instant> = None;
    loop {
        let due = {
            let state = core.state.lock();
            let by_age = state.oldest.map(|oldest| Instant::from_std(oldest) + core.options.flush_interval);
            let far = Instant::now() + Duration::from_secs(60).min(core.options.flush_interval);
            retry_at.unwrap_or_else(|| by_age.map_or(far, |due| due.min(far)))
        };
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep_until(due) => {}
            () = core.full.notified(), if retry_at.is_none() => {}
        }
        let log_wants = core.log_is_half_full();
        let wanted = {
            let state = core.state.lock();
            let old = state.oldest.is_some_and(|oldest| oldest.elapsed() >= core.options.flush_interval);
            old || (log_wants && state.memory.rows() > 0)
                || state.flushing.is_some()
                || state.memory.bytes() >= core.options.buffer_bytes
        };
        retry_at = None;
        if wanted && let Err(error) = flush(&core).await {
            tracing::error!(error = %error.chain(), "flush failed; rows stay in the log and it is tried again");
            retry_at = Some(Instant::now() + RETRY);
        }
    }
}

/// Writes everything that is buffered now to segments.
pub(super) async fn flush(core: &Arc<Core>) -> Result<()> {
    let _turn = core.flushing.lock().await;
    // What an earlier flush could not write comes first: precedence follows the order of arrival.
    let earlier = core.state.lock().flushing.clone();
    if let Some(flushing) = earlier {
        write(core, flushing).await?;
    }
    if let Some(flushing) = freeze(core) {
        write(core, flushing).await?;
    }
    Ok(())
}

/// Starts a new memory and holds the old one still.
fn freeze(core: &Core) -> Option<Arc<Flushing>> {
    let mut state = core.state.lock();
    if state.memory.rows() == 0 {
        return None;
    }
    let mut memory = std::mem::take(&mut state.memory);
    state.oldest = None;
    let flushing = Arc::new(Flushing {
        rows: memory.seal(),
        row_count: memory.rows(),
        bytes: memory.bytes(),
        position: state.position,
    });
    state.flushing = Some(Arc::clone(&flushing));
    Some(flushing)
}

async fn write(core: &Arc<Core>, flushing: Arc<Flushing>) -> Result<()> {
    let result = try_write(core, &flushing).await;
    if let Err(error) = &result {
        core.metrics.failed_flushes.inc();
        core.state.lock().trouble = Some((error.kind(), error.to_string()));
    }
    core.room.notify_waiters();
    result
}

async fn try_write(core: &Arc<Core>, flushing: &Arc<Flushing>) -> Result<()> {
    core.settle().await?;
    let parts = plan(flushing, core.windows, now_nanos());
    let mut written: Vec<(String, SegmentMeta)> = Vec::new();
    let segments = futures::stream::iter(parts).map(|part| {
        let core = Arc::clone(core);
        async move {
            let table = part.table.to_string();
            let segments = apart(write_part(core, part)).await?;
            Ok::<_, Error>(segments.into_iter().map(move |segment| (table.clone(), segment)))
        }
    });
    // One at a time: sorting is what takes memory.
    let mut segments = std::pin::pin!(segments.buffered(1));
    while let Some(result) = segments.next().await {
        match result {
            Ok(more) => written.extend(more),
            Err(error) => {
                discard(&core.root, written.iter().map(|(_, segment)| segment)).await;
                return Err(error);
            }
        }
    }
    let rows = written.iter().map(|(_, segment)| segment.rows).sum();
    let edit = Edit { log: Some(flushing.position), added: written, ..Edit::default() };
    core.commit(edit, |state| {
        state.flushing = None;
        state.trouble = None;
    })
    .await?;
    core.metrics.flushes.inc();
    core.metrics.flushed_rows.inc_by(rows);
    let (log, upto) = (core.log()?, flushing.position);
    if let Err(error) = blocking(move || log.trim(upto)).await {
        tracing::warn!(error = %error.chain(), "cannot trim the log; the next flush tries again");
    }
    Ok(())
}

/// The rows of one segment to be.
struct Part {
    table: Arc<str>,
    window: Window,
    chunks: Vec<Arc<Chunk>>,
}

/// One part per table and window; hours of a day that is over go into the day's window at once.
fn plan(flushing: &Flushing, windows: Windows, now: i64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (table, shards) in &flushing.rows {
        for (window, chunks) in shards {
            let window = windows.target(*window, now);
            match parts.last_mut() {
                Some(last) if last.table == *table && last.window == window => {
                    last.chunks.extend(chunks.iter().cloned());
                }
                _ => parts.push(Part { table: Arc::clone(table), window, chunks: chunks.clone() }),
            }
        }
    }
    parts
}

async fn write_part(core: Arc<Core>, part: Part) -> Result<Vec<SegmentMeta>> {
    let mut runs = Vec::with_capacity(part.chunks.len());
    for chunk in &part.chunks {
        runs.push(chunk.sorted()?);
    }
    let schemas: Vec<_> = runs.iter().filter_map(|run| run.first()).map(RecordBatch::schema).collect();
    let schema = super::columns::union_schema(schemas.iter())?;
    let mut sources: Vec<BatchStream> = runs.into_iter().map(|run| stream(run.to_vec())).collect();
    let sorted = match sources.pop() {
        Some(only) if sources.is_empty() => only,
        Some(last) => {
            sources.push(last);
            merge(sources, Arc::clone(&schema), BATCH_ROWS)
        }
        None => return Ok(Vec::new()),
    };
    Output {
        root: &core.root,
        table: &part.table,
        window: part.window,
        precedence: FRESH,
        segment_bytes: core.options.segment_bytes,
        stop: None,
    }
    .write(schema, sorted)
    .await
}
