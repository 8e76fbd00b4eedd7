//! The real pipeline with a source of the bench's own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use barograph::config;
use barograph::model::MetricBatch;
use barograph::pipeline::plan::SourcePlan;
use barograph::pipeline::{Ending, Plan, Runner, SinkView};
use barograph::provider::{Collection, Collector, Shard, Window};
use barograph::telemetry::Telemetry;
use parking_lot::Mutex;

/// Rows of one collection, about.
const COLLECTED: usize = 50_000;
/// A collection may take this long.
const DEADLINE: Duration = Duration::from_secs(60);

type Batches = Box<dyn Iterator<Item = MetricBatch> + Send>;

/// Gives its rows as fast as they are taken, and then no more.
struct Supply {
    batches: Mutex<Batches>,
    over: AtomicBool,
}

#[async_trait]
impl Collector for Supply {
    async fn discover(&self) -> barograph::Result<Vec<Shard>> {
        Ok(vec![Shard("fleet".into())])
    }

    async fn collect(&self, _: &Shard, _: Window) -> barograph::Result<Collection> {
        let mut collection = Collection::default();
        if self.over.load(Ordering::Relaxed) {
            // An empty collection at every tick would cost more than nothing.
            tokio::time::sleep(DEADLINE / 2).await;
            return Ok(collection);
        }
        let mut batches = self.batches.lock();
        while collection.rows() < COLLECTED {
            match batches.next() {
                Some(batch) => collection.batches.push(batch),
                None => {
                    self.over.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        Ok(collection)
    }
}

/// A running pipeline with one source and one sink.
pub struct Pipeline {
    runner: Runner,
    telemetry: Telemetry,
}

impl Pipeline {
    /// Starts one whose sink has these keys.
    pub async fn start(
        url: &str,
        keys: &str,
        data: &Path,
        batches: impl Iterator<Item = MetricBatch> + Send + 'static,
    ) -> Self {
        let text = format!(
            "name: delivery\nsettings: {{ listen: none, drain: 1h }}\n\
             sources: {{ fleet: {{ type: host, every: 1s }} }}\n\
             sinks:\n  influx: {{ type: influxdb, url: '{url}', {keys}, backlog: {{ max_bytes: 1TiB }} }}\n"
        );
        let checked = config::check(&text, "delivery.yaml").unwrap_or_else(|faults| panic!("{faults}"));
        let telemetry = Telemetry::default();
        let mut plan = Plan::new(&checked, None, Some(data), &telemetry).unwrap();
        let supply =
            Arc::new(Supply { batches: Mutex::new(Box::new(batches)), over: AtomicBool::new(false) });
        plan.sources = vec![SourcePlan {
            name: "fleet".into(),
            // Ticks that come while a collection goes on are skipped: as soon as one is over the next begins.
            every: Duration::from_millis(1),
            deadline: DEADLINE,
            jitter: Duration::ZERO,
            unchanged: false,
            build: Box::new(move || Ok(Arc::<Supply>::clone(&supply))),
        }];
        let runner = Runner::start(plan).await.unwrap();
        Self { runner, telemetry }
    }

    /// The sink now.
    pub fn sink(&self) -> SinkView {
        self.runner.monitor().view().sinks.remove(0)
    }

    /// Waits until so many rows have found their end.
    pub async fn ended(&self, rows: u64) {
        loop {
            let balance = self.sink().balance;
            if balance.delivered + balance.dead_lettered_rows() + balance.dropped_rows() >= rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Requests so far, whatever their answer.
    pub fn requests(&self) -> u64 {
        let text = self.telemetry.encode();
        let counts = text.lines().filter(|line| line.starts_with("barograph_influxdb_requests_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Stops it.
    pub async fn stop(self) -> Ending {
        self.runner.stop().await
    }
}
