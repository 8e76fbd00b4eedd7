//! Targets of the pipeline file's own metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::error::failed;
use super::super::wanted::Metric;
use super::identity::identity;
use super::listed::Whose;
use super::listing::Question;
use super::part::own_ask;
use super::target::{Ask, Target};
use super::targets::Maker;
use crate::{ErrorKind, Result};

impl Maker<'_> {
    /// The metrics of the pipeline file.
    pub(super) async fn own(&mut self) -> Result<()> {
        let (place, wanted) = (self.place, self.wanted());
        let mut together: BTreeMap<(Option<&str>, Whose), Vec<&Metric>> = BTreeMap::new();
        for metric in place.config.metrics.iter().filter(|metric| wanted.has(metric)) {
            let first = metric.inputs.values().next().map(|input| &input.metric);
            let question = Question {
                namespace: self.part.namespace.clone(),
                metric: metric.metric.as_ref().or(first).cloned(),
                dimensions: metric.dimensions.clone(),
                linked: place.linked,
                silent: false,
            };
            let series = self.series(question).await?;
            let name = metric.name();
            if series.len() > metric.limit {
                let reason = format!(
                    "there are {} combinations of dimensions, and the limit is {}; the others are left out",
                    series.len(),
                    metric.limit
                );
                let name = format!("{}/{name}", place.name());
                self.found.faults.push(failed(ErrorKind::Quota, "measure all of", &name, reason));
            }
            if series.is_empty() && self.denied.is_none() {
                self.found.missed.push(name);
            }
            for one in series.iter().take(metric.limit) {
                let key = (metric.resource.as_deref(), (one.owner.clone(), Arc::clone(&one.dimensions)));
                together.entry(key).or_default().push(metric);
            }
        }
        for ((resource, whose), metrics) in together {
            let ask = Arc::new(own_ask(&metrics, place.config.settle_by));
            let observer = metrics.first().map_or("guest", |metric| metric.observer());
            let target = match resource {
                Some(resource) => self.of_resource(whose, resource, ask, observer),
                None => Some(self.without_resource(whose, ask, observer)),
            };
            self.found.targets.extend(target.map(|mut target| {
                // Beside the built-in metrics of the same dimensions.
                target.key = format!("own\0{}\0{}", resource.unwrap_or_default(), target.key).into();
                target
            }));
        }
        Ok(())
    }

    /// A target whose dimensions are all that there is to say about it.
    fn without_resource(&self, (owner, dimensions): Whose, ask: Arc<Ask>, observer: &str) -> Target {
        let pairs: Vec<String> = dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let id = if pairs.is_empty() { self.part.namespace.clone() } else { pairs.join(",") };
        let account = owner.as_deref().unwrap_or(self.place.session.id());
        let mut identity = identity(account, &self.place.region, &id, None, observer);
        identity.resource_type = "metric".into();
        self.target(identity, owner, dimensions, ask)
    }
}
