//! A series: its samples are computed when asked, so that millions of points take no memory.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What names a series. Its account is that which owns it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    pub account: String,
    pub region: String,
    pub namespace: String,
    pub metric: String,
    pub dimensions: Vec<(String, String)>,
}

impl SeriesKey {
    pub fn new(
        account: &str,
        region: &str,
        namespace: &str,
        metric: &str,
        dimensions: &[(&str, &str)],
    ) -> Self {
        let dimensions = dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            account: account.into(),
            region: region.into(),
            namespace: namespace.into(),
            metric: metric.into(),
            dimensions: dimensions.collect(),
        }
    }

    /// A metric of an instance.
    pub fn ec2(account: &str, region: &str, instance: &str, metric: &str) -> Self {
        Self::new(account, region, "AWS/EC2", metric, &[("InstanceId", instance)])
    }
}

/// What the one-minute samples look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Anything between two values.
    Between(f64, f64),
    /// A whole number between two values.
    Whole(f64, f64),
    /// 1 in this part of the minutes, else 0.
    Flag(f64),
    /// Always the same.
    Constant(f64),
    /// The unix minute itself, so that a test sees from a value which sample it is.
    Minute,
    /// None: only what PutMetricData brings.
    Nothing,
}

/// A series to add.
#[derive(Debug, Clone)]
pub struct SeriesSpec {
    pub key: SeriesKey,
    pub unit: String,
    /// Shortest period with points of its own: 60, or 300 as with basic monitoring.
    pub period: i64,
    /// Seconds from the end of a minute until its sample can be read; each minute has its own in this range.
    pub lag: RangeInclusive<i64>,
    /// Samples are of minutes that start in here.
    pub born: i64,
    pub died: i64,
    /// Without samples, each from a time until before a time.
    pub gaps: Vec<(i64, i64)>,
    pub shape: Shape,
}

impl SeriesSpec {
    /// With one sample each minute since ever and for ever.
    pub fn new(key: SeriesKey) -> Self {
        Self {
            key,
            unit: "None".into(),
            period: 60,
            lag: 60..=120,
            born: i64::MIN,
            died: i64::MAX,
            gaps: Vec::new(),
            shape: Shape::Between(0.0, 100.0),
        }
    }
}

/// What series have in common.
#[derive(Debug)]
pub struct Kind {
    pub namespace: Arc<str>,
    pub metric: Arc<str>,
    pub unit: Arc<str>,
    pub period: i64,
    pub lag: RangeInclusive<i64>,
    pub shape: Shape,
}

/// Names and values in the order they were given.
pub type Dimensions = Arc<[(Arc<str>, Arc<str>)]>;

/// One that is there. Small, because a fleet has hundreds of thousands.
#[derive(Debug)]
pub struct Series {
    pub hash: u64,
    pub kind: Arc<Kind>,
    pub dimensions: Dimensions,
    pub born: i64,
    pub died: i64,
    pub extra: Option<Box<Extra>>,
}

/// What few series have.
#[derive(Debug, Default)]
pub struct Extra {
    pub gaps: Vec<(i64, i64)>,
    /// By minute: from when on its sample has which value.
    pub revised: BTreeMap<i64, Vec<(i64, f64)>>,
    /// By time: what was put there.
    pub put: BTreeMap<i64, Vec<Datum>>,
}

/// Samples that came by PutMetricData.
#[derive(Debug, Clone, Copy)]
pub struct Datum {
    pub arrived: i64,
    pub count: f64,
    pub sum: f64,
    pub low: f64,
    pub high: f64,
}

/// Spreads the bits of a number over all of it (splitmix64).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

impl Series {
    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The random number of a minute, from which its value and its lag are.
    fn draw(&self, seed: u64, minute: i64) -> u64 {
        mix(self.hash ^ seed.wrapping_add((minute as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Whether there is ever a sample of this minute.
    fn has(&self, minute: i64) -> bool {
        let time = minute * 60;
        let gap = |extra: &Extra| extra.gaps.iter().any(|(from, to)| (*from..*to).contains(&time));
        self.kind.shape != Shape::Nothing
            && (self.born..self.died).contains(&time)
            && !self.extra.as_deref().is_some_and(gap)
    }

    /// The sample of a minute as it can be read at a time.
    pub fn sample(&self, seed: u64, minute: i64, now: i64) -> Option<f64> {
        if !self.has(minute) {
            return None;
        }
        let draw = self.draw(seed, minute);
        let end = minute * 60 + 60;
        let (least, most) = (*self.kind.lag.start(), *self.kind.lag.end());
        // The lag of one minute is of interest only while it can still decide.
        if now.saturating_sub(most) < end {
            let lag = least + (mix(draw) % (most - least + 1) as u64) as i64;
            if end + lag > now {
                return None;
            }
        }
        if let Some(revised) = self.extra.as_deref().and_then(|extra| extra.revised.get(&minute))
            && let Some((_, value)) = revised.iter().rfind(|(at, _)| *at <= now)
        {
            return Some(*value);
        }
        Some(self.value(draw, minute))
    }

    fn value(&self, draw: u64, minute: i64) -> f64 {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        let part = (draw >> 11) as f64 * UNIT;
        match self.kind.shape {
            Shape::Between(low, high) => low + part * (high - low),
            Shape::Whole(low, high) => (low + part * (high - low)).round(),
            Shape::Flag(often) if part < often => 1.0,
            Shape::Flag(_) | Shape::Nothing => 0.0,
            Shape::Constant(value) => value,
            Shape::Minute => minute as f64,
        }
    }

    /// Number, sum, least and greatest of the samples of the minutes from one until before another, if they are all
    /// published and there is nothing special about them. It is the usual case, and this loop is what lets a build
    /// without optimisation answer for thousands of points at once.
    pub fn settled(&self, seed: u64, from: i64, to: i64, now: i64) -> Option<[f64; 4]> {
        let published = to.saturating_mul(60).saturating_add(*self.kind.lag.end()) <= now;
        let lives = self.born <= from * 60 && to * 60 <= self.died;
        if !published || !lives || from >= to || self.extra.is_some() || self.kind.shape == Shape::Nothing {
            return None;
        }
        let (mut sum, mut least, mut greatest) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        let mut minute = from;
        while minute < to {
            let value = self.value(self.draw(seed, minute), minute);
            sum += value;
            if value < least {
                least = value;
            }
            if value > greatest {
                greatest = value;
            }
            minute += 1;
        }
        Some([(to - from) as f64, sum, least, greatest])
    }

    /// When its last sample was or will have been taken: `now` for one that lives.
    pub fn last(&self, now: i64) -> Option<i64> {
        let put = self.extra.as_deref().and_then(|extra| extra.put.last_key_value()).map(|(time, _)| *time);
        let mut end = now.min(self.died);
        let gaps = self.extra.as_deref().map_or(&[][..], |extra| &extra.gaps);
        while let Some((from, _)) = gaps.iter().find(|(from, to)| *from < end && end <= *to) {
            end = *from;
        }
        let sampled = (self.kind.shape != Shape::Nothing && self.born < end).then_some(end);
        put.max(sampled)
    }
}
