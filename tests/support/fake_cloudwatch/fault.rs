//! What goes wrong on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Probabilities are of each call or, where it says so, of each Id in a call. All can be changed while the fake runs.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The call is throttled.
    pub throttle: f64,
    /// It is answered with this HTTP status.
    pub http_500: f64,
    pub http_503: f64,
    /// The connection is closed instead of an answer.
    pub drop: f64,
    /// An Id has InternalError and no values.
    pub internal_error: f64,
    /// An Id has PartialData, no values and no token for more.
    pub partial_data: f64,
    /// Answered with Forbidden: Ids, namespaces and accounts that own the metric.
    pub forbidden_ids: BTreeSet<String>,
    pub forbidden_namespaces: BTreeSet<String>,
    pub forbidden_accounts: BTreeSet<String>,
    /// Words for which an expression, and all of the call with it, is refused.
    pub wrong_words: BTreeSet<String>,
    /// Operations that a policy denies to everybody, and accounts to which it denies all.
    pub denied: BTreeSet<String>,
    /// Accounts of which every call is throttled, as when others in them use up the quota.
    pub throttled_accounts: BTreeSet<String>,
    /// Before every answer.
    pub latency: Duration,
    /// Regions that accept calls and never answer.
    pub hanging: BTreeSet<String>,
}

/// By operation, account and region.
pub type PerCaller = BTreeMap<(String, String, String), u64>;

/// What was asked and answered since the start or since they were forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// All that came from a known access key.
    pub calls: PerCaller,
    /// Those refused for a rate, by quota or by fault.
    pub throttled: PerCaller,
    /// Those refused for what they say.
    pub refused: PerCaller,
    /// Those ended by an HTTP status or a closed connection.
    pub broken: PerCaller,
    /// Metrics that GetMetricData bills to an account: each statistic of each metric, once for all pages of a request.
    pub billed: BTreeMap<String, u64>,
    /// The same if every page bills again. AWS does not say which it is.
    pub billed_pages: BTreeMap<String, u64>,
    /// The same as `billed` if up to five statistics of one metric in a call are one.
    pub billed_by_five: BTreeMap<String, u64>,
    /// Datapoints in answers.
    pub datapoints: u64,
    /// Metrics in answers to ListMetrics.
    pub listed: u64,
    /// Most queries in a call, and most datapoints in an answer.
    pub largest_call: usize,
    pub largest_answer: usize,
    /// Calls that were on their way at once, at most.
    pub most_at_once: usize,
}

impl Counters {
    fn of(counts: &PerCaller, operation: &str) -> u64 {
        counts.iter().filter(|((name, ..), _)| name == operation).map(|(_, count)| count).sum()
    }

    /// Of an operation by all callers.
    pub fn calls_of(&self, operation: &str) -> u64 {
        Self::of(&self.calls, operation)
    }

    pub fn throttled_of(&self, operation: &str) -> u64 {
        Self::of(&self.throttled, operation)
    }
}
