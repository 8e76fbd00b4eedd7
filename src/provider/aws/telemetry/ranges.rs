//! Which range of time is asked for in which requests: full ones, of points that CloudWatch still keeps, oldest first.

use super::pack::{pack, points_at_most};
use super::request::Range;
use super::target::Target;

/// Targets whose marks are this far apart are asked together, in seconds.
const TOGETHER: i64 = 1_800;
/// The longest range of one request, in seconds.
const DAY: i64 = 86_400;
/// Age up to which points of a minute, and of five, are kept, in seconds; an hour less, because it passes.
const RETENTION: [(i64, i64); 2] = [(15 * DAY - 3_600, 300), (63 * DAY - 3_600, 3_600)];
/// Requests to be made one after the other: the next begins where these end.
pub(super) type Step = Vec<(Range, Vec<usize>)>;

/// The requests for targets in order of their beginning.
pub(super) fn steps(targets: &[(i64, Target)], to: i64, period: i64, now: i64) -> Vec<Step> {
    let queries: Vec<usize> = targets.iter().map(|(_, target)| target.ask.queries()).collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut first = 0;
    while first < targets.len() {
        let from = targets[first].0;
        let some = targets[first..].iter().take_while(|(begin, _)| *begin < from + TOGETHER).count();
        let queries = &queries[first..first + some];
        let most = points_at_most(queries.iter().copied().max().unwrap_or(1));
        for (number, range) in ranges(from, to, period, now, most).into_iter().enumerate() {
            let points = usize::try_from((range.to - range.from) / range.period).unwrap_or(1);
            let requests = pack(queries, points).into_iter();
            let requests = requests.map(|batch| (range, batch.map(|index| first + index).collect()));
            // What is late is asked for beside the others, step by step.
            match steps.get_mut(number) {
                Some(step) => step.extend(requests),
                None => steps.push(requests.collect()),
            }
        }
        first += some;
    }
    steps
}

/// A range in parts that a request may ask for, oldest first, in the periods that are still kept at their age.
fn ranges(from: i64, to: i64, period: i64, now: i64, most_points: usize) -> Vec<Range> {
    let most = i64::try_from(most_points).unwrap_or(i64::MAX);
    let mut ranges = Vec::new();
    let mut from = from;
    while from < to {
        let older = RETENTION.iter().rev().find(|(kept, coarse)| now - from > *kept && *coarse > period);
        let (step, end) = match older {
            None => (period, to),
            // Up to where the finer points begin, on both grids.
            Some((kept, coarse)) => (*coarse, (now - kept).div_euclid(*coarse) * coarse + coarse),
        };
        let long = DAY.min(most.saturating_mul(step)).div_euclid(step).max(1) * step;
        let end = end.min(to).min(from.div_euclid(step) * step + long);
        ranges.push(Range { from: from.div_euclid(step) * step, to: end, period: step });
        from = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(from: i64, to: i64, now: i64, most: usize) -> Vec<(i64, i64, i64)> {
        ranges(from, to, 60, now, most)
            .into_iter()
            .map(|range| (range.from, range.to, range.period))
            .collect()
    }

    #[test]
    fn a_range_is_read_day_by_day_and_coarser_where_it_is_old() {
        assert_eq!(told(0, 3_600, 3_600, 1_440), [(0, 3_600, 60)]);
        assert_eq!(told(0, 3_600, 3_600, 30), [(0, 1_800, 60), (1_800, 3_600, 60)]);
        let days = told(0, 20 * DAY, 20 * DAY, 14_400);
        let coarse: Vec<_> = days.iter().filter(|(.., period)| *period == 300).collect();
        assert_eq!(
            coarse.last().map(|(_, to, _)| *to),
            Some(5 * DAY + 3_900),
            "older than fifteen days less an hour"
        );
        assert!(days.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gap and no overlap: {days:?}");
        assert!(
            days.iter().all(|(from, to, period)| to - from <= DAY && from % period == 0 && to % period == 0)
        );
        let old = told(0, 70 * DAY, 70 * DAY, 14_400);
        assert_eq!(old[0].2, 3_600);
        assert!(old.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }
}
