//! The writer's thread: takes whatever appends wait, writes them, syncs once, answers all.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::frame::Encoded;
use super::recovery::start_segment;
use super::{LogOptions, Position, State, failed, segments};
use crate::{Error, ErrorKind, Result};

/// A group is closed at this size, so that the first of it does not wait for too many others.
const GROUP_BYTES: u64 = 16 << 20;

/// An append that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) frames: Vec<Encoded>,
    pub(super) reply: oneshot::Sender<Result<Position>>,
}

/// Owns the last segment.
#[derive(Debug)]
pub(super) struct Appender {
    folder: PathBuf,
    options: LogOptions,
    file: File,
    /// After the last byte written, durable or not.
    end: Position,
    /// After a failed write nobody knows what the file holds: the next append goes to a new one.
    broken: bool,
    state: Arc<Mutex<State>>,
}

impl Appender {
    pub(super) fn new(
        folder: &Path,
        options: LogOptions,
        file: File,
        end: Position,
        state: Arc<Mutex<State>>,
    ) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), options, file, end, broken: false, state })
    }

    /// Serves requests until the last sender is gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(next) = requests.try_recv()
            {
                bytes += next.bytes();
                group.push(next);
            }
            self.commit(group);
        }
    }

    /// Writes a group and makes it durable with one sync; or takes all of it back.
    fn commit(&mut self, group: Vec<Request>) {
        let (mut admitted, refused) = self.admit(group);
        for request in refused {
            let bytes = request.bytes();
            request.answer(Err(self.full(bytes)));
        }
        if admitted.is_empty() {
            return;
        }
        match self.write(&mut admitted) {
            Ok(ends) => {
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
        let mut room = self.options.max_bytes.saturating_sub(self.state.lock().bytes);
        group.into_iter().partition(|request| {
            let bytes = request.bytes();
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        })
    }

    /// The positions after each request.
    fn write(&mut self, group: &mut [Request]) -> Result<Vec<Position>> {
        if self.broken || self.end.offset >= self.options.segment_bytes {
            self.roll()?;
        }
        let start = self.end;
        let result = self.try_write(group);
        if result.is_err() {
            // Cut the half-written frames off again, so that a full disk costs nothing but this append. If even that
            // fails they have no sound checksum or were never acknowledged, so reading them does no harm.
            self.broken = self.file.set_len(start.offset).and_then(|()| self.file.sync_all()).is_err();
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
        let (file, end) = start_segment(&self.folder, self.end.segment + 1)?;
        self.file = file;
        self.end = end;
        self.broken = false;
        let mut state = self.state.lock();
        state.bytes += end.offset;
        state.end = end;
        Ok(())
    }

    fn full(&self, bytes: u64) -> Error {
        let limit = self.options.max_bytes;
        let reason = format!(
            "{bytes} bytes more would pass its bound of {limit} bytes; it has room again once it is trimmed"
        );
        Error::new(ErrorKind::Capacity, "append to log", reason)
            .with_provider("log")
            .with_resource(self.folder.display().to_string())
    }
}

impl Request {
    fn bytes(&self) -> u64 {
        self.frames.iter().map(Encoded::len).sum()
    }

    fn answer(self, result: Result<Position>) {
        // A caller that stopped waiting does not want to know.
        let _ = self.reply.send(result);
    }
}
