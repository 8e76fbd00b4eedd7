//! The way in: one task takes whatever waits as a group, logs it with one fsync, and puts it into memory in log order.

use tokio::sync::{mpsc, oneshot};

use super::state::Core;
use crate::model::MetricBatch;
use crate::{Error, Result, Retry};

/// Requests that may wait for the writer; more make their senders wait.
pub(super) const QUEUE: usize = 64;

/// A group is closed at this size, so that the first of it does not wait for too many others.
const GROUP_BYTES: usize = 16 << 20;

/// What became of an append.
#[derive(Debug, Default)]
pub struct Appended {
    /// Rows that are durable now.
    pub rows: u64,
    /// Batches that can never be stored, and why; all others are stored.
    pub rejected: Vec<RejectedBatch>,
}

/// A batch that can never be stored.
#[derive(Debug)]
pub struct RejectedBatch {
    /// Its place in the call.
    pub index: usize,
    /// Rows in it.
    pub rows: u64,
    /// Which column is at fault.
    pub error: Error,
}

/// Somebody who waits for rows to become durable.
pub(super) struct Request {
    pub(super) batches: Vec<MetricBatch>,
    pub(super) reply: oneshot::Sender<Result<Appended>>,
}

impl Request {
    fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.records().get_array_memory_size()).sum()
    }
}

/// Serves requests until the last sender is gone.
pub(super) async fn run(core: std::sync::Arc<Core>, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.recv().await {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while bytes < GROUP_BYTES
            && let Ok(next) = requests.try_recv()
        {
            bytes += next.bytes();
            group.push(next);
        }
        serve(&core, group).await;
    }
}

async fn serve(core: &Core, group: Vec<Request>) {
    let mut replies = Vec::with_capacity(group.len());
    let mut parts = Vec::with_capacity(group.len());
    for request in group {
        let (batches, appended) = admit(core, request.batches);
        replies.push((request.reply, appended));
        parts.push(batches);
    }
    match append(core, &parts.concat()).await {
        Ok(()) => {
            for (reply, appended) in replies {
                // A caller that went away does not want to know.
                let _ = reply.send(Ok(appended));
            }
        }
        Err(error) => {
            // Alone each one gets an answer of its own: one that is too big does not cost the others.
            let alone = replies.len() == 1;
            let mut error = Some(error);
            for ((reply, appended), batches) in replies.into_iter().zip(parts) {
                let result = match error.take_if(|_| alone) {
                    Some(error) => Err(error),
                    None => append(core, &batches).await,
                };
                let _ = reply.send(result.map(|()| appended));
            }
        }
    }
}

/// Takes out what can never be stored, before it gets into the log.
fn admit(core: &Core, batches: Vec<MetricBatch>) -> (Vec<MetricBatch>, Appended) {
    let mut appended = Appended::default();
    let mut admitted = Vec::with_capacity(batches.len());
    let mut state = core.state.lock();
    for (index, batch) in batches.into_iter().enumerate() {
        let rows = batch.rows() as u64;
        match state.types.admit(&batch) {
            Ok(()) => {
                appended.rows += rows;
                if rows > 0 {
                    admitted.push(batch);
                }
            }
            Err(error) => appended.rejected.push(RejectedBatch { index, rows, error }),
        }
    }
    (admitted, appended)
}

/// Logs batches, then puts them into memory.
async fn append(core: &Core, batches: &[MetricBatch]) -> Result<()> {
    if batches.is_empty() {
        return Ok(());
    }
    room(core).await?;
    let position = core.log()?.append(batches).await?;
    let full = {
        let mut state = core.state.lock();
        for batch in batches {
            if let Err(error) = state.memory.push(batch, core.windows.segment) {
                // It is in the log, so it is not lost, but nobody can read it.
                tracing::error!(error = %error.chain(), "a logged batch cannot be buffered");
            }
        }
        state.position = position;
        state.oldest.get_or_insert_with(std::time::Instant::now);
        state.memory.bytes() >= core.options.buffer_bytes
    };
    if full || core.log_is_half_full() {
        core.full.notify_one();
    }
    Ok(())
}

/// Waits until the buffer may take more.
async fn room(core: &Core) -> Result<()> {
    let limit = core.options.buffer_bytes.saturating_add(core.options.buffer_bytes / 2);
    loop {
        let changed = core.room.notified();
        {
            let state = core.state.lock();
            if state.buffered_bytes() < limit {
                return Ok(());
            }
            if let Some((kind, reason)) = &state.trouble {
                let reason = format!("the buffer is full and cannot be written to segments: {reason}");
                return Err(Error::new(*kind, "store rows", reason)
                    .with_provider("store")
                    .with_retry(Retry::Later));
            }
        }
        core.full.notify_one();
        changed.await;
    }
}
