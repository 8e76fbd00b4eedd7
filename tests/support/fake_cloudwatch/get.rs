//! GetMetricData: a page of an answer.

use std::collections::HashMap;

use super::cbor::Writer;
use super::fault::Faults;
use super::math::{self, Line, Lines};
use super::quota::{Grid, Quotas};
use super::request::{Metric, Query, Request, What};
use super::wire::Refusal;
use super::world::{Span, World};

/// Where a page begins. It keeps the time of the first page, so that what is published meanwhile shifts nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Position {
    now: i64,
    query: usize,
    point: usize,
}

impl Position {
    fn token(self, print: u64) -> String {
        format!("{:x}.{:x}.{:x}.{print:x}", self.now, self.query, self.point)
    }

    fn read(token: &str, print: u64) -> Option<Self> {
        let parts = token.split('.').map(|part| u64::from_str_radix(part, 16).ok());
        let [now, query, point, of] = parts.collect::<Option<Vec<_>>>()?.try_into().ok()?;
        (of == print).then_some(Self { now: now as i64, query: query as usize, point: point as usize })
    }
}

/// What a query came to.
struct Outcome {
    points: Vec<(i64, f64)>,
    status: &'static str,
    message: Option<(&'static str, String)>,
}

impl Outcome {
    fn points(points: Vec<(i64, f64)>) -> Self {
        Self { points, status: "Complete", message: None }
    }

    fn without(status: &'static str, code: &'static str, why: impl Into<String>) -> Self {
        Self { points: Vec::new(), status, message: Some((code, why.into())) }
    }
}

/// All that an answer depends on.
pub struct Getting<'a> {
    pub world: &'a World,
    pub quotas: &'a Quotas,
    pub faults: &'a Faults,
    pub random: &'a mut fastrand::Rng,
    pub account: &'a str,
    pub region: &'a str,
    pub request: &'a Request<'a>,
    pub now: i64,
}

/// A page and how many datapoints are on it.
pub struct Page {
    pub body: Vec<u8>,
    pub datapoints: usize,
}

impl Getting<'_> {
    pub fn page(mut self) -> Result<Page, Refusal> {
        let request = self.request;
        let print = request.print();
        let mut at = Position { now: self.now, query: 0, point: 0 };
        if let Some(token) = request.token {
            at = Position::read(token, print).ok_or_else(Refusal::token)?;
        }
        self.now = at.now;
        let limit = request.limit.map_or(self.quotas.datapoints, |limit| limit.min(self.quotas.datapoints));
        let mut room = limit;
        let mut results = Vec::new();
        let mut next = None;
        for (number, query) in request.queries.iter().enumerate().skip(at.query) {
            if !query.returned {
                continue;
            }
            let mut outcome = self.outcome(query);
            if request.descending {
                outcome.points.reverse();
            }
            let skip = if number == at.query { at.point.min(outcome.points.len()) } else { 0 };
            outcome.points.drain(..skip);
            if outcome.points.len() <= room {
                room -= outcome.points.len();
                results.push((query, outcome));
                continue;
            }
            next = Some(Position { now: at.now, query: number, point: skip + room }.token(print));
            if room > 0 {
                outcome.points.truncate(room);
                outcome.status = "PartialData";
                results.push((query, outcome));
                room = 0;
            }
            break;
        }
        let datapoints = limit - room;
        Ok(Page { body: encode(&results, next.as_deref(), datapoints), datapoints })
    }

    fn outcome(&mut self, query: &Query<'_>) -> Outcome {
        let faults = self.faults;
        let forbidden = |why: &str| Outcome::without("Forbidden", "Forbidden", why);
        if faults.forbidden_ids.contains(query.id) {
            return forbidden("The Id is forbidden.");
        }
        if let What::Metric(metric) = &query.what {
            let owner = query.account.unwrap_or(self.account);
            // What CloudWatch says to an account that is not linked was not to be found; this is the likely answer.
            if owner != self.account && !self.world.linked(self.account).any(|source| source == owner) {
                return forbidden("The account is not linked to this monitoring account.");
            }
            if faults.forbidden_accounts.contains(owner)
                || faults.forbidden_namespaces.contains(metric.namespace)
            {
                return forbidden("The metric is forbidden.");
            }
        }
        if faults.internal_error > 0.0 && self.random.f64() < faults.internal_error {
            return Outcome::without("InternalError", "InternalError", "Injected");
        }
        if faults.partial_data > 0.0 && self.random.f64() < faults.partial_data {
            return Outcome { points: Vec::new(), status: "PartialData", message: None };
        }
        match &query.what {
            What::Metric(metric) => Outcome::points(self.points(query, metric)),
            What::Expression(expression) => match math::evaluate(expression, &mut Resolver::of(self)) {
                Ok(line) => Outcome::points(line.into_iter().collect()),
                Err(why) => Outcome::without("InternalError", "Unsupported", why),
            },
        }
    }

    /// The datapoints of a metric, oldest first.
    fn points(&self, query: &Query<'_>, metric: &Metric<'_>) -> Vec<(i64, f64)> {
        let owner = query.account.unwrap_or(self.account);
        let parts = [owner, self.region, metric.namespace, metric.name];
        let Some(series) = self.world.find(parts, &metric.dimensions) else { return Vec::new() };
        if metric.unit.is_some_and(|unit| unit != &*series.kind.unit) {
            return Vec::new();
        }
        // A period below that of the series has the points of the series.
        let step = metric.period.max(series.kind.period);
        let start = self.quotas.rounded(self.request.start, metric.period, self.now);
        let offset = if self.quotas.grid == Grid::Start { start } else { 0 };
        let oldest = self.now - self.quotas.kept(metric.period);
        let span = Span { from: start.max(oldest), to: self.request.end, step, offset };
        self.world.points(series, span, metric.stat, self.now)
    }
}

/// Other queries for the expressions of a request.
struct Resolver<'a, 'b> {
    getting: &'a Getting<'b>,
    /// Expressions that are being evaluated: one that leads back to itself has no value.
    open: Vec<String>,
    known: HashMap<String, Line>,
}

impl<'a, 'b> Resolver<'a, 'b> {
    fn of(getting: &'a Getting<'b>) -> Self {
        Self { getting, open: Vec::new(), known: HashMap::new() }
    }
}

impl Lines for Resolver<'_, '_> {
    fn line(&mut self, id: &str) -> Result<Line, String> {
        if let Some(line) = self.known.get(id) {
            return Ok(line.clone());
        }
        let query = self.getting.request.queries.iter().find(|query| query.id == id);
        let query = query.ok_or_else(|| format!("there is no query with the Id {id}"))?;
        let line = match &query.what {
            What::Metric(metric) => self.getting.points(query, metric).into_iter().collect(),
            What::Expression(_) if self.open.iter().any(|open| open == id) => {
                return Err(format!("{id} leads back to itself"));
            }
            What::Expression(expression) => {
                self.open.push(id.into());
                let line = math::evaluate(expression, self)?;
                self.open.pop();
                line
            }
        };
        self.known.insert(id.into(), Line::clone(&line));
        Ok(line)
    }

    fn metrics(&self) -> Vec<String> {
        let queries = self.getting.request.queries.iter();
        let metrics = queries.filter(|query| matches!(query.what, What::Metric(_)));
        metrics.map(|query| query.id.to_owned()).collect()
    }
}

fn encode(results: &[(&Query<'_>, Outcome)], next: Option<&str>, datapoints: usize) -> Vec<u8> {
    let mut body = Writer::with_capacity(100 + 120 * results.len() + 19 * datapoints);
    body.map(2 + usize::from(next.is_some())).text("MetricDataResults").array(results.len());
    for (query, outcome) in results {
        let label = query.label.unwrap_or(match &query.what {
            What::Metric(metric) => metric.name,
            What::Expression(_) => query.id,
        });
        body.map(5 + usize::from(outcome.message.is_some()));
        body.text("Id").text(query.id).text("Label").text(label).text("StatusCode").text(outcome.status);
        body.text("Timestamps").array(outcome.points.len());
        for (time, _) in &outcome.points {
            body.time(*time);
        }
        body.text("Values").array(outcome.points.len());
        for (_, value) in &outcome.points {
            body.float(*value);
        }
        if let Some((code, why)) = &outcome.message {
            body.text("Messages").array(1).map(2).text("Code").text(code).text("Value").text(why);
        }
    }
    body.text("Messages").array(0);
    if let Some(next) = next {
        body.text("NextToken").text(next);
    }
    body.finish()
}
