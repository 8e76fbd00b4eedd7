//! Merging sorted rows: the same code serves the buffer, compaction and queries.
//!
//! Each source is sorted and has each key once. Where a key is in several sources, the last one that has a value wins,
//! field by field. Work is done by runs: as long as one source alone has the next rows they are copied as slices, so
//! the cost is per run where sources do not interleave, and per row only where they hold the same keys.

mod cursor;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;

use cursor::Cursor;
use plan::Plan;

use crate::Result;

/// Batches on their way.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// Below this many rows a whole rest of a batch is joined with its neighbours rather than given out by itself.
const WORTH_A_BATCH: usize = 1_024;

/// Merges sources in rising precedence into batches of at most `batch_rows` rows with the columns of `schema`, which has
/// every tag of every source and any of their fields (as [`super::columns::union_schema`] makes it, or fewer fields).
///
/// Holds a few batches of each source at a time. An error of a source ends the stream.
pub fn merge(sources: Vec<BatchStream>, schema: SchemaRef, batch_rows: usize) -> BatchStream {
    let merger = Merger {
        cursors: sources.into_iter().map(|source| Cursor::new(source, Arc::clone(&schema))).collect(),
        plan: Plan::new(schema),
        ready: VecDeque::new(),
        first: Vec::new(),
        batch_rows: batch_rows.max(1),
    };
    futures::stream::try_unfold(merger, |mut merger| async move {
        Ok(merger.next().await?.map(|batch| (batch, merger)))
    })
    .boxed()
}

struct Merger {
    /// In rising precedence; those that ended are taken out.
    cursors: Vec<Cursor>,
    plan: Plan,
    ready: VecDeque<RecordBatch>,
    /// The sources that have the next series; kept to be filled again at each step.
    first: Vec<usize>,
    batch_rows: usize,
}

impl Merger {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let mut ended = false;
            for cursor in &mut self.cursors {
                ended |= !cursor.load().await?;
            }
            if ended {
                self.cursors.retain(Cursor::has_rows);
            }
            if self.cursors.is_empty() {
                self.flush()?;
                return Ok(self.ready.pop_front());
            }
            // Work until a source needs its next batch or there is something to give out.
            while self.ready.is_empty() && self.cursors.iter().all(Cursor::has_rows) {
                self.step()?;
                if self.plan.rows() >= self.batch_rows {
                    self.flush()?;
                }
            }
        }
    }

    /// Takes the next rows: those that come before everything else.
    fn step(&mut self) -> Result<()> {
        let mut first = std::mem::take(&mut self.first);
        first.clear();
        for index in 0..self.cursors.len() {
            match first.first().map(|best| self.cursors[index].series().cmp(self.cursors[*best].series())) {
                None | Some(std::cmp::Ordering::Equal) => first.push(index),
                Some(std::cmp::Ordering::Less) => {
                    first.clear();
                    first.push(index);
                }
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        let taken = match *first.as_slice() {
            [only] => self.take_alone(only),
            _ => {
                self.take_series(&first);
                Ok(())
            }
        };
        self.first = first;
        taken
    }

    /// One source has the next series for itself.
    fn take_alone(&mut self, index: usize) -> Result<()> {
        let last = self.cursors[index].last_series();
        let alone = self.cursors.iter().enumerate().all(|(i, other)| i == index || last < other.series());
        if alone && self.cursors[index].rest().len() >= WORTH_A_BATCH {
            self.flush()?;
            let batch_rows = self.batch_rows;
            let cursor = &mut self.cursors[index];
            while cursor.has_rows() {
                let rest = cursor.rest();
                let length = rest.len().min(batch_rows);
                self.ready.push_back(cursor.rows().slice(rest.start, length));
                cursor.advance(length);
            }
            return Ok(());
        }
        self.take_run(index, self.cursors[index].run());
        Ok(())
    }

    /// Takes the next rows of a source, as many as the batch has room for.
    fn take_run(&mut self, index: usize, run: Range<usize>) {
        let room = self.batch_rows.saturating_sub(self.plan.rows());
        let length = run.len().min(room);
        let cursor = &mut self.cursors[index];
        self.plan.run(cursor.rows(), run.start..run.start + length);
        cursor.advance(length);
    }

    /// Several sources have rows of the next series: time decides, and precedence where times are equal.
    fn take_series(&mut self, sources: &[usize]) {
        let mut earliest = i64::MAX;
        let mut later = i64::MAX;
        let mut same = 0;
        let mut winner = 0;
        for index in sources {
            let time = self.cursors[*index].time();
            match time.cmp(&earliest) {
                std::cmp::Ordering::Less => {
                    later = earliest;
                    earliest = time;
                    same = 1;
                    winner = *index;
                }
                std::cmp::Ordering::Equal if same > 0 => same += 1,
                _ => {
                    later = later.min(time);
                    if same == 0 {
                        (same, winner) = (1, *index);
                    }
                }
            }
        }
        if same == 1 {
            self.take_run(winner, self.cursors[winner].run_before(later));
            return;
        }
        let tied = || sources.iter().copied().filter(|index| self.cursors[*index].time() == earliest);
        self.plan.tie(tied().map(|index| (self.cursors[index].rows(), self.cursors[index].rest().start)));
        let tied: Vec<usize> = tied().collect();
        for index in tied {
            self.cursors[index].advance(1);
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.plan.rows() > 0 {
            self.ready.push_back(self.plan.build()?);
        }
        Ok(())
    }
}
