//! One writer at a time: a lock file that the operating system releases when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::failed;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "LOCK";

/// The right to write in a folder; given back when dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with the holder's process id if another writer has it.
    pub fn take(folder: &Path) -> Result<Self> {
        Self::take_named(folder, NAME)
    }

    /// Takes the lock that is kept in the file `name`, where a folder holds more than one thing to be locked.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_named(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let unable = |source| failed("open the lock file", &path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &mut file)),
            Err(TryLockError::Error(source)) => return Err(unable(source)),
        }
        // The process id is for people only, so trouble with writing it is not the lock's.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "cannot note the process id in the lock file");
        }
        Ok(Self { _file: file })
    }
}

fn held(folder: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Error::new(
        ErrorKind::Conflict,
        "open for writing",
        format!("{holder} writes to it; stop that process or choose another folder (reading needs no lock)"),
    )
    .with_resource(folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_learns_who_has_the_folder_and_the_next_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
    }
}
