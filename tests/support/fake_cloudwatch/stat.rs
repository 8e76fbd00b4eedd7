//! Statistics of a datapoint.

/// What of the samples of a period is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stat {
    Average,
    Sum,
    Minimum,
    Maximum,
    SampleCount,
    /// `p99`, `p99.9`: linear between the nearest ranks.
    Percentile(f64),
    /// `tm99`: the mean of the lowest 99 % of the samples.
    TrimmedMean(f64),
    /// `tc99`: their number.
    TrimmedCount(f64),
    /// `ts99`: their sum.
    TrimmedSum(f64),
}

impl Stat {
    /// As a query names it, or nothing if CloudWatch would refuse the name. What is missing of the real ones: `wm`, `PR`,
    /// `IQM` and ranges such as `TM(10%:90%)`.
    pub fn parse(name: &str) -> Option<Self> {
        let part = |rest: &str| {
            let digits = rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let value = rest.parse::<f64>().ok().filter(|_| digits)?;
            (0.0..=100.0).contains(&value).then_some(value)
        };
        Some(match name {
            "Average" => Self::Average,
            "Sum" => Self::Sum,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "SampleCount" => Self::SampleCount,
            _ => {
                let start = name.bytes().position(|byte| byte.is_ascii_digit())?;
                let value = part(&name[start..])?;
                match &name[..start] {
                    "p" => Self::Percentile(value),
                    "tm" => Self::TrimmedMean(value),
                    "tc" => Self::TrimmedCount(value),
                    "ts" => Self::TrimmedSum(value),
                    _ => return None,
                }
            }
        })
    }

    /// Whether single values are needed, and not only sums of them.
    pub fn ranks(self) -> bool {
        !matches!(self, Self::Average | Self::Sum | Self::Minimum | Self::Maximum | Self::SampleCount)
    }
}

/// The samples of a period, as far as one statistic needs them.
#[derive(Debug)]
pub struct Aggregate {
    stat: Stat,
    count: f64,
    sum: f64,
    low: f64,
    high: f64,
    /// Values and how often each came.
    values: Vec<(f64, f64)>,
    /// A statistic set hides its values, so that there is no percentile.
    hidden: bool,
}

impl Aggregate {
    pub fn new(stat: Stat) -> Self {
        let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { stat, count: 0.0, sum: 0.0, low, high, values: Vec::new(), hidden: false }
    }

    pub fn add(&mut self, value: f64, count: f64) {
        self.add_set(count, value * count, value, value);
    }

    /// A statistic set; one that can only be a single value repeated counts as that.
    pub fn add_set(&mut self, count: f64, sum: f64, low: f64, high: f64) {
        self.count += count;
        self.sum += sum;
        self.low = self.low.min(low);
        self.high = self.high.max(high);
        if self.stat.ranks() {
            self.values.push((low, count));
            self.hidden |= low != high || sum != low * count;
        }
    }

    /// Nothing without samples.
    pub fn value(mut self) -> Option<f64> {
        // CloudWatch has no percentiles of data with negative values.
        if self.count <= 0.0 || self.stat.ranks() && (self.hidden || self.low < 0.0) {
            return None;
        }
        if self.stat.ranks() {
            self.values.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        Some(match self.stat {
            Stat::Average => self.sum / self.count,
            Stat::Sum => self.sum,
            Stat::Minimum => self.low,
            Stat::Maximum => self.high,
            Stat::SampleCount => self.count,
            Stat::Percentile(part) => self.percentile(part),
            Stat::TrimmedMean(part) => {
                let (count, sum) = self.lowest(part);
                sum / count
            }
            Stat::TrimmedCount(part) => self.lowest(part).0,
            Stat::TrimmedSum(part) => self.lowest(part).1,
        })
    }

    fn percentile(&self, part: f64) -> f64 {
        let rank = part / 100.0 * (self.count - 1.0).max(0.0);
        let at = |rank: f64| {
            let mut seen = 0.0;
            let found = self.values.iter().find(|(_, count)| {
                seen += count;
                rank < seen
            });
            found.map_or(self.high, |(value, _)| *value)
        };
        let low = at(rank.floor());
        low + rank.fract() * (at(rank.floor() + 1.0) - low)
    }

    /// Number and sum of the lowest part; at least one sample stays.
    fn lowest(&self, part: f64) -> (f64, f64) {
        let keep = (self.count * part / 100.0).ceil().max(1.0);
        let (mut count, mut sum) = (0.0, 0.0);
        for (value, times) in &self.values {
            let taken = times.min(keep - count);
            count += taken;
            sum += value * taken;
        }
        (count, sum)
    }
}
