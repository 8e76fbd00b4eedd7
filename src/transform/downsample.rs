//! `downsample`: fewer rows, each for a longer interval.
//!
//! Memory: one accumulator per field, series and open interval, at most [`MAX_SERIES`] series over all open intervals, and
//! one share of an acknowledgement per parcel and open interval. Rows are acknowledged only once the row made of them is
//! durable: after a crash the source collects an open interval again as far as it can. A reload that leaves the transform
//! as it is leaves its open intervals open; a stop, or a reload that changes it, gives them out as they are.

mod accumulator;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, Unfinished, concerns};
use crate::model::{MetricBatch, Parcel, Span};
use crate::{Error, ErrorKind, Result};
use window::Window;

/// Series in all open intervals together; a parcel that may bring more is refused. What makes so many is a tag with ever new
/// values, or times far ahead whose intervals do not end.
const MAX_SERIES: usize = 1_000_000;

/// How the values of one field in one interval become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Sum over number; of booleans and strings the last.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The sum.
    Sum,
    /// The earliest.
    First,
    /// The latest.
    Last,
    /// How many there were, in the type of the field.
    Count,
}

/// Makes one row of all rows of a series in each interval. Intervals are aligned to 1970 UTC; `time` is their end. A row
/// that comes after its interval was given up is dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Length of an interval.
    pub every: Span,
    /// How the values of a field become one; `mean` for fields that are not named.
    #[serde(default)]
    pub aggregate: BTreeMap<String, Aggregate>,
    /// How long after its end an interval waits for late rows; at least as long as the slowest source may take to bring
    /// its rows (`jitter` and `timeout`).
    #[serde(default = "no_grace")]
    pub grace: Span,
}

fn no_grace() -> Span {
    Span::seconds(0)
}

/// The transform.
#[derive(Debug)]
pub struct Downsample {
    config: Config,
    every: i64,
    grace: i64,
    /// How long a source may take to bring the rows of the tick that ends an interval.
    arrival: i64,
    /// Open intervals by end, then table.
    windows: BTreeMap<i64, HashMap<String, Window>>,
    /// Rows of intervals that are over, to be given out with the next flush.
    finished: Vec<Parcel>,
    /// Ends up to here were given up.
    closed: i64,
    max_series: usize,
}

impl Downsample {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if `every` is zero or longer than nanoseconds can count.
    pub fn new(config: &Config) -> Result<Self> {
        let nanos = |span: Span| i64::try_from(span.0.as_nanos()).ok();
        let every = nanos(config.every).filter(|every| *every > 0).ok_or_else(|| {
            Error::invalid("downsample", "`every` must be longer than nothing and shorter than 292 years")
        })?;
        let grace = nanos(config.grace)
            .ok_or_else(|| Error::invalid("downsample", "`grace` is longer than 292 years"))?;
        Ok(Self {
            config: config.clone(),
            every,
            grace,
            arrival: 0,
            windows: BTreeMap::new(),
            finished: Vec::new(),
            closed: i64::MIN,
            max_series: MAX_SERIES,
        })
    }

    /// The end of the interval that a time lies in: it belongs to the interval that it ends.
    fn end_of(&self, time: i64) -> i64 {
        let past = time.rem_euclid(self.every);
        if past == 0 { time } else { time.saturating_add(self.every - past) }
    }

    fn add(&mut self, parcel: &Parcel) {
        let batch = &parcel.batch;
        let ends: Vec<i64> = batch.times().iter().map(|time| self.end_of(*time)).collect();
        let mut late = 0;
        let mut touched = BTreeSet::new();
        // Rows of one collection mostly have one time, so they are taken by stretches of one interval.
        let mut start = 0;
        for stretch in ends.chunk_by(|a, b| a == b) {
            let rows = start..start + stretch.len();
            start = rows.end;
            let end = ends[rows.start];
            if end <= self.closed {
                late += rows.len();
                continue;
            }
            let tables = self.windows.entry(end).or_default();
            let window = tables.entry(batch.table().to_owned()).or_default();
            window.add(batch, rows, &self.config.aggregate);
            if touched.insert(end) {
                window.wait_for(&parcel.acks);
            }
        }
        if late > 0 {
            tracing::warn!(
                rows = late,
                table = batch.table(),
                "rows came after their interval; raise `grace` to keep such"
            );
        }
    }

    /// Whether the batch can be added to what is open: one type per column, and room for its series.
    fn fits(&self, batch: &MetricBatch) -> Result<()> {
        let series: usize = self.windows.values().flat_map(HashMap::values).map(Window::series).sum();
        if series.saturating_add(batch.rows()) > self.max_series {
            let reason = format!(
                "{series} series wait in open intervals and more than {} may not; see whether a tag changes with every \
                 row, or whether times lie in the future",
                self.max_series
            );
            return Err(Error::new(ErrorKind::Quota, "downsample", reason).with_resource(batch.table()));
        }
        let open = self.windows.values().filter_map(|tables| tables.get(batch.table()));
        open.into_iter().try_for_each(|window| window.fits(batch))
    }
}

#[async_trait]
impl Transform for Downsample {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        // Checked first, so that a refused parcel leaves nothing behind.
        if let Err(error) = self.fits(&parcel.batch) {
            return Err(Refused { parcel, error });
        }
        self.add(&parcel);
        // The intervals hold shares of their own now.
        parcel.settle();
        Ok(Vec::new())
    }

    async fn flush(&mut self, now: i64) -> Result<Vec<Parcel>, Unfinished> {
        let waits = if now == i64::MAX { 0 } else { self.grace.max(self.arrival) };
        let last = now.saturating_sub(waits);
        while let Some(mut tables) = self.windows.first_entry().filter(|first| *first.key() <= last) {
            let end = *tables.key();
            self.closed = self.closed.max(end);
            let Some(table) = tables.get().keys().next().cloned() else {
                tables.remove();
                continue;
            };
            if let Some(window) = tables.get_mut().remove(&table) {
                self.finished.push(window.finish(&table, end)?);
            }
        }
        Ok(std::mem::take(&mut self.finished))
    }

    fn expect_within(&mut self, arrival: Duration) {
        self.arrival = i64::try_from(arrival.as_nanos()).unwrap_or(i64::MAX);
    }
}
