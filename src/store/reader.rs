//! Reading a store from any process, also while another one writes to it.
//!
//! A snapshot is the newest manifest plus the log after its position, so it holds every row whose append has returned.
//! Nothing is locked and nothing is changed. When the writer flushes and trims the log in the meantime, the reader
//! notices and starts again from the newer manifest.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assemble::assemble;
use super::manifest::{self, Manifest};
use super::memory::{Memory, WindowedBatch};
use super::root::{Root, blocking};
use super::types::Types;
use super::{LOG, Snapshot};
use crate::log::{LogReader, Position};
use crate::{Error, ErrorKind, Result};

/// How long a snapshot is tried while the writer keeps overtaking it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Times that it is tried although the writer does nothing.
const ATTEMPTS: usize = 20;

/// A store opened for reading. What one snapshot read of the log, the next one need not read again.
#[derive(Debug)]
pub struct Reader {
    root: Root,
    /// Held while a snapshot is made, so it is tokio's.
    seen: tokio::sync::Mutex<Seen>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Seen {
    manifest: Option<Arc<Manifest>>,
    /// Rows read from the log, in parts that can be forgotten when a flush has written them to segments.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    memory: Memory,
    end: Position,
}

impl Reader {
    /// Opens the store in this folder.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no store.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.join(manifest::FOLDER).is_dir() {
            return Err(missing(path));
        }
        Ok(Self { root: Root::open(path)?, seen: tokio::sync::Mutex::default() })
    }

    /// The store as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the store has gone, [`ErrorKind::Unavailable`] if the writer kept overtaking.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let mut seen = self.seen.lock().await;
        let mut known = seen.manifest.clone();
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let before = known.as_ref().map(|manifest| manifest.version);
            let error = match self.attempt(std::mem::take(&mut *seen), &mut known).await {
                Ok(Some((now, snapshot))) => {
                    *seen = now;
                    return Ok(snapshot);
                }
                Ok(None) => return Err(missing(self.root.folder())),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(error) => error,
            };
            // The writer has deleted what was about to be read, so there is a newer manifest; unless there is none.
            let moved = known.as_ref().map(|manifest| manifest.version) != before;
            attempts = if moved { 0 } else { attempts + 1 };
            if attempts >= ATTEMPTS || begun.elapsed() > PATIENCE {
                let reason = match moved {
                    true => "its writer flushed each time before the log was read; try again",
                    false => {
                        "its manifest and its log do not meet, so the newest manifest file is missing or damaged; \
                         restore the folder manifest from a backup"
                    }
                };
                return Err(Error::unavailable("read store", reason)
                    .with_provider("store")
                    .with_resource(self.root.folder().display().to_string())
                    .with_source(error));
            }
        }
    }

    /// A snapshot and what was read for it, or `None` if nothing was ever committed here. `known` becomes the manifest
    /// that was read, so that the next attempt reads only what is newer.
    async fn attempt(
        &self,
        mut seen: Seen,
        known: &mut Option<Arc<Manifest>>,
    ) -> Result<Option<(Seen, Snapshot)>> {
        let read_at = Instant::now();
        let Some(manifest) = manifest::load(&self.root, known.as_ref()).await? else {
            return Ok(None);
        };
        *known = Some(Arc::clone(&manifest));
        let root = self.root.clone();
        blocking(move || {
            // A version or position that went back means another store in the same folder, or a repaired log.
            if seen
                .manifest
                .as_ref()
                .is_some_and(|before| before.version > manifest.version || before.log > manifest.log)
            {
                seen.parts.clear();
            }
            seen.parts.retain(|part| part.end > manifest.log);
            if seen.manifest.as_ref().is_none_or(|before| before.log != manifest.log) || seen.parts.is_empty()
            {
                let end = seen.parts.last().map_or(manifest.log, |part| part.end);
                seen.parts.push(Part { memory: Memory::default(), end });
            }
            if let Some(part) = seen.parts.last_mut() {
                replay(&root, &manifest, part)?;
            }
            let memories: Vec<_> = seen.parts.iter_mut().map(|part| part.memory.seal()).collect();
            let snapshot = assemble(&root, Arc::clone(&manifest), read_at, &memories)?;
            seen.manifest = Some(manifest);
            Ok(Some((seen, snapshot)))
        })
        .await
    }
}

/// Reads what the log has after a part's end into the part.
fn replay(root: &Root, manifest: &Manifest, part: &mut Part) -> Result<()> {
    let folder = root.folder().join(LOG);
    let mut types = Types::of(manifest.segments());
    let mut frames = LogReader::open(&folder, part.end)?;
    for frame in frames.by_ref() {
        let (end, batch) = frame?;
        // The writer refuses such a batch before logging it, and skips it if it finds one: so does the reader.
        if types.admit(&batch).is_ok() {
            part.memory.push(WindowedBatch::split(&batch, manifest.windows.segment)?);
        }
        part.end = end;
    }
    if frames.skipped() > 0 {
        tracing::warn!(places = frames.skipped(), "the log is damaged: the rows that were there are missing");
    }
    // Had the log been trimmed while it was read, frames might be missing in the middle: it must still reach back.
    LogReader::open(&folder, manifest.log).map(drop)
}

fn missing(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "open store",
        "there is no store in this folder; name the folder that `barograph run` writes to (--data)",
    )
    .with_provider("store")
    .with_resource(path.display().to_string())
}
