//! A budget that holds: what is asked is billed, however much it answers, so asking half as often costs half and loses
//! nothing. Where the month would cost more than the budget, all collections of the source become rarer by one factor; and
//! what was really billed, retries included, may never run ahead of the budget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::billing::{MONTH, Meter, USD_PER_METRIC};
use crate::model::Span;

/// Changes of the factor that are smaller are not worth a word.
const WORTH_SAYING: f64 = 0.1;
/// Rounds that may be ahead of the budget: the first, and half of one because rounds do not come in even steps.
const AHEAD: f64 = 1.5;

/// The budget of one source.
#[derive(Debug)]
pub(super) struct Purse {
    /// Dollars a month; without limit if there is none.
    limit: Option<f64>,
    source: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What one collection of each shard takes.
    loads: HashMap<String, Load>,
    /// Metrics that were billed or are reserved, less those that the budget has paid for since: never below nothing, so that
    /// what was not spent is not saved up.
    owed: f64,
    /// When that was so, in seconds since 1970.
    at: Option<i64>,
    /// The factor that was told of last.
    told: f64,
}

/// What one collection asks for, and the seconds between two that the file wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) metrics: u64,
    pub(super) every: i64,
}

/// Metrics that a collection may be billed. What it was not billed in the end goes back.
#[derive(Debug)]
pub(super) struct Reserved {
    purse: Arc<Purse>,
    left: Mutex<u64>,
}

/// Seconds between two collections where the file wants `every`.
pub(super) fn stretched(every: i64, factor: f64) -> f64 {
    every as f64 * factor.max(1.0)
}

impl Purse {
    /// Of a source of this name.
    pub(super) fn new(limit: Option<f64>, source: &str) -> Self {
        let state = State { loads: HashMap::new(), owed: 0.0, at: None, told: 1.0 };
        Self { limit, source: source.to_owned(), state: Mutex::new(state) }
    }

    /// Seconds between two collections that the file wants this far apart. Says in the log when it has become other than it
    /// was: at the time after, when all shards have said what they ask for.
    pub(super) fn interval(&self, every: i64, now: i64, meter: &Meter) -> f64 {
        let Some(limit) = self.limit else { return stretched(every, 1.0) };
        let mut state = self.state.lock();
        let factor = state.factor(limit);
        meter.stretch(factor);
        let later = state.at.is_some_and(|at| at < now);
        if later && (factor / state.told - 1.0).abs() > WORTH_SAYING {
            state.told = factor;
            let shortest = state.loads.values().map(|load| load.every).min().unwrap_or(every);
            let span =
                |seconds: f64| Span(Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX));
            tracing::warn!(
                source = self.source, budget = limit, wanted = %span(shortest as f64),
                every = %span(stretched(shortest, factor)),
                "the budget makes CloudWatch be asked less often; no point is lost, they come later"
            );
        }
        stretched(every, factor)
    }

    /// What a shard takes from now on: nothing if it has nothing to ask for.
    pub(super) fn load(&self, shard: &str, load: Load) {
        self.state.lock().loads.insert(shard.to_owned(), load);
    }

    /// Reserves what a collection is billed, if that may be now.
    pub(super) fn reserve(self: &Arc<Self>, metrics: u64, now: i64) -> Option<Reserved> {
        let mut state = self.state.lock();
        if let Some(limit) = self.limit {
            let paid = limit / USD_PER_METRIC / MONTH;
            let since = now - state.at.unwrap_or(now);
            state.owed = (state.owed - since.max(0) as f64 * paid).max(0.0);
            state.at = Some(now);
            if state.owed + metrics as f64 > state.most() {
                return None;
            }
        }
        state.owed += metrics as f64;
        Some(Reserved { purse: Arc::clone(self), left: Mutex::new(metrics) })
    }

    /// Forgets shards that are no more, and what they owe: the others do not pay for them.
    pub(super) fn forget(&self, is_there: impl Fn(&str) -> bool) {
        let mut state = self.state.lock();
        let before = state.loads.len();
        state.loads.retain(|shard, _| is_there(shard));
        if state.loads.len() < before {
            state.owed = state.owed.min(state.most());
        }
    }
}

impl State {
    /// How many times as long as wanted it has to be between two collections.
    fn factor(&self, limit: f64) -> f64 {
        let metrics: f64 =
            self.loads.values().map(|load| load.metrics as f64 * MONTH / load.every.max(1) as f64).sum();
        (metrics * USD_PER_METRIC / limit).max(1.0)
    }

    /// The most that may be owed.
    fn most(&self) -> f64 {
        AHEAD * self.loads.values().map(|load| load.metrics as f64).sum::<f64>()
    }
}

impl Reserved {
    /// So much of it was billed; what is more is owed.
    pub(super) fn bill(&self, metrics: u64) {
        let mut left = self.left.lock();
        let more = metrics.saturating_sub(*left);
        *left = left.saturating_sub(metrics);
        self.purse.state.lock().owed += more as f64;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.purse.state.lock();
        state.owed = (state.owed - *self.left.get_mut() as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purse(limit: Option<f64>, shards: &[(&str, u64, i64)]) -> Arc<Purse> {
        let purse = Arc::new(Purse::new(limit, "cloud"));
        for (shard, metrics, every) in shards {
            purse.load(shard, Load { metrics: *metrics, every: *every });
        }
        purse
    }

    #[test]
    fn the_cadence_is_stretched_to_the_budget_and_not_beyond() {
        // 7,000 metrics every 300 s are 605 dollars a month.
        let meter = Meter::default();
        let half = purse(Some(302.4), &[("a", 7_000, 300)]);
        assert!((half.interval(300, 0, &meter) - 600.0).abs() < 1e-9);
        assert!((half.interval(60, 0, &meter) - 120.0).abs() < 1e-9);
        half.load("a", Load { metrics: 0, every: 300 });
        assert_eq!(half.interval(300, 0, &meter), 300.0, "what asks for nothing takes nothing");
        assert_eq!(purse(None, &[("a", 7_000, 300)]).interval(300, 0, &meter), 300.0);
        let absurd = purse(Some(1e-300), &[("a", 7_000, 300)]);
        drop(absurd.reserve(1, 0));
        assert!(absurd.interval(300, 60, &meter) > 1e300);
    }

    #[test]
    fn what_was_billed_never_runs_ahead_of_the_budget() {
        let purse = purse(Some(10.0), &[("a", 1_000, 60)]);
        let mut billed = 0;
        // Asked again and again, as by retries and restarts of collections, for ten days.
        for now in (0..864_000).step_by(60) {
            if let Some(reserved) = purse.reserve(1_000, now) {
                reserved.bill(1_000);
                billed += 1_000;
            }
        }
        let dollars = billed as f64 * USD_PER_METRIC;
        assert!(dollars <= 10.0 / 3.0 + 0.02, "{dollars} in a third of the month");
        assert!(dollars > 3.2, "{dollars}: it is used, too");
    }

    #[test]
    fn what_is_reserved_is_not_there_for_others_until_it_goes_back() {
        let purse = purse(Some(1.0), &[("a", 100, 60), ("b", 100, 60)]);
        let (one, other) = (purse.reserve(100, 0).unwrap(), purse.reserve(100, 0).unwrap());
        assert!(purse.reserve(150, 0).is_none(), "one and a half rounds, of which one is on its way");
        one.bill(100);
        drop((one, other));
        assert!(purse.reserve(150, 0).is_some(), "the other was not asked for in the end");
    }

    #[test]
    fn what_is_gone_leaves_no_debt_to_the_others() {
        let purse = purse(Some(100.0), &[("large", 100_000, 60), ("small", 10, 60)]);
        purse.reserve(100_010, 0).unwrap().bill(150_000);
        purse.forget(|shard| shard == "small");
        assert!(purse.reserve(10, 0).is_none());
        // Its own round costs 10 metrics, which the budget pays in three seconds.
        assert!(purse.reserve(10, 3).is_some());
    }
}
