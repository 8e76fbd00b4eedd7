//! Wall-clock time behind a trait, so that tests can set the clock while sources run.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970 UTC.
    fn now(&self) -> i64;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        nanoseconds(since)
    }
}

/// A duration in nanoseconds; 292 years and more become the largest number.
pub(super) fn nanoseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration from nanoseconds; a negative number is no time.
pub(super) fn duration(nanoseconds: i64) -> std::time::Duration {
    std::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
