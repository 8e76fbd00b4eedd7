//! A little room on the disk that the log keeps for itself. On a full disk it cannot even say what it let go of, nor begin
//! a segment so that the one before can be deleted: it would stay full for ever. Giving up this file makes room for both.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const NAME: &str = "reserve";
/// Enough for a trim point and the header of a segment, in blocks of any size.
const BYTES: usize = 64 << 10;

/// The reserve of one log.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve of the log in `folder`; nothing is kept yet.
    pub(super) fn of(folder: &Path) -> Self {
        Self { path: folder.join(NAME) }
    }

    /// Keeps the room, if there is any; without it the log works as well, until the disk is full.
    pub(super) fn keep(&self) {
        if self.path.exists() {
            return;
        }
        // Not a hole: the bytes are written.
        let kept = File::create(&self.path).and_then(|mut file| file.write_all(&vec![0; BYTES]));
        if kept.is_err() {
            self.give_up();
        }
    }

    /// Makes the room free; tells whether there was any.
    pub(super) fn give_up(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}
