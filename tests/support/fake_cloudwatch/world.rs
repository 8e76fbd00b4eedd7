//! All series, and what a datapoint of them is at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::series::{Datum, Dimensions, Kind, Series, SeriesKey, SeriesSpec, Shape, mix};
use super::stat::{Aggregate, Stat};

/// Which datapoints: from their period's start, before `to`, each `step` long, on multiples of it plus `offset`.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: i64,
    pub to: i64,
    pub step: i64,
    pub offset: i64,
}

/// Account and region.
type Place = (Arc<str>, Arc<str>);

#[derive(Default)]
pub struct World {
    seed: u64,
    series: Vec<Series>,
    /// By the hash of its name. Names with the same hash are refused when a series is added.
    index: HashMap<u64, u32>,
    /// And the series there.
    places: Vec<(Place, Vec<u32>)>,
    place_of: HashMap<Place, u32>,
    /// Source accounts by their monitoring account.
    links: BTreeMap<String, BTreeSet<String>>,
}

/// FNV-1a with an end mark after each part; the dimensions count in the order of their names.
fn identity<'a>(parts: [&str; 4], dimensions: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in text.as_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    };
    parts.into_iter().for_each(&mut add);
    let mut sorted: Vec<(&str, &str)> = dimensions.collect();
    sorted.sort_unstable();
    for (name, value) in sorted {
        add(name);
        add(value);
    }
    mix(hash)
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub fn link(&mut self, monitoring: &str, source: &str) {
        self.links.entry(monitoring.into()).or_default().insert(source.into());
    }

    /// Accounts whose metrics an account reads besides its own.
    pub fn linked(&self, monitoring: &str) -> impl Iterator<Item = &str> {
        self.links.get(monitoring).into_iter().flatten().map(String::as_str)
    }

    pub fn place(&mut self, account: &str, region: &str) -> u32 {
        let place: Place = (account.into(), region.into());
        *self.place_of.entry(place).or_insert_with_key(|place| {
            self.places.push((place.clone(), Vec::new()));
            self.places.len() as u32 - 1
        })
    }

    pub fn find_place(&self, account: &str, region: &str) -> Option<u32> {
        self.place_of.get(&(account.into(), region.into())).copied()
    }

    /// The series of a place in the order they were added, and its account.
    pub fn of_place(&self, place: u32) -> (&str, &[u32]) {
        let ((account, _), series) = &self.places[place as usize];
        (account, series)
    }

    pub fn get(&self, number: u32) -> &Series {
        &self.series[number as usize]
    }

    /// Adds one that lives for ever; panics if it is there.
    pub fn add_of(&mut self, place: u32, kind: &Arc<Kind>, dimensions: &Dimensions) -> &mut Series {
        let ((account, region), _) = &self.places[place as usize];
        let hash = identity([account, region, &kind.namespace, &kind.metric], pairs(dimensions));
        let number = self.series.len() as u32;
        let before = self.index.insert(hash, number);
        assert!(before.is_none(), "{} of {dimensions:?} is there twice", kind.metric);
        self.places[place as usize].1.push(number);
        let (kind, dimensions) = (Arc::clone(kind), Arc::clone(dimensions));
        let extra = None;
        self.series.push(Series { hash, kind, dimensions, born: i64::MIN, died: i64::MAX, extra });
        self.series.last_mut().unwrap()
    }

    pub fn add(&mut self, spec: SeriesSpec) {
        let SeriesSpec { key, unit, period, lag, born, died, gaps, shape } = spec;
        let kind = Arc::new(Kind {
            namespace: key.namespace.as_str().into(),
            metric: key.metric.as_str().into(),
            unit: unit.into(),
            period,
            lag,
            shape,
        });
        let dimensions =
            key.dimensions.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        let place = self.place(&key.account, &key.region);
        let series = self.add_of(place, &kind, &dimensions.collect());
        (series.born, series.died) = (born, died);
        if !gaps.is_empty() {
            series.extra().gaps = gaps;
        }
    }

    pub fn find(&self, parts: [&str; 4], dimensions: &[(&str, &str)]) -> Option<&Series> {
        self.index.get(&identity(parts, dimensions.iter().copied())).map(|number| self.get(*number))
    }

    fn number(&self, key: &SeriesKey) -> Option<u32> {
        let parts = [key.account.as_str(), &key.region, &key.namespace, &key.metric];
        let dimensions = key.dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.index.get(&identity(parts, dimensions)).copied()
    }

    pub fn by_key(&self, key: &SeriesKey) -> Option<&Series> {
        self.number(key).map(|number| self.get(number))
    }

    pub fn by_key_mut(&mut self, key: &SeriesKey) -> Option<&mut Series> {
        self.number(key).map(|number| &mut self.series[number as usize])
    }

    /// Adds what PutMetricData brought, to a series that begins with it if there is none.
    pub fn put(&mut self, key: &SeriesKey, unit: &str, time: i64, data: impl Iterator<Item = Datum>) {
        if self.number(key).is_none() {
            let spec = SeriesSpec::new(key.clone());
            self.add(SeriesSpec { unit: unit.into(), shape: Shape::Nothing, ..spec });
        }
        self.by_key_mut(key).unwrap().extra().put.entry(time).or_default().extend(data);
    }

    /// The datapoint of a period as it can be read at a time; `i64::MAX` is when everything is published.
    pub fn point(&self, series: &Series, from: i64, to: i64, stat: Stat, now: i64) -> Option<f64> {
        let mut aggregate = Aggregate::new(stat);
        if !stat.ranks()
            && let Some([count, sum, low, high]) =
                series.settled(self.seed, (from + 59).div_euclid(60), (to + 59).div_euclid(60), now)
        {
            aggregate.add_set(count, sum, low, high);
            return aggregate.value();
        }
        if series.kind.shape != Shape::Nothing {
            let mut minute = (from + 59).div_euclid(60);
            while minute * 60 < to {
                if let Some(value) = series.sample(self.seed, minute, now) {
                    aggregate.add(value, 1.0);
                }
                minute += 1;
            }
        }
        if let Some(extra) = series.extra.as_deref() {
            for datum in extra.put.range(from..to).flat_map(|(_, data)| data) {
                if datum.arrived <= now {
                    aggregate.add_set(datum.count, datum.sum, datum.low, datum.high);
                }
            }
        }
        aggregate.value()
    }

    /// The datapoints of a span, oldest first.
    pub fn points(&self, series: &Series, span: Span, stat: Stat, now: i64) -> Vec<(i64, f64)> {
        let Span { from, to, step, offset } = span;
        if from >= to {
            return Vec::new();
        }
        let up = |time: i64| time + (offset - time).rem_euclid(step);
        let down = |time: i64| time - (time - offset).rem_euclid(step);
        let point = |time: i64| Some((time, self.point(series, time, time + step, stat, now)?));
        if series.kind.shape == Shape::Nothing {
            let Some(extra) = series.extra.as_deref() else { return Vec::new() };
            let times: BTreeSet<i64> = extra.put.keys().map(|time| down(*time)).collect();
            return times.range(from..to).copied().filter_map(point).collect();
        }
        // Periods in which nothing can be are not walked through.
        let put = extra_span(series);
        let first = from.max(series.born.saturating_sub(step).min(put.0));
        let last = to.min(series.died.max(put.1)).min(now);
        let mut points = Vec::with_capacity(((last - first) / step).clamp(0, 2000) as usize);
        let mut time = up(first);
        while time < last {
            if let Some(point) = point(time) {
                points.push(point);
            }
            time += step;
        }
        points
    }
}

/// First and last time of what was put.
fn extra_span(series: &Series) -> (i64, i64) {
    let put = series.extra.as_deref().and_then(|extra| {
        Some((*extra.put.first_key_value()?.0 - 86_400, *extra.put.last_key_value()?.0 + 1))
    });
    put.unwrap_or((i64::MAX, i64::MIN))
}

pub fn pairs(dimensions: &Dimensions) -> impl Iterator<Item = (&str, &str)> {
    dimensions.iter().map(|(name, value)| (&**name, &**value))
}
