//! `checkpoints.json` in the data folder: the durable marks, so that the next start knows where to go on.
//!
//! The file is replaced as a whole (write, fsync, rename, fsync of the folder), so that a crash leaves the old or the
//! new one. Being behind is harmless: rows collected again replace themselves.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::acknowledgement::{Checkpoints, Marks};
use super::log_limit::LogLimit;
use crate::log::FolderLock;
use crate::{Error, ErrorKind, Result};

const FILE: &str = "checkpoints.json";
const LOCK: &str = "checkpoints.lock";
const VERSION: u32 = 1;
/// The file is written at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file in one data folder.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Source, shard, nanoseconds since 1970 UTC.
    sources: Checkpoints,
}

impl CheckpointFile {
    /// The file in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The right to keep checkpoints in the folder, which is made if it is missing: two pipelines would overwrite each
    /// other's. `None` where no lock can be had at all, as on a read-only disk, for then nobody keeps any.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another run keeps its checkpoints there.
    pub fn lock(&self) -> Result<Option<FolderLock>> {
        let taken = std::fs::create_dir_all(&self.folder)
            .map_err(|error| Error::io("make", &self.folder, error))
            .and_then(|()| FolderLock::take_named(&self.folder, LOCK));
        match taken {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == ErrorKind::Conflict => Err(error),
            Err(error) => {
                tracing::warn!(error = error.chain(), "checkpoints cannot be kept; a restart collects again");
                Ok(None)
            }
        }
    }

    /// The marks of the last run; none if there was no run. A file that cannot be understood is set aside under
    /// another name and told about: it must not keep rows from being collected.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or not be set aside.
    pub fn load(&self) -> Result<Checkpoints> {
        let path = self.folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Checkpoints::new()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(Error::io("read checkpoints", &path, error)),
        };
        let reason = match serde_json::from_str::<Content>(&text) {
            Ok(content) if content.version == VERSION => return Ok(content.sources),
            Ok(content) => format!("version {} is not {VERSION}", content.version),
            Err(error) => error.to_string(),
        };
        let aside =
            self.folder.join(format!("{FILE}.{}.broken", chrono::Utc::now().format("%Y%m%dT%H%M%S%3f")));
        std::fs::rename(&path, &aside).map_err(|error| Error::io("set aside", &path, error))?;
        tracing::warn!(
            file = %path.display(), aside = %aside.display(), reason,
            "the checkpoints cannot be understood; sources start from now"
        );
        Ok(Checkpoints::new())
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// If the folder cannot be written; the old file stays.
    pub fn save(&self, checkpoints: &Checkpoints) -> Result<()> {
        let path = self.folder.join(FILE);
        let temporary = self.folder.join(format!("{FILE}.tmp"));
        let content = Content { version: VERSION, sources: checkpoints.clone() };
        let text = serde_json::to_string_pretty(&content).map_err(|error| {
            Error::invalid("write checkpoints", "they cannot be printed as JSON").with_source(error)
        })?;
        let write = || {
            std::fs::create_dir_all(&self.folder)?;
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| Error::io("write checkpoints to", &path, error))
    }

    /// The folder the file lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Writes the marks when they have moved, at most once a second, and once more when `stop` is cancelled.
pub(super) async fn keep(marks: Arc<Marks>, file: CheckpointFile, stop: CancellationToken) {
    let limit = LogLimit::default();
    let mut saved = Checkpoints::new();
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = marks.changed.notified() => false,
        };
        let now = marks.checkpoints();
        if now != saved {
            let (file, content) = (file.clone(), now.clone());
            match tokio::task::spawn_blocking(move || file.save(&content)).await {
                Ok(Ok(())) => saved = now,
                Ok(Err(error)) => {
                    // The marks stay ahead of the file: the next movement writes again.
                    if limit.pass("save").is_some() {
                        tracing::warn!(
                            error = error.chain(),
                            "checkpoints are not saved; a restart collects again"
                        );
                    }
                }
                Err(error) => tracing::error!(%error, "writing checkpoints panicked"),
            }
        }
        if stopping {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Shard;

    #[test]
    fn two_runs_cannot_keep_checkpoints_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("data"));
        let lock = file.lock().unwrap();
        assert!(lock.is_some());
        assert_eq!(file.lock().unwrap_err().kind(), ErrorKind::Conflict);
        drop(lock);
        assert!(file.lock().unwrap().is_some());
        // Where there can be no folder there are no checkpoints to fight for.
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(CheckpointFile::new(folder.path().join("file/data")).lock().unwrap().is_none());
    }

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("data"));
        assert!(file.load().unwrap().is_empty());
        let marks =
            Checkpoints::from([("host".into(), [("local".into(), 1_763_000_000_000_000_001)].into())]);
        file.save(&marks).unwrap();
        assert_eq!(file.load().unwrap(), marks);
        assert_eq!(std::fs::read_dir(file.folder()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_set_aside_and_kept() {
        for text in ["{", "", "{\"version\": 99, \"sources\": {}}"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(CheckpointFile::new(folder.path()).load().unwrap().is_empty());
            let names: Vec<_> =
                std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names.len(), 1);
            assert!(names[0].to_string_lossy().ends_with(".broken"), "{names:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_at_most_once_a_second_and_at_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path());
        let marks = Marks::resume(&Checkpoints::new());
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep(Arc::clone(&marks), file.clone(), stop.clone()));
        let shard = Shard("local".into());
        let move_to = |end| {
            let window = marks.window("host", &shard, end, 10);
            marks.collected("host", &shard, window).settle();
        };
        move_to(100);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(file.load().unwrap()["host"]["local"], 100);
        move_to(110);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(file.load().unwrap()["host"]["local"], 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(file.load().unwrap()["host"]["local"], 110);
        move_to(120);
        stop.cancel();
        keeper.await.unwrap();
        assert_eq!(file.load().unwrap()["host"]["local"], 120);
    }
}
