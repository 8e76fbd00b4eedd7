//! What Barograph counts about itself. A leaf module: every room may count, `serve` prints.
//!
//! One [`Telemetry`] per process is made in `cli` and handed down by clones; tests make their own.
//! Names follow OpenTelemetry (`barograph.sink.rows` becomes `barograph_sink_rows_total` in the Prometheus text).

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// All self-metrics; cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    registry: Arc<RwLock<Registry>>,
    counters: Families<Counter>,
    gauges: Families<Gauge<f64, AtomicU64>>,
    /// Other kinds of metrics and families, by name.
    others: Arc<Mutex<HashMap<String, Box<dyn Any + Send>>>>,
}

/// Families by name: a component that is opened again, or beside another, counts on in the same family.
type Families<M> = Arc<Mutex<HashMap<String, Family<ComponentLabel, M>>>>;

/// The one label that most self-metrics carry: the name of the source, sink or transform in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ComponentLabel {
    /// Name in the pipeline file.
    pub component: String,
}

impl ComponentLabel {
    /// A label for the component of this name.
    pub fn new(component: impl Into<String>) -> Self {
        Self { component: component.into() }
    }
}

impl Telemetry {
    /// The family of counters of this name, registered at the first call; `name` without the `_total` suffix.
    pub fn counters(&self, name: &str, help: &str) -> Family<ComponentLabel, Counter> {
        self.family(&self.counters, name, help)
    }

    /// The family of gauges of this name, registered at the first call.
    pub fn gauges(&self, name: &str, help: &str) -> Family<ComponentLabel, Gauge<f64, AtomicU64>> {
        self.family(&self.gauges, name, help)
    }

    fn family<M>(&self, families: &Families<M>, name: &str, help: &str) -> Family<ComponentLabel, M>
    where
        M: Default + Clone,
        Family<ComponentLabel, M>: Metric,
    {
        let mut families = families.lock();
        if let Some(family) = families.get(name) {
            return family.clone();
        }
        let family = Family::<ComponentLabel, M>::default();
        self.registry.write().register(name, help, family.clone());
        families.insert(name.to_owned(), family.clone());
        family
    }

    /// The metric or family of this name, made and registered at the first call; for labels and kinds that the methods
    /// above do not have. A name belongs to one kind: under another kind it would not be shown.
    pub fn shared<M: Metric + Clone>(&self, name: &str, help: &str, make: impl FnOnce() -> M) -> M {
        let mut others = self.others.lock();
        if let Some(known) = others.get(name) {
            return known.downcast_ref::<M>().cloned().unwrap_or_else(make);
        }
        let metric = make();
        self.registry.write().register(name, help, metric.clone());
        others.insert(name.to_owned(), Box::new(metric.clone()));
        metric
    }

    /// Registers any other metric of `prometheus-client`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.write().register(name, help, metric);
    }

    /// Everything in the Prometheus (OpenMetrics) text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; a formatting fault would only cut the text short.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.read());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_show_under_their_component() {
        let telemetry = Telemetry::default();
        let rows = telemetry.counters("barograph_sink_rows", "Rows delivered");
        rows.get_or_create(&ComponentLabel::new("store")).inc_by(7);
        let text = telemetry.encode();
        assert!(text.contains("barograph_sink_rows_total{component=\"store\"} 7"), "{text}");

        telemetry
            .counters("barograph_sink_rows", "Rows delivered")
            .get_or_create(&ComponentLabel::new("store"))
            .inc();
        let text = telemetry.encode();
        assert!(text.contains("barograph_sink_rows_total{component=\"store\"} 8"), "{text}");
        assert_eq!(text.matches("# TYPE barograph_sink_rows ").count(), 1, "{text}");
    }

    #[test]
    fn a_metric_of_another_kind_is_shared_by_its_name() {
        let telemetry = Telemetry::default();
        let lone = || telemetry.shared("barograph_lone", "One of its kind", Counter::<u64>::default);
        lone().inc();
        lone().inc();
        let text = telemetry.encode();
        assert!(text.contains("barograph_lone_total 2"), "{text}");
        assert_eq!(text.matches("# TYPE barograph_lone ").count(), 1, "{text}");
    }
}
