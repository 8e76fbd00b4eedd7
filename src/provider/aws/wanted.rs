//! What a pipeline file may want of CloudWatch beside the built-in metrics, and the words for it. Checked here, without
//! asking anybody; used by the collector.

#[path = "wanted/apart.rs"]
mod apart;
#[path = "wanted/expression.rs"]
mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::model::{CLOUD_TAG, COMMON_TAGS, Catalog, ColumnKind, FieldType, Span, TIME, Table};
use crate::suggest::closest;

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

/// Queries of one request; what is computed from others is asked for together with them.
const MOST_INPUTS: usize = 100;

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

    fn wrong(&self) -> Option<String> {
        let name = self.name();
        if self.namespace.as_deref().unwrap_or_default().is_empty() {
            return Some(format!("{name} has no namespace; write for example namespace: MyApp"));
        }
        if !Table::is_name(&self.table) || !Table::is_name(&self.field) {
            return Some(format!("{name} cannot be table and column; write lower snake case"));
        }
        if self.expression.is_some() == (self.metric.is_some() || self.statistic.is_some()) {
            return Some(format!(
                "{name} needs metric and statistic, or expression and inputs; write one of them"
            ));
        }
        if self.expression.is_none() && (self.metric.is_none() || self.statistic.is_none()) {
            return Some(format!("{name} needs metric and statistic; write both"));
        }
        if self.expression.is_some() == self.inputs.is_empty() || self.inputs.len() > MOST_INPUTS {
            return Some(format!(
                "{name}: expression and inputs belong together; there may be {MOST_INPUTS} inputs"
            ));
        }
        if let Some(bad) = self.inputs.keys().find(|id| !is_id(id)) {
            return Some(format!(
                "{name}: {bad:?} cannot be the name of an input; begin with a small letter"
            ));
        }
        let inputs = self.inputs.keys().map(String::as_str);
        if let Some(bad) = self.expression.as_ref().and_then(|text| expression::wrong(text, inputs)) {
            return Some(format!("the expression of {name}: {bad}"));
        }
        let statistics = self.inputs.values().map(|input| &input.statistic).chain(&self.statistic);
        if let Some(bad) = statistics.into_iter().find(|statistic| !is_statistic(statistic)) {
            return Some(format!(
                "{name}: {bad:?} is no statistic; write for example Average, Sum, p99 or tm95"
            ));
        }
        if self.seconds() < 60 || self.seconds() % 60 != 0 || self.seconds() > 86_400 {
            return Some(format!(
                "{name}: the period must be whole minutes, at most a day; write for example 1m"
            ));
        }
        if let Some(lost) =
            self.tags.values().chain(&self.resource).find(|name| !self.dimensions.contains_key(*name))
        {
            return Some(format!("{name}: {lost:?} is not among its dimensions; add it there"));
        }
        if self.limit == 0 {
            return Some(format!("{name}: with a limit of 0 nothing is measured; write for example 1000"));
        }
        self.misfit()
    }

    /// What does not fit the table.
    fn misfit(&self) -> Option<String> {
        let wanted = if self.convert == Convert::Flag { FieldType::Boolean } else { FieldType::Float };
        let Some(table) = Catalog::builtin().and_then(|catalog| catalog.table(&self.table)).ok() else {
            let names = self.tags.keys().chain([&self.field]);
            let taken = |name: &&String| {
                *name == TIME || COMMON_TAGS.contains(&name.as_str()) || name.starts_with(CLOUD_TAG)
            };
            if let Some(bad) =
                names.clone().find(taken).or_else(|| names.clone().find(|name| !Table::is_name(name)))
            {
                return Some(format!("{bad:?} cannot be a column of {}; choose another name", self.table));
            }
            return (wanted == FieldType::Boolean)
                .then(|| format!("{}: flag is for columns of built-in tables; use value", self.table));
        };
        match table.column(&self.field).map(|column| column.kind) {
            Some(ColumnKind::Field(found)) if found == wanted => {}
            Some(ColumnKind::Field(found)) => {
                let (name, convert) = (self.name(), self.convert.word());
                return Some(format!(
                    "{name} is a {found:?} column, which convert: {convert} does not make; change it"
                ));
            }
            _ => {
                let fields = table.columns().iter().filter(|column| column.kind == ColumnKind::Field(wanted));
                let fields: Vec<_> = fields.map(|column| column.name.as_str()).collect();
                let meant = closest(&self.field, fields.iter().copied());
                let meant = meant.map_or_else(|| fields.join(", "), |meant| format!("did you mean {meant}?"));
                return Some(format!("{} has no such field {:?}; {meant}", self.table, self.field));
            }
        }
        let is_tag = |name: &&String| {
            table.column(name).is_none_or(|column| column.kind != ColumnKind::Tag)
                || COMMON_TAGS.contains(&name.as_str())
        };
        self.tags.keys().find(is_tag).map(|bad| {
            format!("{bad:?} is no tag of {}; choose a table of your own for such tags", self.table)
        })
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

/// Names in expressions.
fn is_id(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.len() <= 200
}

/// Whether CloudWatch may know a statistic of this name.
pub(super) fn is_statistic(name: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().is_ok_and(|value| (0.0..=100.0).contains(&value));
    let ranges = ["TM(", "WM(", "PR(", "TC(", "TS("];
    matches!(name, "Average" | "Sum" | "Minimum" | "Maximum" | "SampleCount" | "IQM")
        || ["p", "tm", "wm", "tc", "ts"].iter().any(|kind| name.strip_prefix(kind).is_some_and(number))
        || ranges.iter().any(|kind| {
            let inside = name.strip_prefix(kind).and_then(|rest| rest.strip_suffix(')'));
            inside.and_then(|inside| inside.split_once(':')).is_some_and(|(low, high)| {
                let bound = |text: &str| text.is_empty() || text.trim_end_matches('%').parse::<f64>().is_ok();
                bound(low) && bound(high) && !(low.is_empty() && high.is_empty())
            })
        })
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

    #[test]
    fn statistics_are_the_words_of_cloudwatch() {
        for good in ["Average", "p99", "p99.9", "tm95", "TM(10%:90%)", "PR(:300)", "IQM", "wm98"] {
            assert!(is_statistic(good), "{good}");
        }
        for bad in ["average", "p", "p101", "TM(:)", "median", ""] {
            assert!(!is_statistic(bad), "{bad}");
        }
    }

    #[test]
    fn a_metric_that_cannot_be_says_what_would_be_right() {
        let good = "table: app, field: latency_p99, namespace: MyApp, metric: Latency, statistic: p99";
        assert_eq!(
            told(&format!("{{ {good}, dimensions: {{ Service: '*' }}, tags: {{ service: Service }} }}")),
            ""
        );
        for (text, word) in [
            (format!("{{ {good}, tags: {{ service: Service }} }}"), "not among its dimensions"),
            (
                format!("{{ {good}, expression: a, inputs: {{ a: {{ metric: X, statistic: Sum }} }} }}"),
                "one of them",
            ),
            (format!("{{ {good}, period: 90s }}"), "whole minutes"),
            (good.replace("statistic: p99", "statistic: best"), "is no statistic"),
            (good.replace("table: app", "table: cpu"), "no such field"),
            (
                good.replace("table: app, field: latency_p99", "table: memory, field: used_bytes, convert: flag"),
                "which convert: flag does not make",
            ),
            (format!("{good}, limit: 0"), "limit of 0"),
            (
                "table: app, field: a, namespace: A, expression: b + c, inputs: { b: { metric: X, statistic: Sum } }"
                    .to_owned(),
                "\"c\" is not among its inputs",
            ),
            (good.replace("namespace: MyApp, ", ""), "no namespace"),
        ] {
            let text = if text.starts_with('{') { text } else { format!("{{ {text} }}") };
            assert!(told(&text).contains(word), "{text}: {}", told(&text));
        }
    }
}
