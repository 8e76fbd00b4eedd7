//! Which range of time is asked for in which requests: full ones, of points that CloudWatch still keeps, oldest first.

use super::answer::Extent;
use super::pack::{pack, points_at_most};
use super::target::Target;

/// Targets whose marks are this far apart are asked together, in seconds.
const TOGETHER: i64 = 1_800;
const DAY: i64 = 86_400;
/// The longest range of one request, in seconds: ten days of minutes are what a request may ask of seven figures.
pub(super) const LONGEST: i64 = 10 * DAY;
/// Age up to which points of a minute, and of five, are kept, in seconds, and what a period has to be a multiple of beyond it;
/// an hour less, because it passes.
const RETENTION: [(i64, i64); 2] = [(15 * DAY - 3_600, 300), (63 * DAY - 3_600, 3_600)];
/// Requests to be made one after the other: the next begins where these end.
pub(super) type Step = Vec<(Extent, Vec<usize>)>;

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
fn ranges(from: i64, to: i64, period: i64, now: i64, most_points: usize) -> Vec<Extent> {
    let most = i64::try_from(most_points).unwrap_or(i64::MAX);
    let mut ranges = Vec::new();
    let mut from = from;
    while from < to {
        let older = RETENTION.iter().rev().find(|(kept, coarse)| {
            let oldest = from.div_euclid(period) * period;
            now - oldest > *kept && period % coarse != 0
        });
        let (step, end) = match older {
            None => (period, to),
            // Up to where the finer points begin.
            Some((kept, coarse)) => {
                let step = (period / coarse + 1) * coarse;
                (step, (now - kept).max(from).div_euclid(step) * step + step)
            }
        };
        let long = LONGEST.min(most.saturating_mul(step)).div_euclid(step).max(1) * step;
        let end = end.min(to).min(from.div_euclid(step) * step + long);
        ranges.push(Extent { from: from.div_euclid(step) * step, to: end, period: step });
        from = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(from: i64, to: i64, now: i64, most: usize) -> Vec<(i64, i64, i64)> {
        told_of(60, from, to, now, most)
    }

    fn told_of(period: i64, from: i64, to: i64, now: i64, most: usize) -> Vec<(i64, i64, i64)> {
        ranges(from, to, period, now, most)
            .into_iter()
            .map(|range| (range.from, range.to, range.period))
            .collect()
    }

    #[test]
    fn a_range_is_read_in_full_requests_and_coarser_where_it_is_old() {
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
            days.iter()
                .all(|(from, to, period)| to - from <= LONGEST && from % period == 0 && to % period == 0)
        );
        assert!(told(0, 9 * DAY, 9 * DAY, 14_400).len() == 1 && told(0, 9 * DAY, 9 * DAY, 1_440).len() == 9);
        let old = told(0, 70 * DAY, 70 * DAY, 14_400);
        assert_eq!(old[0].2, 3_600);
        assert!(old.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }

    #[test]
    fn what_is_old_is_asked_for_in_periods_that_aws_keeps() {
        let now = 70 * DAY;
        for period in [60, 300, 420, 900, 3_600, 5_400] {
            let all = told_of(period, 0, now / period * period, now, 14_400);
            assert!(all.windows(2).all(|pair| pair[1].0 <= pair[0].1), "no gap: {period}");
            for (from, to, step) in all {
                let unit = if now - from > 63 * DAY {
                    3_600
                } else if now - from > 15 * DAY {
                    300
                } else {
                    60
                };
                assert!(step >= period && step % unit == 0, "{from}..{to} in {step} instead of {period}");
                assert!(now - from > 15 * DAY - 4_000 || step == period, "{from}..{to} in {step}");
            }
        }
    }
}
