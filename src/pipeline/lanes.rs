//! Lanes to a sink: rows of one series always take the same one, so that several writes may be on their way at once
//! and no row overtakes another of its series.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use arrow::array::AsArray as _;
use arrow::datatypes::Int32Type;

use crate::Result;
use crate::model::{MetricBatch, Role, column_role};

/// The rows of each lane that has any, in their order.
///
/// # Errors
/// Arrow cannot take the rows apart.
pub(super) fn split(batch: &MetricBatch, lanes: usize) -> Result<Vec<(usize, MetricBatch)>> {
    if lanes < 2 {
        return Ok(vec![(0, batch.clone())]);
    }
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); lanes];
    for (row, hash) in series_hashes(batch).into_iter().enumerate() {
        // The upper half of the product: every bit of the hash counts.
        let lane = (u128::from(hash) * lanes as u128) >> 64;
        if let Some(rows) = usize::try_from(lane).ok().and_then(|lane| rows.get_mut(lane)) {
            rows.push(row);
        }
    }
    let filled = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    filled.map(|(lane, rows)| Ok((lane, batch.select(&rows)?))).collect()
}

/// A number for the series of each row: the same for the same table and tags, whatever the order of columns and
/// whatever dictionaries the batch has. An empty tag is no tag.
fn series_hashes(batch: &MetricBatch) -> Vec<u64> {
    // Without a random key: a series has the same lane in every batch.
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut hashes = vec![hasher.hash_one(batch.table()); batch.rows()];
    let records = batch.records();
    for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        let Some(tag) =
            column.as_dictionary_opt::<Int32Type>().filter(|_| column_role(field) == Some(Role::Tag))
        else {
            continue;
        };
        let Some(values) = tag.values().as_string_opt::<i32>() else { continue };
        let entries: Vec<u64> = values
            .iter()
            .map(|value| match value {
                None | Some("") => 0,
                Some(value) => hasher.hash_one((field.name(), value)),
            })
            .collect();
        for (row, hash) in hashes.iter_mut().enumerate() {
            let entry = tag.key(row).and_then(|key| entries.get(key)).copied().unwrap_or(0);
            // A sum does not care for order.
            *hash = hash.wrapping_add(entry);
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn fleet(machines: usize, tick: i64) -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        for machine in 0..machines {
            // Another dictionary order at every tick.
            let machine = (machine + tick as usize * 7) % machines;
            let core = machine.to_string();
            builder.row(tick).set("core", &core).unwrap().set("utilization", machine as f64).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn a_series_keeps_its_lane_whatever_the_batch_and_every_lane_gets_its_part() {
        let mut lane_of = BTreeMap::new();
        for tick in 0..5 {
            let batch = fleet(1_000, tick);
            let parts = split(&batch, 4).unwrap();
            assert_eq!(parts.iter().map(|(_, part)| part.rows()).sum::<usize>(), 1_000);
            for (lane, part) in parts {
                assert!(part.rows() > 150, "lane {lane} has {}", part.rows());
                for row in 0..part.rows() {
                    let core = part.tag("core", row).unwrap().to_owned();
                    assert_eq!(*lane_of.entry(core).or_insert(lane), lane);
                }
            }
        }
    }

    #[test]
    fn rows_keep_their_order_and_one_lane_takes_the_batch_as_it_is() {
        let batch = fleet(100, 3);
        assert_eq!(split(&batch, 1).unwrap(), [(0, batch.clone())]);
        let place: BTreeMap<_, _> =
            (0..100).map(|row| (batch.tag("core", row).unwrap().to_owned(), row)).collect();
        for (_, part) in split(&batch, 3).unwrap() {
            let places: Vec<_> = (0..part.rows()).map(|row| place[part.tag("core", row).unwrap()]).collect();
            assert!(places.is_sorted());
        }
    }
}
