//! How long to wait before the next try: at random up to a bound that doubles (full jitter), so that many who failed
//! together do not come back together. There is no last try: rows are kept until they are taken.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::{Error, Retry};

/// The longest wait that another side may ask for.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// The waits of one series of failures.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    bounds: ExponentialBackoff,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits of up to `first` at first and up to `longest` in the end.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, bounds: bounds(first, longest), random: fastrand::Rng::new() }
    }

    /// The same waits on every run, for tests.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = fastrand::Rng::with_seed(seed);
        self
    }

    /// It worked: the next failure waits briefly again.
    pub fn reset(&mut self) {
        self.bounds = bounds(self.first, self.longest);
    }

    /// The wait after one more failure. Where the other side named a time, the longer of both (at most ten minutes).
    pub fn after(&mut self, error: &Error) -> Duration {
        let bound = self.bounds.next().unwrap_or(self.longest);
        let wait = bound.mul_f64(self.random.f64());
        match error.retry() {
            Retry::After(asked) => wait.max(asked.min(LONGEST_ASKED)),
            // Trying again will hardly help until somebody repairs something: ask slowly.
            Retry::Never => self.longest,
            Retry::Later => wait,
        }
    }
}

/// backon's own jitter adds to the delay, which keeps those apart that failed together but lets none come early; and it
/// gives up after three tries unless told otherwise.
fn bounds(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_seed(7)
    }

    #[test]
    fn bounds_double_up_to_the_limit_and_start_over_after_success() {
        let error = Error::unavailable("write", "down");
        let mut backoff = backoff();
        let mut longest = Duration::ZERO;
        for attempt in 0..1_000 {
            let bound = Duration::from_millis(100) * 2_u32.pow(attempt.min(12));
            let wait = backoff.after(&error);
            assert!(wait <= bound.min(Duration::from_secs(30)), "{attempt}: {wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest > Duration::from_secs(25), "jitter reaches over the whole bound: {longest:?}");
        backoff.reset();
        assert!(backoff.after(&error) <= Duration::from_millis(100));
    }

    #[test]
    fn the_other_side_may_ask_for_more_but_not_for_ever() {
        let ask = |seconds| {
            Error::unavailable("write", "busy").with_retry(Retry::After(Duration::from_secs(seconds)))
        };
        assert_eq!(backoff().after(&ask(5)), Duration::from_secs(5));
        assert_eq!(backoff().after(&ask(86_400)), LONGEST_ASKED);
        assert_eq!(backoff().after(&Error::invalid("write", "no")), Duration::from_secs(30));
    }
}
