//! A budget that holds: what is asked is billed, however much it answers, so asking half as often costs half and loses
//! nothing. Where the month would cost more than the budget, all collections of the source become rarer by one factor; and
//! what was really billed, retries included, may never run ahead of the budget.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::billing::{MONTH, Meter, USD_PER_METRIC};
use crate::model::Span;

/// Changes of the factor that are smaller are not worth a word.
const WORTH_SAYING: f64 = 0.1;

/// The budget of one source.
#[derive(Debug)]
pub(super) struct Purse {
    /// Dollars a month; without limit if there is none.
    limit: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Metrics that one collection of a shard asks for, and the seconds between two that the file wants.
    loads: HashMap<String, (u64, f64)>,
    /// The time of the first collection, and metrics that were billed since, in seconds since 1970.
    begun: Option<i64>,
    billed: u64,
    /// The factor that was told of last.
    told: f64,
}

impl Purse {
    pub(super) fn new(limit: Option<f64>) -> Self {
        Self { limit, state: Mutex::new(State { told: 1.0, ..State::default() }) }
    }

    /// Seconds between two collections of a shard that the file wants `natural` seconds apart.
    pub(super) fn interval(&self, natural: i64) -> i64 {
        let factor = self.state.lock().factor(self.limit);
        #[expect(clippy::cast_possible_truncation, reason = "seconds of at most some years")]
        let stretched = (natural as f64 * factor - 1e-6).ceil() as i64;
        stretched.max(natural)
    }

    /// Whether a shard may be asked now, which is billed with so many metrics. Says so in the log when the cadence changes.
    pub(super) fn may(&self, shard: &str, metrics: u64, natural: i64, now: i64, meter: &Meter) -> bool {
        let mut state = self.state.lock();
        let begun = *state.begun.get_or_insert(now);
        state.loads.insert(shard.to_owned(), (metrics, natural as f64));
        let Some(limit) = self.limit else { return true };
        let factor = state.factor(self.limit);
        meter.stretch(factor);
        if (factor / state.told - 1.0).abs() > WORTH_SAYING {
            state.told = factor;
            let shortest = state.loads.values().map(|(_, natural)| *natural).fold(f64::INFINITY, f64::min);
            let every = Span(Duration::from_secs_f64((shortest * factor - 1e-6).ceil()));
            let wanted = Span(Duration::from_secs_f64(shortest));
            tracing::warn!(
                budget = limit, wanted = %wanted, every = %every,
                "the budget makes CloudWatch be asked less often; no point is lost, they come later"
            );
        }
        // The first round, and half of one because rounds do not come in even steps.
        let round: u64 = state.loads.values().map(|(metrics, _)| metrics).sum();
        let rate = limit / USD_PER_METRIC / MONTH;
        let earned = round as f64 * 1.5 + (now - begun).max(0) as f64 * rate;
        (state.billed + metrics) as f64 <= earned
    }

    /// Forgets a shard that is no more.
    pub(super) fn forget(&self, is_there: impl Fn(&str) -> bool) {
        self.state.lock().loads.retain(|shard, _| is_there(shard));
    }

    pub(super) fn bill(&self, metrics: u64) {
        self.state.lock().billed += metrics;
    }
}

impl State {
    /// How many times as long as wanted it has to be between two collections.
    fn factor(&self, limit: Option<f64>) -> f64 {
        let metrics: f64 =
            self.loads.values().map(|(metrics, every)| *metrics as f64 * MONTH / every.max(1.0)).sum();
        limit.map_or(1.0, |limit| (metrics * USD_PER_METRIC / limit).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_is_stretched_to_the_budget_and_not_beyond() {
        // 7,000 metrics every 300 s are 605 dollars a month.
        let (purse, meter) = (Purse::new(Some(302.4)), Meter::default());
        assert!(purse.may("a", 7_000, 300, 0, &meter));
        assert_eq!(purse.interval(300), 600);
        assert_eq!(purse.interval(60), 120);
        let free = Purse::new(None);
        assert!(free.may("a", 7_000, 300, 0, &meter));
        assert_eq!(free.interval(300), 300);
    }

    #[test]
    fn what_was_billed_never_runs_ahead_of_the_budget() {
        let (purse, meter) = (Purse::new(Some(10.0)), Meter::default());
        let mut billed = 0;
        // Asked again and again, as by retries and restarts of collections, for ten days.
        for now in (0..864_000).step_by(60) {
            if purse.may("a", 1_000, 60, now, &meter) {
                purse.bill(1_000);
                billed += 1_000;
            }
        }
        let dollars = billed as f64 * USD_PER_METRIC;
        assert!(dollars <= 10.0 / 3.0 + 0.02, "{dollars} in a third of the month");
        assert!(dollars > 3.2, "{dollars}: it is used, too");
    }
}
