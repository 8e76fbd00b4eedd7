//! From the queue into the log: once rows are durable there, their origins hear that they arrived.

use std::time::Duration;

use super::{Backlog, Context, WhenFull};
use crate::log::Position;
use crate::model::{MetricBatch, Parcel};
use crate::pipeline::account::Policy;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::queue::{Batching, Queue};
use crate::{Error, ErrorKind, Result};

/// Rows that share an append; while one is synced the next ones gather.
const APPEND_ROWS: usize = 16_384;
/// Waits between two tries; short, because room comes back with every acknowledgement.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub(super) async fn run(context: &Context, queue: &Queue) {
    loop {
        let parcels = tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            parcels = queue.pop(Batching::at_once(APPEND_ROWS)) => parcels,
        };
        let Some(parcels) = parcels else { return };
        if let Err(left) = log(context, parcels).await {
            return queue.put_back(left);
        }
    }
}

/// Logs parcels, as often as it takes; gives them back when interrupted.
async fn log(context: &Context, parcels: Vec<Parcel>) -> Result<(), Vec<Parcel>> {
    let batches: Vec<MetricBatch> = parcels.iter().map(|parcel| parcel.batch.clone()).collect();
    let rows = batches.iter().map(|batch| batch.rows() as u64).sum();
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        // Never cut short: nobody could say whether the rows are in the log.
        let error = match context.backlog.log.append(&batches).await {
            Ok(end) => {
                context.backlog.ledger.append(end, rows);
                parcels.into_iter().for_each(Parcel::settle);
                if let Some(lasted) = context.limit.forget("append") {
                    tracing::info!(sink = context.state.name, %lasted, "the backlog takes rows again");
                }
                context.state.update(|numbers| numbers.backlog.get_or_insert_default().blocked = None);
                context.show();
                return Ok(());
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Invalid && parcels.len() > 1 {
            // Too large together; each alone may have room.
            return one_by_one(context, parcels).await;
        }
        if error.kind() == ErrorKind::Invalid {
            return refuse(context, parcels, &error).await;
        }
        if error.kind() == ErrorKind::Capacity
            && context.backlog.when_full == WhenFull::DropOldest
            && drop_oldest(context).await
        {
            continue;
        }
        let reason = error.to_string();
        context.state.update(|numbers| numbers.backlog.get_or_insert_default().blocked = Some(reason));
        if let Some(left_out) = context.limit.pass("append") {
            let error = error.chain();
            tracing::warn!(
                sink = context.state.name,
                error,
                left_out,
                "the backlog takes no rows; sources wait"
            );
        }
        // A refused append begins a new segment; the one before may be settled already, and nothing else would delete it.
        context.backlog.ledger.moved.notify_one();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Err(parcels),
            () = tokio::time::sleep(backoff.after(&error)) => {}
        }
    }
}

async fn one_by_one(context: &Context, parcels: Vec<Parcel>) -> Result<(), Vec<Parcel>> {
    let mut parcels = parcels.into_iter();
    while let Some(parcel) = parcels.next() {
        if let Err(mut left) = Box::pin(log(context, vec![parcel])).await {
            left.extend(parcels);
            return Err(left);
        }
    }
    Ok(())
}

/// Rows that no log of this size can hold.
async fn refuse(context: &Context, parcels: Vec<Parcel>, error: &Error) -> Result<(), Vec<Parcel>> {
    for parcel in &parcels {
        let set_aside =
            context.dead.set_aside(&context.state.name, error, &parcel.batch, &context.stop).await;
        if !set_aside {
            return Err(parcels);
        }
        context.state.account.dead_letter(parcel.batch.rows() as u64, error.kind().as_str());
    }
    parcels.into_iter().for_each(Parcel::settle);
    Ok(())
}

/// Makes room by policy; tells whether there was anything to drop.
async fn drop_oldest(context: &Context) -> bool {
    let Backlog { log, ledger, .. } = context.backlog.clone();
    let dropped = tokio::task::spawn_blocking(move || {
        let Some(segment) = log.oldest_full_segment()? else { return Ok(None) };
        // First what can fail: rows that are booked as dropped are gone.
        log.trim(Position::start_of(segment + 1))?;
        Ok::<_, Error>(Some(ledger.drop_through(segment)))
    });
    match dropped.await {
        Ok(Ok(Some(rows))) => {
            context.state.account.drop_rows(rows, Policy::Overflow);
            // What is on its way already may still arrive; it is booked if it does not.
            if rows > 0
                && let Some(left_out) = context.limit.pass("drop")
            {
                tracing::warn!(
                    sink = context.state.name,
                    rows,
                    left_out,
                    "the backlog is full; its oldest rows are dropped, as `when_full: drop_oldest` asks"
                );
            }
            true
        }
        Ok(Ok(None)) | Err(_) => false,
        Ok(Err(error)) => {
            tracing::warn!(sink = context.state.name, error = error.chain(), "cannot drop the oldest rows");
            false
        }
    }
}
