//! What is asked for: a resource with its figures, all in one request, so that one answer makes whole rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::super::wanted::Convert;
use crate::model::{Identity, Value};

/// Names and values.
pub(super) type Dimensions = Arc<[(Arc<str>, Arc<str>)]>;

/// One figure of a resource.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    pub(super) what: What,
    /// Where it goes; nowhere if only others need it.
    pub(super) to: Option<Column>,
}

/// What of CloudWatch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Metric {
        metric: String,
        statistic: String,
    },
    /// Metric math over inputs: name, metric and statistic of each.
    Expression {
        text: String,
        inputs: Vec<(String, String, String)>,
    },
}

/// Where a figure goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) field: String,
    pub(super) convert: Conversion,
    /// The figure that a latency is divided by.
    pub(super) per: Option<usize>,
}

/// How a figure becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Conversion {
    /// 1 less the idle seconds of the period.
    Busy,
    /// Seconds by operations.
    Latency,
    /// As a pipeline file may want it too.
    #[serde(untagged)]
    Any(Convert),
}

/// Columns of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) table: String,
    pub(super) tags: Vec<(String, TagFrom)>,
    /// Numbers of the figures.
    pub(super) figures: Vec<usize>,
}

/// Where a tag's value is from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TagFrom {
    Fixed(String),
    Dimension(String),
}

/// What is asked of all resources of a kind.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ask {
    pub(super) figures: Vec<Figure>,
    pub(super) rows: Vec<Row>,
}

/// A resource to ask for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What tells it from the others of its shard.
    pub(super) key: Arc<str>,
    pub(super) namespace: Arc<str>,
    /// The account that owns it, if it is not the one that asks.
    pub(super) owner: Option<Arc<str>>,
    pub(super) dimensions: Dimensions,
    pub(super) identity: Arc<Identity>,
    /// Columns of all its rows.
    pub(super) tags: Vec<(Arc<str>, Arc<str>)>,
    pub(super) ask: Arc<Ask>,
    /// Seconds since 1970 from which on, and up to which, there can be points, as far as is known.
    pub(super) began: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) share: Share,
}

/// The rows that a target makes of its resource: later than one time and not later than another, where somebody else makes
/// the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) after: Option<i64>,
    pub(super) until: Option<i64>,
}

impl Ask {
    /// Adds a figure that goes into a row.
    pub(super) fn add(&mut self, what: What, table: &str, tags: Vec<(String, TagFrom)>, column: Column) {
        let number = self.figures.len();
        self.figures.push(Figure { what, to: Some(column) });
        match self.rows.iter_mut().find(|row| row.table == table && row.tags == tags) {
            Some(row) => row.figures.push(number),
            None => self.rows.push(Row { table: table.into(), tags, figures: vec![number] }),
        }
    }

    /// The number of a metric's figure; one that goes nowhere is added if there is none.
    pub(super) fn need(&mut self, metric: &str, statistic: &str) -> usize {
        let what = What::Metric { metric: metric.into(), statistic: statistic.into() };
        if let Some(number) = self.figures.iter().position(|figure| figure.what == what) {
            return number;
        }
        self.figures.push(Figure { what, to: None });
        self.figures.len() - 1
    }

    /// Adds the number of samples of its first metric.
    pub(super) fn count_samples(&mut self) {
        let first = self.figures.iter().find_map(|figure| match &figure.what {
            What::Metric { metric, .. } => Some(metric.clone()),
            What::Expression { inputs, .. } => inputs.first().map(|(_, metric, _)| metric.clone()),
        });
        if let Some(metric) = first {
            self.need(&metric, "SampleCount");
        }
    }

    /// Queries that it takes, those that expressions compute with included.
    pub(super) fn queries(&self) -> usize {
        self.figures.iter().map(|figure| figure.what.queries()).sum()
    }

    /// Every metric and statistic that it asks for: what is billed.
    pub(super) fn metrics(&self) -> impl Iterator<Item = (&str, &str)> {
        self.figures.iter().flat_map(|figure| figure.what.metrics())
    }
}

impl What {
    pub(super) fn queries(&self) -> usize {
        match self {
            Self::Metric { .. } => 1,
            Self::Expression { inputs, .. } => 1 + inputs.len(),
        }
    }

    /// Metrics and statistics that are asked for.
    pub(super) fn metrics(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Metric { metric, statistic } => vec![(metric, statistic)],
            Self::Expression { inputs, .. } => {
                inputs.iter().map(|(_, metric, statistic)| (metric.as_str(), statistic.as_str())).collect()
            }
        }
    }

    /// For people.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Metric { metric, statistic } => format!("{metric} {statistic}"),
            Self::Expression { text, .. } => text.clone(),
        }
    }
}

impl Target {
    /// One that asks for nothing.
    #[cfg(test)]
    pub(super) fn of_key(key: &str) -> Self {
        Self {
            key: key.into(),
            namespace: "App".into(),
            owner: None,
            dimensions: Arc::new([]),
            identity: Arc::new(super::identity::identity("1", "eu-west-1", key, None, "guest")),
            tags: Vec::new(),
            ask: Arc::default(),
            began: None,
            ended: None,
            share: Share::default(),
        }
    }

    /// The value of a dimension.
    pub(super) fn dimension(&self, name: &str) -> Option<&Arc<str>> {
        self.dimensions.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }

    /// The value of a tag. CPUs of the agent are `cpu0`, and all of them together `cpu-total`, which is no core.
    pub(super) fn tag<'a>(&'a self, column: &str, from: &'a TagFrom) -> Option<&'a str> {
        let value: &str = match from {
            TagFrom::Fixed(value) => value,
            TagFrom::Dimension(name) => self.dimension(name)?,
        };
        match column {
            "core" if value == "cpu-total" => None,
            "core" => Some(value.strip_prefix("cpu").unwrap_or(value)),
            _ => Some(value),
        }
    }
}

/// A figure as a column's value. `per` is what a latency is divided by.
pub(super) fn converted(convert: Conversion, figure: f64, period: i64, per: Option<f64>) -> Value<'static> {
    let seconds = period as f64;
    match convert {
        Conversion::Any(Convert::Value) => figure.into(),
        Conversion::Any(Convert::Percent) => (figure / 100.0).into(),
        Conversion::Any(Convert::Rate) => (figure / seconds).into(),
        Conversion::Any(Convert::Milliseconds) => (figure / 1_000.0).into(),
        Conversion::Any(Convert::Flag) => (figure > 0.0).into(),
        Conversion::Busy => (1.0 - figure / seconds).clamp(0.0, 1.0).into(),
        Conversion::Latency => {
            per.filter(|operations| *operations > 0.0).map(|operations| figure / operations).into()
        }
    }
}

/// Tags by the dimension or value that a mapping gives them.
pub(super) fn tags(tags: &BTreeMap<String, String>, listed: bool) -> Vec<(String, TagFrom)> {
    let from = |value: &String| match listed {
        true => TagFrom::Dimension(value.clone()),
        false => TagFrom::Fixed(value.clone()),
    };
    tags.iter().map(|(column, value)| (column.clone(), from(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(converted(Conversion::Any(Convert::Percent), 12.5, 60, None), Value::Float(0.125));
        assert_eq!(converted(Conversion::Any(Convert::Rate), 600.0, 300, None), Value::Float(2.0));
        assert_eq!(converted(Conversion::Busy, 45.0, 60, None), Value::Float(0.25));
        assert_eq!(converted(Conversion::Busy, 61.0, 60, None), Value::Float(0.0), "never below 0");
        assert_eq!(converted(Conversion::Latency, 3.0, 60, Some(6.0)), Value::Float(0.5));
        assert_eq!(
            converted(Conversion::Latency, 3.0, 60, Some(0.0)),
            Value::Null,
            "without operations there is none"
        );
        assert_eq!(converted(Conversion::Any(Convert::Flag), 1.0, 60, None), Value::Boolean(true));
    }

    #[test]
    fn figures_of_one_row_stand_together_and_what_is_needed_is_asked_once() {
        let mut ask = Ask::default();
        let metric = |name: &str| What::Metric { metric: name.into(), statistic: "Sum".into() };
        let column =
            |field: &str| Column { field: field.into(), convert: Conversion::Any(Convert::Rate), per: None };
        ask.add(metric("In"), "network", vec![], column("a"));
        ask.add(metric("Out"), "network", vec![], column("b"));
        assert_eq!((ask.rows.len(), ask.rows[0].figures.as_slice()), (1, &[0, 1][..]));
        assert_eq!((ask.need("Out", "Sum"), ask.need("Idle", "Sum"), ask.queries()), (1, 2, 3));
        ask.count_samples();
        assert_eq!(ask.metrics().last(), Some(("In", "SampleCount")));
    }
}
