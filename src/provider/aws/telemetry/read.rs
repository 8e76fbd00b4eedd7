//! A collection of a shard, piece by piece: its requests are made side by side, and the rows of each answer are on their way
//! before the next is waited for.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};

use super::SECOND;
use super::billing::Meter;
use super::budget::Purse;
use super::job::Job;
use super::mapping::Mapping;
use super::ranges::Step;
use super::rows::Rows;
use super::shard::{Asked, ShardState};
use super::status;
use crate::Result;
use crate::provider::{Collection, Window};

/// Requests on their way at once: enough for the quota where an answer takes a quarter of a second, and each answer takes
/// some megabytes.
const SIDE_BY_SIDE: usize = 12;

/// What all collections of a source share.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) mapping: Arc<Mapping>,
    pub(super) meter: Meter,
    pub(super) purse: Arc<Purse>,
    /// Columns of the tags that the file asks for.
    pub(super) columns: Vec<Arc<str>>,
    /// Seconds between two ticks of the source; 0 if nobody said.
    pub(super) every: i64,
}

/// A window of a shard.
pub(super) struct Reading {
    pub(super) context: Context,
    pub(super) shard: Arc<ShardState>,
    pub(super) window: Window,
    /// The time that it is, in nanoseconds; the window may end before it.
    pub(super) now: i64,
}

/// What a collection comes to.
pub(super) enum Prepared {
    Done(Collection),
    Ask(Arc<Job>, Vec<Step>),
}

impl Reading {
    /// Reads it, an answer at a time.
    pub(super) fn pieces(self) -> BoxStream<'static, Result<Collection>> {
        let prepared = stream::once(self.prepare());
        let pieces = prepared.flat_map(|prepared| match prepared {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(Prepared::Done(collection)) => stream::iter([Ok(collection)]).boxed(),
            Ok(Prepared::Ask(job, steps)) => {
                let reader = Arc::clone(&job);
                let answers = stream::iter(steps).flat_map(move |step| {
                    let reader = Arc::clone(&reader);
                    let requests = stream::iter(step).map(move |(extent, targets)| {
                        let job = Arc::clone(&reader);
                        async move { job.read(extent, &targets).await }
                    });
                    requests.buffer_unordered(SIDE_BY_SIDE).boxed()
                });
                answers.chain(stream::once(async move { job.finish() })).boxed()
            }
        });
        pieces.boxed()
    }

    async fn prepare(self) -> Result<Prepared> {
        match &self.shard.what {
            Asked::Inventory => self.inventory().await.map(Prepared::Done),
            Asked::Metrics(part) => {
                let part = part.clone();
                self.metrics(part).await
            }
        }
    }

    pub(super) fn rows(&self) -> Rows {
        Rows::new(&self.context.mapping.tables, &self.context.columns)
    }

    async fn inventory(&self) -> Result<Collection> {
        let (place, window) = (&self.shard.place, self.window);
        // Nobody knows what instances did in the past.
        if window.end < self.now {
            return Ok(Collection::default());
        }
        let start = window.start / SECOND;
        let (snapshot, faults) = place.snapshot(self.now / SECOND, start).await?;
        let mut rows = self.rows();
        let mut memory = self.shard.memory.lock();
        // What ended before the source began is not told of; the last process may have looked a while before its mark.
        let looked = i64::try_from(place.config.inventory_every.0.as_secs()).unwrap_or(0);
        let since = if std::mem::replace(&mut memory.known, true) { i64::MIN } else { start - looked };
        let names = (place.session.id(), place.region.as_str());
        let happened = place.happened(window);
        status::rows(&mut rows, names, &snapshot, &happened, &mut memory.told, (window, since))?;
        Ok(Collection { batches: rows.finish()?, faults, reached: None })
    }
}
