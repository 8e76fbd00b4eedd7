//! What a collection of metrics has to ask for: whether it is due, what there is, from when on, and whether the budget allows
//! it.

use std::collections::HashSet;
use std::sync::Arc;

use super::SECOND;
use super::billing::billed;
use super::budget::Load;
use super::job::Job;
use super::part::Part;
use super::ranges::steps;
use super::read::{Prepared, Reading};
use super::settle::Seen;
use super::shard::Memory;
use super::target::Target;
use super::targets::{Found, Maker};
use crate::Result;
use crate::provider::Collection;

/// What is looked back for when something new is found, in seconds: ListMetrics may know it a quarter of an hour late.
const BACK: i64 = 3_600;

impl Reading {
    pub(super) async fn metrics(self, part: Part) -> Result<Prepared> {
        let (now, period) = (self.now / SECOND, part.period);
        let (shard, context) = (&self.shard, &self.context);
        let every = period.max(context.every);
        let interval = context.purse.interval(every, now, &context.meter);
        if !shard.memory.lock().is_due(now) {
            return Ok(self.not_now());
        }
        let place = &shard.place;
        let maker = Maker::look(context, place, &part, now, self.window.start / SECOND).await?;
        let Found { targets, faults, missed } = maker.targets().await?;
        for metric in missed.into_iter().filter(|metric| place.misses(metric)) {
            tracing::warn!(
                metric,
                place = place.name(),
                "no series is of this metric yet; is its name right?"
            );
        }
        let to = self.window.end / SECOND / period * period;
        let mut memory = shard.memory.lock();
        let mut targets = self.unread(&mut memory, targets, period, to);
        let metrics = |(_, target): &(i64, Target)| billed(target.ask.metrics(), place.config.billed_by);
        let metrics: u64 = targets.iter().map(metrics).sum();
        context.purse.load(&shard.name, Load { metrics, every });
        if targets.is_empty() {
            memory.expected = Some(self.window.end);
            return Ok(Prepared::Done(Collection { faults, ..Collection::default() }));
        }
        let Some(reserved) = context.purse.reserve(metrics, now) else { return Ok(self.not_now()) };
        // Known again when all of it was read.
        memory.expected = None;
        memory.asked(now, interval);
        let left_out: HashSet<_> = memory.left_out.keys().cloned().collect();
        drop(memory);
        targets.sort_by_key(|(from, _)| *from);
        let steps = steps(&targets, to, period, now);
        let targets = targets.into_iter().map(|(_, target)| target).collect();
        Ok(Prepared::Ask(Arc::new(Job::new(self, part, to, targets, left_out, reserved, faults)), steps))
    }

    /// Nothing is asked: the next window begins where this one does.
    fn not_now(&self) -> Prepared {
        Prepared::Done(Collection { reached: Some(self.window.start), ..Collection::default() })
    }

    /// The targets that have something to be read, and from when on.
    fn unread(&self, memory: &mut Memory, targets: Vec<Target>, period: i64, to: i64) -> Vec<(i64, Target)> {
        let down = |time: i64| time.div_euclid(period) * period;
        let now = self.now / SECOND;
        if memory.expected != Some(self.window.start) {
            memory.seen.clear();
            memory.known = false;
        }
        let keys: HashSet<Arc<str>> = targets.iter().map(|target| Arc::clone(&target.key)).collect();
        memory.keep(&keys, now);
        let listed = i64::try_from(self.shard.place.config.list_every.0.as_secs()).unwrap_or(0);
        let (start, back) = (down(self.window.start / SECOND), down(now - BACK.max(2 * listed)));
        let mut unread = Vec::new();
        for target in targets {
            let Some(from) = memory.begin(&target, start, back) else { continue };
            let seen = memory.seen.entry(Arc::clone(&target.key)).or_insert_with(|| Seen::new(from));
            seen.settled = seen.settled.max(from);
            if from < to {
                unread.push((from, target));
            }
        }
        memory.known = true;
        unread
    }
}
