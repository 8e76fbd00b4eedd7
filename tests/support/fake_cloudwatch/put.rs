//! PutMetricData: samples from outside.

use super::cbor::Item;
use super::series::{Datum, SeriesKey};
use super::wire::Refusal;
use super::world::World;

/// Data in a call that CloudWatch takes.
const MOST: usize = 1000;

/// Checks the whole call before it stores anything, as CloudWatch does.
pub fn store(
    world: &mut World,
    (account, region): (&str, &str),
    item: &Item<'_>,
    now: i64,
) -> Result<(), Refusal> {
    let namespace = item.text_at("Namespace").unwrap_or_default();
    if namespace.is_empty() {
        return Err(Refusal::missing("The parameter Namespace is required."));
    }
    if namespace.starts_with("AWS/") {
        return Err(Refusal::value("The value AWS/ for parameter Namespace is invalid."));
    }
    let of_entities = item.list_at("EntityMetricData").iter().flat_map(|entity| entity.list_at("MetricData"));
    let data: Vec<&Item<'_>> = item.list_at("MetricData").iter().chain(of_entities).collect();
    if data.is_empty() {
        return Err(Refusal::missing("The parameter MetricData is required."));
    }
    if data.len() > MOST {
        let message = format!("The collection MetricData must not have a size greater than {MOST}.");
        return Err(Refusal::value(message));
    }
    let mut read = Vec::with_capacity(data.len());
    for datum in data {
        let metric = datum.text_at("MetricName").unwrap_or_default();
        if metric.is_empty() {
            return Err(Refusal::missing("The parameter MetricData.MetricName is required."));
        }
        let pairs = datum.list_at("Dimensions").iter();
        let pairs: Option<Vec<_>> =
            pairs.map(|pair| Some((pair.text_at("Name")?, pair.text_at("Value")?))).collect();
        let pairs = pairs.ok_or_else(|| Refusal::value("A Dimension needs a Name and a Value."))?;
        let time = datum.number_at("Timestamp").map_or(now, |time| time.floor() as i64);
        if time > now + 2 * 3600 || time < now - 14 * 86_400 {
            return Err(Refusal::value("The parameter MetricData.Timestamp is too far from now."));
        }
        let key = SeriesKey::new(account, region, namespace, metric, &pairs);
        read.push((key, datum.text_at("Unit").unwrap_or("None"), time, samples(datum, now)?));
    }
    for (key, unit, time, samples) in read {
        world.put(&key, unit, time, samples.into_iter());
    }
    Ok(())
}

/// What one datum holds: a value, values with counts, or a statistic set.
fn samples(datum: &Item<'_>, now: i64) -> Result<Vec<Datum>, Refusal> {
    let one =
        |value: f64, count: f64| Datum { arrived: now, count, sum: value * count, low: value, high: value };
    let values = datum.list_at("Values");
    let samples = match (datum.number_at("Value"), datum.get("StatisticValues")) {
        (Some(value), None) if values.is_empty() => vec![one(value, 1.0)],
        (None, Some(set)) if values.is_empty() => {
            let part = |name: &str| {
                set.number_at(name).ok_or_else(|| Refusal::missing(format!("{name} is missing.")))
            };
            let (count, sum) = (part("SampleCount")?, part("Sum")?);
            vec![Datum { arrived: now, count, sum, low: part("Minimum")?, high: part("Maximum")? }]
        }
        (None, None) if !values.is_empty() => {
            let counts = datum.list_at("Counts");
            if !counts.is_empty() && counts.len() != values.len() {
                return Err(Refusal::value("Values and Counts must be of the same length."));
            }
            let number = |item: &Item<'_>| item.number().unwrap_or(f64::NAN);
            let count = |at: usize| counts.get(at).map_or(1.0, number);
            values.iter().enumerate().map(|(at, value)| one(number(value), count(at))).collect()
        }
        _ => return Err(Refusal::value("A MetricDatum has one of Value, Values and StatisticValues.")),
    };
    if samples.iter().any(|datum| !datum.sum.is_finite() || datum.count < 0.0) {
        return Err(Refusal::value("A value is no finite number."));
    }
    Ok(samples)
}
