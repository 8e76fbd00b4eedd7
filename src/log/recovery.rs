//! Opening for writing: where the log ends, after whatever happened to the process before.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::reader::SegmentReader;
use super::{Position, failed, segments, trim};
use crate::Result;

/// What opening a log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut off: appends that never returned.
    pub truncated_bytes: u64,
    /// Damaged places in the last segment, with sound frames after them.
    pub corrupt_frames: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
}

/// A log that may be appended to.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) report: Recovery,
    /// The last segment, open for writing.
    pub(super) file: File,
    pub(super) end: Position,
}

/// Finishes a trim that was cut short, cuts off a torn tail, and starts the first segment if there is none.
pub(super) fn recover(folder: &Path) -> Result<Recovered> {
    let trimmed = trim::read(folder)?;
    trim::delete_before(folder, trimmed, |_| {})?;
    let numbers = segments::list(folder)?;
    let Some(last) = numbers.last().copied() else {
        // Never a number again that readers may remember.
        let first = if trimmed == Position::START { 0 } else { trimmed.segment + 1 };
        let (file, end) = start_segment(folder, first)?;
        let report = Recovery { bytes: end.offset, ..Recovery::default() };
        return Ok(Recovered { report, file, end });
    };

    let mut reader = SegmentReader::open(folder, last, 0)?;
    while reader.next()?.is_some() {}
    let path = segments::path(folder, last);
    let unable = |e| failed("repair log segment", &path, e);
    let mut file = OpenOptions::new().read(true).append(true).open(&path).map_err(unable)?;
    let truncated_bytes = reader.length().saturating_sub(reader.offset());
    if truncated_bytes > 0 {
        file.set_len(reader.offset()).map_err(unable)?;
        file.sync_all().map_err(unable)?;
    }
    if reader.length() < segments::HEADER_BYTES {
        file.set_len(0).map_err(unable)?;
        file.write_all(&segments::HEADER).and_then(|()| file.sync_all()).map_err(unable)?;
        segments::sync_folder(folder)?;
    }
    let mut report = Recovery { truncated_bytes, corrupt_frames: reader.damaged, bytes: 0 };
    for number in numbers {
        let path = segments::path(folder, number);
        report.bytes += std::fs::metadata(&path).map_err(|e| failed("look at log segment", &path, e))?.len();
    }
    Ok(Recovered { report, file, end: Position { segment: last, offset: reader.offset() } })
}

/// Makes a new, empty segment whose name survives a crash.
pub(super) fn start_segment(folder: &Path, segment: u64) -> Result<(File, Position)> {
    let path = segments::path(folder, segment);
    let unable = |e| failed("start log segment", &path, e);
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(&path).map_err(unable)?;
    let ready = file.write_all(&segments::HEADER).and_then(|()| file.sync_all()).map_err(unable);
    if let Err(error) = ready.and_then(|()| segments::sync_folder(folder)) {
        // The next try needs the name.
        drop(std::fs::remove_file(&path));
        return Err(error);
    }
    Ok((file, Position { segment, offset: segments::HEADER_BYTES }))
}
