//! How often a provider may be asked: one budget for each (provider, account, place, class of call), shared by everybody
//! in this process, so that waiting for one change does not starve the inventory.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Retry;
use crate::provider::Scope;

/// What a call does; providers count the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Reads.
    Read,
    /// Changes something.
    Change,
}

/// A rate: `burst` calls at once, then `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Calls for each second, above zero.
    pub per_second: f64,
    /// Calls that may be made at once.
    pub burst: f64,
}

/// The budgets of all providers.
#[derive(Debug)]
pub struct Budgets {
    read: Rate,
    change: Rate,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

type Key = (Scope, String, Class);

/// A call may be made when `free` has come; each puts it later by the time that it costs.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    free: Instant,
}

/// How long everybody waits after a throttle that names no time.
const THROTTLED: Duration = Duration::from_secs(1);

impl Default for Budgets {
    /// Below what the large clouds allow one account in one region.
    fn default() -> Self {
        Self::new(Rate { per_second: 20.0, burst: 100.0 }, Rate { per_second: 5.0, burst: 50.0 })
    }
}

impl Budgets {
    /// Budgets of these rates for each (provider, account, place).
    pub fn new(read: Rate, change: Rate) -> Self {
        Self { read, change, buckets: Mutex::new(HashMap::new()) }
    }

    /// Waits until a call may be made, and counts it.
    pub async fn take(&self, scope: &Scope, location: &str, class: Class) {
        let at = self.next(scope, location, class);
        tokio::time::sleep_until(at).await;
    }

    /// The provider said that it is asked too often: everybody who shares the budget waits.
    pub fn throttled(&self, scope: &Scope, location: &str, class: Class, retry: Retry) {
        let pause = match retry {
            Retry::After(pause) => pause,
            Retry::Later | Retry::Never => THROTTLED,
        };
        let rate = self.rate(class);
        let key = (scope.clone(), location.to_owned(), class);
        let mut buckets = self.buckets.lock();
        // The whole burst is spent too.
        let free = Instant::now() + pause + Duration::from_secs_f64(rate.burst / rate.per_second);
        let bucket = buckets.entry(key).or_insert(Bucket { free });
        bucket.free = bucket.free.max(free);
    }

    fn rate(&self, class: Class) -> Rate {
        match class {
            Class::Read => self.read,
            Class::Change => self.change,
        }
    }

    /// When the next call may be made. `free` runs at most a burst behind the clock.
    fn next(&self, scope: &Scope, location: &str, class: Class) -> Instant {
        let rate = self.rate(class);
        let burst = Duration::from_secs_f64(rate.burst / rate.per_second);
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let key = (scope.clone(), location.to_owned(), class);
        let bucket = buckets.entry(key).or_insert(Bucket { free: now });
        bucket.free = bucket.free.max(now) + Duration::from_secs_f64(1.0 / rate.per_second);
        bucket.free.checked_sub(burst).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_then_the_rate_holds_and_a_throttle_stops_all() {
        let rate = Rate { per_second: 10.0, burst: 5.0 };
        let budgets = Budgets::new(rate, rate);
        let scope = Scope { provider: "test", account: "a".into() };
        let began = Instant::now();
        for _ in 0..5 {
            budgets.take(&scope, "here", Class::Read).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            budgets.take(&scope, "here", Class::Read).await;
        }
        assert!((began.elapsed().as_secs_f64() - 1.0).abs() < 0.02, "{:?}", began.elapsed());
        let began = Instant::now();
        budgets.take(&scope, "there", Class::Read).await;
        budgets.take(&scope, "here", Class::Change).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "other places and classes have their own");
        budgets.throttled(&scope, "here", Class::Read, Retry::After(Duration::from_secs(3)));
        budgets.take(&scope, "here", Class::Read).await;
        assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    }
}
