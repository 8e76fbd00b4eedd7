//! Rates from counters, for every provider that reads counters.
//!
//! A rate needs two readings of the same counter with time between them. A counter that went down was reset (a
//! restart, a migration): that interval has no rate, and the next one starts from the new value.

use std::collections::HashMap;
use std::hash::Hash;

/// How long a counter may be silent before its last reading is forgotten, in nanoseconds: ten minutes. A rate over a
/// longer gap says little about now.
pub const FORGET_AFTER: i64 = 600 * NANOS;

const NANOS: i64 = 1_000_000_000;

/// Remembers the last reading of each counter.
#[derive(Debug)]
pub struct Rates<K> {
    readings: HashMap<K, Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    time: i64,
    value: u64,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { readings: HashMap::new() }
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// Knows no counter yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Growth per second since the previous reading. `time` is in nanoseconds on a clock that is never set.
    pub fn rate(&mut self, key: K, time: i64, value: u64) -> Option<f64> {
        let (seconds, growth) = self.delta(key, time, value)?;
        Some(growth as f64 / seconds)
    }

    /// Seconds since the previous reading, always above zero, and growth in them. `None` at the first reading, after a
    /// reset, and when no time passed.
    pub fn delta(&mut self, key: K, time: i64, value: u64) -> Option<(f64, u64)> {
        let before = self.readings.insert(key, Reading { time, value })?;
        let nanos = time.checked_sub(before.time).filter(|nanos| *nanos > 0)?;
        let growth = value.checked_sub(before.value)?;
        Some((nanos as f64 / NANOS as f64, growth))
    }

    /// Forgets counters whose last reading is older than `time`, so that what vanished costs no memory.
    pub fn sweep(&mut self, time: i64) {
        self.readings.retain(|_, reading| reading.time >= time);
    }

    /// Forgets one counter: its next reading is a first one.
    pub fn forget(&mut self, key: &K) {
        self.readings.remove(key);
    }

    /// Number of counters known.
    pub fn len(&self) -> usize {
        self.readings.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_over_the_time_between_two_readings() {
        let mut rates = Rates::new();
        assert_eq!(rates.rate("bytes", 0, 100), None, "one reading is no rate");
        assert_eq!(rates.rate("bytes", 2 * NANOS, 300), Some(100.0));
        assert_eq!(rates.delta("bytes", 3 * NANOS, 350), Some((1.0, 50)));
    }

    #[test]
    fn a_reset_gives_no_rate_and_starts_anew() {
        let mut rates = Rates::new();
        rates.rate("bytes", 0, 1_000);
        assert_eq!(rates.rate("bytes", NANOS, 10), None);
        assert_eq!(rates.rate("bytes", 2 * NANOS, 30), Some(20.0));
    }

    #[test]
    fn no_time_or_time_that_went_back_gives_no_rate() {
        let mut rates = Rates::new();
        rates.rate("bytes", NANOS, 1);
        assert_eq!(rates.rate("bytes", NANOS, 2), None);
        assert_eq!(rates.rate("bytes", 0, 3), None);
    }

    #[test]
    fn what_vanished_is_forgotten() {
        let mut rates = Rates::new();
        rates.rate("old", 0, 1);
        rates.rate("new", FORGET_AFTER, 1);
        rates.sweep(1);
        assert_eq!(rates.len(), 1);
        rates.forget(&"new");
        assert!(rates.is_empty());
    }
}
