//! The parts that a configuration asks for, and the figures of each.

use std::collections::BTreeSet;

use super::super::config::Config;
use super::super::wanted::{Metric, SettleBy};
use super::machine::Monitoring;
use super::mapping::{Builtin, Mapping, Namespace, Resource, When};
use super::target::{Ask, Column, Conversion, TagFrom, What, tags};
use super::types::Facts;

/// Seconds between two points of what no monitoring changes.
const FINE: i64 = 60;

/// Which figures of an instance: those with a period of their own, or those that follow its monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rhythm {
    Own,
    Of(Monitoring),
}

/// What one shard asks for in its region: a namespace in steps of a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) namespace: String,
    /// Seconds.
    pub(super) period: i64,
}

/// All parts that a configuration asks for, whatever there is.
pub(super) fn parts(config: &Config, mapping: &Mapping) -> BTreeSet<Part> {
    let mut parts = BTreeSet::new();
    for namespace in mapping.namespaces {
        for metric in namespace.metrics.iter().filter(|metric| config.groups.contains(&metric.group)) {
            let periods = match (metric.period, namespace.resource) {
                (Some(period), _) => vec![period],
                (None, Resource::Instance) => {
                    [Monitoring::Basic, Monitoring::Detailed].map(Monitoring::period).to_vec()
                }
                (None, _) => vec![FINE],
            };
            let part =
                |period| Part { namespace: namespace.namespace.clone(), period: coarse(config, period) };
            parts.extend(periods.into_iter().map(part));
        }
    }
    for metric in &config.metrics {
        parts.insert(Part {
            namespace: metric.namespace.clone().unwrap_or_default(),
            period: coarse(config, metric.seconds()),
        });
    }
    parts
}

/// The period to ask for where points are `native` seconds apart.
fn coarse(config: &Config, native: i64) -> i64 {
    let finest = config.resolution.map_or(0, |finest| i64::try_from(finest.0.as_secs()).unwrap_or(i64::MAX));
    let native = native.max(1);
    (finest.max(native).saturating_add(native - 1) / native) * native
}

/// How long the values of a part may change, in seconds.
pub(super) fn settle(mapping: &Mapping, part: &Part) -> i64 {
    let known = mapping.namespaces.iter().find(|namespace| namespace.namespace == part.namespace);
    known.map_or(900, |known| i64::try_from(known.settle.0.as_secs()).unwrap_or(900))
}

/// The built-in metrics that a part asks for.
pub(super) struct Wanted<'a> {
    pub(super) config: &'a Config,
    pub(super) part: &'a Part,
}

impl Wanted<'_> {
    /// Whether a metric of the pipeline file belongs to the part.
    pub(super) fn has(&self, metric: &Metric) -> bool {
        metric.namespace.as_ref() == Some(&self.part.namespace)
            && coarse(self.config, metric.seconds()) == self.part.period
    }

    /// Whether the points of both kinds of monitoring are asked for alike, because the file wants none that are finer.
    pub(super) fn levels(&self) -> bool {
        let [basic, detailed] =
            [Monitoring::Basic, Monitoring::Detailed].map(|kind| coarse(self.config, kind.period()));
        basic == detailed
    }

    /// Of an instance, those of a rhythm.
    pub(super) fn of_facts(&self, namespace: &Namespace, rhythm: Rhythm, facts: &Facts) -> Ask {
        self.ask(namespace, |metric| {
            let period = match (rhythm, metric.period) {
                (Rhythm::Own, Some(period)) => Some(period),
                (Rhythm::Of(monitoring), None) => Some(monitoring.period()),
                _ => None,
            };
            period.filter(|_| metric.when.iter().all(|when| holds(*when, facts, "")))
        })
    }

    /// Of a volume of an instance.
    pub(super) fn of_volume(&self, namespace: &Namespace, facts: &Facts, kind: &str) -> Ask {
        let has = |metric: &Builtin| metric.when.iter().all(|when| holds(*when, facts, kind));
        self.ask(namespace, |metric| has(metric).then(|| metric.period.unwrap_or(FINE)))
    }

    /// Of what is listed with these metrics. Of instances in other accounts it is not known how they are monitored.
    pub(super) fn of_listed(&self, namespace: &Namespace, has: impl Fn(&str) -> bool) -> Ask {
        let native = match namespace.resource {
            Resource::Instance => Monitoring::Basic.period(),
            _ => FINE,
        };
        self.ask(namespace, |metric| has(&metric.metric).then(|| metric.period.unwrap_or(native)))
    }

    /// The built-in metrics of a namespace that a resource has, in the period of which, as far as they belong to this part.
    fn ask(&self, namespace: &Namespace, period: impl Fn(&Builtin) -> Option<i64>) -> Ask {
        let mut ask = Ask::default();
        let listed = namespace.resource == Resource::Listed;
        for metric in &namespace.metrics {
            let belongs =
                period(metric).is_some_and(|period| coarse(self.config, period) == self.part.period);
            if !belongs || !self.config.groups.contains(&metric.group) {
                continue;
            }
            let what = What::Metric { metric: metric.metric.clone(), statistic: metric.statistic.clone() };
            // Two groups may have the same figure.
            if ask.figures.iter().any(|figure| figure.what == what && figure.to.is_some()) {
                continue;
            }
            let mut columns = tags(&metric.tags, listed);
            if namespace.resource == Resource::Volume {
                columns.push(("device".into(), TagFrom::Dimension(namespace.dimension.clone())));
            }
            let column = Column { field: metric.field.clone(), convert: metric.convert, per: None };
            ask.add(what, &metric.table, columns, column);
        }
        // Only now, so that a figure that has a column of its own is not asked for twice.
        for number in 0..ask.figures.len() {
            let What::Metric { metric, statistic } = ask.figures[number].what.clone() else { continue };
            let per =
                namespace.metrics.iter().find(|known| known.metric == metric && known.statistic == statistic);
            if let Some(per) = per.and_then(|known| known.per.as_ref()) {
                let needed = ask.need(per, "Sum");
                if let Some(column) = &mut ask.figures[number].to {
                    column.per = Some(needed);
                }
            }
        }
        if self.config.settle_by == SettleBy::SampleCount && !ask.figures.is_empty() {
            ask.count_samples();
        }
        ask
    }
}

/// The figures of the pipeline file's metrics for one combination of dimensions.
pub(super) fn own_ask(metrics: &[&Metric], settle_by: SettleBy) -> Ask {
    let mut ask = Ask::default();
    for metric in metrics {
        let what = match (&metric.expression, &metric.metric, &metric.statistic) {
            (Some(text), ..) => {
                let inputs = metric.inputs.iter();
                let inputs =
                    inputs.map(|(id, input)| (id.clone(), input.metric.clone(), input.statistic.clone()));
                What::Expression { text: text.clone(), inputs: inputs.collect() }
            }
            (None, Some(name), Some(statistic)) => {
                What::Metric { metric: name.clone(), statistic: statistic.clone() }
            }
            _ => continue,
        };
        let tags =
            metric.tags.iter().map(|(column, name)| (column.clone(), TagFrom::Dimension(name.clone())));
        let convert = Conversion::Any(metric.convert);
        let column = Column { field: metric.field.clone(), convert, per: None };
        ask.add(what, &metric.table, tags.collect(), column);
    }
    if settle_by == SettleBy::SampleCount {
        ask.count_samples();
    }
    ask
}

/// Whether a resource is such that it has a metric.
fn holds(when: When, facts: &Facts, volume: &str) -> bool {
    match when {
        When::Nitro => facts.nitro,
        When::Xen => !facts.nitro,
        When::Burstable => facts.burstable,
        When::InstanceStore => facts.instance_store,
        When::EbsBurst => facts.ebs_burst,
        When::BurstVolume => matches!(volume, "gp2" | "st1" | "sc1"),
        When::ProvisionedVolume => matches!(volume, "io1" | "io2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn parts_are_those_of_the_groups_and_no_finer_than_wanted() {
        let names = |config: &Config| -> Vec<String> {
            let parts = parts(config, &Mapping::new(config).unwrap());
            parts.iter().map(|part| format!("{}/{}", part.namespace, part.period)).collect()
        };
        let config = Config::default();
        assert_eq!(names(&config), ["AWS/EC2/60", "AWS/EC2/300"]);
        let coarse = Config { resolution: Some(Span::seconds(420)), ..Config::default() };
        assert_eq!(names(&coarse), ["AWS/EC2/420", "AWS/EC2/600"], "multiples of what there is");
        let more =
            Config { groups: vec!["ebs".into(), "agent".into(), "credits".into()], ..Config::default() };
        assert_eq!(names(&more), ["AWS/EBS/60", "AWS/EC2/300", "CWAgent/60"]);
    }
}
