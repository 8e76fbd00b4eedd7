//! A shard and what is remembered of it between two collections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::lag::Lag;
use super::part::Part;
use super::place::Place;
use super::settle::Seen;
use super::target::Target;

/// A part of a region, or its inventory.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) name: String,
    pub(super) place: Arc<Place>,
    pub(super) what: Asked,
    pub(super) memory: Mutex<Memory>,
}

/// What a shard is about.
#[derive(Debug)]
pub(super) enum Asked {
    /// Which instances there are, and what they do.
    Inventory,
    /// Their metrics.
    Metrics(Part),
}

/// What is remembered. All times are seconds since 1970 but for `expected` and `told`.
#[derive(Debug)]
pub(super) struct Memory {
    /// Where the next window begins if all rows arrived, in nanoseconds. One that begins elsewhere says that rows were lost,
    /// and everything behind it is handed on again.
    pub(super) expected: Option<i64>,
    /// When it was asked last, and when it is to be asked next.
    pub(super) polled: Option<i64>,
    due: f64,
    /// It was looked at since the process began.
    pub(super) known: bool,
    pub(super) seen: HashMap<Arc<str>, Seen>,
    pub(super) lag: Lag,
    /// Figures that AWS does not answer whenever they are asked for, and until when they are not.
    pub(super) left_out: HashMap<(Arc<str>, usize), i64>,
    /// Deleted instances whose last row was made, and the end of the window that it was made in, in nanoseconds.
    pub(super) told: HashMap<Arc<str>, i64>,
}

impl ShardState {
    pub(super) fn new(place: &Arc<Place>, what: Asked, settle: i64) -> Self {
        let name = match &what {
            Asked::Inventory => format!("{}/inventory", place.name()),
            Asked::Metrics(part) => format!("{}/{}/{}", place.name(), part.namespace, part.period),
        };
        let memory = Memory {
            expected: None,
            polled: None,
            due: f64::NEG_INFINITY,
            known: false,
            seen: HashMap::new(),
            lag: Lag::new(settle),
            left_out: HashMap::new(),
            told: HashMap::new(),
        };
        Self { name, place: Arc::clone(place), what, memory: Mutex::new(memory) }
    }
}

impl Memory {
    /// Whether it is to be asked. At the same time again it is the next part of a long window.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.polled == Some(now) || now as f64 >= self.due
    }

    /// Takes note that it is asked. The next time is counted from when it was due, so that collections come as often as they
    /// should though they come with ticks.
    pub(super) fn asked(&mut self, now: i64, interval: f64) {
        if self.polled.replace(now) != Some(now) {
            let next = self.due + interval;
            self.due = if next > now as f64 { next } else { now as f64 + interval };
        }
    }

    /// From when on a target is to be read, in a window that begins at `start`; nothing if it has nothing more to tell. What
    /// was read goes on from there, whatever is said of when it began: a stop and a start are no new beginning. Of what is
    /// found only now it is looked back to `back`, because it is found later than it begins.
    pub(super) fn begin(&self, target: &Target, start: i64, back: i64) -> Option<i64> {
        let from = match (self.seen.get(&target.key), target.began) {
            (Some(seen), _) => seen.settled,
            (None, Some(began)) if began > back => began.min(start),
            (None, Some(_)) if !self.known => start,
            (None, _) => back.min(start),
        };
        let from = target.share.after.map_or(from, |after| from.max(after));
        let until = target.ended.into_iter().chain(target.share.until).min();
        until.is_none_or(|until| until > from).then_some(from)
    }

    /// Forgets what is no more.
    pub(super) fn keep(&mut self, targets: &HashSet<Arc<str>>, now: i64) {
        self.seen.retain(|key, _| targets.contains(key));
        self.left_out.retain(|(key, _), until| *until > now && targets.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Share;
    use super::*;

    fn memory() -> Memory {
        Memory {
            expected: None,
            polled: None,
            due: f64::NEG_INFINITY,
            known: true,
            seen: HashMap::new(),
            lag: Lag::new(600),
            left_out: HashMap::new(),
            told: HashMap::new(),
        }
    }

    #[test]
    fn collections_come_as_often_as_they_should_on_the_average() {
        let (mut memory, mut polls) = (memory(), 0);
        for now in (0..63_000).step_by(60) {
            if memory.is_due(now) {
                memory.asked(now, 63.0);
                polls += 1;
            }
        }
        assert_eq!(polls, 1_000, "every 63 seconds, with a tick each minute");
        memory.asked(100_000, 63.0);
        assert!(!memory.is_due(100_062), "what was missed is not made up for in a burst");
        assert!(memory.is_due(100_000) && memory.is_due(100_063));
    }

    #[test]
    fn what_is_known_goes_on_and_what_is_new_is_looked_back_for() {
        let mut memory = memory();
        let (start, back) = (10_000, 6_400);
        let target = |began, share| Target { began, share, ..Target::of_key("a") };
        let whole = Share::default();
        let begin = |memory: &Memory, target: Target| memory.begin(&target, start, back);
        assert_eq!(
            begin(&memory, target(Some(12_000), whole)),
            Some(10_000),
            "it may have run before its last start"
        );
        assert_eq!(begin(&memory, target(Some(8_000), whole)), Some(8_000));
        assert_eq!(begin(&memory, target(Some(1_000), whole)), Some(6_400));
        assert_eq!(begin(&memory, target(None, whole)), Some(6_400));
        memory.known = false;
        assert_eq!(begin(&memory, target(Some(1_000), whole)), Some(10_000), "as a new source begins");
        assert_eq!(begin(&memory, target(None, whole)), Some(6_400), "after a restart too");
        memory.seen.insert("a".into(), Seen::new(9_000));
        assert_eq!(begin(&memory, target(Some(9_840), whole)), Some(9_000), "stopped and started");
        let later = Share { after: Some(9_900), until: None };
        assert_eq!(begin(&memory, target(None, later)), Some(9_900));
        let over = Share { after: None, until: Some(9_000) };
        assert_eq!(begin(&memory, target(None, over)), None);
        let ended = Target { ended: Some(9_060), ..target(None, whole) };
        assert_eq!(begin(&memory, ended), Some(9_000));
    }
}
