//! The way in: one task takes whatever waits as a group, logs it with one fsync, and puts it into memory in log order.

use tokio::sync::{mpsc, oneshot};

use super::memory::WindowedBatch;
use super::state::Core;
use super::types::Types;
use crate::model::MetricBatch;
use crate::{Error, ErrorKind, Result, Retry};

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

async fn serve(core: &Core, mut group: Vec<Request>) {
    let mut types = core.state.lock().types.clone();
    let mut admitted = Admitted::default();
    let appended: Vec<_> =
        group.iter().map(|one| admitted.take_in(one, &mut types, core.windows.segment)).collect();
    match append(core, admitted, types).await {
        Ok(()) => {
            for (request, appended) in group.into_iter().zip(appended) {
                // A caller that went away does not want to know.
                let _ = request.reply.send(Ok(appended));
            }
        }
        Err(error) if group.len() == 1 => {
            if let Some(request) = group.pop() {
                let _ = request.reply.send(Err(error));
            }
        }
        Err(_) => {
            // Alone each one gets an answer of its own: one that is too big does not cost the others.
            for request in group {
                Box::pin(serve(core, vec![request])).await;
            }
        }
    }
}

/// Batches that can be stored, as the log takes them and as the memory does.
#[derive(Default)]
struct Admitted {
    logged: Vec<MetricBatch>,
    buffered: Vec<WindowedBatch>,
}

impl Admitted {
    /// Takes in what can be stored of a request; whatever never can be is told apart before it gets into the log.
    fn take_in(&mut self, request: &Request, types: &mut Types, window: i64) -> Appended {
        let mut appended = Appended::default();
        for (index, batch) in request.batches.iter().enumerate() {
            let rows = batch.rows() as u64;
            if rows == 0 {
                continue;
            }
            match WindowedBatch::split(batch, window).and_then(|parts| types.admit(batch).map(|()| parts)) {
                Ok(parts) => {
                    appended.rows += rows;
                    self.logged.push(batch.clone());
                    self.buffered.push(parts);
                }
                Err(error) => appended.rejected.push(RejectedBatch { index, rows, error }),
            }
        }
        appended
    }
}

/// Logs batches, then puts them into memory; `types` are the store's types with theirs.
async fn append(core: &Core, admitted: Admitted, types: Types) -> Result<()> {
    if admitted.logged.is_empty() {
        return Ok(());
    }
    room(core).await?;
    let position = match core.log()?.append(&admitted.logged).await {
        Ok(position) => position,
        Err(error) => {
            // What the disk refused half-way may still be found in the log by the next opening, and would then be the
            // first of its type; what was refused before it was written cannot.
            if !matches!(error.kind(), ErrorKind::Capacity | ErrorKind::Invalid) {
                core.state.lock().types = types;
            }
            return Err(error);
        }
    };
    let full = {
        let mut state = core.state.lock();
        for rows in admitted.buffered {
            state.memory.push(rows);
        }
        state.types = types;
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
