//! One request of GetMetricData: its pages, and what became of every Id in it. One bad Id costs itself and is asked for
//! again alone.

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::SdkError;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{MetricDataResult, ScanBy, StatusCode};

use super::super::cost::BilledBy;
use super::super::error::Answered;
use super::answer::{Answers, Extent, Fate, Slot};
use super::billing::{Meter, billed};
use super::budget::Reserved;
use super::calls::patiently;
use super::pace::{Cost, Pace};
use super::query;
use super::target::Target;
use crate::{Error, ErrorKind, Result};

/// Rounds in which the Ids that failed are asked for again.
const ROUNDS: u32 = 4;
/// Times that AWS may find one request wrong: a single Id in 500 takes nine.
const REFUSALS: usize = 64;

/// How requests are made in a region.
pub(super) struct Asker<'a> {
    pub(super) client: Client,
    pub(super) pace: &'a Pace,
    pub(super) cost: Cost,
    /// Account and region, for errors.
    pub(super) place: &'a str,
    pub(super) billed_by: BilledBy,
    pub(super) meter: &'a Meter,
    pub(super) reserved: &'a Reserved,
}

impl Asker<'_> {
    /// Asks for resources, and again for what of them failed. `skip` are figures that are not asked for.
    pub(super) async fn ask<'a>(
        &self,
        targets: &'a [&'a Target],
        extent: Extent,
        skip: impl Fn(&Target, usize) -> bool,
    ) -> (Answers<'a>, Vec<Error>) {
        let mut answers = Answers::new(targets, extent, skip);
        let mut broken = None;
        for round in 0..ROUNDS {
            let open = answers.open();
            if open.is_empty() {
                break;
            }
            if round > 0 {
                let wait = 50.0 * f64::from(1_u32 << round) * (0.5 + fastrand::f64());
                tokio::time::sleep(std::time::Duration::from_millis(wait as u64)).await;
            }
            if let Err(error) = self.round(&mut answers, open).await {
                broken = Some(error);
                break;
            }
        }
        let faults = answers.faults(self.place, ROUNDS, broken);
        (answers, faults)
    }

    /// One request for what is open. AWS refuses all of it for one Id that it finds wrong, so it is halved until that is alone.
    async fn round(&self, answers: &mut Answers<'_>, open: Vec<Slot>) -> Result<()> {
        let (mut parts, mut refusals) = (vec![open], 0);
        while let Some(part) = parts.pop() {
            match self.request(answers, &part).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Invalid && refusals < REFUSALS => {
                    refusals += 1;
                    match &part[..] {
                        [culprit] => {
                            answers.refused(*culprit, &error);
                            for other in &mut parts {
                                other.retain(|slot| answers.fate(*slot) == Fate::Failed);
                            }
                            parts.retain(|part| !part.is_empty());
                        }
                        _ => {
                            let (one, other) = part.split_at(part.len() / 2);
                            parts.extend([other.to_vec(), one.to_vec()]);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One request with all its pages.
    async fn request(&self, answers: &mut Answers<'_>, slots: &[Slot]) -> Result<()> {
        let Extent { from, to, period } = answers.extent;
        let targets = answers.targets;
        let figures = || slots.iter().map(|slot| (targets[slot.target], slot.figure_of(targets)));
        // A page that comes late is billed as well, and pages of one request are taken to be billed once.
        let together = slots.chunk_by(|one, other| one.target == other.target);
        let mut price: u64 = together
            .map(|slots| {
                let figures = slots.iter().flat_map(|slot| slot.figure_of(targets).what.metrics());
                billed(figures, self.billed_by)
            })
            .sum();
        let bill = |metrics| {
            self.meter.bill(metrics);
            self.reserved.bill(metrics);
        };
        let count: usize = figures().map(|(_, figure)| figure.what.queries()).sum();
        let points = usize::try_from((to - from) / period).unwrap_or(0);
        let cost = Cost { datapoints: count * points, ..self.cost };
        let mut next = None;
        loop {
            let hears = |heard| self.meter.got(heard);
            let page = patiently(self.pace, cost, hears, || async {
                let mut queries = Vec::with_capacity(count);
                for (number, (target, figure)) in figures().enumerate() {
                    query::add(&mut queries, number, target, figure, period);
                }
                let request = self.client.get_metric_data().set_metric_data_queries(Some(queries));
                let request = request.start_time(DateTime::from_secs(from)).end_time(DateTime::from_secs(to));
                let request = request.scan_by(ScanBy::TimestampAscending).set_next_token(next.clone());
                let answer = request.send().await;
                // It may have been answered, and nobody listened any more.
                if matches!(answer, Err(SdkError::TimeoutError(_) | SdkError::ResponseError(_))) {
                    bill(price);
                }
                answer.answered("read the metrics of", self.place)
            });
            let GetMetricDataOutput { metric_data_results, next_token, .. } = page.await?;
            bill(std::mem::take(&mut price));
            next = next_token.filter(|token| !token.is_empty());
            for result in metric_data_results.unwrap_or_default() {
                let number = result.id().and_then(query::number);
                if let Some(slot) = number.and_then(|number| slots.get(number)) {
                    take(answers, *slot, &result);
                }
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }
}

/// Takes in what a page says of an Id. One with more on the next page is complete when that says so.
fn take(answers: &mut Answers<'_>, slot: Slot, result: &MetricDataResult) {
    for (time, value) in result.timestamps().iter().zip(result.values()) {
        answers.put(slot, time.secs(), *value);
    }
    let said = result.messages().iter().flat_map(|message| [message.code(), message.value()]);
    let said = || said.flatten().collect::<Vec<_>>().join(": ");
    match result.status_code() {
        Some(StatusCode::Complete) => answers.answered(slot),
        Some(StatusCode::Forbidden) => answers.forbidden(slot, said()),
        _ => answers.failed(slot, said()),
    }
}
