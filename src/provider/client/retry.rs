//! When a failed call is made again.

use std::time::Duration;

use crate::{Error, Retry};

/// How often and how long a call is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// Tries beside the first.
    pub most: u32,
    /// Bound of the first pause; it doubles with each.
    pub first: Duration,
    /// Bound of the longest pause.
    pub longest: Duration,
}

impl Default for Retries {
    /// Four tries within some seconds: a person waits at the command line.
    fn default() -> Self {
        Self { most: 3, first: Duration::from_millis(250), longest: Duration::from_secs(5) }
    }
}

impl Retries {
    /// Counts the tries of one call.
    pub(super) fn tries(&self) -> Tries<'_> {
        Tries { retries: self, made: 0 }
    }
}

/// The tries of one call.
pub(super) struct Tries<'a> {
    retries: &'a Retries,
    made: u32,
}

impl Tries<'_> {
    /// How long to wait after this error, if the call is worth another try. Capacity that is not there is not waited for:
    /// another size or place helps sooner.
    pub(super) fn after(&mut self, error: &Error) -> Option<Duration> {
        if self.made >= self.retries.most || error.kind() == crate::ErrorKind::Capacity {
            return None;
        }
        let bound = self.retries.first.saturating_mul(1 << self.made.min(16)).min(self.retries.longest);
        self.made += 1;
        match error.retry() {
            Retry::Never => None,
            Retry::Later => Some(bound.mul_f64(fastrand::f64())),
            Retry::After(asked) => Some(asked + bound.mul_f64(fastrand::f64() / 4.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_may_pass_is_tried_some_times_and_what_does_not_is_not() {
        let retries = Retries::default();
        let busy = Error::unavailable("list", "busy");
        let mut tries = retries.tries();
        for bound in [250, 500, 1000] {
            assert!(tries.after(&busy).unwrap() <= Duration::from_millis(bound));
        }
        assert_eq!(tries.after(&busy), None);
        assert_eq!(retries.tries().after(&Error::invalid("list", "wrong")), None);
        assert_eq!(retries.tries().after(&Error::new(ErrorKind::Capacity, "start", "full")), None);
        let asked = Duration::from_secs(7);
        let throttled = Error::new(ErrorKind::Throttled, "list", "slow down").with_retry(Retry::After(asked));
        assert!(retries.tries().after(&throttled).unwrap() >= asked);
    }
}
