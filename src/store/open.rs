//! Opening a store for writing: lock, manifest, sweeping, log.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::assemble::assemble;
use super::manifest::{self, Edit, Manifest};
use super::memory::{Memory, WindowedBatch};
use super::metrics::Metrics;
use super::options::{StoreOptions, Windows};
use super::root::{Root, blocking, create_folders};
use super::state::{Core, Folder, State, now_millis};
use super::types::Types;
use super::{LOG, Snapshot, flush, output, retention};
use crate::log::{FolderLock, Log, LogOptions, LogReader, Position};
use crate::model::MetricBatch;
use crate::{Error, ErrorKind, Result};

/// Size of one file of the log: small enough that trimming after a flush frees most of it.
const LOG_SEGMENT_BYTES: u64 = 32 << 20;

/// Frames read from the log at a time.
const REPLAY_FRAMES: usize = 64;

impl Core {
    /// Opens the store and reads the log's rows into memory, flushing whenever the buffer is full.
    pub(super) async fn open(options: StoreOptions) -> Result<Arc<Self>> {
        options.check()?;
        let folder = options.path.clone();
        let (lock, root) = blocking(move || {
            create_folders(&folder, &[manifest::FOLDER, output::FOLDER, LOG])?;
            let lock = FolderLock::take(&folder).map_err(|e| e.with_provider("store"))?;
            Ok((lock, Root::open(&folder)?))
        })
        .await?;
        Self::open_at(root, lock, options).await
    }

    /// Opens the store whose folder is locked already.
    pub(super) async fn open_at(root: Root, lock: FolderLock, options: StoreOptions) -> Result<Arc<Self>> {
        let windows = options.check()?;
        let metrics = Metrics::new(&options.telemetry, &options.component);
        let manifest = committed(&root, windows).await?;
        let log_options = LogOptions {
            segment_bytes: LOG_SEGMENT_BYTES,
            max_bytes: options.log_bytes,
            ..LogOptions::default()
        };
        let log_folder = root.folder().join(LOG);
        let (log, recovery) = blocking(move || Log::open(log_folder, log_options)).await?;
        if recovery.truncated_bytes > 0 || recovery.corrupt_frames > 0 {
            tracing::warn!(
                truncated_bytes = recovery.truncated_bytes,
                corrupt_frames = recovery.corrupt_frames,
                "the log was damaged; everything that could be read is kept"
            );
        }
        complete(&root, &manifest).await?;
        // Only now is it certain that this manifest is the one to go by, and what it does not know is left over.
        manifest::discard_after(&root, manifest.version).await?;
        retention::sweep(&root, &manifest).await?;
        let manifest = not_ahead(&root, manifest, log.end()).await?;

        let state = State {
            memory: Memory::default(),
            oldest: None,
            flushing: None,
            position: manifest.log,
            types: Types::of(manifest.segments()),
            manifest,
            earlier: Vec::new(),
            trouble: None,
            doubtful: false,
        };
        let core = Arc::new(Self {
            options,
            windows,
            root,
            metrics,
            state: Mutex::new(state),
            committing: tokio::sync::Mutex::default(),
            flushing: tokio::sync::Mutex::default(),
            maintaining: tokio::sync::Mutex::default(),
            room: Notify::new(),
            full: Notify::new(),
            stop: CancellationToken::new(),
            folder: Mutex::new(Some(Folder { log, lock })),
        });
        replay(&core).await?;
        core.metrics.state(&core);
        Ok(core)
    }

    /// The store as it is now.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let (manifest, memories) = {
            let mut state = self.state.lock();
            let flushing = state.flushing.as_ref().map(|flushing| flushing.rows.clone());
            let memories: Vec<_> = flushing.into_iter().chain([state.memory.seal()]).collect();
            (Arc::clone(&state.manifest), memories)
        };
        assemble(&self.root, manifest, Instant::now(), &memories)
    }
}

/// The newest manifest; the first one is made if there is none.
async fn committed(root: &Root, windows: Windows) -> Result<Arc<Manifest>> {
    let Some(manifest) = manifest::load(root, None).await? else {
        if retention::any_segment(root).await? {
            return Err(Error::invalid(
                "open store",
                "it has segments but no manifest; restore its folder manifest from a backup, or choose another path",
            )
            .with_provider("store")
            .with_resource(root.folder().display().to_string()));
        }
        // A first commit that was cut off left a file that does not count.
        manifest::discard_after(root, 0).await?;
        let first = manifest::commit(root, &Manifest::empty(windows), Edit::default(), now_millis()).await;
        return first.map(Arc::new).map_err(|failed| failed.error);
    };
    if manifest.windows != windows {
        return Err(Error::invalid(
            "open store",
            format!(
                "it was made with windows of {} and {} ns; these cannot change, so open it with them or make a new store",
                manifest.windows.segment, manifest.windows.compacted
            ),
        )
        .with_provider("store")
        .with_resource(root.folder().display().to_string()));
    }
    Ok(manifest)
}

/// Makes sure that manifest and log hold everything between them. They do not if the newest manifest file is damaged
/// and its predecessor's part of the log is gone: then nothing may be deleted, for a backup of one file repairs it.
async fn complete(root: &Root, manifest: &Manifest) -> Result<()> {
    let (folder, from) = (root.folder().join(LOG), manifest.log);
    match blocking(move || LogReader::open(folder, from).map(drop)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::invalid(
            "open store",
            format!(
                "the log no longer reaches back to manifest version {}, so a newer one is missing or damaged; \
                 restore the folder manifest from a backup",
                manifest.version
            ),
        )
        .with_provider("store")
        .with_resource(root.folder().display().to_string())
        .with_source(error)),
        result => result,
    }
}

/// If the log ends before the manifest's position (its files were damaged or deleted), new rows would be taken for
/// flushed ones; so the manifest moves back to the log's end first. All that lies between is in segments.
async fn not_ahead(root: &Root, manifest: Arc<Manifest>, end: Position) -> Result<Arc<Manifest>> {
    if manifest.log <= end {
        return Ok(manifest);
    }
    tracing::warn!(manifest = %manifest.log, log = %end, "the log is shorter than the manifest says; using its end");
    let edit = Edit { log: Some(end), ..Edit::default() };
    let moved = manifest::commit(root, &manifest, edit, now_millis()).await;
    moved.map(Arc::new).map_err(|failed| failed.error)
}

/// Reads the log after the manifest's position into memory.
async fn replay(core: &Arc<Core>) -> Result<()> {
    let folder = core.root.folder().join(LOG);
    let from = core.manifest().log;
    let mut reader = blocking(move || LogReader::open(folder, from)).await?;
    let (mut rows, mut refused) = (0_u64, 0_u64);
    loop {
        let frames;
        (reader, frames) = blocking(move || {
            let frames = reader.by_ref().take(REPLAY_FRAMES).collect::<Result<Vec<_>>>()?;
            Ok((reader, frames))
        })
        .await?;
        if frames.is_empty() {
            break;
        }
        for (position, batch) in frames {
            match take_in(core, &batch, position) {
                Ok(()) => rows += batch.rows() as u64,
                Err(error) => {
                    refused += 1;
                    tracing::warn!(error = %error.chain(), "a logged batch is left out");
                }
            }
        }
        let full = core.state.lock().memory.bytes() >= core.options.buffer_bytes;
        if full {
            flush::flush(core).await?;
        }
    }
    if reader.skipped() > 0 {
        tracing::error!(
            places = reader.skipped(),
            "the log is damaged: the rows that were there are lost, all others were read"
        );
    }
    if rows > 0 || refused > 0 {
        tracing::info!(rows, refused_batches = refused, "read rows back from the log");
    }
    Ok(())
}

fn take_in(core: &Core, batch: &MetricBatch, position: Position) -> Result<()> {
    let mut state = core.state.lock();
    state.position = position;
    state.types.admit(batch)?;
    state.memory.push(WindowedBatch::split(batch, core.windows.segment)?);
    state.oldest.get_or_insert_with(Instant::now);
    Ok(())
}
