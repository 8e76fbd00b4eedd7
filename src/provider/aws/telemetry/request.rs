//! One request of GetMetricData: its pages, and what became of every Id in it. One bad Id costs itself and is asked for
//! again alone.

use std::collections::HashMap;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy, StatusCode,
};

use super::super::error::{Answered, failed};
use super::calls::patiently;
use super::pace::{Cost, Pace};
use super::settle::Grid;
use super::target::{Figure, Target, What};
use crate::{Error, ErrorKind, Result};

/// Rounds in which the Ids that failed are asked for again.
const ROUNDS: usize = 4;

/// How requests are made in a region.
pub(super) struct Asker<'a> {
    pub(super) client: Client,
    pub(super) pace: &'a Pace,
    pub(super) cost: Cost,
    /// Account and region, for errors.
    pub(super) place: &'a str,
    /// Hears of each call.
    pub(super) called: &'a (dyn Fn() + Sync),
    /// Hears what each answered request is billed.
    pub(super) billed: &'a (dyn Fn(u64) + Sync),
}

/// Resources and a range of time: periods that begin at `from` or later, and before `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) period: i64,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// It may be answered another time.
    Failed,
    /// AWS does not allow it.
    Forbidden,
}

/// What an answer has of one resource.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) grid: Grid,
    pub(super) fates: Vec<Fate>,
}

/// Where an Id's points go.
#[derive(Debug, Clone, Copy)]
struct Place {
    target: usize,
    figure: usize,
}

impl Asker<'_> {
    /// Asks for resources, and again for what of them failed. `skip` are figures that are not asked for.
    pub(super) async fn ask(
        &self,
        targets: &[&Target],
        range: Range,
        skip: impl Fn(usize, usize) -> bool,
    ) -> (Vec<Answer>, Vec<Error>) {
        let mut answers: Vec<Answer> = targets
            .iter()
            .map(|target| {
                let columns = target.ask.figures.len();
                let grid = Grid::empty(range.from, range.to, range.period, columns);
                Answer { grid, fates: vec![Fate::Failed; columns] }
            })
            .collect();
        let figures = targets
            .iter()
            .enumerate()
            .flat_map(|(target, of)| (0..of.ask.figures.len()).map(move |figure| Place { target, figure }));
        let mut open: Vec<Place> = Vec::new();
        for place in figures {
            match skip(place.target, place.figure) {
                true => answers[place.target].fates[place.figure] = Fate::Forbidden,
                false => open.push(place),
            }
        }
        let (mut faults, mut broken) = (Vec::new(), false);
        for round in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            if round > 0 {
                let wait = 50.0 * f64::from(1_u32 << round) * (0.5 + fastrand::f64());
                tokio::time::sleep(std::time::Duration::from_millis(wait as u64)).await;
            }
            if let Err(error) = self.round(targets, range, &open, &mut answers, &mut faults).await {
                faults.push(error);
                broken = true;
                break;
            }
            open.retain(|place| answers[place.target].fates[place.figure] == Fate::Failed);
        }
        if !broken && !open.is_empty() {
            let first = &targets[open[0].target];
            let figure = first.ask.figures[open[0].figure].what.label();
            let name = format!("{figure} of {} in {}", first.identity.resource_id, self.place);
            let reason = format!(
                "AWS failed at it {ROUNDS} times, and at {} others; it is tried later",
                open.len() - 1
            );
            faults.push(failed(ErrorKind::Unavailable, "read", &name, reason));
        }
        (answers, faults)
    }

    /// One request with all its pages.
    async fn round(
        &self,
        targets: &[&Target],
        range: Range,
        open: &[Place],
        answers: &mut [Answer],
        faults: &mut Vec<Error>,
    ) -> Result<()> {
        let mut queries = Vec::with_capacity(open.len());
        let mut places = HashMap::with_capacity(open.len());
        let mut billed = 0;
        for (number, place) in open.iter().enumerate() {
            let target = targets[place.target];
            let figure = &target.ask.figures[place.figure];
            add(&mut queries, number, target, figure, range.period);
            billed += u64::try_from(figure.what.metrics().len()).unwrap_or(0);
            places.insert(format!("q{number}"), *place);
        }
        let points = usize::try_from((range.to - range.from) / range.period).unwrap_or(0);
        let cost = Cost { datapoints: queries.len() * points, ..self.cost };
        let mut next = None;
        loop {
            let page = patiently(self.pace, cost, self.called, || async {
                let request = self.client.get_metric_data().set_metric_data_queries(Some(queries.clone()));
                let request = request
                    .start_time(DateTime::from_secs(range.from))
                    .end_time(DateTime::from_secs(range.to));
                let request = request.scan_by(ScanBy::TimestampAscending).set_next_token(next.clone());
                request.send().await.answered("read the metrics of", self.place)
            });
            let GetMetricDataOutput { metric_data_results, next_token, .. } = page.await?;
            // Pages of one request are taken to be billed once.
            (self.billed)(std::mem::take(&mut billed));
            next = next_token.filter(|token| !token.is_empty());
            for result in metric_data_results.unwrap_or_default() {
                let Some(place) = result.id().and_then(|id| places.get(id)) else { continue };
                let fate = take(&result, *place, &mut answers[place.target]);
                if fate == Fate::Forbidden {
                    faults.push(self.forbidden(targets[place.target], place.figure, &result));
                }
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    fn forbidden(&self, target: &Target, figure: usize, result: &MetricDataResult) -> Error {
        let figure = target.ask.figures[figure].what.label();
        let name = format!("{figure} of {} in {}", target.identity.resource_id, self.place);
        let said =
            result.messages().iter().filter_map(|message| message.value()).collect::<Vec<_>>().join(", ");
        let reason = format!("AWS does not allow to read it ({said}); it is left out for an hour");
        failed(ErrorKind::Denied, "read", &name, reason)
    }
}

/// Takes in what a page says of an Id. One with more on the next page is complete when that says so.
fn take(result: &MetricDataResult, place: Place, answer: &mut Answer) -> Fate {
    for (time, value) in result.timestamps().iter().zip(result.values()) {
        answer.grid.put(place.figure, time.secs(), *value);
    }
    let fate = match result.status_code() {
        Some(StatusCode::Complete) => Fate::Answered,
        Some(StatusCode::Forbidden) => Fate::Forbidden,
        _ => Fate::Failed,
    };
    answer.fates[place.figure] = fate;
    fate
}

/// The query of a figure; of an expression, also those that it computes with.
fn add(queries: &mut Vec<MetricDataQuery>, number: usize, target: &Target, figure: &Figure, period: i64) {
    let query = || MetricDataQuery::builder().set_account_id(target.owner.as_deref().map(str::to_owned));
    let stat = |metric: &str, statistic: &str| {
        let dimensions = target
            .dimensions
            .iter()
            .map(|(name, value)| Dimension::builder().name(&**name).value(&**value).build())
            .collect();
        let metric = Metric::builder()
            .namespace(&*target.namespace)
            .metric_name(metric)
            .set_dimensions(Some(dimensions));
        let period = i32::try_from(period).unwrap_or(i32::MAX);
        MetricStat::builder().metric(metric.build()).period(period).stat(statistic).build()
    };
    match &figure.what {
        What::Metric { metric, statistic } => {
            queries.push(query().id(format!("q{number}")).metric_stat(stat(metric, statistic)).build());
        }
        What::Expression { text, inputs } => {
            let name = |id: &str| {
                inputs.iter().position(|(known, ..)| known == id).map(|at| format!("q{number}_{at}"))
            };
            for (at, (_, metric, statistic)) in inputs.iter().enumerate() {
                let input = query().id(format!("q{number}_{at}")).metric_stat(stat(metric, statistic));
                queries.push(input.return_data(false).build());
            }
            queries.push(
                MetricDataQuery::builder().id(format!("q{number}")).expression(renamed(text, name)).build(),
            );
        }
    }
}

/// An expression with the names of its inputs as the request has them. What stands in quotes is no name.
fn renamed(text: &str, name: impl Fn(&str) -> Option<String>) -> String {
    let mut made = String::with_capacity(text.len());
    let (mut rest, mut quote) = (text, None);
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if quote.is_none() && is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, left) = rest.split_at(end);
        match quote {
            Some(open) if first == open => quote = None,
            None if first == '"' || first == '\'' => quote = Some(first),
            _ => {}
        }
        match name(word).filter(|_| quote.is_none()) {
            Some(other) => made.push_str(&other),
            None => made.push_str(word),
        }
        rest = left;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_of_an_expression_get_the_names_of_the_request() {
        let name = |word: &str| ["a", "m1"].contains(&word).then(|| format!("q7_{word}"));
        assert_eq!(renamed("100 * a / (a + m1)", name), "100 * q7_a / (q7_a + q7_m1)");
        assert_eq!(renamed("SUM([a, m10]) + a1", name), "SUM([q7_a, m10]) + a1");
        assert_eq!(renamed("SUM(METRICS(\"a\")) - 'm1' - m1", name), "SUM(METRICS(\"a\")) - 'm1' - q7_m1");
    }
}
