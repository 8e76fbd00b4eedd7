//! What a pipeline file may want of CloudWatch beside the built-in metrics, and the words for it. Checked here, without
//! asking anybody; used by the collector.

#[path = "wanted/apart.rs"]
mod apart;
#[path = "wanted/check.rs"]
pub(super) mod check;
#[path = "wanted/expression.rs"]
mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::{Catalog, Span, Table};

/// The built-in metrics.
pub(super) const BUILTIN: &str = include_str!("../../../schemas/providers/aws.yaml");

/// Groups of built-in metrics; a test holds them against `schemas/providers/aws.yaml`.
pub(super) const GROUPS: [&str; 19] = [
    "agent",
    "agent_cpu",
    "agent_disk",
    "agent_memory",
    "agent_network",
    "basic",
    "checks",
    "cpu_max",
    "credits",
    "ebs",
    "ebs_balance",
    "ebs_burst",
    "ebs_checks",
    "ebs_latency",
    "ebs_provisioned",
    "imds",
    "instance_store",
    "ops",
    "packets",
];

/// A metric of one's own, or one of a namespace that is not built in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Table of the rows: one that is built in, whose columns it has, or a new name.
    pub table: String,
    /// Column that the value goes into.
    pub field: String,
    /// Namespace in CloudWatch.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name in CloudWatch.
    #[serde(default)]
    pub metric: Option<String>,
    /// `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, or `p99`, `tm95`, `TM(10%:90%)`, `IQM` and the like.
    #[serde(default)]
    pub statistic: Option<String>,
    /// Metric math over `inputs` by their names, in place of `metric` and `statistic`; it has to make one series.
    #[serde(default)]
    pub expression: Option<String>,
    /// What the expression computes with.
    #[serde(default)]
    pub inputs: BTreeMap<String, Input>,
    /// The dimensions that the metric has, all of them; `*` stands for any text in a value.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// Columns by the dimension whose value they get.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The dimension that names the resource of the rows; `InstanceId`, if the metric has it, is joined with the inventory.
    #[serde(default)]
    pub resource: Option<String>,
    /// How the figure becomes the value.
    #[serde(default)]
    pub convert: Convert,
    /// UCUM unit of a column of one's own table.
    #[serde(default)]
    pub unit: Option<String>,
    /// Time that one value is of, a multiple of a minute.
    #[serde(default = "minute")]
    pub period: Span,
    /// Most combinations of dimensions; what is more is left out, with a warning.
    #[serde(default = "limit")]
    pub limit: usize,
}

/// A metric that an expression computes with; it has the dimensions of the whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name in CloudWatch.
    pub metric: String,
    /// As of a metric.
    pub statistic: String,
}

/// How a figure becomes a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Convert {
    /// As it is.
    #[default]
    Value,
    /// By 100.
    Percent,
    /// A sum over the period, per second.
    Rate,
    /// Milliseconds, in seconds.
    Milliseconds,
    /// Whether it is above 0, for a boolean column.
    Flag,
}

impl Convert {
    /// As a pipeline file has it.
    fn word(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Percent => "percent",
            Self::Rate => "rate",
            Self::Milliseconds => "milliseconds",
            Self::Flag => "flag",
        }
    }
}

/// How it is told that a value will not change any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettleBy {
    /// Old enough, and the same in two readings.
    #[default]
    Values,
    /// The number of its samples as well, for one more metric on the bill of each resource.
    SampleCount,
}

fn minute() -> Span {
    Span::seconds(60)
}

fn limit() -> usize {
    1_000
}

impl Metric {
    /// Seconds that one value is of.
    pub(super) fn seconds(&self) -> i64 {
        i64::try_from(self.period.0.as_secs()).unwrap_or(i64::MAX)
    }

    /// Table and column.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.table, self.field)
    }

    /// Who sees what it measures.
    pub(super) fn observer(&self) -> &'static str {
        let of_aws = self.namespace.as_deref().is_some_and(|namespace| namespace.starts_with("AWS/"));
        if of_aws { "hypervisor" } else { "guest" }
    }
}

/// What is wrong with metrics, one by one, together, and beside the groups that are chosen.
pub(super) fn wrong(
    metrics: &[Metric],
    groups: &[String],
    settle_by: SettleBy,
    resolution: Option<Span>,
) -> Vec<String> {
    let mut wrong: Vec<String> = metrics.iter().filter_map(Metric::wrong).collect();
    if !wrong.is_empty() {
        return wrong;
    }
    wrong.extend(metrics.iter().filter_map(|metric| apart::builtin_beside(metric, groups)));
    for (number, one) in metrics.iter().enumerate() {
        wrong.extend(metrics[number + 1..].iter().find_map(|other| apart::one_column(one, other)));
    }
    wrong.extend(apart::too_many(metrics, settle_by, resolution));
    if let Err(error) = tables(metrics) {
        wrong.push(format!("{}; choose other names", error.reason()));
    }
    wrong
}

/// Two tags of instances that would be one column.
pub(super) fn twice(tags: &[String], column: impl Fn(&str) -> String) -> Option<String> {
    let mut columns = BTreeMap::new();
    tags.iter().find_map(|tag| {
        let before = columns.insert(column(tag), tag)?;
        Some(format!("{before:?} and {tag:?} are one column {}; leave one of them out", column(tag)))
    })
}

/// The tables that metrics make beside those that are built in.
///
/// # Errors
/// A column is a tag for one and a field for another.
pub(super) fn tables(metrics: &[Metric]) -> Result<BTreeMap<String, Arc<Table>>> {
    let builtin = Catalog::builtin()?;
    let mut columns: BTreeMap<&str, (BTreeSet<&str>, BTreeMap<&str, &str>)> = BTreeMap::new();
    for metric in metrics.iter().filter(|metric| builtin.table(&metric.table).is_err()) {
        let (tags, fields) = columns.entry(&metric.table).or_default();
        tags.extend(metric.tags.keys().map(String::as_str));
        fields.entry(&metric.field).or_insert(metric.unit.as_deref().unwrap_or_default());
    }
    let made = columns.into_iter().map(|(name, (tags, fields))| {
        let table = Table::of_figures(name, &Vec::from_iter(tags), &Vec::from_iter(fields))?;
        Ok((name.to_owned(), Arc::new(table)))
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn told(text: &str) -> String {
        told_of(&[text])
    }

    fn told_of(texts: &[&str]) -> String {
        let metrics: Vec<Metric> = texts.iter().map(|text| yaml::from_str(text).unwrap()).collect();
        wrong(&metrics, &["basic".into(), "agent".into()], SettleBy::Values, None).join(" | ")
    }

    #[test]
    fn two_figures_of_one_column_are_refused() {
        let app = "table: app, field: hits, namespace: MyApp, metric: Hits, statistic: Sum";
        let with = |more: &str| format!("{{ {app}, {more} }}");
        let (web, all) = (with("dimensions: { Service: web }"), with("dimensions: { Service: '*' }"));
        assert!(told_of(&[&web, &all]).contains("app.hits is there twice"), "{}", told_of(&[&web, &all]));
        let db = with("dimensions: { Service: 'db-*' }");
        assert_eq!(told_of(&[&web, &db]), "");
        assert_eq!(told_of(&[&web, &web.replace("field: hits", "field: more")]), "");

        let builtin = "{ table: cpu, field: utilization, namespace: AWS/EC2, metric: CPUUtilization, \
                       statistic: Maximum, convert: percent, dimensions: { InstanceId: '*' }, resource: InstanceId }";
        assert!(told(builtin).contains("what the group basic makes of CPUUtilization"), "{}", told(builtin));
        assert_eq!(
            told(&builtin.replace("field: utilization", "field: utilization_max")),
            "",
            "it is not chosen"
        );
        let guest = builtin.replace("AWS/EC2", "MyApp");
        assert!(told(&guest).contains("what the group agent makes of cpu_usage_active"), "{}", told(&guest));
        assert_eq!(told(&guest.replace(", resource: InstanceId", "")), "");

        let many: Vec<String> =
            (0..501).map(|number| web.replace("hits", &format!("hits_{number}"))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(told_of(&many[..500]), "");
        assert!(told_of(&many).contains("take 501 queries"), "{}", told_of(&many));
    }

    #[test]
    fn tags_that_are_one_column_are_refused() {
        let tags = |tags: &[&str]| -> Option<String> {
            twice(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>(), str::to_lowercase)
        };
        assert!(tags(&["env", "team", "Env"]).unwrap().contains("\"env\" and \"Env\" are one column env"));
        assert_eq!(tags(&["env", "team"]), None);
    }
}
