//! The pipeline's self-metrics. The running parts count for themselves; before each reading their numbers are copied
//! here, so that the five row counters of a sink come from one moment and always balance.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::account::Policy;
use super::deliver::ABOUT_ROWS;
use super::monitor::{Monitor, SinkPhase, SinkView, SourcePhase, SourceView, TransformNumbers, View};
use crate::telemetry::{ComponentLabel, Telemetry};

type Counters = Family<ComponentLabel, Counter>;
type Gauges = Family<ComponentLabel, Gauge<f64, AtomicU64>>;

/// Label of rows that did not arrive: the sink, and the kind of error or the policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    component: String,
    reason: String,
}

/// Label of a sink's health.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    component: String,
    state: &'static str,
}

/// The self-metrics of a process's pipeline.
#[derive(Debug)]
pub struct Metrics {
    telemetry: Telemetry,
    // Two readers at once would mix two moments.
    reading: Mutex<()>,
    rows_accepted: Counters,
    rows_delivered: Counters,
    rows_dead_lettered: Family<ReasonLabel, Counter>,
    rows_dropped: Family<ReasonLabel, Counter>,
    rows_queued: Gauges,
    source_rows: Counters,
    collections: Counters,
    collection_failures: Counters,
    faults: Counters,
    ticks_skipped: Counters,
    clock_jumps: Counters,
    shards: Gauges,
    waiting: Gauges,
    collection_duration: Gauges,
    lag: Gauges,
    transform_in: Counters,
    transform_out: Counters,
    transform_refused: Counters,
    sink_open: Gauges,
    sink_writes: Counters,
    sink_retries: Family<ReasonLabel, Counter>,
    sink_health: Family<StateLabel, Gauge<f64, AtomicU64>>,
    oldest: Gauges,
    backlog_rows: Gauges,
    backlog_bytes: Gauges,
    backlog_max_bytes: Gauges,
    backlog_blocked: Gauges,
    letters_discarded: Counters,
    reloads: Counters,
    reloads_refused: Counters,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(telemetry: &Telemetry) -> Self {
        let counter = |name: &str, help: &str| telemetry.counters(name, help);
        let gauge = |name: &str, help: &str| telemetry.gauges(name, help);
        let reasons = |name: &str, help: &str| {
            let family = Family::<ReasonLabel, Counter>::default();
            telemetry.register(name, help, family.clone());
            family
        };
        Self {
            rows_accepted: counter(
                "barograph_pipeline_rows_accepted",
                "Rows taken into the pipeline, by sink",
            ),
            rows_delivered: counter("barograph_pipeline_rows_delivered", "Rows durable in the sink"),
            rows_dead_lettered: reasons(
                "barograph_pipeline_rows_dead_lettered",
                "Rows given up, by kind of error",
            ),
            rows_dropped: reasons("barograph_pipeline_rows_dropped", "Rows dropped on purpose, by policy"),
            rows_queued: gauge("barograph_pipeline_rows_queued", "Rows on their way to the sink"),
            source_rows: counter("barograph_source_rows", "Rows handed to the pipeline"),
            collections: counter("barograph_source_collections", "Collections that brought an answer"),
            collection_failures: counter(
                "barograph_source_collection_failures",
                "Collections that failed as a whole",
            ),
            faults: counter(
                "barograph_source_faults",
                "Parts of collections that failed while the rest came",
            ),
            ticks_skipped: counter(
                "barograph_source_ticks_skipped",
                "Ticks skipped because the source was busy",
            ),
            clock_jumps: counter(
                "barograph_source_clock_jumps",
                "Times the clock was set or the machine slept",
            ),
            shards: gauge("barograph_source_shards", "Shards that are collected"),
            waiting: gauge("barograph_source_waiting", "1 while there is nothing to measure"),
            collection_duration: gauge(
                "barograph_source_collection_duration_seconds",
                "How long the last collection took",
            ),
            lag: gauge(
                "barograph_source_lag_seconds",
                "Age of the oldest durable mark of the source's shards, or of the source while there is none",
            ),
            transform_in: counter("barograph_transform_rows_in", "Rows the transform took"),
            transform_out: counter("barograph_transform_rows_out", "Rows the transform gave"),
            transform_refused: counter("barograph_transform_rows_refused", "Rows the transform refused"),
            sink_open: gauge("barograph_sink_open", "1 while the sink takes rows"),
            sink_writes: counter("barograph_sink_writes", "Writes that the sink took"),
            sink_retries: reasons(
                "barograph_sink_retries",
                "Writes that failed and were tried again, by kind of error",
            ),
            sink_health: {
                let family = Family::<StateLabel, Gauge<f64, AtomicU64>>::default();
                telemetry.register(
                    "barograph_sink_health",
                    "1 for the state that the sink is in",
                    family.clone(),
                );
                family
            },
            oldest: gauge("barograph_sink_oldest_seconds", "Age of the oldest row on its way to the sink"),
            backlog_rows: gauge("barograph_backlog_rows", "Rows on disk that the sink has not acknowledged"),
            backlog_bytes: gauge("barograph_backlog_bytes", "Bytes of the backlog on disk"),
            backlog_max_bytes: gauge("barograph_backlog_max_bytes", "Bytes that the backlog may take"),
            backlog_blocked: gauge(
                "barograph_backlog_blocked",
                "1 while the backlog takes no rows and sources wait",
            ),
            letters_discarded: counter(
                "barograph_dead_letters_discarded_rows",
                "Rows of dead letters that had to make room for newer ones",
            ),
            reloads: counter("barograph_pipeline_reloads", "Reloads that took effect"),
            reloads_refused: counter("barograph_pipeline_reloads_refused", "Reloads that were refused"),
            telemetry: telemetry.clone(),
            reading: Mutex::new(()),
        }
    }

    /// Everything the process counts, in the OpenMetrics text format; `monitor` once there is a pipeline.
    pub fn encode(&self, monitor: Option<&Monitor>) -> String {
        let _one = self.reading.lock();
        if let Some(monitor) = monitor {
            self.publish(&monitor.view());
        }
        self.telemetry.encode()
    }

    fn publish(&self, view: &View) {
        // Components that a reload took out disappear.
        for family in self.counter_families() {
            family.clear();
        }
        for family in self.gauge_families() {
            family.clear();
        }
        self.rows_dead_lettered.clear();
        self.rows_dropped.clear();
        self.sink_retries.clear();
        self.sink_health.clear();
        view.sources.iter().for_each(|source| self.publish_source(source));
        view.transforms.iter().for_each(|transform| self.publish_transform(transform));
        view.sinks.iter().for_each(|sink| self.publish_sink(sink));
        let label = ComponentLabel::new(&view.pipeline);
        count(&self.reloads, &label, view.reloads);
        count(&self.reloads_refused, &label, view.reloads_refused);
        count(&self.letters_discarded, &label, view.letters_discarded);
    }

    fn publish_source(&self, source: &SourceView) {
        let label = ComponentLabel::new(&source.name);
        let numbers = &source.numbers;
        count(&self.source_rows, &label, numbers.rows);
        count(&self.collections, &label, numbers.collections);
        count(&self.collection_failures, &label, numbers.failures);
        count(&self.faults, &label, numbers.faults);
        count(&self.ticks_skipped, &label, numbers.skipped);
        count(&self.clock_jumps, &label, numbers.jumps);
        measure(&self.shards, &label, number(u64::try_from(numbers.shards.len()).unwrap_or(u64::MAX)));
        let waits = matches!(numbers.phase, SourcePhase::Waiting(_));
        measure(&self.waiting, &label, f64::from(u8::from(waits)));
        measure(&self.collection_duration, &label, numbers.last_duration.as_secs_f64());
        measure(&self.lag, &label, source.lag.as_secs_f64());
    }

    fn publish_transform(&self, transform: &TransformNumbers) {
        let label = ComponentLabel::new(&transform.name);
        count(&self.transform_in, &label, transform.rows_in);
        count(&self.transform_out, &label, transform.rows_out);
        count(&self.transform_refused, &label, transform.refused);
    }

    fn publish_sink(&self, sink: &SinkView) {
        let label = ComponentLabel::new(&sink.name);
        count(&self.rows_accepted, &label, sink.balance.accepted);
        count(&self.rows_delivered, &label, sink.balance.delivered);
        measure(&self.rows_queued, &label, number(sink.balance.queued));
        let by_reason = |family: &Family<ReasonLabel, Counter>, reason: &str, rows| {
            let label = ReasonLabel { component: sink.name.clone(), reason: reason.to_owned() };
            family.get_or_create(&label).inner().store(rows, Ordering::Relaxed);
        };
        // Shown from the start: who watches their increase would miss the first rows of a series that begins with them.
        for kind in ABOUT_ROWS {
            by_reason(&self.rows_dead_lettered, kind.as_str(), 0);
        }
        for policy in Policy::ALL {
            by_reason(&self.rows_dropped, policy.as_str(), 0);
        }
        for (reason, rows) in &sink.balance.dead_lettered {
            by_reason(&self.rows_dead_lettered, reason, *rows);
        }
        for (policy, rows) in &sink.balance.dropped {
            by_reason(&self.rows_dropped, policy, *rows);
        }
        measure(&self.sink_open, &label, f64::from(u8::from(sink.numbers.phase == SinkPhase::Open)));
        count(&self.sink_writes, &label, sink.numbers.writes);
        for cause in ["auth", "capacity", "denied", "not_found", "throttled", "unavailable"] {
            by_reason(&self.sink_retries, cause, 0);
        }
        for (cause, retries) in &sink.numbers.retries {
            by_reason(&self.sink_retries, cause, *retries);
        }
        for state in SinkPhase::ALL {
            let label = StateLabel { component: sink.name.clone(), state };
            let is = f64::from(u8::from(sink.numbers.phase.as_str() == state));
            self.sink_health.get_or_create(&label).set(is);
        }
        measure(&self.oldest, &label, sink.oldest.as_secs_f64());
        if let Some(backlog) = &sink.numbers.backlog {
            measure(&self.backlog_rows, &label, number(backlog.rows));
            measure(&self.backlog_bytes, &label, number(backlog.bytes));
            measure(&self.backlog_max_bytes, &label, number(backlog.max_bytes));
            measure(&self.backlog_blocked, &label, f64::from(u8::from(backlog.stuck().is_some())));
        }
    }

    fn counter_families(&self) -> [&Counters; 15] {
        [
            &self.rows_accepted,
            &self.rows_delivered,
            &self.source_rows,
            &self.collections,
            &self.collection_failures,
            &self.faults,
            &self.ticks_skipped,
            &self.clock_jumps,
            &self.transform_in,
            &self.transform_out,
            &self.transform_refused,
            &self.sink_writes,
            &self.letters_discarded,
            &self.reloads,
            &self.reloads_refused,
        ]
    }

    fn gauge_families(&self) -> [&Gauges; 11] {
        [
            &self.rows_queued,
            &self.shards,
            &self.waiting,
            &self.collection_duration,
            &self.lag,
            &self.sink_open,
            &self.oldest,
            &self.backlog_rows,
            &self.backlog_bytes,
            &self.backlog_max_bytes,
            &self.backlog_blocked,
        ]
    }
}

fn count(family: &Counters, label: &ComponentLabel, value: u64) {
    family.get_or_create(label).inner().store(value, Ordering::Relaxed);
}

fn measure(family: &Gauges, label: &ComponentLabel, value: f64) {
    family.get_or_create(label).set(value);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts beyond 2^53 do not occur")]
fn number(count: u64) -> f64 {
    count as f64
}
