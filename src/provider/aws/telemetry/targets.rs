//! From what there is to what is asked for, shard by shard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::super::error::failed;
use super::super::wanted::Metric;
use super::inventory::Snapshot;
use super::listing::{Question, Series};
use super::machine::Machine;
use super::mapping::{Builtin, Mapping, Namespace, Resource};
use super::part::{BASIC, Part, Wanted, own_ask};
use super::place::Place;
use super::target::{Ask, Dimensions, Target};
use super::types::Facts;
use crate::model::Identity;
use crate::{Error, ErrorKind, Result};

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

/// The owning account where it is another, and all dimensions.
type Whose = (Option<Arc<str>>, Dimensions);
/// What makes two series the same figure: the owning account, the resource, the metric and the tags of its row.
type Figure = (Option<Arc<str>>, Arc<str>, Arc<str>, Vec<Arc<str>>);

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
        let mut best: BTreeMap<Figure, &Series> = BTreeMap::new();
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
        let mut together: BTreeMap<Whose, BTreeSet<Arc<str>>> = BTreeMap::new();
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
        let mut together: BTreeMap<(Option<String>, Whose), Vec<&Metric>> = BTreeMap::new();
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
                let key = (metric.resource.clone(), (one.owner.clone(), Arc::clone(&one.dimensions)));
                together.entry(key).or_default().push(metric);
            }
        }
        let observer = if self.part.namespace.starts_with("AWS/") { "hypervisor" } else { "guest" };
        let mut targets = Vec::new();
        for ((resource, (owner, dimensions)), metrics) in together {
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

#[cfg(test)]
mod tests {
    use super::*;

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
