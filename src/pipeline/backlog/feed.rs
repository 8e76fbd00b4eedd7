//! From the log into the lanes. Only so much is read as the lanes have room for, so that memory does not know how long
//! the log is.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use crate::log::{LogReader, Position};
use crate::model::{Ack, MetricBatch, Outcome, Parcel};
use crate::pipeline::account::Policy;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::lanes;
use crate::pipeline::queue::Queue;
use crate::{ErrorKind, Result};

/// Frames are read together up to this many rows, so that small ones do not cost a change of thread each.
const READ_ROWS: usize = 8_192;
/// Waits after the disk failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

type Frames = Vec<(Position, MetricBatch)>;

pub(super) async fn run(context: &Context, lanes: &[Arc<Queue>]) {
    let mut feed = Feed { context, lanes, position: context.backlog.ledger.cursor() };
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut dropped = false;
    loop {
        let ledger = &context.backlog.ledger;
        let more = ledger.more.notified();
        // Asked first: what is appended before the end is read then.
        let closed = ledger.is_closed();
        if feed.position >= ledger.end() {
            if closed {
                return;
            }
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = more => continue,
            }
        }
        match feed.read_on().await {
            Ok(true) => {
                backoff.reset();
                dropped = false;
                if context.limit.forget("read").is_some() {
                    context.state.update(|numbers| numbers.backlog.get_or_insert_default().unreadable = None);
                }
                context.show();
            }
            Ok(false) => return,
            // What it stood at was dropped just now; where to go on is in the book at once.
            Err(error) if error.kind() == ErrorKind::NotFound && !std::mem::replace(&mut dropped, true) => {
                tokio::time::sleep(BACKOFF.0).await;
            }
            Err(error) => {
                let reason = error.to_string();
                context
                    .state
                    .update(|numbers| numbers.backlog.get_or_insert_default().unreadable = Some(reason));
                if let Some(left_out) = context.limit.pass("read") {
                    let error = error.chain();
                    tracing::error!(sink = context.state.name, error, left_out, "the backlog cannot be read");
                }
                tokio::select! {
                    biased;
                    () = context.stop.cancelled() => return,
                    () = tokio::time::sleep(backoff.after(&error)) => {}
                }
            }
        }
    }
}

struct Feed<'a> {
    context: &'a Context,
    lanes: &'a [Arc<Queue>],
    position: Position,
}

impl Feed<'_> {
    /// Reads up to where the log ends now; `false` when interrupted.
    async fn read_on(&mut self) -> Result<bool> {
        let ledger = &self.context.backlog.ledger;
        self.position = ledger.not_dropped(self.position);
        let (end, position) = (ledger.end(), self.position);
        let folder = self.context.backlog.log.folder().to_owned();
        let mut reader = blocking(move || LogReader::open(folder, position)).await?;
        'reading: while self.position < end {
            let (back, frames) = blocking(move || read(reader)).await?;
            reader = back;
            if frames.is_empty() {
                self.position = end;
            }
            for (at, batch) in frames {
                // What lies behind was appended meanwhile, and is perhaps not in the book yet.
                if at > end {
                    self.position = end;
                    break 'reading;
                }
                if at.segment() != self.position.segment() {
                    self.damaged(ledger.passed(at.segment()));
                }
                if !self.send(at, batch).await? {
                    return Ok(false);
                }
                self.position = at;
            }
        }
        self.damaged(ledger.exhausted(end));
        Ok(true)
    }

    /// Into the lanes; `false` when interrupted.
    async fn send(&self, at: Position, batch: MetricBatch) -> Result<bool> {
        let Context { backlog, state, stop, .. } = self.context;
        let time = batch.times().first().copied().unwrap_or_default();
        let Some(taken) = backlog.ledger.take(at, batch.rows() as u64, time) else { return Ok(true) };
        state.account.accept(taken.surplus);
        let ledger = Arc::clone(&backlog.ledger);
        // What is lost stays in the log, and comes again when it is opened next.
        let ack = Ack::new(move |outcome| match outcome {
            Outcome::Settled => ledger.settle(taken.number),
            Outcome::Lost => {}
        });
        for (lane, part) in lanes::split(&batch, self.lanes.len())? {
            let Some(lane) = self.lanes.get(lane) else { continue };
            let pushed = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                pushed = lane.push(Parcel::new(part, ack.clone())) => pushed,
            };
            if pushed.is_err() {
                return Ok(false);
            }
        }
        ack.settle();
        Ok(true)
    }

    fn damaged(&self, rows: u64) {
        if rows > 0 {
            let Context { state, .. } = self.context;
            state.account.drop_rows(rows, Policy::Damaged);
            tracing::error!(sink = state.name, rows, "rows of the backlog are lost: the disk damaged them");
        }
    }
}

/// The next frames; none at the end.
fn read(mut reader: LogReader) -> Result<(LogReader, Frames)> {
    let (mut frames, mut rows) = (Vec::new(), 0);
    while rows < READ_ROWS
        && let Some(frame) = reader.next()
    {
        let (at, batch) = frame?;
        rows += batch.rows().max(1);
        frames.push((at, batch));
    }
    Ok((reader, frames))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| crate::Error::unavailable("read the backlog", "the task failed").with_source(e))?
}
