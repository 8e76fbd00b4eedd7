//! The files of a log: their names, and the eight bytes that each begins with.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::failed;
use crate::{Error, ErrorKind, Result};

/// What every segment file begins with: a name and the version of the format.
pub(super) const HEADER: [u8; 8] = *b"BARLOG02";
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = HEADER.len() as u64;

const EXTENSION: &str = "log";

/// Where a segment lies.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.{EXTENSION}"))
}

/// Numbers of the segments in `folder`, rising; files of other names are none of ours.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>> {
    let entries = std::fs::read_dir(folder).map_err(|e| failed("list log", folder, e))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed("list log", folder, e))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Refuses a file that another version wrote. A header that is damaged is no reason to refuse: frames prove themselves.
pub(super) fn check_version(header: &[u8], path: &Path) -> Result<()> {
    let (name, version) = HEADER.split_at(6);
    if header.starts_with(name) && !header.ends_with(version) && header[6..].iter().all(u8::is_ascii_digit) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "read log segment",
            format!(
                "its format is {}, and this version reads {}: another version of barograph wrote it",
                String::from_utf8_lossy(header),
                String::from_utf8_lossy(&HEADER)
            ),
        )
        .with_resource(path.display().to_string()));
    }
    Ok(())
}

/// Makes names in `folder` durable: a file whose name is lost is lost.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| failed("sync log folder", folder, e))
}
