//! The durable backlog of a sink: rows go from the sink's queue into a log on disk, where they are safe, and from there
//! into the lanes, as fast as the sink takes them. An outage costs disk, never memory, and a restart goes on where the
//! sink acknowledged.
//!
//! ```text
//! queue ─ spool ─> log ─ feed ─> lane queue ─> delivery
//!                   ▲            lane queue ─> delivery
//!                   └─── keep <─ ledger <──── settled
//! ```

mod feed;
mod keep;
mod ledger;
mod spool;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::dead_letter::DeadLetters;
use super::log_limit::LogLimit;
use super::monitor::SinkState;
use super::queue::Queue;
use crate::log::{Log, LogOptions, LogReader};
use crate::sink::backlog::WhenFull;
use crate::{Error, Result};
use ledger::Ledger;

/// The most that a backlog leaves free on the disk.
const LEFT_FREE: u64 = 256 << 20;

/// How a sink's backlog is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacklogPlan {
    /// The folder of the log.
    pub folder: PathBuf,
    /// Bound of the log on disk.
    pub max_bytes: u64,
    /// What happens at the bound, or when the disk is full.
    pub when_full: WhenFull,
}

/// An open backlog; cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Backlog {
    log: Log,
    ledger: Arc<Ledger>,
    when_full: WhenFull,
    max_bytes: u64,
}

/// What the tasks of a backlog share.
pub(super) struct Context {
    pub(super) backlog: Backlog,
    pub(super) state: Arc<SinkState>,
    pub(super) dead: Arc<DeadLetters>,
    pub(super) limit: LogLimit,
    /// Ends the tasks where they stand; what is in the log stays there.
    pub(super) stop: CancellationToken,
}

impl Backlog {
    /// Opens the log and counts what waits in it. It waits for the disk.
    ///
    /// # Errors
    /// As [`Log::open`]; another process that has it open above all.
    pub(super) fn open(plan: &BacklogPlan) -> Result<Self> {
        let leave_free = leave_free(&plan.folder);
        let options = LogOptions { max_bytes: plan.max_bytes, leave_free, ..LogOptions::default() };
        let opened = Log::open(&plan.folder, options).and_then(|(log, recovery)| {
            let cursor = log.begin()?;
            let unread = LogReader::count_rows(&plan.folder, cursor)?;
            Ok((log, recovery, cursor, unread))
        });
        let (log, recovery, cursor, unread) = opened.map_err(|error| {
            let folder = plan.folder.display().to_string();
            Error::new(error.kind(), "open the backlog", error.reason())
                .with_resource(folder)
                .with_source(error)
        })?;
        if recovery.truncated_bytes > 0 {
            let (folder, bytes) = (plan.folder.display(), recovery.truncated_bytes);
            tracing::info!(%folder, bytes, "an append that was cut short is taken back");
        }
        let ledger = Arc::new(Ledger::new(unread, cursor, log.end()));
        Ok(Self { log, ledger, when_full: plan.when_full, max_bytes: plan.max_bytes })
    }

    /// Rows that are not settled.
    pub(super) fn rows(&self) -> u64 {
        self.ledger.rows()
    }

    /// At the end: rows that nobody brings again, because their segments were dropped while they were on their way.
    pub(super) fn dropped_on_the_way(&self) -> u64 {
        self.ledger.dropped_on_the_way()
    }

    /// Moves rows from the queue into the log until the queue is closed and empty.
    pub(super) async fn spool(context: &Context, queue: &Queue) {
        spool::run(context, queue).await;
        context.backlog.ledger.close();
        context.show();
    }

    /// Moves rows from the log into the lanes until the log is closed and empty; closes the lanes then.
    pub(super) async fn feed(context: &Context, lanes: &[Arc<Queue>]) {
        feed::run(context, lanes).await;
        lanes.iter().for_each(|lane| lane.close());
    }

    /// Lets go of what is settled, until `over`, and once more then.
    pub(super) async fn keep(context: &Context, over: CancellationToken) {
        keep::run(context, over).await;
        context.show();
    }

    /// Ends the log.
    pub(super) async fn close(self) {
        let closed = tokio::task::spawn_blocking(move || self.log.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::error!(error = error.chain(), "the backlog did not close");
        }
    }
}

/// Bytes of the disk that a backlog leaves free: a twentieth, and at most [`LEFT_FREE`]. Without them there would be no
/// room for the dead letters and checkpoints of the rows that wait, and so they would wait for ever.
fn leave_free(folder: &Path) -> u64 {
    // The folder may be made only when the log is opened.
    let there = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(there);
    disk.map_or(0, |disk| (disk.f_blocks * disk.f_frsize / 20).min(LEFT_FREE))
}

impl Context {
    /// Brings what others see up to date.
    fn show(&self) {
        let Backlog { log, ledger, max_bytes, .. } = &self.backlog;
        let (rows, bytes, oldest) = (ledger.rows(), log.bytes(), ledger.oldest());
        self.state.update(|numbers| {
            let backlog = numbers.backlog.get_or_insert_default();
            (backlog.rows, backlog.bytes, backlog.max_bytes) = (rows, bytes, *max_bytes);
            numbers.oldest = oldest;
        });
    }
}
