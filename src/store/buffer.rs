//! Rows of one table as they came, and how they are sorted when they go.
//!
//! Sorting moves integers: rows are counted into their series, where they mostly stand in time order already, and the
//! columns are gathered once in the end.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};

use super::columns::{self, union_schema};
use super::series::{Ranked, SeriesTable};
use crate::Result;

/// Unsorted batches of one table.
#[derive(Debug, Default)]
pub struct Buffer {
    batches: Vec<RecordBatch>,
    rows: usize,
}

/// Where a row lies: batch, row in it.
type Place = (usize, usize);

impl Buffer {
    /// Takes a batch of a [`crate::model::MetricBatch`].
    pub fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.batches.push(batch);
    }

    /// All columns that any batch has.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] if two batches have a column of one name and two types.
    pub fn schema(&self) -> Result<SchemaRef> {
        let schemas: Vec<_> = self.batches.iter().map(RecordBatch::schema).collect();
        union_schema(schemas.iter())
    }

    /// The rows sorted, each key once, in batches of at most `batch_rows`: of rows with one key the last value that is
    /// not null wins, field by field, in the order of [`Self::push`].
    ///
    /// # Errors
    /// As [`Self::schema`].
    pub fn sorted(&self, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let schema = self.schema()?;
        let tags = columns::tags(&schema);
        let mut table = SeriesTable::new(tags.len());
        let mut columns: Vec<Vec<ArrayRef>> =
            vec![Vec::with_capacity(self.batches.len()); schema.fields().len()];
        let mut series: Vec<Vec<u32>> = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            for (field, column) in schema.fields().iter().zip(&mut columns) {
                column.push(columns::column(batch, field)?);
            }
            let own: Vec<_> =
                columns[tags.clone()].iter().filter_map(|column| column.last().cloned()).collect();
            series.push(table.number(&own, batch.num_rows()));
        }
        let ranked = table.ranked();
        let times: Vec<&[i64]> = columns[0].iter().map(times).collect();
        let groups = by_series(&series, ranked.order.len(), self.rows);
        let order = Order::new(&ranked, &groups, &times);
        let mut sorted = Vec::with_capacity(order.rows.len().div_ceil(batch_rows.max(1)));
        let mut start = 0;
        while start < order.rows.len() {
            let end = order.rows.len().min(start + batch_rows.max(1));
            sorted.push(order.gather(start..end, &schema, &columns, &ranked)?);
            start = end;
        }
        Ok(sorted)
    }
}

/// The values of a time column.
pub(super) fn times(column: &ArrayRef) -> &[i64] {
    use arrow::array::AsArray;
    column.as_primitive_opt::<TimestampNanosecondType>().map_or(&[], |times| times.values())
}

/// The places of each series' rows in order of arrival: a counting sort.
struct Groups {
    places: Vec<Place>,
    /// Where each series begins in `places`, and the end.
    starts: Vec<usize>,
}

fn by_series(series: &[Vec<u32>], count: usize, rows: usize) -> Groups {
    let mut starts = vec![0; count + 1];
    for number in series.iter().flatten() {
        starts[*number as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut places = vec![(0, 0); rows];
    for (batch, numbers) in series.iter().enumerate() {
        for (row, number) in numbers.iter().enumerate() {
            let slot = &mut next[*number as usize];
            places[*slot] = (batch, row);
            *slot += 1;
        }
    }
    Groups { places, starts }
}

/// The sorted rows.
struct Order {
    /// For each row of the result the last place with its key.
    rows: Vec<Place>,
    series: Vec<u32>,
    /// Rows of the result whose key came more than once, with all places, first to last.
    repeated: Vec<(usize, Vec<Place>)>,
}

impl Order {
    fn new(ranked: &Ranked, groups: &Groups, times: &[&[i64]]) -> Self {
        let mut order = Self {
            rows: Vec::with_capacity(groups.places.len()),
            series: Vec::with_capacity(groups.places.len()),
            repeated: Vec::new(),
        };
        let time = |place: &Place| times[place.0][place.1];
        let mut scratch: Vec<Place> = Vec::new();
        for series in &ranked.order {
            let number = *series as usize;
            let group = &groups.places[groups.starts[number]..groups.starts[number + 1]];
            let group = if group.is_sorted_by_key(time) {
                group
            } else {
                scratch.clear();
                scratch.extend_from_slice(group);
                // Stable, so that equal times stay in order of arrival.
                scratch.sort_by_key(time);
                &scratch
            };
            for same in group.chunk_by(|a, b| time(a) == time(b)) {
                if let [.., last] = same {
                    if same.len() > 1 {
                        order.repeated.push((order.rows.len(), same.to_vec()));
                    }
                    order.rows.push(*last);
                    order.series.push(*series);
                }
            }
        }
        order
    }

    fn gather(
        &self,
        range: std::ops::Range<usize>,
        schema: &SchemaRef,
        columns: &[Vec<ArrayRef>],
        ranked: &Ranked,
    ) -> Result<RecordBatch> {
        let tags = columns::tags(schema);
        let rows = &self.rows[range.clone()];
        let series = &self.series[range.clone()];
        let first = self.repeated.partition_point(|(row, _)| *row < range.start);
        let last = self.repeated.partition_point(|(row, _)| *row < range.end);
        let repeated = &self.repeated[first..last];
        let gathered = columns.iter().enumerate().map(|(index, sources)| {
            if tags.contains(&index) {
                return Ok(tag(series, ranked, index - tags.start));
            }
            let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
            let result = if repeated.is_empty() || index == 0 {
                interleave(&sources, rows)
            } else {
                let mut own = rows.to_vec();
                for (row, places) in repeated {
                    let valid = places.iter().rev().find(|(batch, row)| sources[*batch].is_valid(*row));
                    if let Some(place) = valid {
                        own[*row - range.start] = *place;
                    }
                }
                interleave(&sources, &own)
            };
            result.map_err(|e| columns::arrow("sort rows", e))
        });
        columns::assemble(schema, gathered.collect::<Result<Vec<_>>>()?)
    }
}

/// A tag column with the sorted dictionary that all batches of the result share.
fn tag(series: &[u32], ranked: &Ranked, tag: usize) -> ArrayRef {
    let mut previous = None;
    let keys: Int32Array = series
        .iter()
        .map(|number| match previous {
            Some((before, key)) if before == *number => key,
            _ => {
                let key = ranked.key(*number, tag);
                previous = Some((*number, key));
                key
            }
        })
        .collect();
    let values: ArrayRef = Arc::new(ranked.dictionaries[tag].clone());
    // Every key comes from this very dictionary.
    Arc::new(DictionaryArray::new(keys, values))
}
