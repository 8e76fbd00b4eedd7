//! How late a namespace publishes and changes its points.

/// The longest that what is learned may make the settle time, in seconds.
const LONGEST: i64 = 3_600;
/// What was learned counts half after a day without another late change, in seconds.
const HALVED: i64 = 86_400;

/// How a namespace publishes, as far as it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lag {
    /// The settle time that the mapping gives, in seconds.
    base: i64,
    /// The latest change that was seen, in seconds after the end of its period, and when that was.
    revised: i64,
    noticed: i64,
    /// How long after the end of its period the newest point was there; smoothed.
    pub(super) published: Option<f64>,
}

impl Lag {
    pub(super) fn new(base: i64) -> Self {
        Self { base, revised: 0, noticed: 0, published: None }
    }

    /// How old a point has to be, in seconds: as the mapping says, or longer if points were seen to change later.
    pub(super) fn settle(&mut self, now: i64) -> i64 {
        if now - self.noticed >= HALVED {
            (self.revised, self.noticed) = (self.revised / 2, now);
        }
        self.base.max((self.revised + self.base / 2).min(LONGEST))
    }

    /// A point changed at this age.
    pub(super) fn revised(&mut self, age: i64, now: i64) {
        (self.revised, self.noticed) = (self.revised.max(age), now);
    }

    /// A new point is this old.
    pub(super) fn first_seen(&mut self, age: i64) {
        let age = age as f64;
        self.published = Some(self.published.map_or(age, |known| known + (age - known) / 16.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_forgotten_by_and_by() {
        let mut lag = Lag::new(600);
        assert_eq!(lag.settle(100_000), 600);
        lag.revised(1_640, 100_000);
        assert_eq!(lag.settle(100_060), 1_640 + 300);
        assert_eq!(lag.settle(100_000 + HALVED), 820 + 300, "long ago");
        assert_eq!(lag.settle(100_000 + 2 * HALVED), 410 + 300);
        lag.revised(9_000, 300_000);
        assert_eq!(lag.settle(300_060), LONGEST);
    }
}
