//! What a source may take, and what it costs in a month, before anything runs.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How AWS counts the statistics of one metric in one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BilledBy {
    /// Each is one.
    #[default]
    Statistic,
    /// Up to five are one, as some say that it is.
    FiveStatistics,
}

/// What may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Dollars of GetMetricData in 30 days; the source is read less often, and loses nothing, so that it stays below.
    pub usd_per_month: f64,
}

/// The least that a month of one metric a day costs, in dollars.
const LEAST: f64 = 0.0003;

impl Budget {
    /// What is wrong with it.
    pub(super) fn wrong(&self) -> Option<String> {
        let good = self.usd_per_month.is_finite() && self.usd_per_month >= LEAST;
        (!good).then(|| {
            format!("it must be at least {LEAST}, which is one metric a day; leave groups out to spend less")
        })
    }
}

/// Limits of the account, where AWS has raised them. Each holds per region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// GetMetricData calls per second.
    pub get_metric_data: f64,
    /// ListMetrics calls per second.
    pub list_metrics: f64,
    /// Datapoints per second of the last three hours.
    pub recent_datapoints: f64,
    /// Datapoints per second of what is older.
    pub old_datapoints: f64,
    /// Calls per second of EC2's descriptions.
    pub describe: f64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            get_metric_data: 50.0,
            list_metrics: 25.0,
            recent_datapoints: 180_000.0,
            old_datapoints: 396_000.0,
            describe: 20.0,
        }
    }
}

/// What there is, where nobody is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assumed {
    /// Instances, on Nitro.
    pub instances: u64,
    /// Those of them with detailed monitoring.
    pub detailed: u64,
    /// Volumes that are attached, of type gp3.
    pub volumes: u64,
}

/// What one part of a source costs in 30 days.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Account id.
    pub account: String,
    /// Region.
    pub region: String,
    /// Namespace in CloudWatch.
    pub namespace: String,
    /// Seconds that one value is of.
    pub period: i64,
    /// Seconds between two collections, stretched to the budget.
    pub every: i64,
    /// Resources, or combinations of dimensions, that are asked for.
    pub targets: u64,
    /// Metrics that one collection is billed.
    pub metrics: u64,
    /// Calls of GetMetricData in 30 days.
    pub calls: f64,
    /// Dollars in 30 days.
    pub usd: f64,
}

/// What a source costs in 30 days.
#[derive(Debug, Default)]
pub struct Estimate {
    /// Part by part.
    pub lines: Vec<Line>,
    /// Calls of ListMetrics in 30 days, of which the first million of an account is free.
    pub listings: f64,
    /// How many times as long as the file wants it is between two collections, for the budget.
    pub stretch: f64,
    /// What could not be found out.
    pub faults: Vec<Error>,
    /// What may not be as it is meant.
    pub hints: Vec<String>,
}

impl Estimate {
    /// Dollars of all lines.
    pub fn usd(&self) -> f64 {
        // The sum of nothing is a negative zero.
        self.lines.iter().map(|line| line.usd).sum::<f64>() + 0.0
    }
}

/// The most of a kind that can be assumed.
const MOST: u64 = 1_000_000;

impl FromStr for Assumed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut assumed = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, number) = part.split_once('=').unwrap_or((part, ""));
            let number = number.trim().parse().map_err(|_| {
                format!("{part:?} has no number; write for example instances=1000,detailed=200,volumes=2000")
            })?;
            if number > MOST {
                return Err(format!("{part:?} is more than can be assumed; write at most {MOST}"));
            }
            match name.trim() {
                "instances" => assumed.instances = number,
                "detailed" => assumed.detailed = number,
                "volumes" => assumed.volumes = number,
                other => {
                    return Err(format!(
                        "{other:?} cannot be assumed; there are instances, detailed and volumes"
                    ));
                }
            }
        }
        if assumed.detailed > assumed.instances {
            return Err("detailed are some of the instances, and cannot be more".into());
        }
        Ok(assumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_assumed_is_read() {
        let assumed = Assumed { instances: 1_000, detailed: 200, volumes: 2_000 };
        assert_eq!("instances=1000,detailed=200,volumes=2000".parse(), Ok(assumed));
        for (bad, word) in
            [("instances", "no number"), ("cows=1", "cannot be assumed"), ("detailed=1", "cannot be more")]
        {
            assert!(bad.parse::<Assumed>().unwrap_err().contains(word), "{bad}");
        }
        assert!("instances=1000000000000".parse::<Assumed>().unwrap_err().contains("write at most 1000000"));
    }

    #[test]
    fn a_budget_buys_at_least_one_metric_a_day() {
        for (usd_per_month, good) in
            [(50.0, true), (0.0003, true), (0.0001, false), (-1.0, false), (f64::NAN, false)]
        {
            assert_eq!(Budget { usd_per_month }.wrong().is_none(), good, "{usd_per_month}");
        }
    }
}
