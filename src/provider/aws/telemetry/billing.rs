//! What AWS bills, as far as its price page says it: GetMetricData by the metrics that are asked for, whatever they
//! answer; ListMetrics by the call, the first million a month free; EC2's descriptions nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::super::cost::BilledBy;
use super::calls::Heard;
use crate::telemetry::{ComponentLabel, Telemetry};

/// Dollars for each metric that GetMetricData is asked for; from AWS's price page.
pub(super) const USD_PER_METRIC: f64 = 0.01 / 1_000.0;
/// Seconds of the month that budgets and estimates are for.
pub(super) const MONTH: f64 = 30.0 * 86_400.0;

/// What it is billed when one request asks for these metrics and statistics of a resource.
pub(super) fn billed<'a>(metrics: impl IntoIterator<Item = (&'a str, &'a str)>, by: BilledBy) -> u64 {
    let mut statistics: HashMap<&str, u64> = HashMap::new();
    for (metric, _) in metrics {
        *statistics.entry(metric).or_default() += 1;
    }
    let counted = statistics.values().map(|count| match by {
        BilledBy::Statistic => *count,
        BilledBy::FiveStatistics => count.div_ceil(5),
    });
    counted.sum()
}

/// What a source has asked of AWS since it was made.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    billed: AtomicU64,
    calls: AtomicU64,
    listings: AtomicU64,
    throttles: AtomicU64,
    shown: parking_lot::Mutex<Option<Shown>>,
}

/// The self-metrics of a source.
#[derive(Debug)]
struct Shown {
    telemetry: Telemetry,
    label: ComponentLabel,
}

/// A source and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LagLabel {
    component: String,
    namespace: String,
}

/// Counts at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Metrics that GetMetricData bills.
    pub billed: u64,
    /// Calls of GetMetricData, those that failed included.
    pub calls: u64,
    /// Calls of ListMetrics.
    pub listings: u64,
    /// Times that AWS said it was asked too often.
    pub throttles: u64,
    /// Dollars of GetMetricData.
    pub usd: f64,
}

impl Meter {
    /// Shows the counts as self-metrics of a source.
    pub(super) fn show(&self, telemetry: &Telemetry, source: &str) {
        let shown = Shown { telemetry: telemetry.clone(), label: ComponentLabel::new(source) };
        *self.0.shown.lock() = Some(shown);
        self.bill(0);
        self.stretch(1.0);
    }

    pub(super) fn bill(&self, metrics: u64) {
        self.0.billed.fetch_add(metrics, Ordering::Relaxed);
        self.count(
            "barograph_aws_billed_metrics",
            "Metrics that GetMetricData was asked for and bills",
            metrics,
        );
        let usd = metrics as f64 * USD_PER_METRIC;
        self.gauge(
            "barograph_aws_cost_dollars",
            "Dollars of GetMetricData since the source was made",
            |gauge| {
                gauge.inc_by(usd);
            },
        );
    }

    /// Of GetMetricData.
    pub(super) fn got(&self, heard: Heard) {
        match heard {
            Heard::Called => {
                self.0.calls.fetch_add(1, Ordering::Relaxed);
                self.count("barograph_aws_get_metric_data_calls", "Calls of GetMetricData", 1);
            }
            Heard::Throttled => self.throttled(),
        }
    }

    /// Of ListMetrics.
    pub(super) fn listed(&self, heard: Heard) {
        match heard {
            Heard::Called => {
                self.0.listings.fetch_add(1, Ordering::Relaxed);
                self.count("barograph_aws_list_metrics_calls", "Calls of ListMetrics", 1);
            }
            Heard::Throttled => self.throttled(),
        }
    }

    fn throttled(&self) {
        self.0.throttles.fetch_add(1, Ordering::Relaxed);
        self.count("barograph_aws_throttles", "Times that AWS said it was asked too often", 1);
    }

    /// How late the newest points of a namespace are.
    pub(super) fn lag(&self, namespace: &str, seconds: f64) {
        let Some(Shown { telemetry, label }) = &*self.0.shown.lock() else { return };
        let help = "How long after the end of its period CloudWatch has a point, as it was seen last";
        let name = "barograph_aws_publication_lag_seconds";
        let lags = telemetry.shared(name, help, Family::<LagLabel, Gauge<f64, AtomicU64>>::default);
        let label = LagLabel { component: label.component.clone(), namespace: namespace.to_owned() };
        lags.get_or_create(&label).set(seconds);
    }

    /// How many times as long as wanted it is between two collections, for the budget.
    pub(super) fn stretch(&self, factor: f64) {
        let help = "Times that the budget makes collections rarer than the file wants; 1 without effect";
        self.gauge("barograph_aws_budget_stretch", help, |gauge| {
            gauge.set(factor);
        });
    }

    pub(super) fn spent(&self) -> Spent {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let billed = read(&self.0.billed);
        Spent {
            billed,
            calls: read(&self.0.calls),
            listings: read(&self.0.listings),
            throttles: read(&self.0.throttles),
            usd: billed as f64 * USD_PER_METRIC,
        }
    }

    fn count(&self, name: &str, help: &str, by: u64) {
        if let Some(shown) = &*self.0.shown.lock() {
            shown.telemetry.counters(name, help).get_or_create(&shown.label).inc_by(by);
        }
    }

    fn gauge(&self, name: &str, help: &str, change: impl FnOnce(&Gauge<f64, AtomicU64>)) {
        if let Some(shown) = &*self.0.shown.lock() {
            change(&shown.telemetry.gauges(name, help).get_or_create(&shown.label));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::{Ask, What};
    use super::*;

    #[test]
    fn every_statistic_is_billed_unless_five_are_one() {
        let mut ask = Ask::default();
        for statistic in ["Average", "Maximum", "Sum", "Minimum", "p99", "p50"] {
            ask.need("Latency", statistic);
        }
        ask.need("Errors", "Sum");
        let inputs =
            vec![("a".into(), "Hits".into(), "Sum".into()), ("b".into(), "Misses".into(), "Sum".into())];
        ask.figures.push(super::super::target::Figure {
            what: What::Expression { text: "a/b".into(), inputs },
            to: None,
        });
        assert_eq!(billed(ask.metrics(), BilledBy::Statistic), 9);
        assert_eq!(
            billed(ask.metrics(), BilledBy::FiveStatistics),
            5,
            "six are two, and the others one each"
        );
    }

    #[test]
    fn what_was_spent_is_counted_and_shown() {
        let (meter, telemetry) = (Meter::default(), Telemetry::default());
        meter.show(&telemetry, "cloud");
        meter.bill(5_000);
        meter.got(Heard::Called);
        for (namespace, seconds) in [("AWS/EC2", 90.0), ("App", 30.0)] {
            meter.lag(namespace, seconds);
        }
        assert_eq!(meter.spent(), Spent { billed: 5_000, calls: 1, usd: 0.05, ..Spent::default() });
        let text = telemetry.encode();
        assert!(text.contains("barograph_aws_billed_metrics_total{component=\"cloud\"} 5000"), "{text}");
        assert!(text.contains("barograph_aws_cost_dollars{component=\"cloud\"} 0.05"), "{text}");
        let lag = "barograph_aws_publication_lag_seconds{component=\"cloud\",namespace=\"AWS/EC2\"} 90";
        assert!(text.contains(lag), "each namespace has its own: {text}");
    }
}
