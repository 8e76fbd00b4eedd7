//! Keeps a fault that repeats every second from filling the log: the first is told at once, then one line a minute
//! with the number that were left out. Counters count every one. What was told is known until it is over, so that its
//! end can be told as well.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::Span;

/// Time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(60);
/// Different things remembered; the oldest make room.
const REMEMBERED: usize = 1_000;

/// How many were left out; a line without any does not have the field.
pub(super) type LeftOut = Option<NonZeroU64>;

/// Remembers when each thing was last told.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    told: Mutex<HashMap<String, Told>>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    left_out: u64,
    /// The first line about what is not over yet.
    since: Option<Instant>,
}

impl LogLimit {
    /// Whether to tell about `key` now, and if so how many were left out since it was told last.
    pub(super) fn pass(&self, key: &str) -> Option<LeftOut> {
        let now = Instant::now();
        let mut told = self.told.lock();
        if let Some(last) = told.get_mut(key) {
            if now.duration_since(last.at) < INTERVAL {
                last.left_out += 1;
                return None;
            }
            let left_out = NonZeroU64::new(last.left_out);
            *last = Told { at: now, left_out: 0, since: last.since.or(Some(now)) };
            return Some(left_out);
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, last| now.duration_since(last.at) < INTERVAL);
            if told.len() >= REMEMBERED {
                // Everything is new and different: silence is better than a flood.
                return None;
            }
        }
        told.insert(key.to_owned(), Told { at: now, left_out: 0, since: Some(now) });
        Some(None)
    }

    /// The thing has passed: should it come back, it is told at once. If it was told, for how long it lasted.
    pub(super) fn forget(&self, key: &str) -> Option<Span> {
        self.told.lock().remove(key)?.since.map(lasted)
    }

    /// Of the things whose keys begin with `prefix` all have passed but those in `still`: the rest of their keys, and
    /// for how long they lasted, where they were told. Should they come back they have one line a minute as before:
    /// there are many of them, and some come and go all the time.
    pub(super) fn over(&self, prefix: &str, still: &[String]) -> Vec<(String, Span)> {
        let mut told = self.told.lock();
        let passed = told.iter_mut().filter(|(key, _)| !still.contains(key));
        passed
            .filter_map(|(key, last)| {
                let rest = key.strip_prefix(prefix)?;
                Some((rest.to_owned(), lasted(last.since.take()?)))
            })
            .collect()
    }
}

/// The time since then, as people want to read it.
pub(super) fn lasted(since: Instant) -> Span {
    Span(Duration::from_secs(since.elapsed().as_secs()))
}

#[cfg(test)]
mod tests;
