//! Rows that nobody can take are set aside with the reason: counted, logged with restraint, and kept in the data folder,
//! where `barograph deadletters` lists, exports, replays and purges them.

mod folder;
mod letter;
mod replay;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::log_limit::LogLimit;
use crate::model::MetricBatch;
use crate::{Error, Result};

pub use folder::{Entry, LetterFolder};
pub use letter::Letter;
pub use replay::Replayed;

/// Waits after a letter could not be written.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Where refused rows end.
#[derive(Debug)]
pub(super) struct DeadLetters {
    folder: Mutex<LetterFolder>,
    /// One writer at a time; held only on blocking threads.
    writing: Arc<Mutex<()>>,
    limit: LogLimit,
    discarded: AtomicU64,
}

impl DeadLetters {
    /// Dead letters of the pipeline whose state lies in `data`, at most so many bytes of them.
    pub(super) fn new(data: &Path, max_bytes: u64) -> Self {
        Self {
            folder: Mutex::new(LetterFolder::new(data).with_bound(max_bytes)),
            writing: Arc::default(),
            limit: LogLimit::default(),
            discarded: AtomicU64::new(0),
        }
    }

    /// Letters from now on go into another folder; those that are written stay where they are.
    pub(super) fn move_to(&self, data: &Path, max_bytes: u64) {
        *self.folder.lock() = LetterFolder::new(data).with_bound(max_bytes);
    }

    /// Rows of letters that had to make room for newer ones.
    pub(super) fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Sets rows aside, which `component` refused: durable when this returns `true`. A disk that fails is tried again
    /// until `stop`, and then it is `false`: whoever owes the rows still has them.
    pub(super) async fn set_aside(
        &self,
        component: &str,
        error: &Error,
        batch: &MetricBatch,
        stop: &CancellationToken,
    ) -> bool {
        self.note(component, batch.table(), batch.rows() as u64, error);
        let letter = Letter::new(component, error, batch.clone());
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let error = match self.write(&letter).await {
                Ok(()) => {
                    if let Some(lasted) = self.limit.forget("file") {
                        tracing::info!(%lasted, "dead letters can be written again");
                    }
                    return true;
                }
                Err(error) => error,
            };
            if let Some(left_out) = self.limit.pass("file") {
                let error = error.chain();
                tracing::warn!(
                    error,
                    left_out,
                    "dead letters cannot be written; who has rows for them waits"
                );
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(backoff.after(&error)) => {}
            }
        }
    }

    /// Tells of refused rows, with restraint.
    pub(super) fn note(&self, component: &str, table: &str, rows: u64, error: &Error) {
        if let Some(left_out) = self.limit.pass(&format!("{component}/{table}/{}", error.kind())) {
            tracing::warn!(
                component,
                table,
                rows,
                kind = error.kind().as_str(),
                error = error.chain(),
                left_out,
                "rows dead-lettered"
            );
        }
    }

    async fn write(&self, letter: &Letter) -> Result<()> {
        let (folder, writing, letter) =
            (self.folder.lock().clone(), Arc::clone(&self.writing), letter.clone());
        let written = tokio::task::spawn_blocking(move || {
            let _one = writing.lock();
            folder.write(&letter)
        });
        let written = written.await.map_err(|e| {
            Error::unavailable("write a dead letter", "the task failed or panicked").with_source(e)
        });
        let discarded = written??;
        if discarded > 0 {
            self.discarded.fetch_add(discarded, Ordering::Relaxed);
            if let Some(left_out) = self.limit.pass("discarded") {
                tracing::warn!(
                    rows = discarded,
                    left_out,
                    "the oldest dead letters had to make room; export or purge them, or raise `dead_letters`"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubles::parcel;
    use super::*;

    #[tokio::test]
    async fn a_letter_is_durable_when_it_is_set_aside_and_a_stop_ends_the_wait_for_a_disk() {
        let data = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(data.path(), 1 << 20);
        let error = Error::invalid("write", "the tag is too long");
        let stop = CancellationToken::new();
        assert!(letters.set_aside("influx", &error, &parcel(2).batch, &stop).await);
        let folder = LetterFolder::new(data.path());
        let entries = folder.list().unwrap();
        assert_eq!((entries.len(), entries[0].rows), (1, 2));
        let letter = folder.read(&entries[0]).unwrap();
        assert_eq!((letter.component.as_str(), letter.kind.as_str()), ("influx", "invalid"));
        assert_eq!(letter.batch, parcel(2).batch);

        // A file stands where the folder would be.
        let blocked = data.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        letters.move_to(&blocked, 1 << 20);
        let after = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            after.cancel();
        });
        assert!(!letters.set_aside("influx", &error, &parcel(2).batch, &stop).await);
    }

    #[tokio::test]
    async fn the_oldest_letters_make_room_and_are_counted() {
        let data = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(data.path(), 10_000);
        let (error, stop) = (Error::invalid("write", "no"), CancellationToken::new());
        for _ in 0..20 {
            assert!(letters.set_aside("influx", &error, &parcel(3).batch, &stop).await);
        }
        let entries = LetterFolder::new(data.path()).list().unwrap();
        let (bytes, rows) =
            (entries.iter().map(|e| e.bytes).sum::<u64>(), entries.iter().map(|e| e.rows).sum::<u64>());
        assert!(bytes <= 10_000, "{bytes}");
        assert!(!entries.is_empty());
        assert_eq!(rows + letters.discarded(), 60);
    }
}
