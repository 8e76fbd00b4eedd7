//! How long to wait before the next try: twice as long each time, up to a limit, with jitter so that many do not
//! come back together. There is no last try: rows are kept until they are taken.

use std::time::Duration;

use crate::{Error, Retry};

/// The longest wait that another side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// The waits of one series of failures.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits that start near `first` and end near `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, random: fastrand::Rng::new() }
    }

    /// The same waits on every run, for tests.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = fastrand::Rng::with_seed(seed);
        self
    }

    /// Failures since the last [`Self::reset`].
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked: the next failure waits briefly again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half and all of the doubled time. Where the other side named a
    /// time, the longer of both (at most ten minutes).
    pub fn after(&mut self, error: &Error) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures.min(31));
        self.failures = self.failures.saturating_add(1);
        let full = self.first.saturating_mul(factor).min(self.longest);
        let wait = full.mul_f64(0.5 + self.random.f64() / 2.0);
        match error.retry() {
            Retry::After(asked) => wait.max(asked.min(LONGEST_ASKED)),
            // Trying again will hardly help until somebody repairs something: ask slowly.
            Retry::Never => self.longest,
            Retry::Later => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_seed(7)
    }

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_success() {
        let error = Error::unavailable("write", "down");
        let mut backoff = backoff();
        for attempt in 0..40 {
            let full = Duration::from_millis(100) * 2_u32.pow(attempt.min(12));
            let full = full.min(Duration::from_secs(30));
            let wait = backoff.after(&error);
            assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?} of {full:?}");
        }
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
