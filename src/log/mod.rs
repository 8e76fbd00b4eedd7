//! The durable log: batches of rows, appended and fsynced before anyone is told that they are safe.
//!
//! A log is a folder of numbered segment files. Each file is a row of [frames](frame), each frame one batch with a
//! checksum over its bytes *and its place*, at a multiple of eight bytes: so a torn tail ends the log, a damaged frame
//! costs only itself, and old bytes in the wrong place are never taken for new ones.
//!
//! One [`Log`] writes; any number of [`LogReader`]s read, in this process or another, without a lock.

mod frame;
mod lock;
mod position;
mod queue;
mod reader;
mod recovery;
mod reserve;
mod segments;
#[cfg(test)]
mod tests;
mod trim;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use lock::FolderLock;
pub use position::Position;
pub use reader::LogReader;
pub use recovery::Recovery;

use queue::{Queue, Request};
use reserve::Reserve;

use crate::model::MetricBatch;
use crate::{Error, ErrorKind, Result};

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment file that has reached this size is followed by a new one. At most a quarter of `max_bytes` is used,
    /// because the last segment cannot be trimmed.
    pub segment_bytes: u64,
    /// Bound of all segment files together; an append that would pass it is refused until the log is trimmed.
    pub max_bytes: u64,
    /// Bytes that stay free on the disk for others; an append that would take them is refused.
    pub leave_free: u64,
    /// Whether an append waits for fsync. Off only to measure what fsync costs.
    pub sync: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 2 << 30, leave_free: 0, sync: true }
    }
}

/// The writer of a log. Clones are the same writer.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
    /// Held over file work, so that two trims never race.
    trimming: Mutex<()>,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _lock: FolderLock,
}

/// What the writer's thread and everyone else both know.
#[derive(Debug)]
struct State {
    end: Position,
    bytes: u64,
}

impl Log {
    /// Opens the log in `folder`, which is made if need be, and makes its end sound: a torn tail is cut off.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another process writes to it; [`ErrorKind::Unsupported`] if a later version wrote it;
    /// otherwise the file system's trouble.
    pub fn open(folder: impl AsRef<Path>, options: LogOptions) -> Result<(Self, Recovery)> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| failed("create the log's folder", folder, e))?;
        let lock = FolderLock::take(folder)?;
        let recovered = recovery::recover(folder)?;
        let state = Arc::new(Mutex::new(State { end: recovered.end, bytes: recovered.report.bytes }));
        let reserve = Reserve::of(folder);
        reserve.keep();
        let queue = Arc::new(Queue::new());
        let appender = writer::Appender {
            folder: folder.to_owned(),
            options: LogOptions {
                segment_bytes: options.segment_bytes.min(options.max_bytes / 4),
                ..options
            },
            file: recovered.file,
            reserve,
            end: recovered.end,
            // Nor may new frames lie before the trim point, where nobody would look for them.
            sealed: recovered.end.offset > segments::HEADER_BYTES || trim::read(folder)? > recovered.end,
            state: Arc::clone(&state),
            queue: Arc::clone(&queue),
        };
        let thread = std::thread::Builder::new()
            .name("barograph-log".into())
            .spawn(move || appender.run())
            .map_err(|e| failed("start the log's thread for", folder, e))?;
        let shared = Shared {
            folder: folder.to_owned(),
            state,
            trimming: Mutex::new(()),
            queue,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        };
        Ok((Self { shared: Arc::new(shared) }, recovered.report))
    }

    /// Appends one frame per batch and returns the position after the last, once all of them are on the disk.
    ///
    /// Appends that wait at the same time share an fsync. If the caller stops waiting, the batches may or may not be in
    /// the log.
    ///
    /// # Errors
    /// [`ErrorKind::Capacity`] (worth trying later) when the log or the disk is full; [`ErrorKind::Invalid`] when the
    /// batches can never fit. After any error none of the batches is in the log.
    pub async fn append(&self, batches: &[MetricBatch]) -> Result<Position> {
        if batches.is_empty() {
            return Ok(self.end());
        }
        let closed = || self.unable("the log is closed; open it again");
        let bytes = batches.iter().map(frame::estimate).sum();
        let room = self.shared.queue.room(bytes).await.map_err(|_| closed())?;
        let batches = batches.to_vec();
        // Encoding is work for a core, so it is done here, for each caller on a thread of its own.
        let frames = tokio::task::spawn_blocking(move || batches.iter().map(frame::encode).collect())
            .await
            .map_err(|e| self.unable("the encoding task failed").with_source(e))?;
        let frames = Result::from_iter::<Vec<Result<_>>>(frames)?;
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Request { frames, reply, _room: room }).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// The position after the last durable frame.
    pub fn end(&self) -> Position {
        self.shared.state.lock().end
    }

    /// Bytes of all segment files.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes
    }

    /// Where the log begins: what lies before was let go of.
    ///
    /// # Errors
    /// The file system's trouble.
    pub fn begin(&self) -> Result<Position> {
        let first =
            segments::list(&self.shared.folder)?.first().map_or(Position::START, |n| Position::start_of(*n));
        Ok(trim::read(&self.shared.folder)?.max(first))
    }

    /// The first segment that appends have left behind, if there is one: the least that can be let go of.
    ///
    /// # Errors
    /// The file system's trouble.
    pub fn oldest_full_segment(&self) -> Result<Option<u64>> {
        let numbers = segments::list(&self.shared.folder)?;
        Ok(numbers.first().copied().filter(|oldest| *oldest < self.end().segment))
    }

    /// The folder of the segment files.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Lets go of what lies before `upto`: nobody will read it again. Whole segment files are deleted, after the trim
    /// point is durable. It waits for the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `upto` lies beyond the end; otherwise the file system's trouble. A trim that failed
    /// may be repeated.
    pub fn trim(&self, upto: Position) -> Result<()> {
        let _turn = self.shared.trimming.lock();
        let end = self.end();
        if upto > end {
            return Err(Error::invalid("trim log", format!("{upto} lies beyond the end, {end}"))
                .with_resource(self.shared.folder.display().to_string()));
        }
        let reserve = Reserve::of(&self.shared.folder);
        match trim::persist(&self.shared.folder, upto) {
            Err(error) if error.kind() == ErrorKind::Capacity && reserve.give_up() => {
                trim::persist(&self.shared.folder, upto)?;
            }
            persisted => persisted?,
        }
        trim::delete_before(&self.shared.folder, upto, |freed| {
            let mut state = self.shared.state.lock();
            state.bytes = state.bytes.saturating_sub(freed);
        })
    }

    /// Finishes the appends that wait, and ends the writer's thread. Other clones get an error from then on.
    ///
    /// # Errors
    /// The writer's thread panicked.
    pub fn close(self) -> Result<()> {
        self.shared.close()
    }

    fn unable(&self, reason: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "append to log", reason)
            .with_resource(self.shared.folder.display().to_string())
    }
}

impl Shared {
    fn close(&self) -> Result<()> {
        self.queue.close();
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        thread.join().map_err(|_| {
            Error::unavailable("close log", "its thread panicked; what was acknowledged is safe")
                .with_resource(self.folder.display().to_string())
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(error = %error.chain(), "the log did not close well");
        }
    }
}

/// A file system error of the log.
fn failed(operation: &str, path: &Path, source: std::io::Error) -> Error {
    Error::io(operation, path, source).with_provider("log")
}
