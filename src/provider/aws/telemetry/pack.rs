//! Which resources share a request: as few requests as the limits allow, and never one above them.

use std::ops::Range;

/// Queries in one request.
pub(super) const QUERIES: usize = 500;
/// Datapoints that one request may ask for, by its range and periods.
pub(super) const DATAPOINTS: usize = 100_800;

/// Puts neighbours together. `queries` are those of each resource, of which each asks for `points` datapoints; a resource
/// is never divided, so each has to be within the limits by itself: see [`points_at_most`].
pub(super) fn pack(queries: &[usize], points: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut taken) = (0, 0);
    for (index, wanted) in queries.iter().enumerate() {
        let together = taken + wanted;
        if index > start && (together > QUERIES || together.saturating_mul(points) > DATAPOINTS) {
            batches.push(start..index);
            (start, taken) = (index, 0);
        }
        taken += wanted;
    }
    if start < queries.len() {
        batches.push(start..queries.len());
    }
    batches
}

/// The most datapoints that each query may ask for where a resource has this many queries.
pub(super) fn points_at_most(queries: usize) -> usize {
    (DATAPOINTS / queries.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_batch_is_above_a_limit_and_nothing_is_lost_or_doubled(
            queries in prop::collection::vec(1_usize..=101, 0..400),
            points in 1_usize..2_000,
        ) {
            let most = queries.iter().copied().max().unwrap_or(1);
            let points = points.min(points_at_most(most));
            let batches = pack(&queries, points);
            let flat: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..queries.len()).collect::<Vec<_>>());
            for batch in &batches {
                let together: usize = queries[batch.clone()].iter().sum();
                prop_assert!(together <= QUERIES && together * points <= DATAPOINTS);
            }
            // Two neighbours never fit into one.
            for pair in batches.windows(2) {
                let first_of_next = queries[pair[1].start];
                let together: usize = queries[pair[0].clone()].iter().sum::<usize>() + first_of_next;
                prop_assert!(together > QUERIES || together * points > DATAPOINTS);
            }
        }
    }
}
