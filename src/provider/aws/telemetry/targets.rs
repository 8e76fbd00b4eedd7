//! From what there is to what is asked for, shard by shard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::config::Config;
use super::super::error::failed;
use super::super::wanted::{Metric, SettleBy};
use super::inventory::Snapshot;
use super::listing::{Question, Series};
use super::machine::Machine;
use super::mapping::{Builtin, Mapping, Namespace, Resource, When};
use super::place::Place;
use super::target::{Ask, Column, Dimensions, TagFrom, Target, What, tags};
use super::types::Facts;
use crate::model::Identity;
use crate::{Error, ErrorKind, Result};

/// Basic monitoring makes a point in this time, in seconds, and detailed monitoring in the next.
const BASIC: i64 = 300;
const DETAILED: i64 = 60;

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
                (None, Resource::Instance) => vec![BASIC, DETAILED],
                (None, _) => vec![DETAILED],
            };
            let part =
                |period| Part { namespace: namespace.namespace.clone(), period: coarse(config, period) };
            parts.extend(periods.into_iter().map(part));
        }
    }
    for metric in &config.metrics {
        parts.insert(Part {
            namespace: metric.namespace().to_owned(),
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

/// Whom rows are about.
pub(super) fn identity(
    account: &str,
    region: &str,
    id: &str,
    machine: Option<&Machine>,
    observer: &str,
) -> Identity {
    Identity {
        provider: super::super::PROVIDER.into(),
        account: Some(account.to_owned()),
        region: Some(region.to_owned()),
        zone: machine.and_then(|machine| machine.zone.as_deref()).map(str::to_owned),
        resource_type: "instance".into(),
        resource_id: id.to_owned(),
        resource_name: machine.and_then(|machine| machine.name.as_deref()).map(str::to_owned),
        observer: observer.to_owned(),
    }
}

/// The built-in metrics that a part asks for.
pub(super) struct Wanted<'a> {
    pub(super) config: &'a Config,
    pub(super) part: &'a Part,
}

impl Wanted<'_> {
    /// Whether a metric of the pipeline file belongs to the part.
    pub(super) fn has(&self, metric: &Metric) -> bool {
        metric.namespace() == self.part.namespace && coarse(self.config, metric.seconds()) == self.part.period
    }

    /// Of an instance.
    pub(super) fn of_facts(&self, namespace: &Namespace, detailed: bool, facts: &Facts) -> Ask {
        let native = if detailed { DETAILED } else { BASIC };
        self.ask(namespace, native, |metric| metric.when.iter().all(|when| holds(*when, facts, "")))
    }

    /// Of a volume of an instance.
    pub(super) fn of_volume(&self, namespace: &Namespace, facts: &Facts, kind: &str) -> Ask {
        self.ask(namespace, DETAILED, |metric| metric.when.iter().all(|when| holds(*when, facts, kind)))
    }

    /// Of what is listed with these metrics. Of instances in other accounts it is not known how they are monitored.
    pub(super) fn of_listed(&self, namespace: &Namespace, has: impl Fn(&str) -> bool) -> Ask {
        let native = if namespace.resource == Resource::Instance { BASIC } else { DETAILED };
        self.ask(namespace, native, |metric| has(&metric.metric))
    }

    /// The built-in metrics of a namespace that a resource has, as far as they belong to this part.
    fn ask(&self, namespace: &Namespace, native: i64, has: impl Fn(&Builtin) -> bool) -> Ask {
        let mut ask = Ask::default();
        let listed = namespace.resource == Resource::Listed;
        for metric in &namespace.metrics {
            let period = coarse(self.config, metric.period.unwrap_or(native));
            if period != self.part.period || !self.config.groups.contains(&metric.group) || !has(metric) {
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

/// Makes the targets of a part.
pub(super) struct Maker<'a> {
    pub(super) place: &'a Place,
    pub(super) mapping: &'a Mapping,
    pub(super) part: &'a Part,
    /// Columns of the tags that the file asks for.
    pub(super) columns: &'a [Arc<str>],
    /// Nothing where EC2 may not be asked, and nothing is known of instances.
    pub(super) snapshot: Option<&'a Snapshot>,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// What was silent for long is of interest too.
    pub(super) silent: bool,
    pub(super) faults: Vec<Error>,
}

impl Maker<'_> {
    /// All targets.
    ///
    /// # Errors
    /// Nothing of it could be found out.
    pub(super) async fn targets(&mut self) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        let builtin = self.mapping.namespaces.iter().find(|known| known.namespace == self.part.namespace);
        if let Some(namespace) = builtin {
            match namespace.resource {
                Resource::Instance => targets.extend(self.machines(namespace)),
                Resource::Volume => targets.extend(self.volumes(namespace)),
                Resource::Listed => targets.extend(self.listed(namespace, false).await?),
            }
            if self.place.linked && namespace.resource != Resource::Listed {
                targets.extend(self.listed(namespace, true).await?);
            }
        }
        targets.extend(self.own().await?);
        Ok(targets)
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { config: &self.place.config, part: self.part }
    }

    fn target(&self, id: &str, owner: Option<Arc<str>>, dimensions: Dimensions, ask: Arc<Ask>) -> Target {
        let mut key = owner.as_deref().unwrap_or_default().to_owned();
        for (name, value) in &*dimensions {
            key.extend(["\0", name, "\0", value]);
        }
        let account = owner.as_deref().unwrap_or(self.place.session.id());
        Target {
            key: key.into(),
            namespace: self.part.namespace.as_str().into(),
            identity: Arc::new(identity(account, &self.place.region, id, None, "hypervisor")),
            owner,
            dimensions,
            tags: Vec::new(),
            ask,
            from: None,
            until: None,
        }
    }

    /// With what the inventory knows of its instance.
    fn join(&self, target: &mut Target, machine: &Machine, observer: &str) {
        let (account, region) = (self.place.session.id(), self.place.region.as_str());
        target.identity = Arc::new(identity(account, region, &machine.id, Some(machine), observer));
        let tags = self.columns.iter().zip(&machine.tags);
        target.tags = tags
            .filter_map(|(column, value)| Some((Arc::clone(column), Arc::clone(value.as_ref()?))))
            .collect();
        let down = |time: i64| time.div_euclid(self.part.period) * self.part.period;
        target.from = machine.launched.map(down);
        target.until = machine.ended.map(|ended| down(ended) + self.part.period);
    }

    fn machines(&self, namespace: &Namespace) -> Vec<Target> {
        let mut asks: HashMap<(bool, Facts), Arc<Ask>> = HashMap::new();
        let name: Arc<str> = namespace.dimension.as_str().into();
        let machines = self.snapshot.into_iter().flat_map(|snapshot| snapshot.machines.values());
        let mut targets = Vec::new();
        for machine in machines {
            let facts = Facts { memory: None, vcpus: None, ..machine.facts };
            let ask = asks
                .entry((machine.detailed, facts))
                .or_insert_with(|| Arc::new(self.wanted().of_facts(namespace, machine.detailed, &facts)));
            if ask.figures.is_empty() {
                continue;
            }
            let dimensions = Arc::new([(Arc::clone(&name), Arc::clone(&machine.id))]);
            let mut target = self.target(&machine.id, None, dimensions, Arc::clone(ask));
            self.join(&mut target, machine, &namespace.observer);
            // Sums of five minutes from before would count as sums of one.
            if let Some(since) = machine.detailed_since.filter(|_| self.part.period < BASIC) {
                target.from = target.from.max(Some((since.div_euclid(BASIC) + 1) * BASIC));
            }
            targets.push(target);
        }
        targets
    }

    fn volumes(&self, namespace: &Namespace) -> Vec<Target> {
        let mut asks: HashMap<(bool, &str), Arc<Ask>> = HashMap::new();
        let name: Arc<str> = namespace.dimension.as_str().into();
        let Some(snapshot) = self.snapshot else { return Vec::new() };
        let mut targets = Vec::new();
        for volume in &snapshot.volumes {
            let Some(machine) = snapshot.machines.get(&volume.instance) else { continue };
            let kind = (machine.facts.nitro, volume.kind.as_str());
            let ask = asks.entry(kind).or_insert_with(|| {
                Arc::new(self.wanted().of_volume(namespace, &machine.facts, &volume.kind))
            });
            if ask.figures.is_empty() {
                continue;
            }
            let dimensions = Arc::new([(Arc::clone(&name), Arc::clone(&volume.id))]);
            let mut target = self.target(&machine.id, None, dimensions, Arc::clone(ask));
            self.join(&mut target, machine, &namespace.observer);
            let attached = volume.attached.map(|at| at.div_euclid(self.part.period) * self.part.period);
            target.from = target.from.max(attached);
            targets.push(target);
        }
        targets
    }

    /// The built-in metrics of what ListMetrics finds: those of all, or only those of linked accounts.
    async fn listed(&mut self, namespace: &Namespace, only_linked: bool) -> Result<Vec<Target>> {
        let question = Question {
            namespace: namespace.namespace.clone(),
            metric: None,
            dimensions: BTreeMap::from([(namespace.dimension.clone(), "*".into())]),
            linked: self.place.linked,
            silent: self.silent,
        };
        let (series, fault) = self.place.listed(&question, self.now).await?;
        self.faults.extend(fault);
        let wanted: HashMap<&str, &Builtin> =
            namespace.metrics.iter().map(|metric| (metric.metric.as_str(), metric)).collect();
        // The agent can publish the same figure with more and with fewer dimensions; the one that says most is taken.
        let mut best: BTreeMap<(Option<Arc<str>>, Arc<str>, Arc<str>, Vec<Arc<str>>), &Series> =
            BTreeMap::new();
        for one in
            series.iter().filter(|one| !only_linked || one.owner.is_some() && one.dimensions.len() == 1)
        {
            let Some(metric) = wanted.get(&*one.metric) else { continue };
            let value = |name: &str| {
                one.dimensions.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
            };
            let Some(id) = value(&namespace.dimension) else { continue };
            let listed = namespace.resource == Resource::Listed;
            let tags: Option<Vec<_>> =
                metric.tags.values().filter(|_| listed).map(|name| value(name).cloned()).collect();
            let Some(tags) = tags else { continue };
            let kept =
                best.entry((one.owner.clone(), Arc::clone(id), Arc::clone(&one.metric), tags)).or_insert(one);
            if one.dimensions.len() > kept.dimensions.len() {
                *kept = one;
            }
        }
        let mut together: BTreeMap<(Option<Arc<str>>, Dimensions), BTreeSet<Arc<str>>> = BTreeMap::new();
        for one in best.into_values() {
            let key = (one.owner.clone(), Arc::clone(&one.dimensions));
            together.entry(key).or_default().insert(Arc::clone(&one.metric));
        }
        let mut asks: HashMap<BTreeSet<Arc<str>>, Arc<Ask>> = HashMap::new();
        let mut targets = Vec::new();
        for ((owner, dimensions), metrics) in together {
            let ask = asks.entry(metrics).or_insert_with_key(|metrics| {
                Arc::new(self.wanted().of_listed(namespace, |metric| metrics.contains(metric)))
            });
            if ask.figures.is_empty() {
                continue;
            }
            let ask = Arc::clone(ask);
            targets.extend(self.of_instance(
                owner,
                dimensions,
                &namespace.dimension,
                ask,
                &namespace.observer,
            ));
        }
        Ok(targets)
    }

    /// A target whose resource a dimension names. Instances that the inventory does not have any more are not asked for.
    fn of_instance(
        &self,
        owner: Option<Arc<str>>,
        dimensions: Dimensions,
        resource: &str,
        ask: Arc<Ask>,
        observer: &str,
    ) -> Option<Target> {
        let id =
            dimensions.iter().find(|(name, _)| &**name == resource).map(|(_, value)| Arc::clone(value))?;
        let mut target = self.target(&id, owner, dimensions, ask);
        if resource == "InstanceId"
            && target.owner.is_none()
            && let Some(snapshot) = self.snapshot
        {
            self.join(&mut target, snapshot.machines.get(&id)?, observer);
        } else {
            let account = target.owner.as_deref().unwrap_or(self.place.session.id());
            let mut identity = identity(account, &self.place.region, &id, None, observer);
            if resource != "InstanceId" {
                identity.resource_type = kind(resource);
            }
            target.identity = Arc::new(identity);
        }
        Some(target)
    }

    /// The metrics of the pipeline file.
    async fn own(&mut self) -> Result<Vec<Target>> {
        let place = self.place;
        let wanted = Wanted { config: &place.config, part: self.part };
        let metrics: Vec<&Metric> = place.config.metrics.iter().filter(|metric| wanted.has(metric)).collect();
        let mut together: BTreeMap<(Option<String>, Option<Arc<str>>, Dimensions), Vec<&Metric>> =
            BTreeMap::new();
        for metric in metrics {
            let first = metric.inputs.values().next().map(|input| &input.metric);
            let question = Question {
                namespace: self.part.namespace.clone(),
                metric: metric.metric.as_ref().or(first).cloned(),
                dimensions: metric.dimensions.clone(),
                linked: place.linked,
                silent: self.silent,
            };
            let (series, fault) = place.listed(&question, self.now).await?;
            self.faults.extend(fault);
            if series.len() > metric.limit {
                let name = format!("{}/{}.{}", place.name(), metric.table, metric.field);
                let reason = format!(
                    "there are {} combinations of dimensions, and the limit is {}; the others are left out",
                    series.len(),
                    metric.limit
                );
                self.faults.push(failed(ErrorKind::Quota, "measure all of", &name, reason));
            }
            for one in series.iter().take(metric.limit) {
                let key = (metric.resource.clone(), one.owner.clone(), Arc::clone(&one.dimensions));
                together.entry(key).or_default().push(metric);
            }
        }
        let observer = if self.part.namespace.starts_with("AWS/") { "hypervisor" } else { "guest" };
        let mut targets = Vec::new();
        for ((resource, owner, dimensions), metrics) in together {
            let ask = Arc::new(own_ask(&metrics, place.config.settle_by));
            let target = match &resource {
                Some(resource) => self.of_instance(owner, dimensions, resource, ask, observer),
                None => Some(self.without_resource(owner, dimensions, ask, observer)),
            };
            targets.extend(target.map(|mut target| {
                // Beside the built-in metrics of the same dimensions.
                target.key = format!("own\0{}\0{}", resource.unwrap_or_default(), target.key).into();
                target
            }));
        }
        Ok(targets)
    }

    /// A target whose dimensions are all that there is to say about it.
    fn without_resource(
        &self,
        owner: Option<Arc<str>>,
        dimensions: Dimensions,
        ask: Arc<Ask>,
        observer: &str,
    ) -> Target {
        let pairs: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let id = if pairs.is_empty() { self.part.namespace.clone() } else { pairs.join(",") };
        let mut target = self.target(&id, owner, dimensions, ask);
        let mut identity = Identity::clone(&target.identity);
        identity.resource_type = "metric".into();
        identity.observer = observer.to_owned();
        target.identity = Arc::new(identity);
        target
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
        let column = Column { field: metric.field.clone(), convert: metric.convert, per: None };
        ask.add(what, &metric.table, tags.collect(), column);
    }
    if settle_by == SettleBy::SampleCount {
        ask.count_samples();
    }
    ask
}

/// A resource's type from the name of its dimension, as `DBInstanceIdentifier` in `db_instance`.
fn kind(dimension: &str) -> String {
    let name = ["Identifier", "Name", "Id"]
        .iter()
        .find_map(|end| dimension.strip_suffix(end).filter(|left| !left.is_empty()));
    let mut kind = String::new();
    let mut small = false;
    for c in name.unwrap_or(dimension).chars() {
        if c.is_uppercase() && small {
            kind.push('_');
        }
        small = c.is_lowercase() || c.is_ascii_digit();
        kind.extend(c.to_lowercase());
    }
    kind
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

    #[test]
    fn a_dimension_names_the_type_of_resource() {
        for (dimension, expected) in [
            ("DBInstanceIdentifier", "dbinstance"),
            ("LoadBalancerName", "load_balancer"),
            ("Service", "service"),
            ("Id", "id"),
        ] {
            assert_eq!(kind(dimension), expected);
        }
    }
}
