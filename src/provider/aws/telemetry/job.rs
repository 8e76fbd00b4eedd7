//! The requests of a collection: their answers become rows, and what became of them all says where the next window begins.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::SECOND;
use super::answer::{Answer, Answers, Extent, Fate};
use super::budget::Reserved;
use super::pace::Cost;
use super::part::Part;
use super::read::Reading;
use super::request::Asker;
use super::rows::Rows;
use super::target::Target;
use crate::provider::Collection;
use crate::{Error, Result};

/// What AWS does not answer whenever it is asked is tried again after this, in seconds.
const LEFT_OUT: i64 = 3_600;
/// Age of what counts for the quota of recent datapoints, in seconds.
const RECENT: i64 = 3 * 3_600;

/// Figures by their target.
type Figures = HashSet<(Arc<str>, usize)>;

/// Metrics to be read.
pub(super) struct Job {
    reading: Reading,
    part: Part,
    /// The last time that a row can have.
    to: i64,
    targets: Vec<Target>,
    /// Figures that are not asked for.
    left_out: Figures,
    reserved: Reserved,
    outcome: Mutex<Outcome>,
}

/// What became of the requests.
#[derive(Default)]
struct Outcome {
    /// How many there were, and of how many nothing came.
    made: usize,
    lost: usize,
    faults: Vec<Error>,
}

impl Job {
    pub(super) fn new(
        reading: Reading,
        part: Part,
        to: i64,
        targets: Vec<Target>,
        left_out: Figures,
        reserved: Reserved,
        faults: Vec<Error>,
    ) -> Self {
        let outcome = Mutex::new(Outcome { faults, ..Outcome::default() });
        Self { reading, part, to, targets, left_out, reserved, outcome }
    }

    /// Makes a request and rows of its answer.
    pub(super) async fn read(&self, extent: Extent, numbers: &[usize]) -> Result<Collection> {
        let Reading { context, shard, now, .. } = &self.reading;
        let place = &shard.place;
        let targets: Vec<&Target> = numbers.iter().map(|number| &self.targets[*number]).collect();
        let (quotas, share) = (&place.config.quotas, place.config.quota_share);
        let recent = now / SECOND - extent.from <= RECENT;
        let rate = if recent { quotas.recent_datapoints } else { quotas.old_datapoints };
        let asker = Asker {
            client: place.session.cloudwatch(&place.region),
            pace: &place.pace,
            cost: Cost { calls: quotas.get_metric_data * share, datapoints: 0, rate: rate * share },
            place: &place.name(),
            billed_by: place.config.billed_by,
            meter: &context.meter,
            reserved: &self.reserved,
        };
        let left_out = |target: &Target, figure: usize| {
            !self.left_out.is_empty() && self.left_out.contains(&(Arc::clone(&target.key), figure))
        };
        let (answers, faults) = asker.ask(&targets, extent, left_out).await;
        let lost = answers.is_lost();
        let mut outcome = self.outcome.lock();
        outcome.made += 1;
        outcome.lost += usize::from(lost);
        outcome.faults.extend(faults);
        drop(outcome);
        let mut rows = self.reading.rows();
        // Where nothing came, no figure failed while others did not.
        if !lost {
            self.take(answers, &mut rows)?;
        }
        Ok(Collection { batches: rows.finish()?, ..Collection::default() })
    }

    fn take(&self, answers: Answers<'_>, rows: &mut Rows) -> Result<()> {
        let Answers { targets, extent, all, .. } = answers;
        let now = self.reading.now / SECOND;
        let mut memory = self.reading.shard.memory.lock();
        let memory = &mut *memory;
        for (target, Answer { grid, fates }) in targets.iter().zip(all) {
            let fates = &fates;
            let which = |wanted| (0..fates.len()).filter(move |figure| fates[*figure] == wanted);
            for figure in which(Fate::LeftOut) {
                memory.left_out.entry((Arc::clone(&target.key), figure)).or_insert(now + LEFT_OUT);
            }
            let failed: Vec<usize> = which(Fate::Failed).collect();
            let Some(seen) = memory.seen.get_mut(&target.key) else { continue };
            let mut grid = match target.share.until {
                Some(until) => grid.cut(until),
                None => grid,
            };
            if extent.period == self.part.period {
                let news = seen.take(&mut grid, failed, now, &mut memory.lag);
                rows.figures(target, &grid, &news)?;
                continue;
            }
            // What is that old does not change any more.
            rows.figures(target, &grid, &Vec::from_iter(0..grid.rows()))?;
            seen.heard(failed.is_empty(), now);
            if failed.is_empty() && extent.from <= seen.settled {
                seen.settled = seen.settled.max(extent.to);
            }
        }
        Ok(())
    }

    /// Where the next window begins.
    pub(super) fn finish(&self) -> Result<Collection> {
        let Outcome { made, lost, mut faults } = std::mem::take(&mut *self.outcome.lock());
        if made > 0 && lost == made && !faults.is_empty() {
            return Err(faults.swap_remove(faults.len() - 1));
        }
        let Reading { context, shard, window, now } = &self.reading;
        let mut memory = shard.memory.lock();
        let marks = self.targets.iter().filter_map(|target| {
            let seen = memory.seen.get(&target.key)?;
            let over = target.share.until.is_some_and(|until| seen.settled >= until);
            (!over).then(|| seen.mark(now / SECOND))
        });
        let settled = marks.min().unwrap_or(self.to);
        // Nothing is left of a window of the past; the period that its end is in belongs to the next.
        let all = settled >= self.to && window.end < *now;
        let settled = if all { window.end } else { settled.saturating_mul(SECOND) };
        // Always a little further, so that a window that begins elsewhere is known to be one whose rows were lost.
        let reached = settled.max(window.start.saturating_add(1)).min(window.end);
        memory.expected = Some(reached);
        if let Some(lag) = memory.lag.published {
            context.meter.lag(&self.part.namespace, lag);
        }
        Ok(Collection { batches: Vec::new(), faults, reached: Some(reached) })
    }
}
