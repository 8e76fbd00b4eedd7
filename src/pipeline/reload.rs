//! Changes a pipeline over to another plan while it runs.
//!
//! What can fail comes before the first step that cannot be taken back. A stop is not kept waiting for rows: every wait
//! for them ends with `cut`, closing a sink has a bound of its own, and what has not ended by then is still the
//! runner's, so that the stop ends it.

use std::collections::BTreeSet;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::carry::Route;
use super::checkpoint::CheckpointFile;
use super::plan::{Plan, SinkPlan};
use super::runner::{Keeper, Runner, build, open_all, show, steps};
use super::running::{RunningSink, RunningSource, cut_short};
use crate::{Error, Result};

impl Runner {
    /// Notes that a new pipeline file was refused before it came to a plan.
    pub fn refused(&self) {
        self.monitor.update(|parts| parts.reloads_refused += 1);
    }

    /// Changes over to another plan. Sources, transforms and sinks that it marks as unchanged go on undisturbed; a sink that
    /// changed or got another name keeps what waits for it; one that is not in it any more has the plan's drain limit
    /// to take its rows, while the new ones work already.
    ///
    /// Cancelling `cut` ends it early; only [`Self::stop`] may follow. Dropping the future may lose a sink with what
    /// waits for it.
    ///
    /// # Errors
    /// If a source cannot be built or a sink not be opened: the old plan goes on. Or if it was cut short.
    pub async fn reload(&mut self, plan: Plan, cut: &CancellationToken) -> Result<()> {
        let result = self.change_over(plan, cut).await;
        self.show_parts();
        self.monitor.update(|parts| match result {
            Ok(()) => parts.reloads += 1,
            Err(_) => parts.reloads_refused += 1,
        });
        result
    }

    async fn change_over(&mut self, plan: Plan, cut: &CancellationToken) -> Result<()> {
        // A sink that the reload before took out may still hold what one of this plan needs.
        let left = async { while self.leaving.join_next().await.is_some() {} };
        cut.run_until_cancelled(left).await.ok_or_else(cut_short)?;

        // The middle task takes every plan in its turn, for each says what stays of the one before it.
        let turn = self.replace.clone().try_reserve_owned().map_err(|_| held_up())?;
        let moved = self.keeper.file.folder() != plan.data;
        let lock = if moved { CheckpointFile::new(&plan.data).lock()? } else { None };
        let deadline = Instant::now() + plan.drain;
        let (kept, changed): (Vec<_>, Vec<_>) = plan.sources.into_iter().partition(|source| {
            source.unchanged && self.sources.iter().any(|running| running.state.name == source.name)
        });
        let order: Vec<String> = plan.sinks.iter().map(|sink| sink.name.clone()).collect();
        let successors = continued(&self.sinks, &plan.sinks);
        let stays: Vec<bool> = (0..self.sinks.len()).map(|index| successors.contains(&Some(index))).collect();
        let (mut replacing, mut new) = (Vec::new(), Vec::new());
        for (sink, running) in plan.sinks.into_iter().zip(successors) {
            match running {
                Some(index) => replacing.push((index, sink)),
                None => new.push(sink),
            }
        }

        // Nothing is touched before everything that can fail beside the running parts has worked.
        let new_sources = build(changed)?;
        let new = cut.run_until_cancelled(open_all(new)).await.ok_or_else(cut_short)??;
        if let Err(error) = self.replace_sinks(replacing, deadline, cut).await {
            for (plan, sink) in new {
                sink.close(&plan.name).await;
            }
            return Err(error);
        }

        // The sinks that go stand behind the others, until no way leads into them any more.
        self.drain = plan.drain;
        let mut gone = Vec::new();
        for (sink, stays) in std::mem::take(&mut self.sinks).into_iter().zip(stays) {
            if stays { self.sinks.push(sink) } else { gone.push(sink) }
        }
        self.sinks.extend(new.into_iter().map(|(plan, sink)| RunningSink::start(plan, sink, &self.context)));
        self.sinks.sort_by_key(|sink| order.iter().position(|name| name == sink.name()));
        self.sinks.extend(gone);

        let is_kept = |source: &RunningSource| kept.iter().any(|plan| plan.name == source.state.name);
        self.sources.iter().filter(|source| !is_kept(source)).for_each(RunningSource::stop);
        let ended = async {
            for source in self.sources.iter_mut().filter(|source| !is_kept(source)) {
                source.ended(deadline).await;
            }
        };
        cut.run_until_cancelled(ended).await.ok_or_else(cut_short)?;
        self.sources.retain(is_kept);

        let steps = steps(plan.transforms);
        show(&self.monitor, &plan.name, &steps);
        let (stay, gone) = self.sinks.split_at(order.len());
        // A sink that blocks must not block its own removal.
        gone.iter().for_each(|sink| sink.outlet.queue.close());
        let outlets = stay.iter().map(|sink| sink.outlet.clone()).collect();
        let route = Route { steps, outlets, arrival: plan.arrival };
        let (done, replaced) = oneshot::channel();
        turn.send((route, done));
        // Only a pipeline that failed drops the answer.
        if cut.run_until_cancelled(timeout_at(deadline, replaced)).await.ok_or_else(cut_short)?.is_err() {
            tracing::warn!(
                "a sink holds the pipeline up; the new transforms take over as soon as it takes rows"
            );
        }
        for sink in self.sinks.split_off(order.len()) {
            self.leaving.spawn(sink.removed(deadline));
        }
        if moved {
            let next = Keeper::start(CheckpointFile::new(&plan.data), lock, &self.marks);
            std::mem::replace(&mut self.keeper, next).end().await;
        }
        self.context.dead.move_to(&plan.data, plan.dead_letter_bytes);
        self.start_sources(new_sources);
        self.forget_sources();
        Ok(())
    }

    /// Replaces the sinks at these places whose configuration changed; if one cannot be opened, those already replaced
    /// change back.
    async fn replace_sinks(
        &mut self,
        plans: Vec<(usize, SinkPlan)>,
        deadline: Instant,
        cut: &CancellationToken,
    ) -> Result<()> {
        let mut undo = Vec::new();
        for (index, plan) in plans.into_iter().filter(|(_, plan)| !plan.unchanged) {
            let running = self.sinks.remove(index);
            let old = running.plan().clone();
            let (running, result) = running.replace(plan, deadline, cut, &self.context).await;
            self.sinks.insert(index, running);
            if let Err(error) = result {
                for (index, old) in undo {
                    let running = self.sinks.remove(index);
                    let running = running.restore(old, deadline, cut, &self.context).await;
                    self.sinks.insert(index, running);
                }
                return Err(error);
            }
            undo.push((index, old));
        }
        Ok(())
    }
}

/// For each planned sink the place of the running one that it continues: the one with the same folder, else the one of
/// the same name. So a folder is let go before it is opened again, and a sink that gets another name, or trades its
/// folder with another, takes along what waits for that folder.
fn continued(running: &[RunningSink], plans: &[SinkPlan]) -> Vec<Option<usize>> {
    let mut taken = BTreeSet::new();
    let mut claim = |fits: &dyn Fn(&RunningSink) -> bool| {
        let place = (0..).zip(running).find(|(place, sink)| !taken.contains(place) && fits(sink))?.0;
        taken.insert(place);
        Some(place)
    };
    let by_folder: Vec<_> = plans.iter().map(|plan| claim(&|sink| sink.plan().shares_folder(plan))).collect();
    // What waits in a backlog stays in its folder, so that only who has the same one can continue it.
    let stays = |sink: &RunningSink| sink.plan().backlog.is_some();
    let by_name = |(plan, found): (&SinkPlan, Option<usize>)| {
        found.or_else(|| claim(&|sink| sink.name() == plan.name && !stays(sink)))
    };
    plans.iter().zip(by_folder).map(by_name).collect()
}

fn held_up() -> Error {
    Error::unavailable(
        "reload",
        "earlier reloads still wait for a sink that holds the pipeline up; try again later",
    )
}
