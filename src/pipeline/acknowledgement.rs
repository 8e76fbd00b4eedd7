//! How far each (source, shard) has come: the acknowledgements that travel back move its mark.
//!
//! A mark moves to the end of a collection's window only when the rows of that window and of all windows before it
//! are settled in every sink. If any were lost (a task died, a stop ran out of time), the next window starts at the
//! mark again; rows that were delivered the first time replace themselves.
//!
//! What is not measured any more keeps its mark for [`KEPT`]: a source that was commented out for a while, or a guest
//! that was away, goes on where it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{Ack, Outcome};
use crate::provider::{Shard, Window};

/// Durable high-water marks by source, then shard, in nanoseconds since 1970 UTC.
pub type Checkpoints = BTreeMap<String, BTreeMap<String, i64>>;

/// Marks of what is not measured any more are forgotten at this age, in nanoseconds: 30 days, beyond which few
/// providers can tell what was.
const KEPT: i64 = 30 * 86_400 * 1_000_000_000;

/// The marks of one pipeline.
#[derive(Debug, Default)]
pub struct Marks {
    shards: Mutex<BTreeMap<String, BTreeMap<String, Mark>>>,
    pub(super) changed: Notify,
}

#[derive(Debug, Clone)]
struct Mark {
    /// Everything up to here is settled in every sink.
    durable: i64,
    /// Everything up to here was collected; the next window starts here.
    collected: i64,
    /// Windows whose rows are on their way, and settled ones that wait for those before them.
    pending: Vec<Pending>,
    next_id: u64,
}

/// A window that is being collected. Dropped before it [has an end](Self::reached), as by a panic, it is lost, and all that is
/// not settled is asked for again.
pub(super) struct Collecting {
    marks: Arc<Marks>,
    source: String,
    shard: Shard,
    window: Window,
    id: u64,
    ack: Ack,
}

impl Collecting {
    /// What its rows carry.
    pub(super) fn ack(&self) -> &Ack {
        &self.ack
    }

    /// It was not collected; what came of it before the failure comes again. The windows before it stay as they are.
    pub(super) fn failed(self) {
        let mut shards = self.marks.shards.lock();
        let mark = shards.get_mut(&self.source).and_then(|marks| marks.get_mut(&self.shard.0));
        if let Some(mark) = mark {
            mark.pending.retain(|pending| pending.id != self.id);
        }
    }

    /// It was collected up to `end`, where the next window begins: the last share of its acknowledgement.
    pub(super) fn reached(self, end: i64) -> Ack {
        let end = end.clamp(self.window.start, self.window.end);
        let mut shards = self.marks.shards.lock();
        let mark = shards.get_mut(&self.source).and_then(|marks| marks.get_mut(&self.shard.0));
        if let Some(mark) = mark
            && let Some(pending) = mark.pending.iter_mut().find(|pending| pending.id == self.id)
        {
            pending.end = end;
            // Not if a window before it was lost meanwhile: the next one begins there.
            if self.window.start <= mark.collected {
                mark.collected = end;
            }
        }
        drop(shards);
        self.ack
    }
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: u64,
    start: i64,
    end: i64,
    settled: bool,
}

impl Marks {
    /// Marks that go on where the last run ended.
    pub fn resume(checkpoints: &Checkpoints) -> Arc<Self> {
        let shards = checkpoints.iter().map(|(source, shards)| {
            (source.clone(), shards.iter().map(|(shard, at)| (shard.clone(), Mark::at(*at))).collect())
        });
        Arc::new(Self { shards: Mutex::new(shards.collect()), changed: Notify::new() })
    }

    /// The window of a collection that ends at `end`. A shard never seen before starts one interval earlier.
    pub(super) fn window(&self, source: &str, shard: &Shard, end: i64, every: i64) -> Window {
        let before = end.saturating_sub(every);
        let mut shards = self.shards.lock();
        let marks = shards.entry(source.to_owned()).or_default();
        let mark = marks.entry(shard.0.clone()).or_insert_with(|| Mark::at(before));
        if mark.durable > end {
            // The clock was set back. The mark follows, or rows collected from now on would never be backfilled.
            tracing::warn!(
                source,
                shard = shard.0,
                "the checkpoint lies in the future; it starts over from now"
            );
            *mark = Mark { next_id: mark.next_id, ..Mark::at(before) };
        }
        if mark.collected >= end {
            mark.collected = before;
        }
        Window { start: mark.collected, end }
    }

    /// The window was collected as a whole: the acknowledgement that its rows carry.
    #[cfg(test)]
    pub(super) fn collected(self: &Arc<Self>, source: &str, shard: &Shard, window: Window) -> Ack {
        self.collecting(source, shard, window).reached(window.end)
    }

    /// A window that is being collected. Its rows may be on their way before all of it was read.
    pub(super) fn collecting(self: &Arc<Self>, source: &str, shard: &Shard, window: Window) -> Collecting {
        let mut shards = self.shards.lock();
        let marks = shards.entry(source.to_owned()).or_default();
        let mark = marks.entry(shard.0.clone()).or_insert_with(|| Mark::at(window.start));
        let id = mark.next_id;
        mark.next_id += 1;
        mark.pending.push(Pending { id, start: window.start, end: window.end, settled: false });
        drop(shards);
        let (marks, of, shard_of) = (Arc::clone(self), source.to_owned(), shard.clone());
        let ack = Ack::new(move |outcome| marks.finish(&of, &shard_of, id, outcome));
        Collecting {
            marks: Arc::clone(self),
            source: source.to_owned(),
            shard: shard.clone(),
            window,
            id,
            ack,
        }
    }

    /// The durable mark of a shard, if it has one.
    pub fn durable(&self, source: &str, shard: &Shard) -> Option<i64> {
        self.shards.lock().get(source)?.get(&shard.0).map(|mark| mark.durable)
    }

    /// All durable marks.
    pub fn checkpoints(&self) -> Checkpoints {
        let shards = self.shards.lock();
        let of = |marks: &BTreeMap<String, Mark>| {
            marks.iter().map(|(shard, mark)| (shard.clone(), mark.durable)).collect()
        };
        shards.iter().map(|(source, marks)| (source.clone(), of(marks))).collect()
    }

    /// Forgets old marks of sources and shards that are not measured any more, as `measured` says of (source, shard).
    /// Where rows are on their way still, the mark stays.
    pub(super) fn forget(&self, now: i64, measured: impl Fn(&str, &str) -> bool) {
        let before = now.saturating_sub(KEPT);
        let mut forgotten = 0;
        self.shards.lock().retain(|source, marks| {
            let known = marks.len();
            marks.retain(|shard, mark| {
                mark.durable >= before || !mark.pending.is_empty() || measured(source, shard)
            });
            forgotten += known - marks.len();
            !marks.is_empty()
        });
        if forgotten > 0 {
            tracing::info!(forgotten, "old checkpoints of what is not measured any more are forgotten");
            self.changed.notify_one();
        }
    }

    fn finish(&self, source: &str, shard: &Shard, id: u64, outcome: Outcome) {
        let mut shards = self.shards.lock();
        let Some(mark) = shards.get_mut(source).and_then(|marks| marks.get_mut(&shard.0)) else { return };
        let before = mark.durable;
        match outcome {
            Outcome::Settled => mark.settle(id),
            Outcome::Lost => mark.lose(id),
        }
        let moved = mark.durable != before;
        drop(shards);
        if moved {
            self.changed.notify_one();
        }
    }
}

impl Mark {
    fn at(time: i64) -> Self {
        Self { durable: time, collected: time, pending: Vec::new(), next_id: 0 }
    }

    fn settle(&mut self, id: u64) {
        if let Some(window) = self.pending.iter_mut().find(|window| window.id == id) {
            window.settled = true;
        }
        // A window that reaches over the mark moves it: windows touch, and one that starts over covers the lost one.
        while let Some(end) = self
            .pending
            .iter()
            .filter(|window| window.settled && window.start <= self.durable && window.end > self.durable)
            .map(|window| window.end)
            .max()
        {
            self.durable = end;
        }
        self.pending.retain(|window| window.end > self.durable);
        self.join();
    }

    fn lose(&mut self, id: u64) {
        let known = self.pending.iter().any(|window| window.id == id);
        self.pending.retain(|window| window.id != id);
        if known {
            self.collected = self.durable;
        }
    }

    /// Settled windows that touch become one, so that empty collections behind a waiting one cost no memory.
    fn join(&mut self) {
        self.pending.dedup_by(|later, earlier| {
            let touch = later.settled && earlier.settled && earlier.end == later.start;
            if touch {
                earlier.end = later.end;
            }
            touch
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        Shard("local".into())
    }

    fn collect(marks: &Arc<Marks>, end: i64) -> (Window, Ack) {
        let window = marks.window("host", &shard(), end, 10);
        (window, marks.collected("host", &shard(), window))
    }

    fn durable(marks: &Arc<Marks>) -> i64 {
        marks.durable("host", &shard()).unwrap()
    }

    #[test]
    fn the_mark_moves_in_order_whatever_the_order_of_acknowledgements() {
        let marks = Marks::resume(&Checkpoints::new());
        let (first, one) = collect(&marks, 100);
        assert_eq!(first, Window { start: 90, end: 100 });
        let (second, two) = collect(&marks, 110);
        assert_eq!(second, Window { start: 100, end: 110 });
        let (_, three) = collect(&marks, 120);
        two.settle();
        assert_eq!(durable(&marks), 90);
        one.settle();
        assert_eq!(durable(&marks), 110);
        three.settle();
        assert_eq!(durable(&marks), 120);
        assert_eq!(marks.checkpoints()["host"]["local"], 120);
    }

    #[test]
    fn a_lost_window_is_collected_again_and_the_mark_waits_for_it() {
        let marks = Marks::resume(&Checkpoints::new());
        let (_, one) = collect(&marks, 100);
        let (_, two) = collect(&marks, 110);
        drop(one);
        two.settle();
        assert_eq!(durable(&marks), 90);
        let (again, three) = collect(&marks, 120);
        assert_eq!(again, Window { start: 90, end: 120 });
        three.settle();
        assert_eq!(durable(&marks), 120);
        assert!(marks.shards.lock()["host"]["local"].pending.is_empty());
    }

    #[test]
    fn what_may_still_change_is_asked_for_again() {
        let marks = Marks::resume(&Checkpoints::new());
        let read = |end, reached| {
            let window = marks.window("host", &shard(), end, 10);
            marks.collecting("host", &shard(), window).reached(reached).settle();
            window
        };
        assert_eq!(read(100, 95), Window { start: 90, end: 100 });
        assert_eq!(durable(&marks), 95);
        assert_eq!(read(110, 95), Window { start: 95, end: 110 }, "nothing more is certain");
        assert_eq!(durable(&marks), 95);
        assert_eq!(read(120, 50), Window { start: 95, end: 120 }, "a mark never moves back");
        assert_eq!(read(130, 999), Window { start: 95, end: 130 }, "nor over the end");
        assert_eq!(durable(&marks), 130);
        assert!(marks.shards.lock()["host"]["local"].pending.is_empty());
    }

    #[test]
    fn a_window_that_failed_does_not_take_those_before_it_along() {
        let marks = Marks::resume(&Checkpoints::new());
        let (_, one) = collect(&marks, 100);
        let window = marks.window("host", &shard(), 110, 10);
        marks.collecting("host", &shard(), window).failed();
        assert_eq!(marks.window("host", &shard(), 120, 10), Window { start: 100, end: 120 });
        one.settle();
        assert_eq!(durable(&marks), 100);
    }

    #[test]
    fn a_window_that_failed_midway_is_lost_with_the_rows_that_came_from_it() {
        let marks = Marks::resume(&Checkpoints::new());
        let window = marks.window("host", &shard(), 100, 10);
        let half = marks.collecting("host", &shard(), window);
        let rows = half.ack().clone();
        drop(half);
        rows.settle();
        assert_eq!(durable(&marks), 90);
        assert_eq!(marks.window("host", &shard(), 110, 10), Window { start: 90, end: 110 });
    }

    #[test]
    fn the_next_run_starts_at_the_checkpoint() {
        let checkpoints = Checkpoints::from([("host".into(), [("local".into(), 50)].into())]);
        let marks = Marks::resume(&checkpoints);
        assert_eq!(collect(&marks, 100).0, Window { start: 50, end: 100 });
    }

    #[test]
    fn a_checkpoint_in_the_future_starts_over() {
        let checkpoints = Checkpoints::from([("host".into(), [("local".into(), 5_000)].into())]);
        let marks = Marks::resume(&checkpoints);
        let (window, ack) = collect(&marks, 100);
        assert_eq!(window, Window { start: 90, end: 100 });
        ack.settle();
        assert_eq!(durable(&marks), 100);
    }

    #[test]
    fn only_old_marks_of_what_is_not_measured_are_forgotten_and_none_with_rows_on_their_way() {
        let now = 2 * KEPT;
        let (old, young) = (now - KEPT - 1, now - KEPT);
        let shards = |at| BTreeMap::from([("here".into(), at), ("gone".into(), at)]);
        let checkpoints = Checkpoints::from([("host".into(), shards(old)), ("paused".into(), shards(young))]);
        let marks = Marks::resume(&checkpoints);
        let away = Shard("away".into());
        let waiting = marks.collected("host", &away, Window { start: 0, end: old });
        marks.forget(now, |source, shard| source == "host" && shard == "here");
        let left = marks.checkpoints();
        assert_eq!(left["host"], BTreeMap::from([("away".into(), 0), ("here".into(), old)]));
        assert_eq!(left["paused"], shards(young));

        waiting.settle();
        marks.forget(now + 1, |_, _| false);
        assert!(marks.checkpoints().is_empty());
    }

    #[test]
    fn empty_windows_behind_a_waiting_one_take_no_memory() {
        let marks = Marks::resume(&Checkpoints::new());
        let (_, waiting) = collect(&marks, 100);
        for tick in 11..1_000 {
            collect(&marks, tick * 10).1.settle();
        }
        assert!(marks.shards.lock()["host"]["local"].pending.len() <= 3);
        waiting.settle();
        assert_eq!(durable(&marks), 9_990);
    }
}
