//! The lines of one write, and which row each of them came from.

use std::ops::Range;

use super::Rejected;
use super::line_protocol::{self, Row};
use crate::Error;
use crate::model::MetricBatch;

/// Lines of line protocol. Kept for the next write, its memory is used again.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    /// End of each line in `text`, its line break included.
    ends: Vec<usize>,
    origins: Vec<Origin>,
    empty: u64,
    refused: Vec<(Origin, &'static str)>,
    left_out: u64,
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
        self.left_out = 0;
        for (batch, rows) in batches.iter().enumerate() {
            self.left_out += line_protocol::encode(rows, &mut self.text, |row, became| match became {
                Row::Line { end } => {
                    self.ends.push(end);
                    self.origins.push(Origin { batch, row });
                }
                Row::Empty => self.empty += 1,
                Row::Refused(reason) => self.refused.push((Origin { batch, row }, reason)),
            });
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
        self.text.get(start..end).unwrap_or_default()
    }

    /// The bytes of all lines, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.text
    }

    /// The row that a line came from.
    pub fn origin(&self, line: usize) -> Option<Origin> {
        self.origins.get(line).copied()
    }

    /// Rows that hold no value line protocol can say, and so have no line.
    pub fn empty(&self) -> u64 {
        self.empty
    }

    /// Rows that have a value but can have no line, and why; in the order of the rows.
    pub fn refused(&self) -> &[(Origin, &'static str)] {
        &self.refused
    }

    /// The same as a sink rejects them: per batch and reason. `batches` are those of [`Self::encode`].
    pub fn rejected(&self, operation: &str, batches: &[MetricBatch]) -> Vec<Rejected> {
        let mut rejected: Vec<(&'static str, Rejected)> = Vec::new();
        for (origin, reason) in &self.refused {
            let same = rejected.iter_mut().rev().take_while(|(_, group)| group.batch == origin.batch);
            match same.into_iter().find(|(group, _)| group == reason) {
                Some((_, group)) => group.rows.push(origin.row),
                None => {
                    let table = batches.get(origin.batch).map_or("", MetricBatch::table);
                    let error = Error::invalid(operation, *reason).with_resource(table);
                    rejected.push((reason, Rejected { batch: origin.batch, rows: vec![origin.row], error }));
                }
            }
        }
        rejected.into_iter().map(|(_, group)| group).collect()
    }

    /// Values that are in no line although their row is not refused: not a number, infinite, or of a column whose name
    /// line protocol cannot say.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn end(&self, line: usize) -> usize {
        self.ends.get(line).copied().unwrap_or(self.text.len())
    }
}
