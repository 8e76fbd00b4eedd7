//! The rows of the next batch of the result, as references, and copying them together column by column.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, MutableArrayData, RecordBatch, StringArray, make_array,
};
use arrow::datatypes::SchemaRef;

use super::super::columns;
use super::cursor::Rows;
use crate::Result;

/// Rows to be copied, in order.
pub(super) struct Plan {
    schema: SchemaRef,
    sources: Vec<Arc<Rows>>,
    pieces: Vec<Piece>,
    rows: usize,
}

enum Piece {
    /// Neighbouring rows of one series.
    Run { source: usize, rows: Range<usize> },
    /// Rows with the same key in rising precedence, which become one: source, and row in it.
    Tie(Vec<(usize, usize)>),
}

impl Plan {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, sources: Vec::new(), pieces: Vec::new(), rows: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds neighbouring rows of one series.
    pub(super) fn run(&mut self, source: &Arc<Rows>, rows: Range<usize>) {
        self.rows += rows.len();
        let source = self.source(source);
        self.pieces.push(Piece::Run { source, rows });
    }

    /// Adds rows that have the same key, in rising precedence.
    pub(super) fn tie<'a>(&mut self, rows: impl Iterator<Item = (&'a Arc<Rows>, usize)>) {
        let tied = rows.map(|(source, row)| (self.source(source), row)).collect();
        self.rows += 1;
        self.pieces.push(Piece::Tie(tied));
    }

    fn source(&mut self, rows: &Arc<Rows>) -> usize {
        // A plan has few sources, and the one wanted is mostly among the last.
        let known = self.sources.iter().rposition(|source| Arc::ptr_eq(source, rows));
        known.unwrap_or_else(|| {
            self.sources.push(Arc::clone(rows));
            self.sources.len() - 1
        })
    }

    /// Copies the rows into a batch; the plan is empty afterwards.
    pub(super) fn build(&mut self) -> Result<RecordBatch> {
        let tags = columns::tags(&self.schema);
        let columns = (0..self.schema.fields().len())
            .map(|column| if tags.contains(&column) { Ok(self.tag(column)) } else { self.field(column) })
            .collect::<Result<_>>();
        let batch = columns.and_then(|columns| columns::assemble(&self.schema, columns));
        self.sources.clear();
        self.pieces.clear();
        self.rows = 0;
        batch
    }

    fn field(&self, column: usize) -> Result<ArrayRef> {
        let arrays: Vec<_> =
            self.sources.iter().map(|source| source.batch.column(column).to_data()).collect();
        let mut copy = MutableArrayData::new(arrays.iter().collect(), false, self.rows);
        for piece in &self.pieces {
            let (source, rows) = match piece {
                Piece::Run { source, rows } => (*source, rows.clone()),
                Piece::Tie(tied) => {
                    let valid = tied.iter().rev().find(|(source, row)| arrays[*source].is_valid(*row));
                    let Some((source, row)) = valid.or(tied.last()) else { continue };
                    (*source, *row..row + 1)
                }
            };
            copy.try_extend(source, rows.start, rows.end).map_err(|e| columns::arrow("merge rows", e))?;
        }
        Ok(make_array(copy.freeze()))
    }

    /// A tag column with a dictionary of its own, in order of appearance; strings are looked at once per piece.
    fn tag(&self, column: usize) -> ArrayRef {
        let mut keys: Vec<Option<i32>> = Vec::with_capacity(self.rows);
        let mut values: Vec<&str> = Vec::new();
        let mut known: HashMap<&str, i32> = HashMap::new();
        let mut previous: (Option<&str>, Option<i32>) = (None, None);
        for piece in &self.pieces {
            let (source, row, count) = match piece {
                Piece::Run { source, rows } => (*source, rows.start, rows.len()),
                Piece::Tie(tied) => match tied.first() {
                    Some((source, row)) => (*source, *row, 1),
                    None => continue,
                },
            };
            let value = self.sources[source].tag(column, row);
            if value != previous.0 {
                let key = value.map(|text| {
                    *known.entry(text).or_insert_with(|| {
                        values.push(text);
                        // A batch has far fewer rows than this can count.
                        (values.len() - 1) as i32
                    })
                });
                previous = (value, key);
            }
            keys.extend(std::iter::repeat_n(previous.1, count));
        }
        let values = StringArray::from_iter_values(values);
        Arc::new(DictionaryArray::new(Int32Array::from(keys), Arc::new(values)))
    }
}
