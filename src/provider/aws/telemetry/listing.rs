//! Which series there are in namespaces without an inventory: ListMetrics, asked rarely and remembered, narrowed by
//! namespace, metric and dimensions, because what it lists is not billed but its calls are.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_cloudwatch::types::{DimensionFilter, RecentlyActive};

use super::super::connect::Session;
use super::super::error::Answered;
use super::billing::Meter;
use super::calls::patiently;
use super::pace::{Cost, Pace};
use super::target::Dimensions;
use crate::Result;

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) namespace: String,
    pub(super) metric: Option<String>,
    /// Names of dimensions with globs of their values.
    pub(super) dimensions: BTreeMap<String, String>,
    /// Metrics of linked accounts as well.
    pub(super) linked: bool,
    /// Also what was silent for more than three hours.
    pub(super) silent: bool,
}

/// A series that there is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    /// The account that owns it, if it is not the one that asked.
    pub(super) owner: Option<Arc<str>>,
    pub(super) metric: Arc<str>,
    /// In order of their names.
    pub(super) dimensions: Dimensions,
}

/// Asks CloudWatch in one region.
#[derive(Debug)]
pub(super) struct Lister {
    pub(super) session: Session,
    pub(super) region: String,
    pub(super) pace: Arc<Pace>,
    pub(super) calls: f64,
    pub(super) meter: Meter,
}

impl Lister {
    /// All series that answer a question.
    pub(super) async fn list(&self, question: &Question) -> Result<Vec<Series>> {
        let client = self.session.cloudwatch(&self.region);
        let place = format!("{} in {}/{}", question.namespace, self.session.id(), self.region);
        let cost = Cost { calls: self.calls, datapoints: 0, rate: 1.0 };
        let filters: Vec<DimensionFilter> = question
            .dimensions
            .iter()
            .map(|(name, glob)| {
                let value = (!glob.contains('*')).then(|| glob.clone());
                DimensionFilter::builder().name(name).set_value(value).build()
            })
            .collect();
        let filters = (!filters.is_empty()).then_some(filters);
        let active = (!question.silent).then_some(RecentlyActive::Pt3H);
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = patiently(
                &self.pace,
                cost,
                |heard| self.meter.listed(heard),
                || async {
                    let request = client.list_metrics().namespace(&question.namespace);
                    let request =
                        request.set_metric_name(question.metric.clone()).set_dimensions(filters.clone());
                    let request = request.set_recently_active(active.clone());
                    let request = request.set_include_linked_accounts(question.linked.then_some(true));
                    request.set_next_token(next.clone()).send().await.answered("list the metrics of", &place)
                },
            );
            let page = page.await?;
            let owners = page.owning_accounts();
            for (number, metric) in page.metrics().iter().enumerate() {
                let owner = owners.get(number).filter(|owner| owner.as_str() != self.session.id());
                let pairs = metric.dimensions().iter();
                let mut pairs: Vec<(Arc<str>, Arc<str>)> =
                    pairs.filter_map(|pair| Some((pair.name()?.into(), pair.value()?.into()))).collect();
                pairs.sort_unstable();
                let Some(name) = metric.metric_name() else { continue };
                let series = Series {
                    owner: owner.map(|owner| owner.as_str().into()),
                    metric: name.into(),
                    dimensions: pairs.into(),
                };
                if question.takes(&series) {
                    found.push(series);
                }
            }
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                // AWS keeps no order, and what a limit leaves out must not change from one time to another.
                found.sort_unstable();
                return Ok(found);
            }
        }
    }
}

impl Series {
    /// The value of a dimension.
    pub(super) fn dimension(&self, name: &str) -> Option<&Arc<str>> {
        self.dimensions.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }
}

impl Question {
    /// Whether the dimensions are as asked: all of them, unless nothing is asked of them.
    fn takes(&self, series: &Series) -> bool {
        let named = |(name, value): &(Arc<str>, Arc<str>)| {
            self.dimensions.get(&**name).is_some_and(|glob| matches(glob, value))
        };
        self.metric.is_none()
            || series.dimensions.len() == self.dimensions.len() && series.dimensions.iter().all(named)
    }
}

/// Whether a text is as a glob says, in which `*` stands for any text.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
    for part in middle.into_iter().flat_map(|middle| middle.split('*')).filter(|part| !part.is_empty()) {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.len() >= last.len() && left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (glob, text, is) in [
            ("*", "", true),
            ("*", "abc", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*ba", "aba", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c", false),
            ("*-prod", "web-prod", true),
            ("prod-*", "web-prod", false),
        ] {
            assert_eq!(matches(glob, text), is, "{glob} {text}");
        }
    }

    #[test]
    fn dimensions_are_asked_for_exactly() {
        let question = Question {
            namespace: "A".into(),
            metric: Some("M".into()),
            dimensions: BTreeMap::from([("Service".into(), "web*".into())]),
            linked: false,
            silent: false,
        };
        let series = |pairs: &[(&str, &str)]| Series {
            owner: None,
            metric: "M".into(),
            dimensions: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        assert!(question.takes(&series(&[("Service", "web-1")])));
        assert!(!question.takes(&series(&[("Service", "db")])));
        assert!(
            !question.takes(&series(&[("Service", "web-1"), ("Host", "a")])),
            "another set makes other series"
        );
        assert!(Question { metric: None, ..question }.takes(&series(&[("Host", "a")])));
    }
}
