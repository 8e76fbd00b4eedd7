//! A shard and what is remembered of it between two collections.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::part::Part;
use super::place::Place;
use super::settle::{Lag, Seen};
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

/// What is remembered. All times are seconds since 1970 but for `expected`.
#[derive(Debug)]
pub(super) struct Memory {
    /// Where the next window begins if all rows arrived, in nanoseconds. One that begins elsewhere says that rows were lost,
    /// and everything behind it is handed on again.
    pub(super) expected: Option<i64>,
    /// When it was asked last.
    pub(super) polled: Option<i64>,
    /// It was looked at since the process began.
    pub(super) known: bool,
    pub(super) seen: HashMap<Arc<str>, Seen>,
    pub(super) lag: Lag,
    /// Figures that AWS does not allow to read, and until when they are not asked for.
    pub(super) forbidden: HashMap<(Arc<str>, usize), i64>,
    /// Deleted instances whose last row was made.
    pub(super) told: HashSet<Arc<str>>,
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
            known: false,
            seen: HashMap::new(),
            lag: Lag::new(settle),
            forbidden: HashMap::new(),
            told: HashSet::new(),
        };
        Self { name, place: Arc::clone(place), what, memory: Mutex::new(memory) }
    }
}

impl Memory {
    /// From when on a target is to be read, in a window that begins at `start`; nothing if it has nothing more to tell.
    /// What is new in a shard that was read before is looked for from `back` on, because it is found later than it begins.
    pub(super) fn begin(&self, target: &Target, start: i64, back: i64) -> Option<i64> {
        let back = back.min(start);
        let from = match (self.seen.get(&target.key), target.from) {
            (Some(seen), began) => began.map_or(seen.settled, |began| began.max(seen.settled)),
            (None, Some(began)) if began > back => began,
            (None, _) if self.known => back,
            (None, _) => start,
        };
        target.until.is_none_or(|until| until > from).then_some(from)
    }

    /// Forgets what is no more.
    pub(super) fn keep(&mut self, targets: &HashSet<Arc<str>>, now: i64) {
        self.seen.retain(|key, _| targets.contains(key));
        self.forbidden.retain(|(key, _), until| *until > now && targets.contains(key));
    }
}
