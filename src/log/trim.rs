//! Letting go of the beginning: the trim point is made durable first, then whole segments before it are deleted. So a
//! reader that asks for something older always gets a clear answer instead of a silent gap.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{Position, failed, segments};
use crate::Result;

const NAME: &str = "trim";
const STAGED: &str = "trim.new";

/// Makes `upto` the trim point, unless it is a later one already.
pub(super) fn persist(folder: &Path, upto: Position) -> Result<()> {
    if read(folder)? >= upto {
        return Ok(());
    }
    let staged = folder.join(STAGED);
    let written = File::create(&staged).and_then(|mut file| {
        writeln!(file, "{upto}")?;
        file.sync_all()
    });
    written.map_err(|e| failed("write the trim point to", &staged, e))?;
    fs::rename(&staged, folder.join(NAME))
        .map_err(|e| failed("put the trim point in place in", folder, e))?;
    segments::sync_folder(folder)
}

/// The trim point; the start if the log was never trimmed.
pub(super) fn read(folder: &Path) -> Result<Position> {
    let path = folder.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(parse(&text).unwrap_or_else(|| {
            // It was renamed into place whole, so only damage makes it unreadable, and the segments that are still
            // there say as much.
            tracing::warn!(path = %path.display(), "the trim point is damaged; it is taken from the segments");
            Position::START
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Position::START),
        Err(error) => Err(failed("read the trim point", &path, error)),
    }
}

fn parse(text: &str) -> Option<Position> {
    let (segment, offset) = text.trim().split_once(':')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

/// Deletes the segments that lie wholly before `upto`, and says for each how many bytes it had. The last segment stays.
pub(super) fn delete_before(folder: &Path, upto: Position, mut freed: impl FnMut(u64)) -> Result<()> {
    let mut numbers = segments::list(folder)?;
    let last = numbers.pop();
    numbers.extend(last.filter(|last| *last < upto.segment));
    for segment in numbers.into_iter().filter(|segment| *segment <= upto.segment) {
        let path = segments::path(folder, segment);
        let unable = |e| failed("delete log segment", &path, e);
        let bytes = fs::metadata(&path).map_err(unable)?.len();
        if segment < upto.segment || bytes <= upto.offset {
            fs::remove_file(&path).map_err(unable)?;
            freed(bytes);
        }
    }
    Ok(())
}
