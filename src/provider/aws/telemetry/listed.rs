//! Targets of the built-in metrics that only ListMetrics knows: those of the agent, and those of linked accounts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::identity::{identity, kind};
use super::listing::{Question, Series};
use super::mapping::{Builtin, Namespace, Resource};
use super::target::{Ask, Dimensions, Target};
use super::targets::Maker;
use crate::Result;

/// The owning account where it is another, and all dimensions.
pub(super) type Whose = (Option<Arc<str>>, Dimensions);
/// What makes two series the same figure: the owning account, the resource, the metric and the tags of its row.
type Figure = (Option<Arc<str>>, Arc<str>, Arc<str>, Vec<Option<Arc<str>>>);

impl Maker<'_> {
    /// The built-in metrics of what ListMetrics finds: those of all, or only those of linked accounts.
    pub(super) async fn listed(&mut self, namespace: &Namespace, only_linked: bool) -> Result<()> {
        let question = Question {
            namespace: namespace.namespace.clone(),
            metric: None,
            dimensions: BTreeMap::from([(namespace.dimension.clone(), "*".into())]),
            linked: self.place.linked,
            silent: false,
        };
        let series = self.series(question).await?;
        let wanted: HashMap<&str, &Builtin> =
            namespace.metrics.iter().map(|metric| (metric.metric.as_str(), metric)).collect();
        // The agent can publish the same figure with more and with fewer dimensions; the one that says most is taken.
        let mut best: BTreeMap<Figure, &Series> = BTreeMap::new();
        for one in
            series.iter().filter(|one| !only_linked || one.owner.is_some() && one.dimensions.len() == 1)
        {
            let Some(metric) = wanted.get(&*one.metric) else { continue };
            let Some(id) = one.dimension(&namespace.dimension) else { continue };
            let tags = match namespace.resource {
                Resource::Listed => tags(metric, one),
                Resource::Instance | Resource::Volume => Some(Vec::new()),
            };
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
        for (whose, metrics) in together {
            let ask = asks.entry(metrics).or_insert_with_key(|metrics| {
                Arc::new(self.wanted().of_listed(namespace, |metric| metrics.contains(metric)))
            });
            if !ask.figures.is_empty() {
                let target =
                    self.of_resource(whose, &namespace.dimension, Arc::clone(ask), &namespace.observer);
                self.found.targets.extend(target);
            }
        }
        Ok(())
    }

    /// A target whose resource a dimension names. Instances that the inventory does not have any more are not asked for.
    pub(super) fn of_resource(
        &self,
        (owner, dimensions): Whose,
        resource: &str,
        ask: Arc<Ask>,
        observer: &str,
    ) -> Option<Target> {
        let id = dimensions.iter().find(|(name, _)| &**name == resource)?.1.clone();
        if resource == "InstanceId"
            && owner.is_none()
            && let Some(snapshot) = &self.snapshot
        {
            let machine = snapshot.machines.get(&id)?;
            return Some(self.of_machine(machine, dimensions, ask, observer));
        }
        let account = owner.as_deref().unwrap_or(self.place.session.id());
        let mut identity = identity(account, &self.place.region, &id, None, observer);
        if resource != "InstanceId" {
            identity.resource_type = kind(resource);
        }
        Some(self.target(identity, owner, dimensions, ask))
    }
}

/// The tags of a row of a listed metric; nothing if the series lacks one. Agents can be told to leave out the device of a file
/// system, whose mount point tells it from others too.
fn tags(metric: &Builtin, series: &Series) -> Option<Vec<Option<Arc<str>>>> {
    let tags = metric.tags.iter().map(|(column, name)| match series.dimension(name) {
        None if column != "device" || !metric.tags.contains_key("mountpoint") => None,
        value => Some(value.cloned()),
    });
    tags.collect()
}
