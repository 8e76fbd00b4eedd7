//! The lines of one write, and which row each of them came from.

use std::ops::Range;

use super::line_protocol;
use crate::model::MetricBatch;

/// Lines of line protocol. Kept for the next write, its memory is used again.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    /// End of each line in `text`, its line break included.
    ends: Vec<usize>,
    origins: Vec<Origin>,
    empty: u64,
    refused: Vec<(Origin, &'static str)>,
}

/// The row that a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Place of the batch in the write.
    pub batch: usize,
    /// Place of the row in the batch.
    pub row: usize,
}

impl Lines {
    /// Replaces what is in here by the lines of these batches.
    pub fn encode(&mut self, batches: &[MetricBatch]) {
        self.text.clear();
        self.ends.clear();
        self.origins.clear();
        self.refused.clear();
        self.empty = 0;
        for (place, batch) in batches.iter().enumerate() {
            for row in 0..batch.rows() {
                let encoded = line_protocol::encode(&batch.slice(row, 1), &mut self.text);
                self.empty += encoded.empty;
                if encoded.lines == 1 {
                    self.ends.push(self.text.len());
                    self.origins.push(Origin { batch: place, row });
                }
            }
        }
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of some lines, each with its line break.
    pub fn bytes(&self, lines: Range<usize>) -> &[u8] {
        let start = if lines.start == 0 { 0 } else { self.end(lines.start - 1) };
        let end = if lines.end == 0 { 0 } else { self.end(lines.end - 1) };
        self.text.as_bytes().get(start..end).unwrap_or_default()
    }

    /// The row that a line came from.
    pub fn origin(&self, line: usize) -> Option<Origin> {
        self.origins.get(line).copied()
    }

    /// Rows that hold no value line protocol can say, and so have no line.
    pub fn empty(&self) -> u64 {
        self.empty
    }

    /// Rows that have a value but can have no line, and why.
    pub fn refused(&self) -> &[(Origin, &'static str)] {
        &self.refused
    }

    fn end(&self, line: usize) -> usize {
        self.ends.get(line).copied().unwrap_or(self.text.len())
    }
}
