//! A place in a sorted source, and the series there as bytes that compare like the series do.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, SchemaRef};
use futures::StreamExt;

use super::super::{buffer, columns};
use super::BatchStream;
use crate::Result;

/// A batch of a source in the columns of the result.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    tags: Range<usize>,
}

/// Reads a source row by row, run by run.
pub(super) struct Cursor {
    stream: BatchStream,
    schema: SchemaRef,
    rows: Arc<Rows>,
    at: usize,
    run_end: usize,
    series: Vec<u8>,
    last_series: Vec<u8>,
}

impl Cursor {
    pub(super) fn new(stream: BatchStream, schema: SchemaRef) -> Self {
        let batch = RecordBatch::new_empty(Arc::clone(&schema));
        let rows = Arc::new(Rows { batch, tags: columns::tags(&schema) });
        Self { stream, schema, rows, at: 0, run_end: 0, series: Vec::new(), last_series: Vec::new() }
    }

    /// Makes sure that there is a row; `false` at the end of the source.
    pub(super) async fn load(&mut self) -> Result<bool> {
        while !self.has_rows() {
            let Some(batch) = self.stream.next().await.transpose()? else { return Ok(false) };
            let batch = columns::adapt(&batch, &self.schema)?;
            let tags = self.rows.tags.clone();
            self.rows = Arc::new(Rows { batch, tags });
            self.at = 0;
            self.run_end = 0;
            if let Some(last) = self.rows.len().checked_sub(1) {
                self.rows.encode(last, &mut self.last_series);
                self.find_run();
            }
        }
        Ok(true)
    }

    pub(super) fn has_rows(&self) -> bool {
        self.at < self.rows.len()
    }

    /// The batch in which the cursor stands.
    pub(super) fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    /// The series of the next row.
    pub(super) fn series(&self) -> &[u8] {
        &self.series
    }

    /// The series of the last row of this batch.
    pub(super) fn last_series(&self) -> &[u8] {
        &self.last_series
    }

    /// Time of the next row.
    pub(super) fn time(&self) -> i64 {
        self.rows.times().get(self.at).copied().unwrap_or(i64::MAX)
    }

    /// Rows of this batch that are left.
    pub(super) fn rest(&self) -> Range<usize> {
        self.at..self.rows.len()
    }

    /// The next rows that are of one series.
    pub(super) fn run(&self) -> Range<usize> {
        self.at..self.run_end
    }

    /// Those of them that are earlier than `time`; at least one if the next row is.
    pub(super) fn run_before(&self, time: i64) -> Range<usize> {
        let times = self.rows.times().get(self.run()).unwrap_or_default();
        self.at..self.at + times.partition_point(|own| *own < time)
    }

    /// Passes `count` rows.
    pub(super) fn advance(&mut self, count: usize) {
        self.at += count;
        if self.at >= self.run_end && self.has_rows() {
            self.find_run();
        }
    }

    /// Finds the end of the run that begins here. Rows are sorted, so if a later row has the same tags then so have
    /// all between: a few probes are enough.
    fn find_run(&mut self) {
        let rows = &self.rows;
        let (mut same, mut step) = (self.at, 1);
        let other = loop {
            let probe = same + step;
            if probe >= rows.len() {
                break rows.len();
            }
            if !rows.same_series(same, probe) {
                break probe;
            }
            same = probe;
            step *= 2;
        };
        let (mut low, mut high) = (same + 1, other);
        while low < high {
            let middle = low + (high - low) / 2;
            if rows.same_series(same, middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.run_end = low;
        self.rows.encode(self.at, &mut self.series);
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    pub(super) fn times(&self) -> &[i64] {
        buffer::times(self.batch.column(0))
    }

    /// Rows as a batch, without copying.
    pub(super) fn slice(&self, offset: usize, length: usize) -> RecordBatch {
        self.batch.slice(offset, length)
    }

    /// A tag's value; `None` is null.
    pub(super) fn tag(&self, column: usize, row: usize) -> Option<&str> {
        let (keys, values) = dictionary(self.batch.column(column))?;
        value(keys, values, row)
    }

    fn same_series(&self, a: usize, b: usize) -> bool {
        self.batch.columns()[self.tags.clone()].iter().all(|column| {
            dictionary(column).is_none_or(|(keys, values)| {
                // Entries of a dictionary may be equal, so unequal keys are not the end of it.
                keys.key(a) == keys.key(b) || value(keys, values, a) == value(keys, values, b)
            })
        })
    }

    /// The tags of a row as bytes in the order of series: null is `00`, a value is `01`, its bytes with `00` as `00 ff`,
    /// and `00 00`.
    fn encode(&self, row: usize, into: &mut Vec<u8>) {
        into.clear();
        for column in self.tags.clone() {
            let Some(text) = self.tag(column, row) else {
                into.push(0);
                continue;
            };
            into.push(1);
            if text.as_bytes().contains(&0) {
                for byte in text.bytes() {
                    into.push(byte);
                    if byte == 0 {
                        into.push(0xff);
                    }
                }
            } else {
                into.extend_from_slice(text.as_bytes());
            }
            into.extend_from_slice(&[0, 0]);
        }
    }
}

fn dictionary(column: &ArrayRef) -> Option<(&DictionaryArray<Int32Type>, &StringArray)> {
    let keys = column.as_dictionary_opt::<Int32Type>()?;
    Some((keys, keys.values().as_string_opt::<i32>()?))
}

fn value<'a>(keys: &DictionaryArray<Int32Type>, values: &'a StringArray, row: usize) -> Option<&'a str> {
    use arrow::array::Array;
    keys.key(row).filter(|key| values.is_valid(*key)).map(|key| values.value(key))
}
