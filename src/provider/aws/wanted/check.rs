//! What can be wrong with one metric of a pipeline file by itself.

use super::{Convert, Metric, expression};
use crate::model::{CLOUD_TAG, COMMON_TAGS, Catalog, ColumnKind, FieldType, TIME, Table};
use crate::suggest::closest;

/// Queries of one request; what is computed from others is asked for together with them.
const MOST_INPUTS: usize = 100;

impl Metric {
    /// The first thing that is wrong, and what would be right.
    pub(super) fn wrong(&self) -> Option<String> {
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

/// Names in expressions.
fn is_id(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.len() <= 200
}

/// Whether CloudWatch may know a statistic of this name.
pub(in super::super) fn is_statistic(name: &str) -> bool {
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
        let metric: Metric = yaml::from_str(text).unwrap();
        metric.wrong().unwrap_or_default()
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
