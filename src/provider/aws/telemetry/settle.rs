//! What of a resource's figures is final, and what is new in an answer.
//!
//! CloudWatch publishes late and revises points in place. So what is read is handed on at once, and read again until it is
//! old enough and the same in two readings; only then the mark moves over it. Values are compared rather than numbers of
//! samples: a point whose samples grew without changing a single statistic that was asked for is the same row, and
//! SampleCount would be one more metric on the bill.
//!
//! Remembered are the values that are not final: a few for each figure.

use super::lag::Lag;

/// Points that may not be final are remembered up to this many; of one that fails for long the older are handed on again.
const REMEMBERED: usize = 240;
/// A point that was read only once is final at this multiple of the settle time.
const CERTAIN: i64 = 3;
/// What fails for longer holds the shard's mark back no more, in seconds.
const HELD: i64 = 12 * 3_600;

/// Values of a resource's figures at times that are a period apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Grid {
    /// The time of the first row, in seconds since 1970: the end of its period.
    pub(super) first: i64,
    pub(super) period: i64,
    pub(super) columns: usize,
    /// Row by row; not a number where there is none.
    pub(super) values: Vec<f64>,
}

/// What is known of a resource's figures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Everything up to here is final and was handed on.
    pub(super) settled: i64,
    /// The values that are not final, as they were answered last.
    last: Grid,
    /// Figures that the last reading brought no answer of.
    failed: Vec<usize>,
    /// Since when no reading was whole, if it is so.
    failing: Option<i64>,
}

impl Grid {
    /// A grid without values for the periods that end after `from` and not after `to`.
    pub(super) fn empty(from: i64, to: i64, period: i64, columns: usize) -> Self {
        let rows = usize::try_from((to - from) / period).unwrap_or(0);
        Self { first: from + period, period, columns, values: vec![f64::NAN; rows * columns] }
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    pub(super) fn time(&self, row: usize) -> i64 {
        self.first + i64::try_from(row).unwrap_or(0) * self.period
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Without the rows that are later than a time.
    pub(super) fn cut(mut self, until: i64) -> Self {
        let rows = usize::try_from((until - self.first).div_euclid(self.period) + 1).unwrap_or(0);
        self.values.truncate(rows.saturating_mul(self.columns));
        self
    }

    /// The time of the last row.
    pub(super) fn end(&self) -> i64 {
        self.first + (i64::try_from(self.rows()).unwrap_or(0) - 1) * self.period
    }

    /// Puts in a point, by the time at which its period begins. Points beside the grid are not of this question.
    pub(super) fn put(&mut self, column: usize, begins: i64, value: f64) {
        let since = begins + self.period - self.first;
        let row = usize::try_from(since.div_euclid(self.period)).ok().filter(|_| since % self.period == 0);
        let place = row.and_then(|row| self.values.get_mut(row * self.columns + column));
        if let Some(place) = place {
            *place = value;
        }
    }

    fn at(&self, time: i64) -> Option<&[f64]> {
        let row = usize::try_from((time - self.first).div_euclid(self.period.max(1))).ok()?;
        (row < self.rows() && self.time(row) == time).then(|| self.row(row))
    }
}

impl Seen {
    /// Nothing is known; what is later than `from` is to be read.
    pub(super) fn new(from: i64) -> Self {
        Self { settled: from, last: Grid::default(), failed: Vec::new(), failing: None }
    }

    /// Up to where it lets the mark of its shard move: to what is final, unless some figure of it fails for very long while
    /// others are answered.
    pub(super) fn mark(&self, now: i64) -> i64 {
        let given_up = self.failing.is_some_and(|since| now - since > HELD);
        if given_up { self.settled.max(now - HELD) } else { self.settled }
    }

    /// Takes in an answer read at `now`, and says which of its rows have something new. What `failed` keeps the value that was
    /// known of it, and nothing becomes final.
    pub(super) fn take(
        &mut self,
        grid: &mut Grid,
        failed: Vec<usize>,
        now: i64,
        lag: &mut Lag,
    ) -> Vec<usize> {
        if self.last.columns != grid.columns || self.last.period != grid.period {
            self.last = Grid { columns: grid.columns, period: grid.period, ..Grid::default() };
        }
        self.heard(failed.is_empty(), now);
        let settle = lag.settle(now);
        let mut rows = Vec::new();
        // What lies between what was final and this answer was not read, so nothing behind it becomes final.
        let mut moves = failed.is_empty() && grid.first - grid.period <= self.settled;
        let before = self.settled;
        for row in 0..grid.rows() {
            let time = grid.time(row);
            if time <= before {
                continue;
            }
            let known = self.last.at(time);
            let values = &mut grid.values[row * grid.columns..(row + 1) * grid.columns];
            for column in &failed {
                values[*column] = known.map_or(f64::NAN, |known| known[*column]);
            }
            let age = now - time;
            let same = known.is_some_and(|known| equal(known, values));
            if !same && values.iter().any(|value| !value.is_nan()) {
                rows.push(row);
                let had_values = known.filter(|known| known.iter().any(|value| !value.is_nan()));
                if let Some(known) = had_values {
                    // What failed the last time may have been there then.
                    let changed = (0..values.len()).any(|column| {
                        !(alike(known[column], values[column])
                            || known[column].is_nan() && self.failed.contains(&column))
                    });
                    if changed {
                        lag.revised(age, now);
                    }
                } else if known.is_some() || self.last.rows() > 0 && time > self.last.end() {
                    lag.first_seen(age);
                }
            }
            moves &= age >= CERTAIN * settle || age >= settle && same && self.failed.is_empty();
            if moves {
                self.settled = time;
            }
        }
        self.last = self.rest(grid);
        self.failed = failed;
        rows
    }

    /// Takes note of a reading that was whole, or not.
    pub(super) fn heard(&mut self, whole: bool, now: i64) {
        self.failing = if whole { None } else { self.failing.or(Some(now)) };
    }

    /// The part of an answer that is not final.
    fn rest(&self, grid: &Grid) -> Grid {
        let rows = grid.rows();
        let settled = (0..rows).take_while(|row| grid.time(*row) <= self.settled).count();
        let left_out = settled.max(rows.saturating_sub(REMEMBERED));
        Grid {
            first: grid.first + i64::try_from(left_out).unwrap_or(0) * grid.period,
            values: grid.values[left_out * grid.columns..].to_vec(),
            ..*grid
        }
    }

    /// Bytes that it takes beside itself.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.last.values.capacity() * size_of::<f64>()
    }
}

/// The same values, and none in the same places.
fn equal(one: &[f64], other: &[f64]) -> bool {
    one.iter().zip(other).all(|(one, other)| alike(*one, *other))
}

fn alike(one: f64, other: f64) -> bool {
    one == other || one.is_nan() && other.is_nan()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: i64 = 600;

    fn read(seen: &mut Seen, lag: &mut Lag, now: i64, value: impl Fn(i64) -> f64) -> Vec<i64> {
        let to = now.div_euclid(60) * 60;
        let mut grid = Grid::empty(seen.settled, to, 60, 1);
        for row in 0..grid.rows() {
            let time = grid.time(row);
            grid.put(0, time - 60, value(time));
        }
        seen.take(&mut grid, Vec::new(), now, lag).into_iter().map(|row| grid.time(row)).collect()
    }

    #[test]
    fn a_point_is_final_when_it_is_old_and_was_the_same_twice() {
        let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
        let one = |_| 1.0;
        assert_eq!(read(&mut seen, &mut lag, 120, one), [60, 120]);
        assert_eq!(seen.settled, 0);
        assert_eq!(read(&mut seen, &mut lag, 660, one).len(), 9, "only what is new");
        assert_eq!(seen.settled, 60, "one is ten minutes old and was read before");
        assert_eq!(read(&mut seen, &mut lag, 700, |time| if time == 120 { 2.0 } else { 1.0 }), [120]);
        assert_eq!(seen.settled, 60, "it changed");
        read(&mut seen, &mut lag, 730, |time| if time == 120 { 2.0 } else { 1.0 });
        assert_eq!(seen.settled, 60, "what changed so late makes the settle time longer: {lag:?}");
    }

    #[test]
    fn old_points_need_one_reading_and_a_failed_figure_holds_all_back() {
        let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
        read(&mut seen, &mut lag, 86_400, |_| 1.0);
        assert_eq!(seen.settled, 86_400 - 1_800);
        assert!(seen.bytes() <= 30 * 8, "{}", seen.bytes());
        let before = seen.settled;
        seen.take(&mut Grid::empty(before, 90_000, 60, 1), vec![0], 90_000, &mut lag);
        assert_eq!(seen.settled, before);
    }

    #[test]
    fn a_hole_in_what_was_read_is_not_jumped_over() {
        let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
        let mut grid = Grid::empty(6_000, 12_000, 60, 1);
        grid.put(0, 6_000, 1.0);
        let rows = seen.take(&mut grid, Vec::new(), 90_000, &mut lag);
        assert_eq!((rows.as_slice(), seen.settled), (&[0][..], 0));
    }

    #[test]
    fn what_failed_and_is_answered_later_was_not_revised() {
        let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
        let grid = |values: [f64; 2]| {
            let mut grid = Grid::empty(0, 60, 60, 2);
            grid.put(0, 0, values[0]);
            grid.put(1, 0, values[1]);
            grid
        };
        seen.take(&mut grid([1.0, f64::NAN]), vec![1], 100, &mut lag);
        assert_eq!(seen.take(&mut grid([1.0, 2.0]), Vec::new(), 1_500, &mut lag), [0]);
        assert_eq!(lag.settle(1_500), BASE, "it may have been there all the time");
        let mut later = grid([1.0, f64::NAN]);
        assert_eq!(Seen::take(&mut seen.clone(), &mut later, vec![1], 1_600, &mut lag), [0; 0]);
        assert_eq!(later.row(0), [1.0, 2.0], "what is known stays");
        let mut young = Seen::new(0);
        young.take(&mut grid([1.0, 2.0]), Vec::new(), 100, &mut lag);
        young.take(&mut grid([1.0, 3.0]), Vec::new(), 1_700, &mut lag);
        assert_eq!(lag.settle(1_700), 1_640 + BASE / 2, "this was revised");
    }

    #[test]
    fn a_figure_lets_the_mark_go_when_it_has_failed_for_long_and_not_when_its_points_are_old() {
        let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
        let mut fails = |now: i64| {
            seen.take(&mut Grid::empty(0, 600, 60, 1), vec![0], now, &mut lag);
            seen.mark(now)
        };
        assert_eq!(fails(72_000), 0, "twenty hours without an answer, and one figure that failed since");
        assert_eq!(fails(72_000 + HELD), 0);
        assert_eq!(fails(72_001 + HELD), 72_001);
    }

    #[test]
    fn rows_are_cut_off_at_a_time() {
        let cut = |until| Grid::empty(0, 600, 60, 2).cut(until).rows();
        assert_eq!((cut(600), cut(300), cut(330), cut(0), cut(-60)), (10, 5, 5, 0, 0));
    }

    proptest! {
        /// Whatever is published when, as long as it changes within the settle time: in the end what was handed on last is
        /// the truth.
        #[test]
        fn what_was_handed_on_last_is_the_truth(
            lags in prop::collection::vec(0_i64..590, 60),
            revisions in prop::collection::vec(prop::option::of(0_i64..590), 60),
            polls in prop::collection::vec(30_i64..400, 40),
        ) {
            let truth = |time: i64, now: i64| {
                let index = usize::try_from(time / 60 - 1).unwrap();
                let (published, revised) = (lags[index], revisions[index]);
                if now < time + published {
                    return f64::NAN;
                }
                match revised {
                    Some(later) if now >= time + later => time as f64 + 0.5,
                    _ => time as f64,
                }
            };
            let (mut seen, mut lag) = (Seen::new(0), Lag::new(BASE));
            let mut stored = std::collections::BTreeMap::new();
            let mut now = 0;
            for step in polls.into_iter().chain([3_600, 400, 400, 4_000, 400]) {
                now += step;
                let to = now.min(3_600);
                let mut grid = Grid::empty(seen.settled, to.div_euclid(60) * 60, 60, 1);
                for row in 0..grid.rows() {
                    let time = grid.time(row);
                    grid.put(0, time - 60, truth(time, now));
                }
                for row in seen.take(&mut grid, Vec::new(), now, &mut lag) {
                    stored.insert(grid.time(row), grid.row(row)[0]);
                }
            }
            prop_assert_eq!(seen.settled, 3_600);
            for time in (60..=3_600).step_by(60) {
                prop_assert_eq!(stored.get(&time).copied(), Some(truth(time, i64::MAX)));
            }
        }
    }
}
