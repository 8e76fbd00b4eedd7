//! A source against the fakes, whose clock is set before each tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use barograph::model::Secret;
use barograph::provider::aws::{Account, Config, Endpoints};

pub use crate::aws_source::{SECOND, Source};
use crate::fake_cloudwatch::{Clock, Fake, Fleet, Monitoring, Quotas, SeriesKey, Settings};
use crate::fake_ec2::{Ec2, Instance};

pub const REGION: &str = "eu-west-1";
pub const OWN: &str = "111111111111";
pub const OTHER: &str = "222222222222";
/// A time that begins a day.
pub const T: i64 = 1_799_971_200;

/// The fakes and their clock.
pub struct Rig {
    pub cloudwatch: Fake,
    pub ec2: Ec2,
    pub clock: Arc<AtomicI64>,
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
    /// Polls all shards from a time to another, as the pipeline does.
    pub async fn run(&mut self, rig: &Rig, from: i64, to: i64) {
        let mut now = from;
        while now <= to {
            rig.at(now);
            self.poll(now).await;
            now += self.every;
        }
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
