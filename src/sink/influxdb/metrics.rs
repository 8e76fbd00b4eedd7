//! What the sink counts about itself.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::{ComponentLabel, Telemetry};

/// Label of a request: the sink, what came of it, and the first digit of the answer's status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    component: String,
    outcome: &'static str,
    status: &'static str,
}

/// Counters of one sink.
#[derive(Debug)]
pub(super) struct Metrics {
    component: String,
    requests: Family<RequestLabel, Counter>,
    duration: Histogram,
    /// Bytes of line protocol in requests, before compression.
    pub(super) line_bytes: Counter,
    /// Bytes of request bodies as they were sent.
    pub(super) sent_bytes: Counter,
    /// Rows for which there is no line.
    pub(super) rows_left_out: Counter,
    /// Success answers that the protocol does not know.
    pub(super) odd_answers: Counter,
}

impl Metrics {
    /// Registers everything under this component's name.
    pub(super) fn new(telemetry: &Telemetry, component: &str) -> Self {
        let label = ComponentLabel::new(component);
        let counter = |name: &str, help: &str| telemetry.counters(name, help).get_or_create(&label).clone();
        let durations = telemetry.shared(
            "barograph_influxdb_request_duration_seconds",
            "Time from sending a write request to its answer",
            || {
                // From 1 ms to about 33 s: a request is given up after 30 s if nothing else is set.
                let buckets = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
                Family::<ComponentLabel, Histogram, fn() -> Histogram>::new_with_constructor(buckets)
            },
        );
        Self {
            requests: telemetry.shared(
                "barograph_influxdb_requests",
                "Write requests, by what came of them and the class of their status",
                Family::<RequestLabel, Counter>::default,
            ),
            duration: durations.get_or_create(&label).clone(),
            line_bytes: counter("barograph_influxdb_line_bytes", "Bytes of line protocol before compression"),
            sent_bytes: counter("barograph_influxdb_sent_bytes", "Bytes of request bodies as they were sent"),
            rows_left_out: counter(
                "barograph_influxdb_rows_left_out",
                "Rows that line protocol cannot say: empty ones and refused ones",
            ),
            odd_answers: counter(
                "barograph_influxdb_odd_answers",
                "Answers of success that InfluxDB does not give; the rows count as stored",
            ),
            component: component.to_owned(),
        }
    }

    /// Counts a request that had an answer of this status, or none.
    pub(super) fn request(&self, outcome: &'static str, status: Option<u16>, took: Duration) {
        let status = match status.map(|status| status / 100) {
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            Some(_) => "other",
            None => "none",
        };
        let label = RequestLabel { component: self.component.clone(), outcome, status };
        self.requests.get_or_create(&label).inc();
        self.duration.observe(took.as_secs_f64());
    }
}
