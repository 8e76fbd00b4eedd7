//! The writer's thread: takes whatever appends wait, writes them, syncs once, answers all.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::queue::{Queue, Request};
use super::recovery::start_segment;
use super::reserve::Reserve;
use super::{LogOptions, Position, State, failed, segments};
use crate::{Error, ErrorKind, Result};

/// Owns the last segment.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) folder: PathBuf,
    pub(super) options: LogOptions,
    pub(super) file: File,
    pub(super) reserve: Reserve,
    /// After the last byte written, durable or not.
    pub(super) end: Position,
    /// Whether the next append must go to a new segment. So it is after a failed write and after opening: offsets that
    /// somebody may have seen are never given to other frames.
    pub(super) sealed: bool,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) queue: Arc<Queue>,
}

impl Appender {
    /// Serves requests until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(group) = self.queue.take() {
            self.commit(group);
        }
    }

    /// Writes a group and makes it durable with one sync; or takes all of it back.
    fn commit(&mut self, group: Vec<Request>) {
        let (mut admitted, refused) = self.admit(group);
        if !refused.is_empty() && self.end.offset > segments::HEADER_BYTES {
            // The last segment is never deleted, so it must not be what keeps the log full.
            self.sealed = true;
            if admitted.is_empty()
                && let Err(error) = self.roll()
            {
                tracing::warn!(error = %error.chain(), "the full log cannot begin a new segment yet");
            }
        }
        for request in refused {
            let error = self.full(request.bytes());
            request.answer(Err(error));
        }
        if admitted.is_empty() {
            return;
        }
        match self.write(&mut admitted) {
            Ok(ends) => {
                self.reserve.keep();
                for (request, end) in admitted.into_iter().zip(ends) {
                    request.answer(Ok(end));
                }
            }
            Err(error) => {
                for request in admitted {
                    let copy = Error::new(error.kind(), error.operation(), error.chain())
                        .with_provider("log")
                        .with_resource(error.resource().unwrap_or_default());
                    request.answer(Err(copy));
                }
            }
        }
    }

    /// Splits off the requests for which there is no room.
    fn admit(&self, group: Vec<Request>) -> (Vec<Request>, Vec<Request>) {
        // Two headers are kept back: for the segment that this group begins, and for one when the log is full.
        let taken = self.state.lock().bytes + 2 * segments::HEADER_BYTES;
        let mut room = self.options.max_bytes.saturating_sub(taken).min(self.free());
        group.into_iter().partition(|request| {
            let bytes = request.bytes();
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        })
    }

    /// Bytes that may be taken of the disk.
    fn free(&self) -> u64 {
        if self.options.leave_free == 0 {
            return u64::MAX;
        }
        // A file system that does not tell is asked by writing.
        let told = rustix::fs::statvfs(&self.folder);
        told.map_or(u64::MAX, |disk| (disk.f_bavail * disk.f_frsize).saturating_sub(self.options.leave_free))
    }

    /// The positions after each request.
    fn write(&mut self, group: &mut [Request]) -> Result<Vec<Position>> {
        if self.sealed || self.end.offset >= self.options.segment_bytes {
            self.roll()?;
        }
        let start = self.end;
        let result = self.try_write(group);
        if result.is_err() {
            // Cut the half-written frames off again, so that a full disk costs nothing but this append. If even that
            // fails they have no sound checksum or were never acknowledged, so reading them does no harm.
            let path = segments::path(&self.folder, start.segment);
            if let Err(error) = self.file.set_len(start.offset).and_then(|()| self.file.sync_all()) {
                tracing::warn!(%error, path = %path.display(), "cannot cut off what was written in vain");
            }
            self.sealed = true;
            self.end = start;
        }
        result
    }

    fn try_write(&mut self, group: &mut [Request]) -> Result<Vec<Position>> {
        let path = segments::path(&self.folder, self.end.segment);
        let mut ends = Vec::with_capacity(group.len());
        let mut end = self.end;
        for request in group {
            for frame in &mut request.frames {
                let bytes = frame.at(end);
                self.file.write_all(bytes).map_err(|e| failed("append to log segment", &path, e))?;
                end.offset += frame.len();
            }
            ends.push(end);
        }
        if self.options.sync {
            self.file.sync_data().map_err(|e| failed("sync log segment", &path, e))?;
        }
        let mut state = self.state.lock();
        state.bytes += end.offset - self.end.offset;
        state.end = end;
        self.end = end;
        Ok(ends)
    }

    fn roll(&mut self) -> Result<()> {
        let next = self.end.segment + 1;
        let started = match start_segment(&self.folder, next) {
            Err(error) if error.kind() == ErrorKind::Capacity && self.reserve.give_up() => {
                start_segment(&self.folder, next)
            }
            started => started,
        };
        let (file, end) = started?;
        self.file = file;
        self.end = end;
        self.sealed = false;
        let mut state = self.state.lock();
        state.bytes += end.offset;
        state.end = end;
        Ok(())
    }

    fn full(&self, bytes: u64) -> Error {
        let limit = self.options.max_bytes;
        let (kind, reason) = if bytes + 3 * segments::HEADER_BYTES > limit {
            let reason =
                format!("{bytes} bytes are more than its bound of {limit} bytes; send fewer rows at a time");
            (ErrorKind::Invalid, reason)
        } else {
            let reason = if bytes > self.free() {
                let left = self.options.leave_free;
                format!("the disk is full but for {left} bytes that are left to others; free some space")
            } else {
                format!(
                    "{bytes} bytes more would pass its bound of {limit} bytes; it has room once it is trimmed"
                )
            };
            (ErrorKind::Capacity, reason)
        };
        Error::new(kind, "append to log", reason)
            .with_provider("log")
            .with_resource(self.folder.display().to_string())
    }
}

impl Drop for Appender {
    /// Even if the thread panicked nobody waits for it.
    fn drop(&mut self) {
        self.queue.abandon();
    }
}
