//! The queries of a figure, as CloudWatch takes them.

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};

use super::target::{Figure, Target, What};

/// Adds the query of a figure; of an expression, also those that it computes with.
pub(super) fn add(
    queries: &mut Vec<MetricDataQuery>,
    number: usize,
    target: &Target,
    figure: &Figure,
    period: i64,
) {
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

/// Which figure an Id is of, if it is one of ours.
pub(super) fn number(id: &str) -> Option<usize> {
    id.strip_prefix('q')?.parse().ok()
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
        assert_eq!(number("q12"), Some(12));
        assert_eq!((number("q12_0"), number("m1")), (None, None));
        assert_eq!(renamed("SUM(METRICS(\"a\")) - 'm1' - m1", name), "SUM(METRICS(\"a\")) - 'm1' - q7_m1");
    }
}
