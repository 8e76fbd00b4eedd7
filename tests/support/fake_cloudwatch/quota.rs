//! The limits of CloudWatch, with the values AWS publishes unless a test wants others.

use std::collections::HashMap;
use std::time::Instant;

/// By which clock the rates go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Real,
    /// That of the fake. Where a test lets it stand, a second's worth of calls is all there is.
    Simulated,
}

/// Which datapoints a request gets whose start is no multiple of its period. AWS only says how it rounds the start, and
/// not from where it counts, so that a client should be right with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Multiples of the period since 1970; the period in which the start lies is not among them.
    Epoch,
    /// The rounded start and every period after it, as the documentation of GetMetricStatistics has it.
    Start,
}

/// Sources: "CloudWatch service quotas" of the CloudWatch user guide and the API reference of the operations.
#[derive(Debug, Clone)]
pub struct Quotas {
    pub pace: Pace,
    pub grid: Grid,
    /// Queries in a GetMetricData.
    pub queries: usize,
    /// Datapoints in an answer to it.
    pub datapoints: usize,
    /// Calls per second, each account and region for itself; a second's worth may come at once.
    pub get_metric_data: f64,
    pub list_metrics: f64,
    pub put_metric_data: f64,
    /// Datapoints per second that requests ask for, if they start in the last `recent` seconds or before.
    pub recent_datapoints: f64,
    pub old_datapoints: f64,
    pub recent: i64,
    /// Metrics on a page of ListMetrics.
    pub page: usize,
    /// Seconds that a metric is listed after its last sample.
    pub listed: i64,
    /// Seconds from the first sample until a metric is listed; AWS says up to 15 minutes.
    pub unlisted: i64,
    /// What RecentlyActive adds to its three hours; AWS says up to 50 minutes.
    pub active_slack: i64,
    /// Seconds that points are kept, by the shortest period they can be asked with.
    pub retention: Vec<(i64, i64)>,
}

const DAY: i64 = 86_400;

impl Default for Quotas {
    fn default() -> Self {
        Self {
            pace: Pace::Real,
            grid: Grid::Epoch,
            queries: 500,
            datapoints: 100_800,
            get_metric_data: 50.0,
            list_metrics: 25.0,
            put_metric_data: 500.0,
            recent_datapoints: 180_000.0,
            old_datapoints: 396_000.0,
            recent: 3 * 3600,
            page: 500,
            listed: 14 * DAY,
            unlisted: 0,
            active_slack: 0,
            retention: vec![(1, 3 * 3600), (60, 15 * DAY), (300, 63 * DAY), (3600, 455 * DAY)],
        }
    }
}

impl Quotas {
    /// Without limits on rates, for tests of other things.
    pub fn unpaced() -> Self {
        let rate = f64::INFINITY;
        Self {
            get_metric_data: rate,
            list_metrics: rate,
            put_metric_data: rate,
            recent_datapoints: rate,
            old_datapoints: rate,
            ..Self::default()
        }
    }

    /// How long points of a period are kept.
    pub fn kept(&self, period: i64) -> i64 {
        let tiers = self.retention.iter().filter(|(shortest, _)| *shortest <= period);
        tiers.map(|(_, kept)| *kept).max().unwrap_or(0)
    }

    /// Where a request begins, by how long ago that is.
    pub fn rounded(&self, start: i64, period: i64, now: i64) -> i64 {
        let unit = match now - start {
            age if age > self.kept(300) => 3600,
            age if age > self.kept(60) => 300,
            _ if period < 60 => period,
            _ => 60,
        };
        start - start.rem_euclid(unit)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measured {
    Calls(&'static str),
    RecentDatapoints,
    OldDatapoints,
}

/// What of a second's worth is left, by account, region and what is measured.
#[derive(Default)]
pub struct Buckets {
    left: HashMap<(String, String, Measured), (f64, f64)>,
    begun: Option<Instant>,
}

impl Buckets {
    /// The time by the pace that is wanted, in seconds.
    pub fn time(&mut self, pace: Pace, simulated: i64) -> f64 {
        match pace {
            Pace::Real => self.begun.get_or_insert_with(Instant::now).elapsed().as_secs_f64(),
            Pace::Simulated => simulated as f64,
        }
    }

    /// Whether this much may be used now; it is used then.
    pub fn take(&mut self, who: (&str, &str), what: Measured, rate: f64, cost: f64, time: f64) -> bool {
        if rate.is_infinite() {
            return true;
        }
        let (left, since) = self.left.entry((who.0.into(), who.1.into(), what)).or_insert((rate, time));
        *left = (*left + (time - *since).max(0.0) * rate).min(rate);
        *since = time;
        let enough = cost <= *left;
        if enough {
            *left -= cost;
        }
        enough
    }
}
