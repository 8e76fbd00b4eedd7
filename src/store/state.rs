//! What the tasks of an open store share: the state, and the one way to change the manifest.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::compaction::Postponed;
use super::manifest::{self, Edit, Manifest};
use super::memory::{Frozen, Memory};
use super::metrics::Metrics;
use super::options::{StoreOptions, Windows};
use super::output::discard;
use super::root::{NotCreated, Root};
use super::types::Types;
use crate::log::{FolderLock, Log, Position};
use crate::{Error, ErrorKind, Result};

/// An open store, as its tasks see it.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: StoreOptions,
    pub(super) windows: Windows,
    pub(super) root: Root,
    pub(super) metrics: Metrics,
    /// Held for moments only, never while waiting or computing.
    pub(super) state: Mutex<State>,
    /// Whose turn it is to commit, to flush, to compact. These are held while waiting, so they are tokio's.
    pub(super) committing: tokio::sync::Mutex<()>,
    pub(super) flushing: tokio::sync::Mutex<()>,
    pub(super) maintaining: tokio::sync::Mutex<Postponed>,
    /// Buffered rows became fewer, or a flush failed.
    pub(super) room: Notify,
    /// The buffer is full.
    pub(super) full: Notify,
    /// Background work ends early when this is cancelled.
    pub(super) stop: CancellationToken,
    /// Taken away when the store is closed: from then on nothing may be written.
    pub(super) folder: Mutex<Option<Folder>>,
}

/// What only one writer can have: the folder's lock, and the log in it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) log: Log,
    pub(super) lock: FolderLock,
}

impl Folder {
    /// Closes the log, then lets the lock go; waits for the disk.
    pub(super) fn close(self) -> Result<()> {
        let closed = self.log.close();
        drop(self.lock);
        closed
    }
}

/// Everything that changes.
#[derive(Debug)]
pub(super) struct State {
    /// Rows after [`Flushing::position`], or after the manifest's position.
    pub(super) memory: Memory,
    /// When the oldest row of `memory` came.
    pub(super) oldest: Option<Instant>,
    /// Rows that are being written to segments; they stay readable until the commit.
    pub(super) flushing: Option<Arc<Flushing>>,
    /// Position in the log after everything in `memory`.
    pub(super) position: Position,
    pub(super) manifest: Arc<Manifest>,
    /// Versions before, with the snapshots that still use them.
    pub(super) earlier: Vec<(u64, Weak<Manifest>)>,
    pub(super) types: Types,
    /// Why the last flush failed, if it did.
    pub(super) trouble: Option<(ErrorKind, String)>,
    /// The last commit could neither be made durable nor be taken back.
    pub(super) doubtful: bool,
}

/// Rows on their way to segments.
#[derive(Debug)]
pub(super) struct Flushing {
    pub(super) rows: Frozen,
    pub(super) row_count: usize,
    pub(super) bytes: usize,
    /// Position in the log after them.
    pub(super) position: Position,
}

impl State {
    /// Bytes of all rows that are not in segments.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.memory.bytes() + self.flushing.as_ref().map_or(0, |flushing| flushing.bytes)
    }

    /// The oldest version that a snapshot in this process may still read.
    pub(super) fn oldest_version(&mut self) -> u64 {
        self.earlier.retain(|(_, manifest)| manifest.strong_count() > 0);
        self.earlier.first().map_or(self.manifest.version, |(version, _)| *version)
    }
}

impl Core {
    /// Commits a change; `then` sees the state at the very moment at which the change shows. If nothing is committed,
    /// the files of the segments that the change would have added are deleted.
    pub(super) async fn commit(&self, edit: Edit, then: impl FnOnce(&mut State)) -> Result<()> {
        let added: Vec<_> = edit.added.iter().map(|(_, segment)| segment.clone()).collect();
        let Err(failed) = self.try_commit(edit, then).await else { return Ok(()) };
        // The next opening may go by a doubtful commit, so what it names must be there.
        if !failed.doubtful {
            discard(&self.root, added.iter()).await;
        }
        Err(failed.error)
    }

    /// Takes back a commit in doubt. Whoever is about to write segments asks for it first: while it fails their commit
    /// would too.
    pub(super) async fn settle(&self) -> Result<()> {
        let _turn = self.committing.lock().await;
        self.settle_in_turn().await
    }

    async fn settle_in_turn(&self) -> Result<()> {
        let (version, doubtful) = {
            let state = self.state.lock();
            (state.manifest.version, state.doubtful)
        };
        if doubtful {
            manifest::discard_after(&self.root, version).await?;
            self.state.lock().doubtful = false;
        }
        Ok(())
    }

    async fn try_commit(
        &self,
        edit: Edit,
        then: impl FnOnce(&mut State),
    ) -> std::result::Result<(), NotCreated> {
        let turn = self.committing.lock().await;
        self.log()?;
        self.settle_in_turn().await?;
        let current = self.manifest();
        let next = match manifest::commit(&self.root, &current, edit, now_millis()).await {
            Ok(next) => Arc::new(next),
            Err(failed) => {
                self.state.lock().doubtful |= failed.doubtful;
                return Err(failed);
            }
        };
        let version = next.version;
        let before = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.manifest, next);
            state.earlier.push((before.version, Arc::downgrade(&before)));
            then(&mut state);
            state.oldest_version();
            before
        };
        drop(current);
        drop(before);
        drop(turn);
        if manifest::is_checkpoint(version)
            && let Err(error) = manifest::clean(&self.root, version).await
        {
            tracing::warn!(error = %error.chain(), "cannot delete old manifest files; the next checkpoint tries again");
        }
        self.metrics.state(self);
        Ok(())
    }

    /// The live state.
    pub(super) fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.state.lock().manifest)
    }

    /// The log, as long as the store is open.
    pub(super) fn log(&self) -> Result<Log> {
        self.folder.lock().as_ref().map(|folder| folder.log.clone()).ok_or_else(Self::closed)
    }

    /// Whether the log should be emptied by a flush, because it would refuse rows before the buffer is full.
    pub(super) fn log_is_half_full(&self) -> bool {
        self.log().is_ok_and(|log| log.bytes() >= self.options.log_bytes / 2)
    }

    /// An error of a store that is closed.
    pub(super) fn closed() -> Error {
        Error::new(ErrorKind::Conflict, "write", "the store is closed; open it again").with_provider("store")
    }
}

/// Milliseconds since 1970 UTC.
pub(super) fn now_millis() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Nanoseconds since 1970 UTC.
pub(super) fn now_nanos() -> i64 {
    now_millis().saturating_mul(1_000_000)
}
