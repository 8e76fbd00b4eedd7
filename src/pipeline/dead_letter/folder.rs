//! The letters of a pipeline: one file each, in the folder `dead-letters` of the data folder.
//!
//! A file is written under another name, synced and renamed, so that it is whole or not there. Nobody locks anything:
//! who lists, exports or deletes letters may do so beside a running pipeline.

use std::fs::{self, File};
use std::io::{ErrorKind as Io, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::letter::Letter;
use crate::{Error, Result};

const FOLDER: &str = "dead-letters";
const EXTENSION: &str = "arrows";

/// Makes names of one process differ, should two letters be of the same nanosecond.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// The folder of the letters.
#[derive(Debug, Clone)]
pub struct LetterFolder {
    path: PathBuf,
    max_bytes: u64,
    /// Bytes of all letters, once they were counted; others may have deleted some since.
    size: Arc<Mutex<Option<u64>>>,
}

/// A letter that was not read yet: what its name and size tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When, in nanoseconds since 1970 UTC.
    pub at: i64,
    /// Its file.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl LetterFolder {
    /// The letters of the pipeline whose state lies in `data`; the folder is made with the first letter.
    pub fn new(data: &Path) -> Self {
        Self { path: data.join(FOLDER), max_bytes: u64::MAX, size: Arc::default() }
    }

    /// When they take more than this, the oldest are deleted.
    #[must_use]
    pub(super) fn with_bound(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All letters, oldest first. Files of other names are none.
    ///
    /// # Errors
    /// The folder cannot be read; that there is none is no error.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let unable = |e| Error::io("list dead letters in", &self.path, e);
        let files = match fs::read_dir(&self.path) {
            Ok(files) => files,
            Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unable(error)),
        };
        let mut entries = Vec::new();
        for file in files {
            let file = file.map_err(unable)?;
            let path = file.path();
            let Some((at, rows)) = parse(&path) else { continue };
            // One that was deleted meanwhile is none any more.
            if let Ok(metadata) = file.metadata() {
                entries.push(Entry { at, path, rows, bytes: metadata.len() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Reads a letter.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read(&self, entry: &Entry) -> Result<Letter> {
        let bytes = fs::read(&entry.path).map_err(|e| Error::io("read dead letter", &entry.path, e))?;
        let whole = |e: Error| e.with_resource(entry.path.display().to_string());
        Letter::from_bytes(&bytes).map_err(whole)
    }

    /// Deletes a letter; that it is gone already is no error.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(&self, entry: &Entry) -> Result<()> {
        match fs::remove_file(&entry.path) {
            Err(error) if error.kind() != Io::NotFound => {
                Err(Error::io("delete dead letter", &entry.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a letter; it is durable on return. Returns how many rows of older ones had to make room.
    pub(super) fn write(&self, letter: &Letter) -> Result<u64> {
        let bytes = letter.to_bytes()?;
        let unable = |e| Error::io("write a dead letter to", &self.path, e);
        fs::create_dir_all(&self.path).map_err(unable)?;
        let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let name =
            format!("{:020}-{}-{number}-{}", letter.at.max(0), std::process::id(), letter.batch.rows());
        let staged = self.path.join(format!("{name}.new"));
        let written = File::create(&staged).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&staged, self.path.join(format!("{name}.{EXTENSION}")))?;
            File::open(&self.path)?.sync_all()
        });
        if let Err(error) = written {
            drop(fs::remove_file(&staged));
            return Err(unable(error));
        }
        // The letter is there; that others could not be deleted must not have it written again.
        Ok(self.make_room(bytes.len() as u64).unwrap_or_else(|error| {
            tracing::warn!(error = error.chain(), "old dead letters cannot make room");
            0
        }))
    }

    /// Counts another letter in, and deletes the oldest if they are too many now: a few more than needed, so that the
    /// folder is not read again for each.
    fn make_room(&self, added: u64) -> Result<u64> {
        let mut size = self.size.lock();
        if let Some(known) = size.as_mut() {
            *known += added;
            if *known <= self.max_bytes {
                return Ok(0);
            }
        }
        let mut entries = self.list()?;
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        // The newest stays, however large.
        entries.pop();
        let mut discarded = 0;
        if bytes > self.max_bytes {
            for entry in entries {
                if bytes <= self.max_bytes / 10 * 9 {
                    break;
                }
                self.remove(&entry)?;
                bytes -= entry.bytes;
                discarded += entry.rows;
            }
        }
        *size = Some(bytes);
        Ok(discarded)
    }
}

/// Time and rows out of a name.
fn parse(path: &Path) -> Option<(i64, u64)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let mut parts = path.file_stem()?.to_str()?.split('-');
    let at = parts.next()?.parse().ok()?;
    Some((at, parts.next_back()?.parse().ok()?))
}
