//! A GetMetricData as it was asked, after all that CloudWatch checks before it answers.

use std::collections::HashSet;

use super::cbor::Item;
use super::math;
use super::stat::Stat;
use super::wire::Refusal;

pub struct Request<'a> {
    pub queries: Vec<Query<'a>>,
    /// Unix seconds, a fraction counting to the earlier second for the start and to the later for the end.
    pub start: i64,
    pub end: i64,
    pub descending: bool,
    /// Most datapoints wanted on a page.
    pub limit: Option<usize>,
    pub token: Option<&'a str>,
}

pub struct Query<'a> {
    pub id: &'a str,
    pub label: Option<&'a str>,
    pub returned: bool,
    /// Owner of the metric if it is not who asks.
    pub account: Option<&'a str>,
    pub what: What<'a>,
}

pub enum What<'a> {
    Metric(Metric<'a>),
    Expression(&'a str),
}

pub struct Metric<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub dimensions: Vec<(&'a str, &'a str)>,
    pub period: i64,
    pub stat: Stat,
    pub unit: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn read(item: &'a Item<'a>, most: usize) -> Result<Self, Refusal> {
        let required = |name: &str| {
            item.number_at(name)
                .ok_or_else(|| Refusal::validation(format!("The parameter {name} is required.")))
        };
        let (start, end) = (required("StartTime")?, required("EndTime")?);
        if start >= end {
            let message = "The parameter StartTime must be less than the parameter EndTime.";
            return Err(Refusal::validation(message));
        }
        let asked = item.list_at("MetricDataQueries");
        if asked.is_empty() {
            return Err(Refusal::missing("The parameter MetricDataQueries is required."));
        }
        if asked.len() > most {
            let message =
                format!("The collection MetricDataQueries must not have a size greater than {most}.");
            return Err(Refusal::validation(message));
        }
        let queries = asked.iter().map(Query::read).collect::<Result<Vec<_>, _>>()?;
        let mut ids = HashSet::with_capacity(queries.len());
        if let Some(twice) = queries.iter().find(|query| !ids.insert(query.id)) {
            return Err(Refusal::validation(format!("The Id {} is there more than once.", twice.id)));
        }
        for query in &queries {
            if let What::Expression(text) = query.what
                && let Some(why) = math::refused(text, |id| ids.contains(id))
            {
                return Err(Refusal::validation(format!("Error in expression '{}': {why}", query.id)));
            }
        }
        let limit = match item.number_at("MaxDatapoints") {
            None => None,
            Some(wanted) if wanted >= 1.0 => Some(wanted as usize),
            Some(_) => return Err(Refusal::validation("MaxDatapoints must be positive.")),
        };
        let descending = match item.text_at("ScanBy") {
            None | Some("TimestampDescending") => true,
            Some("TimestampAscending") => false,
            Some(_) => {
                return Err(Refusal::validation("ScanBy is TimestampDescending or TimestampAscending."));
            }
        };
        Ok(Self {
            queries,
            start: start.floor() as i64,
            end: end.ceil() as i64,
            descending,
            limit,
            token: item.text_at("NextToken"),
        })
    }

    /// Datapoints that the range can have, which is what AWS says it estimates with.
    pub fn estimate(&self) -> f64 {
        let of = |query: &Query<'_>| match &query.what {
            What::Metric(metric) => ((self.end - self.start) as f64 / metric.period as f64).ceil(),
            What::Expression(_) => 0.0,
        };
        self.queries.iter().map(of).sum()
    }

    /// Tells requests apart, so that a token goes with its own only.
    pub fn print(&self) -> u64 {
        let mut print = self.queries.len() as u64 ^ (self.start as u64) << 20 ^ (self.end as u64) << 1;
        for query in &self.queries {
            for byte in query.id.as_bytes() {
                print = (print ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        print ^ u64::from(self.descending)
    }
}

impl<'a> Query<'a> {
    fn read(item: &'a Item<'a>) -> Result<Self, Refusal> {
        let id = item.text_at("Id").unwrap_or_default();
        let named = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !named || !id.starts_with(|first: char| first.is_ascii_lowercase()) {
            let message = format!("The value {id} for parameter Id does not match ^[a-z][a-zA-Z0-9_]*$.");
            return Err(Refusal::validation(message));
        }
        let what = match (item.get("MetricStat"), item.text_at("Expression")) {
            (Some(metric), None) => What::Metric(Metric::read(id, metric)?),
            (None, Some(expression)) => What::Expression(expression),
            _ => {
                let message = format!("Query {id} needs one of MetricStat and Expression.");
                return Err(Refusal::validation(message));
            }
        };
        Ok(Self {
            id,
            label: item.text_at("Label"),
            returned: item.get("ReturnData").and_then(Item::boolean).unwrap_or(true),
            account: item.text_at("AccountId"),
            what,
        })
    }
}

impl<'a> Metric<'a> {
    fn read(id: &str, item: &'a Item<'a>) -> Result<Self, Refusal> {
        let wrong = |what: String| Refusal::validation(format!("Query {id}: {what}"));
        let metric = item.get("Metric").ok_or_else(|| wrong("a MetricStat needs a Metric.".into()))?;
        let named = |name: &str| {
            let found = metric.text_at(name).filter(|text| !text.is_empty());
            found.ok_or_else(|| wrong(format!("a Metric needs its {name}.")))
        };
        let (namespace, name) = (named("Namespace")?, named("MetricName")?);
        let pairs = metric.list_at("Dimensions").iter();
        let pairs = pairs.map(|pair| Some((pair.text_at("Name")?, pair.text_at("Value")?)));
        let dimensions = pairs
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("a Dimension is a Name and a Value.".into()))?;
        let period = item.number_at("Period").unwrap_or_default() as i64;
        if !matches!(period, 1 | 5 | 10 | 20 | 30) && (period < 60 || period % 60 != 0) {
            return Err(wrong("Period must be 1, 5, 10, 20, 30 or a multiple of 60.".into()));
        }
        let stat = item.text_at("Stat").unwrap_or_default();
        let stat = Stat::parse(stat)
            .ok_or_else(|| wrong(format!("The value {stat} for parameter Stat is not supported.")))?;
        Ok(Self { namespace, name, dimensions, period, stat, unit: item.text_at("Unit") })
    }
}
