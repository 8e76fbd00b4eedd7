//! Instances of EC2 with the metrics that every one of them has.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::series::{Kind, Shape};
use super::world::World;

/// How often an instance publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitoring {
    /// Points of five minutes, of which each is there after its first sample and changes with the others.
    Basic,
    /// Points of a minute.
    Detailed,
}

/// Name, unit and samples. The names are those of the EC2 user guide for an instance on Nitro.
pub const METRICS: [(&str, &str, Shape); 10] = [
    ("CPUUtilization", "Percent", Shape::Between(0.0, 100.0)),
    ("NetworkIn", "Bytes", Shape::Whole(0.0, 50_000_000.0)),
    ("NetworkOut", "Bytes", Shape::Whole(0.0, 50_000_000.0)),
    ("EBSReadBytes", "Bytes", Shape::Whole(0.0, 10_000_000.0)),
    ("EBSWriteBytes", "Bytes", Shape::Whole(0.0, 10_000_000.0)),
    ("EBSReadOps", "Count", Shape::Whole(0.0, 3000.0)),
    ("EBSWriteOps", "Count", Shape::Whole(0.0, 3000.0)),
    ("StatusCheckFailed", "Count", Shape::Flag(0.01)),
    ("StatusCheckFailed_Instance", "Count", Shape::Flag(0.01)),
    ("StatusCheckFailed_System", "Count", Shape::Flag(0.01)),
];

/// Instances that were added together.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub account: String,
    pub region: String,
    pub size: usize,
    prefix: String,
}

impl Fleet {
    /// The prefix is hexadecimal and tells fleets apart.
    pub fn new(account: &str, region: &str, size: usize, prefix: &str) -> Self {
        assert!(prefix.len() < 12 && prefix.bytes().all(|byte| byte.is_ascii_hexdigit()), "prefix {prefix}");
        Self { account: account.into(), region: region.into(), size, prefix: prefix.into() }
    }

    /// Of an instance, with 17 digits as real ones have.
    pub fn id(&self, number: usize) -> String {
        format!("i-{}{number:0width$x}", self.prefix, width = 17 - self.prefix.len())
    }

    pub fn ids(&self) -> impl Iterator<Item = String> {
        (0..self.size).map(|number| self.id(number))
    }

    pub(super) fn add(&self, world: &mut World, monitoring: Monitoring, lag: &RangeInclusive<i64>) {
        let kinds = METRICS.map(|(metric, unit, shape)| {
            let basic = monitoring == Monitoring::Basic && !metric.starts_with("StatusCheck");
            Arc::new(Kind {
                namespace: "AWS/EC2".into(),
                metric: metric.into(),
                unit: unit.into(),
                period: if basic { 300 } else { 60 },
                lag: lag.clone(),
                shape,
            })
        });
        let name: Arc<str> = "InstanceId".into();
        let place = world.place(&self.account, &self.region);
        for id in self.ids() {
            let dimensions = Arc::new([(Arc::clone(&name), Arc::from(id))]);
            for kind in &kinds {
                world.add_of(place, kind, &(Arc::clone(&dimensions) as _));
            }
        }
    }
}
