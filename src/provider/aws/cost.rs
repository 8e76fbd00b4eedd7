//! What a source costs in a month, before anything runs.

use std::str::FromStr;

use crate::Error;

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
}

impl Estimate {
    /// Dollars of all lines.
    pub fn usd(&self) -> f64 {
        self.lines.iter().map(|line| line.usd).sum()
    }
}

impl FromStr for Assumed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut assumed = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, number) = part.split_once('=').unwrap_or((part, ""));
            let number = number.trim().parse().map_err(|_| {
                format!("{part:?} has no number; write for example instances=1000,detailed=200,volumes=2000")
            })?;
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
    }
}
