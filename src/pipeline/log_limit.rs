//! Keeps a fault that repeats every second from filling the log: the first is told at once, then one line a minute
//! with the number that were left out. Counters count every one.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(60);
/// Different things remembered; the oldest make room.
const REMEMBERED: usize = 1_000;

/// Remembers when each thing was last told.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl LogLimit {
    /// Whether to tell about `key` now, and if so how many were left out since it was told last.
    pub(super) fn pass(&self, key: &str) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.told.lock();
        if let Some(last) = told.get_mut(key) {
            if now.duration_since(last.at) < INTERVAL {
                last.left_out += 1;
                return None;
            }
            let left_out = last.left_out;
            *last = Told { at: now, left_out: 0 };
            return Some(left_out);
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, last| now.duration_since(last.at) < INTERVAL);
            if told.len() >= REMEMBERED {
                // Everything is new and different: silence is better than a flood.
                return None;
            }
        }
        told.insert(key.to_owned(), Told { at: now, left_out: 0 });
        Some(0)
    }

    /// The thing has passed: should it come back, it is told at once.
    pub(super) fn forget(&self, key: &str) {
        self.told.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_and_then_one_a_minute_with_the_number_left_out() {
        let limit = LogLimit::default();
        assert_eq!(limit.pass("a"), Some(0));
        assert_eq!(limit.pass("a"), None);
        assert_eq!(limit.pass("b"), Some(0));
        assert_eq!(limit.pass("a"), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.pass("a"), Some(2));
        limit.forget("a");
        assert_eq!(limit.pass("a"), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_stays_bounded_when_everything_differs() {
        let limit = LogLimit::default();
        let told = (0..5_000).filter(|i| limit.pass(&i.to_string()).is_some()).count();
        assert_eq!(told, REMEMBERED);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limit.pass("new"), Some(0));
        assert!(limit.told.lock().len() <= REMEMBERED);
    }
}
