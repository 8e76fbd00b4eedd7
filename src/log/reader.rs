//! Reading a log from a position on, one frame in memory at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{self, Header};
use super::{Position, failed, segments, trim};
use crate::model::MetricBatch;
use crate::{Error, ErrorKind, Result};

/// Reads a log without changing it. It sees the frames that were there when it was opened, and perhaps later ones; it
/// ends at a torn tail, and skips frames that are damaged.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    /// Segments to come, last first.
    waiting: Vec<u64>,
    current: Option<SegmentReader>,
    from: Position,
    skipped: u64,
}

impl LogReader {
    /// Starts at `from`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if `from` was trimmed, or there is no log at all.
    pub fn open(folder: impl AsRef<Path>, from: Position) -> Result<Self> {
        let folder = folder.as_ref();
        let mut waiting = segments::list(folder)?;
        // The trim point is read after the list: what is deleted in between was before it.
        let trimmed = trim::read(folder)?;
        let first = waiting.first().copied().unwrap_or(0);
        // Without a trim point the segments say what is gone.
        let lost = trimmed == Position::START && from != Position::START && from.segment < first;
        let gone = from < trimmed || lost;
        if gone {
            return Err(Error::new(
                ErrorKind::NotFound,
                "read log",
                format!("{from} was trimmed; it begins at {trimmed} now"),
            )
            .with_resource(folder.display().to_string()));
        }
        waiting.retain(|segment| *segment >= from.segment);
        waiting.reverse();
        Ok(Self { folder: folder.to_owned(), waiting, current: None, from, skipped: 0 })
    }

    /// Damaged places that were skipped so far, or sound frames whose content could not be understood.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Rows of each segment from `from` on, without reading them: quick, however long the log. Rows in damaged frames
    /// may be among them.
    ///
    /// # Errors
    /// As [`Self::open`], and the file system's trouble.
    pub fn count_rows(folder: impl AsRef<Path>, from: Position) -> Result<BTreeMap<u64, u64>> {
        let mut reader = Self::open(folder, from)?;
        let mut rows = BTreeMap::new();
        while reader.advance()?.is_some() {
            if let Some(segment) = reader.current.take() {
                rows.insert(segment.segment, segment.count_rows()?);
            }
        }
        Ok(rows)
    }

    /// Opens the next segment, or `None` at the end.
    fn advance(&mut self) -> Result<Option<()>> {
        let Some(segment) = self.waiting.pop() else { return Ok(None) };
        let start = if segment == self.from.segment { self.from.offset } else { 0 };
        self.current = Some(SegmentReader::open(&self.folder, segment, start)?);
        Ok(Some(()))
    }

    fn read(&mut self) -> Result<Option<(Position, MetricBatch)>> {
        loop {
            let Some(current) = &mut self.current else {
                match self.advance()? {
                    Some(()) => continue,
                    None => return Ok(None),
                }
            };
            match current.next()? {
                Some(frame) => match frame.header.decode(frame.parts) {
                    Ok(batch) => return Ok(Some((frame.end, batch))),
                    Err(error) => {
                        tracing::error!(error = %error.chain(), before = %frame.end, "a frame of the log is skipped");
                        self.skipped += 1;
                    }
                },
                None => {
                    self.skipped += current.damaged;
                    // Garbage at the end of the last segment is a torn tail, not damage.
                    if current.torn && !self.waiting.is_empty() {
                        self.skipped += 1;
                    }
                    self.current = None;
                }
            }
        }
    }
}

impl Iterator for LogReader {
    /// The position after the batch, and the batch.
    type Item = Result<(Position, MetricBatch)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Reads the frames of one segment.
#[derive(Debug)]
pub(super) struct SegmentReader {
    file: File,
    path: PathBuf,
    segment: u64,
    length: u64,
    offset: u64,
    /// Damaged places passed, with sound frames after them.
    pub(super) damaged: u64,
    /// Whether bytes remained after the last sound frame.
    pub(super) torn: bool,
}

/// A frame whose checksum holds.
#[derive(Debug)]
pub(super) struct Proven {
    header: Header,
    parts: Vec<u8>,
    /// The position after it.
    pub(super) end: Position,
}

impl SegmentReader {
    /// Opens a segment at `start`, or behind its header.
    pub(super) fn open(folder: &Path, segment: u64, start: u64) -> Result<Self> {
        let path = segments::path(folder, segment);
        let unable = |e| failed("read log segment", &path, e);
        let file = File::open(&path).map_err(unable)?;
        let length = file.metadata().map_err(unable)?.len();
        let mut header = [0; segments::HEADER.len()];
        if length >= segments::HEADER_BYTES {
            file.read_exact_at(&mut header, 0).map_err(unable)?;
            segments::check_version(&header, &path)?;
        }
        // A position may lie beyond a file that was damaged, and one from elsewhere may be anything at all.
        let beyond = length.max(segments::HEADER_BYTES);
        let offset = start.clamp(segments::HEADER_BYTES, beyond).next_multiple_of(frame::ALIGNMENT);
        Ok(Self { file, path, segment, length, offset, damaged: 0, torn: false })
    }

    /// The next sound frame, passing over damage; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Proven>> {
        let mut at = self.offset;
        loop {
            if let Some(frame) = self.frame_at(at)? {
                self.damaged += u64::from(at != self.offset);
                self.offset = frame.end.offset;
                return Ok(Some(frame));
            }
            match self.find_magic(at + frame::ALIGNMENT)? {
                Some(found) => at = found,
                None => {
                    self.torn = self.length > self.offset;
                    return Ok(None);
                }
            }
        }
    }

    /// Rows that the headers from here on promise. A frame whose rows are damaged is counted, for its header does not
    /// know; one whose header is damaged is not.
    pub(super) fn count_rows(mut self) -> Result<u64> {
        let mut rows = 0;
        loop {
            match self.header_at(self.offset)? {
                Some((header, end)) => {
                    rows += header.rows;
                    self.offset = end;
                }
                None => match self.find_magic(self.offset + frame::ALIGNMENT)? {
                    Some(found) => self.offset = found,
                    None => return Ok(rows),
                },
            }
        }
    }

    /// What looks like a header whose frame the file can hold, and the end of that frame.
    fn header_at(&self, offset: u64) -> Result<Option<(Header, u64)>> {
        let mut header = [0; frame::HEADER_BYTES as usize];
        if !self.read_at(&mut header, offset)? {
            return Ok(None);
        }
        let Some(header) = Header::parse(&header) else { return Ok(None) };
        let end = offset + header.frame_length();
        // A damaged length must not make us allocate what the file does not have.
        Ok((end <= self.length).then_some((header, end)))
    }

    fn frame_at(&self, offset: u64) -> Result<Option<Proven>> {
        let Some((header, end)) = self.header_at(offset)? else { return Ok(None) };
        let mut parts = vec![0; header.length as usize];
        let whole = self.read_at(&mut parts, offset + frame::HEADER_BYTES)?;
        let place = Position { segment: self.segment, offset };
        let proven = whole && header.proves(&parts, place);
        Ok(proven.then_some(Proven { header, parts, end: Position { segment: self.segment, offset: end } }))
    }

    /// The next aligned place from `from` on where a frame could begin.
    fn find_magic(&self, from: u64) -> Result<Option<u64>> {
        const CHUNK: u64 = 64 << 10;
        let mut chunk = vec![0; CHUNK as usize];
        let mut start = from;
        while start + frame::HEADER_BYTES <= self.length {
            let length = CHUNK.min(self.length - start);
            let bytes = &mut chunk[..length as usize];
            if !self.read_at(bytes, start)? {
                return Ok(None);
            }
            let found = bytes
                .chunks_exact(frame::ALIGNMENT as usize)
                .position(|word| word.starts_with(&frame::MAGIC.to_le_bytes()));
            if let Some(index) = found {
                return Ok(Some(start + index as u64 * frame::ALIGNMENT));
            }
            start += CHUNK;
        }
        Ok(None)
    }

    /// Whether the file has these bytes; it may have been cut shorter meanwhile.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<bool> {
        match self.file.read_exact_at(bytes, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed("read log segment", &self.path, error)),
        }
    }

    /// Offset after the last sound frame so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}
