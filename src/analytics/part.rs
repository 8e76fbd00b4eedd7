//! The parts that a table is stored in, and which of them must be merged.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{Schema, TimestampNanosecondType};
use datafusion::common::Statistics;

use super::statistics;
use crate::model::TIME;
use crate::store::{SegmentMeta, TableSnapshot};

/// Sorted rows in which each key stands once.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Where the rows are.
    pub(super) source: Source,
    /// What is known of them.
    pub(super) statistics: Arc<Statistics>,
    /// Smallest and largest `time`, both included.
    pub(super) times: (i64, i64),
    /// Number of rows.
    pub(super) rows: u64,
    /// Where two parts have the same key, fields of the one with the higher rank win.
    rank: usize,
}

/// Where the rows of a part are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In a Parquet file.
    Segment(Arc<SegmentMeta>),
    /// In memory.
    Run(Vec<RecordBatch>),
}

/// All parts of a table that hold rows, in rising precedence.
pub(super) fn parts(table: &TableSnapshot) -> Vec<Part> {
    let schema: &Schema = &table.schema;
    let mut segments: Vec<_> = table.segments.iter().filter(|segment| segment.rows > 0).collect();
    segments.sort_by_key(|segment| segment.precedence);
    let stored = segments.into_iter().map(|segment| Part {
        source: Source::Segment(Arc::new(segment.clone())),
        statistics: Arc::new(statistics::of_segment(segment, schema)),
        times: (segment.min_time, segment.max_time),
        rows: segment.rows,
        rank: 0,
    });
    let buffered = table.buffer.iter().filter_map(|run| {
        let (first, last) = time_range(run)?;
        let rows = run.iter().map(RecordBatch::num_rows).sum();
        Some(Part {
            source: Source::Run(run.clone()),
            statistics: Arc::new(statistics::of_run(rows, first, last, schema)),
            times: (first, last),
            rows: rows as u64,
            rank: 0,
        })
    });
    stored.chain(buffered).enumerate().map(|(rank, part)| Part { rank, ..part }).collect()
}

/// Smallest and largest `time` of a run of batches, unless it has no rows.
pub(super) fn time_range(run: &[RecordBatch]) -> Option<(i64, i64)> {
    run.iter()
        .filter_map(|batch| {
            let times = batch.column_by_name(TIME)?.as_primitive_opt::<TimestampNanosecondType>()?;
            Some((min(times)?, max(times)?))
        })
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// Groups parts so that parts of different groups have no `time` in common, hence no key. Groups come in rising time,
/// the parts of a group in rising precedence.
pub(super) fn overlapping(mut parts: Vec<Part>) -> Vec<Vec<Part>> {
    parts.sort_by_key(|part| part.times);
    let mut groups: Vec<Vec<Part>> = Vec::new();
    let mut reach = i64::MIN;
    for part in parts {
        let end = part.times.1;
        match groups.last_mut() {
            Some(group) if part.times.0 <= reach => group.push(part),
            _ => groups.push(vec![part]),
        }
        reach = reach.max(end);
    }
    for group in &mut groups {
        group.sort_by_key(|part| part.rank);
    }
    groups
}

/// Spreads items over at most `buckets` buckets of about equal weight, keeping the order inside a bucket. No bucket is
/// empty.
pub(super) fn spread<T>(items: Vec<T>, buckets: usize, weight: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut spread: Vec<(u64, Vec<T>)> = Vec::new();
    spread.resize_with(buckets.max(1).min(items.len()), || (0, Vec::new()));
    for item in items {
        if let Some((sum, bucket)) = spread.iter_mut().min_by_key(|(sum, _)| *sum) {
            // An item weighs at least one, so that even empty ones go round.
            *sum += weight(&item).max(1);
            bucket.push(item);
        }
    }
    spread.into_iter().map(|(_, bucket)| bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rank: usize, first: i64, last: i64) -> Part {
        let statistics = Arc::new(Statistics::default());
        Part { source: Source::Run(Vec::new()), statistics, times: (first, last), rows: 1, rank }
    }

    fn ranks(groups: &[Vec<Part>]) -> Vec<Vec<usize>> {
        groups.iter().map(|group| group.iter().map(|part| part.rank).collect()).collect()
    }

    #[test]
    fn parts_that_share_a_nanosecond_are_grouped_in_rising_precedence() {
        let parts = vec![part(3, 0, 10), part(1, 10, 20), part(0, 21, 30), part(2, 25, 26), part(4, 31, 31)];
        assert_eq!(ranks(&overlapping(parts)), [vec![1, 3], vec![0, 2], vec![4]]);
    }

    #[test]
    fn a_long_part_holds_together_what_lies_in_it() {
        let parts =
            vec![part(0, 0, 100), part(1, 1, 2), part(2, 50, 60), part(3, 100, 101), part(4, 102, 103)];
        assert_eq!(ranks(&overlapping(parts)), [vec![0, 1, 2, 3], vec![4]]);
        assert!(overlapping(Vec::new()).is_empty());
    }

    #[test]
    fn weight_is_spread_and_no_bucket_is_empty() {
        assert_eq!(spread(vec![8_u64, 1, 1, 1, 5], 2, |w| *w), [vec![8], vec![1, 1, 1, 5]]);
        assert_eq!(spread(vec![0_u64, 0], 4, |w| *w), [vec![0], vec![0]]);
        assert!(spread(Vec::<u64>::new(), 2, |w| *w).is_empty());
    }
}
