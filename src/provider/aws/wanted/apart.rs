//! Whether the rows of metrics can be told apart: of two figures for one column of one row, one would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::{BUILTIN, Metric, SettleBy};
use crate::model::Span;
use crate::yaml;

/// Queries of one request of CloudWatch, in which all figures of a resource are asked for together.
const QUERIES: usize = 500;

/// The columns that the built-in metrics make.
#[derive(Debug, Deserialize)]
struct Builtin {
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    observer: String,
    resource: String,
    metrics: Vec<Column>,
}

#[derive(Debug, Deserialize)]
struct Column {
    group: String,
    metric: String,
    table: String,
    field: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// A metric that makes a column of the rows that a chosen group makes.
pub(super) fn builtin_beside(metric: &Metric, groups: &[String]) -> Option<String> {
    static FILE: LazyLock<Option<Builtin>> = LazyLock::new(|| yaml::from_str(BUILTIN).ok());
    if metric.resource.as_deref() != Some("InstanceId") {
        return None;
    }
    let observer = metric.observer();
    let namespaces = FILE.iter().flat_map(|file| &file.namespaces);
    // Rows of volumes have the volume as a tag, which no metric of an instance has.
    let namespaces = namespaces.filter(|known| known.observer == observer && known.resource != "volume");
    let mut columns =
        namespaces.flat_map(|known| &known.metrics).filter(|column| groups.contains(&column.group));
    let tags: BTreeSet<&String> = metric.tags.keys().collect();
    let same = columns.find(|column| {
        // All processors together have no core.
        let theirs: BTreeSet<&String> =
            column.tags.keys().filter(|tag| *tag != "core" || tags.contains(tag)).collect();
        column.table == metric.table && column.field == metric.field && theirs == tags
    })?;
    Some(format!(
        "{} is what the group {} makes of {}; take the group out, or choose another column",
        metric.name(),
        same.group,
        same.metric
    ))
}

/// Two metrics that may make one column of one row.
pub(super) fn one_column(one: &Metric, other: &Metric) -> Option<String> {
    let same = one.table == other.table
        && one.field == other.field
        && one.resource == other.resource
        && one.tags == other.tags
        && one.observer() == other.observer()
        && one.dimensions.len() == other.dimensions.len()
        && one.dimensions.iter().all(|(name, glob)| {
            other.dimensions.get(name).is_some_and(|theirs| meet(glob.as_bytes(), theirs.as_bytes()))
        });
    same.then(|| format!("{} is there twice for the same dimensions; choose another field", one.name()))
}

/// Metrics of the same dimensions, which are asked for together, with more queries than a request may have.
pub(super) fn too_many(metrics: &[Metric], settle_by: SettleBy, resolution: Option<Span>) -> Option<String> {
    let mut queries: BTreeMap<_, (usize, &Metric)> = BTreeMap::new();
    for metric in metrics {
        let dimensions: Vec<&String> = metric.dimensions.keys().collect();
        // Coarser periods than they want may bring them together.
        let period = metric.seconds().max(resolution.map_or(0, |finest| finest.0.as_secs().cast_signed()));
        let (count, _) =
            queries.entry((&metric.namespace, &metric.resource, dimensions, period)).or_insert((0, metric));
        *count += 1 + metric.inputs.len();
    }
    let samples = usize::from(settle_by == SettleBy::SampleCount);
    let (count, first) = queries.into_values().find(|(count, _)| count + samples > QUERIES)?;
    let name = first.name();
    Some(format!(
        "{name} and those of the same dimensions take {count} queries; {QUERIES} are allowed, use other periods"
    ))
}

/// Whether a text can be as both globs say.
fn meet(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([b'*', rest @ ..], _) if meet(rest, other) => true,
        (_, [b'*', rest @ ..]) if meet(one, rest) => true,
        ([b'*', ..], [_, rest @ ..]) => meet(one, rest),
        ([_, rest @ ..], [b'*', ..]) => meet(rest, other),
        ([a, one @ ..], [b, other @ ..]) => a == b && meet(one, other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_meet_where_one_text_is_as_both_say() {
        for (one, other, is) in [
            ("*", "web", true),
            ("web-*", "*-prod", true),
            ("web", "web", true),
            ("web", "db", false),
            ("web-*", "db-*", false),
            ("a*c", "ab", false),
            ("", "*", true),
            ("", "a", false),
        ] {
            assert_eq!(meet(one.as_bytes(), other.as_bytes()), is, "{one} {other}");
            assert_eq!(meet(other.as_bytes(), one.as_bytes()), is, "{other} {one}");
        }
    }
}
