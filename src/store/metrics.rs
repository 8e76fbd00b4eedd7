//! What the store counts about itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::state::Core;
use crate::telemetry::{ComponentLabel, Telemetry};

type Gauges = Family<ComponentLabel, Gauge<f64, AtomicU64>>;

/// Counters and gauges of one store.
#[derive(Debug)]
pub(super) struct Metrics {
    label: ComponentLabel,
    pub(super) flushes: Counter,
    pub(super) flushed_rows: Counter,
    pub(super) failed_flushes: Counter,
    pub(super) compactions: Counter,
    pub(super) compacted_rows: Counter,
    pub(super) failed_compactions: Counter,
    pub(super) dropped_segments: Counter,
    buffered_rows: Gauges,
    buffered_bytes: Gauges,
    segments: Gauges,
    segment_bytes: Gauges,
    log_bytes: Gauges,
}

impl Metrics {
    /// Registers everything under this component's name.
    pub(super) fn new(telemetry: &Telemetry, component: &str) -> Self {
        let label = ComponentLabel::new(component);
        let counter = |name: &str, help: &str| telemetry.counters(name, help).get_or_create(&label).clone();
        Self {
            flushes: counter("barograph_store_flushes", "Flushes of buffered rows to segments"),
            flushed_rows: counter("barograph_store_flushed_rows", "Rows written to segments by flushes"),
            failed_flushes: counter(
                "barograph_store_failed_flushes",
                "Flushes that failed and will be retried",
            ),
            compactions: counter("barograph_store_compactions", "Compactions of segments"),
            compacted_rows: counter("barograph_store_compacted_rows", "Rows written by compactions"),
            failed_compactions: counter(
                "barograph_store_failed_compactions",
                "Groups of segments that could not be merged",
            ),
            dropped_segments: counter("barograph_store_dropped_segments", "Segments dropped by retention"),
            buffered_rows: telemetry.gauges("barograph_store_buffered_rows", "Rows not in segments yet"),
            buffered_bytes: telemetry.gauges("barograph_store_buffered_bytes", "Bytes of buffered rows"),
            segments: telemetry.gauges("barograph_store_segments", "Live segments"),
            segment_bytes: telemetry.gauges("barograph_store_segment_bytes", "Bytes of live segments"),
            log_bytes: telemetry.gauges("barograph_store_log_bytes", "Bytes of the log"),
            label,
        }
    }

    /// Takes the gauges anew.
    pub(super) fn state(&self, core: &Core) {
        let statistics = core.statistics();
        let set = |gauges: &Gauges, value: u64| {
            gauges.get_or_create(&self.label).set(value as f64);
        };
        set(&self.buffered_rows, statistics.buffered_rows);
        set(&self.buffered_bytes, statistics.buffered_bytes);
        set(&self.segments, statistics.segments);
        set(&self.segment_bytes, statistics.segment_bytes);
        set(&self.log_bytes, statistics.log_bytes);
    }

    /// Takes the gauges away: a closed store holds nothing, and another may open it under another name.
    pub(super) fn closed(&self) {
        let gauges =
            [&self.buffered_rows, &self.buffered_bytes, &self.segments, &self.segment_bytes, &self.log_bytes];
        for gauge in gauges {
            gauge.remove(&self.label);
        }
    }
}

/// What a store holds, and what its component did since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// Rows not in segments yet.
    pub buffered_rows: u64,
    /// Bytes that they take in memory.
    pub buffered_bytes: u64,
    /// Live segments.
    pub segments: u64,
    /// Rows in them.
    pub segment_rows: u64,
    /// Bytes of them on disk.
    pub segment_bytes: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Manifest version.
    pub version: u64,
    /// Flushes that wrote something.
    pub flushes: u64,
    /// Compactions.
    pub compactions: u64,
}

impl Core {
    /// What the store holds and did.
    pub(super) fn statistics(&self) -> StoreStatistics {
        let (buffered_rows, buffered_bytes, manifest) = {
            let state = self.state.lock();
            let flushing = state.flushing.as_ref().map_or(0, |flushing| flushing.row_count);
            (state.memory.rows() + flushing, state.buffered_bytes(), std::sync::Arc::clone(&state.manifest))
        };
        let mut statistics = StoreStatistics {
            buffered_rows: buffered_rows as u64,
            buffered_bytes: buffered_bytes as u64,
            log_bytes: self.log().map_or(0, |log| log.bytes()),
            version: manifest.version,
            flushes: self.metrics.flushes.get(),
            compactions: self.metrics.compactions.get(),
            ..StoreStatistics::default()
        };
        for (_, segment) in manifest.segments() {
            statistics.segments += 1;
            statistics.segment_rows += segment.rows;
            statistics.segment_bytes += segment.bytes;
        }
        statistics
    }
}
