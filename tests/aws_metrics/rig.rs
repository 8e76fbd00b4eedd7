//! A source against the fakes, driven as the pipeline drives it, with simulated time: the windows and the fake's clock are
//! all the time that there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use barograph::Error;
use barograph::model::{MetricBatch, Secret};
use barograph::provider::aws::{Account, AwsCollector, Config, Endpoints};
use barograph::provider::{Collector, Shard, Window};
use futures::StreamExt;

use crate::fake_cloudwatch::{Clock, Fake, Fleet, Monitoring, Quotas, SeriesKey, Settings};
use crate::fake_ec2::{Ec2, Instance};

pub const REGION: &str = "eu-west-1";
pub const OWN: &str = "111111111111";
pub const OTHER: &str = "222222222222";
pub const SECOND: i64 = 1_000_000_000;
/// A time that begins a day.
pub const T: i64 = 1_799_971_200;

/// The fakes and their clock.
pub struct Rig {
    pub cloudwatch: Fake,
    pub ec2: Ec2,
    pub clock: Arc<AtomicI64>,
}

/// What a source has handed on, as a store keeps it: rows replace themselves field by field.
pub struct Source {
    pub collector: AwsCollector,
    pub marks: BTreeMap<String, i64>,
    pub every: i64,
    /// By table, tags in one text, and time in seconds.
    pub rows: BTreeMap<(String, String, i64), BTreeMap<String, f64>>,
    pub texts: BTreeMap<(String, String, i64), BTreeMap<String, String>>,
    /// Values that were replaced by others.
    pub replaced: usize,
    /// Rows as they came, the same ones again counted again.
    pub came: usize,
    pub faults: Vec<String>,
    pub failures: usize,
}

impl Rig {
    pub async fn new() -> Self {
        let (clock, set) = Clock::at(T);
        let cloudwatch = Fake::start(Settings { quotas: Quotas::unpaced(), ..Settings::new(clock) }).await;
        let ec2 = Ec2::start().await;
        for (key, account) in [("AKIAOWN", OWN), ("AKIAOTHER", OTHER)] {
            cloudwatch.add_account(key, account);
            ec2.add_account(key, account);
        }
        Self { cloudwatch, ec2, clock: set }
    }

    /// Instances in the inventory and their metrics.
    pub fn fleet(&self, size: usize, monitoring: Monitoring, prefix: &str) -> Fleet {
        let fleet = self.cloudwatch.add_fleet(OWN, REGION, size, monitoring, prefix);
        for id in fleet.ids() {
            let detailed = monitoring == Monitoring::Detailed;
            self.ec2.put(OWN, REGION, Instance { detailed, ..Instance::running(&id) });
        }
        fleet
    }

    pub fn config(&self) -> Config {
        let account = Account {
            id: Some(OWN.into()),
            access_key_id: Some("AKIAOWN".into()),
            secret_access_key: Some(Secret::new("secret")),
            ..Account::default()
        };
        Config {
            accounts: vec![account],
            regions: vec![REGION.into()],
            endpoints: Endpoints {
                ec2: Some(self.ec2.url()),
                cloudwatch: Some(self.cloudwatch.url()),
                sts: Some(self.ec2.url()),
                pricing: None,
            },
            ..Config::default()
        }
    }

    pub fn at(&self, now: i64) {
        self.clock.store(now, Ordering::SeqCst);
    }
}

impl Source {
    pub fn new(config: &Config, every: i64) -> Self {
        Self {
            collector: AwsCollector::new(config).unwrap().of_source(
                "cloud",
                std::time::Duration::from_secs(every.unsigned_abs()),
                &barograph::telemetry::Telemetry::default(),
            ),
            marks: BTreeMap::new(),
            every,
            rows: BTreeMap::new(),
            texts: BTreeMap::new(),
            replaced: 0,
            came: 0,
            faults: Vec::new(),
            failures: 0,
        }
    }

    /// The process ends and another goes on with the marks and the store.
    pub fn restart(&mut self, config: &Config) {
        self.collector = Self::new(config, self.every).collector;
    }

    pub async fn shards(&self) -> Vec<Shard> {
        self.collector.discover().await.unwrap()
    }

    /// Polls all shards from a time to another, as the pipeline does.
    pub async fn run(&mut self, rig: &Rig, from: i64, to: i64) {
        let mut now = from;
        while now <= to {
            rig.at(now);
            self.poll(now).await;
            now += self.every;
        }
    }

    /// One tick.
    pub async fn poll(&mut self, now: i64) {
        for shard in self.shards().await {
            let start = *self.marks.entry(shard.0.clone()).or_insert((now - self.every) * SECOND);
            let window = Window { start, end: now * SECOND };
            self.collector.told(window.end);
            for part in window.parts(self.collector.longest_window()) {
                match self.window(&shard, part).await {
                    Ok(reached) => {
                        let mark = self.marks.get_mut(&shard.0).unwrap();
                        // Windows touch, or the later one waits for the earlier.
                        if part.start <= *mark {
                            *mark = reached.clamp(part.start, part.end);
                        }
                    }
                    Err(error) => {
                        self.failures += 1;
                        self.faults.push(error.chain());
                        break;
                    }
                }
            }
        }
    }

    async fn window(&mut self, shard: &Shard, window: Window) -> Result<i64, Error> {
        let mut batches = Vec::new();
        let mut reached = window.end;
        let mut pieces = self.collector.pieces(shard, window);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            reached = piece.reached.unwrap_or(reached).min(reached);
            self.faults.extend(piece.faults.iter().map(Error::chain));
            batches.extend(piece.batches);
        }
        drop(pieces);
        batches.iter().for_each(|batch| self.keep(batch));
        Ok(reached)
    }

    fn keep(&mut self, batch: &MetricBatch) {
        let records = batch.records();
        let schema = records.schema();
        for row in 0..batch.rows() {
            self.came += 1;
            let mut tags = String::new();
            let (mut fields, mut texts) = (BTreeMap::new(), BTreeMap::new());
            for (field, column) in schema.fields().iter().zip(records.columns()) {
                if column.is_null(row) {
                    continue;
                }
                match field.data_type() {
                    DataType::Dictionary(..) => {
                        tags += &format!("{}={} ", field.name(), batch.tag(field.name(), row).unwrap());
                    }
                    DataType::Float64 => {
                        fields.insert(field.name().clone(), column.as_primitive::<Float64Type>().value(row));
                    }
                    DataType::Boolean => {
                        fields.insert(
                            field.name().clone(),
                            f64::from(u8::from(column.as_boolean().value(row))),
                        );
                    }
                    DataType::Utf8 => {
                        texts.insert(field.name().clone(), column.as_string::<i32>().value(row).to_owned());
                    }
                    _ => {}
                }
            }
            let key = (batch.table().to_owned(), tags, batch.times()[row] / SECOND);
            let known = self.rows.entry(key.clone()).or_default();
            for (name, value) in fields {
                if known.insert(name, value).is_some_and(|before| before.to_bits() != value.to_bits()) {
                    self.replaced += 1;
                }
            }
            self.texts.entry(key).or_default().extend(texts);
        }
    }

    /// The values of a column of a resource, by time; `with` are words that the tags have.
    pub fn values(&self, table: &str, id: &str, with: &[&str], field: &str) -> BTreeMap<i64, f64> {
        let id = format!("resource_id={id} ");
        let of = |(name, tags, _): &&(String, String, i64)| {
            name == table && tags.contains(&id) && with.iter().all(|word| tags.contains(word))
        };
        let found = self.rows.iter().filter(|(key, _)| of(key));
        found.filter_map(|((.., time), fields)| Some((*time, *fields.get(field)?))).collect()
    }

    /// The same of texts.
    pub fn words(&self, table: &str, id: &str, field: &str) -> Vec<(i64, String)> {
        let id = format!("resource_id={id} ");
        let of = self.texts.iter().filter(|((name, tags, _), _)| name == table && tags.contains(&id));
        of.filter_map(|((.., time), fields)| Some((*time, fields.get(field)?.clone()))).collect()
    }
}

/// What a metric becomes: table, words of the tags, field, and factor to the native figure.
pub fn column(metric: &str, period: i64) -> (&'static str, &'static [&'static str], &'static str, f64) {
    let rate = 1.0 / period as f64;
    match metric {
        "CPUUtilization" => ("cpu", &[], "utilization", 0.01),
        "NetworkIn" => ("network", &[], "receive_bytes_per_second", rate),
        "NetworkOut" => ("network", &[], "transmit_bytes_per_second", rate),
        "EBSReadBytes" => ("disk", &["device=ebs"], "read_bytes_per_second", rate),
        "EBSWriteBytes" => ("disk", &["device=ebs"], "write_bytes_per_second", rate),
        "StatusCheckFailed" => ("checks", &[], "failed", 1.0),
        other => panic!("{other} is not asked for"),
    }
}

/// The basic metrics with their statistics and periods.
pub fn basic(monitoring: Monitoring) -> Vec<(&'static str, &'static str, i64)> {
    let period = if monitoring == Monitoring::Basic { 300 } else { 60 };
    let mut metrics: Vec<_> = ["NetworkIn", "NetworkOut", "EBSReadBytes", "EBSWriteBytes"]
        .into_iter()
        .map(|metric| (metric, "Sum", period))
        .collect();
    metrics.extend([("CPUUtilization", "Average", period), ("StatusCheckFailed", "Maximum", 60)]);
    metrics
}

/// Compares every point of a fleet with what the fake says it has to be in the end, from the period that ends after `from`
/// to the one that ends at `to`; returns how many there were.
#[track_caller]
pub fn compare(
    rig: &Rig,
    source: &Source,
    fleet: &Fleet,
    monitoring: Monitoring,
    from: i64,
    to: i64,
) -> usize {
    let mut compared = 0;
    for id in fleet.ids() {
        for (metric, statistic, period) in basic(monitoring) {
            let (table, tags, field, factor) = column(metric, period);
            let stored = source.values(table, &id, tags, field);
            let key = SeriesKey::ec2(&fleet.account, &fleet.region, &id, metric);
            let truth = rig.cloudwatch.truth_points(&key, from, to - period + 1, period, statistic);
            let truth: BTreeMap<i64, f64> =
                truth.map(|(time, value)| (time + period, value * factor)).collect();
            for (time, value) in &truth {
                let found = stored.get(time);
                let near = found.is_some_and(|found| (found - value).abs() <= 1e-9 * value.abs().max(1.0));
                assert!(near, "{metric} of {id} at T+{}: {found:?} and not {value}", time - T);
                compared += 1;
            }
            let invented = stored.range(from + 1..=to).find(|(time, _)| !truth.contains_key(time));
            assert_eq!(invented, None, "{metric} of {id} was never published");
        }
    }
    compared
}

/// Whether some fault says this.
pub fn told(source: &Source, word: &str) -> usize {
    source.faults.iter().filter(|fault| fault.contains(word)).count()
}
