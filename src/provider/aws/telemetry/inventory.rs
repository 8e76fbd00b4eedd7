//! Reading which instances and volumes there are, from EC2, which bills nothing for it. All instances, tagged or not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_sdk_ec2::types::Filter;

use super::super::config::Config;
use super::super::connect::{Session, filter};
use super::super::error::Answered;
use super::calls::patiently;
use super::machine::{Machine, Volume};
use super::pace::{Cost, Pace};
use super::types::Facts;
use crate::{Error, Result};

/// Instances, and volumes, on one page: the most that EC2 gives.
const PAGE: i32 = 1_000;
/// Types in one question.
const TYPES: usize = 100;

/// What there is in a region, at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Seconds since 1970.
    pub(super) at: i64,
    pub(super) machines: BTreeMap<Arc<str>, Machine>,
    /// Nothing as long as they could not be listed.
    pub(super) volumes: Option<Vec<Volume>>,
}

/// Asks EC2 in one region.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) session: Session,
    pub(super) region: String,
    pub(super) config: Arc<Config>,
    pub(super) pace: Arc<Pace>,
}

impl Reader {
    fn cost(&self) -> Cost {
        let calls = self.config.quotas.describe * self.config.quota_share;
        Cost { calls, datapoints: 0, rate: 1.0 }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.session.id(), self.region)
    }

    /// All items of a list; `ask` reads the page that a token stands for.
    async fn all<T, F>(&self, ask: impl Fn(Option<String>) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<(Vec<T>, Option<String>)>>,
    {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let page = patiently(&self.pace, self.cost(), |_| (), || ask(next.clone()));
            let (items, token) = page.await?;
            all.extend(items);
            next = token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// All instances that the filters let through.
    pub(super) async fn machines(&self) -> Result<BTreeMap<Arc<str>, Machine>> {
        let (client, place) = (&self.session.ec2(&self.region), &self.place());
        let filters: Vec<Filter> =
            self.config.filters.iter().map(|(name, values)| filter(name, values)).collect();
        let filters = &(!filters.is_empty()).then_some(filters);
        let machines = self.all(|next| async move {
            let request = client.describe_instances().max_results(PAGE).set_filters(filters.clone());
            let page = request.set_next_token(next).send().await.answered("list the instances of", place)?;
            let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
            let found = instances.filter_map(|instance| Machine::read(instance, &self.config.tags)).collect();
            Ok((found, page.next_token))
        });
        Ok(machines.await?.into_iter().map(|machine| (Arc::clone(&machine.id), machine)).collect())
    }

    /// All volumes that an instance has.
    pub(super) async fn volumes(&self) -> Result<Vec<Volume>> {
        let (client, place) = (&self.session.ec2(&self.region), &self.place());
        self.all(|next| async move {
            let request = client.describe_volumes().max_results(PAGE);
            let request = request.filters(filter("attachment.status", ["attached", "detaching"]));
            let page = request.set_next_token(next).send().await.answered("list the volumes of", place)?;
            Ok((page.volumes().iter().filter_map(Volume::read).collect(), page.next_token))
        })
        .await
    }

    /// What the types in use can, added to what is `known`. Where EC2 does not say, their names have to do; it is asked again
    /// the next time unless it has answered.
    pub(super) async fn types(
        &self,
        machines: &mut BTreeMap<Arc<str>, Machine>,
        known: &mut HashMap<Arc<str>, Facts>,
    ) -> Option<Error> {
        let unknown: BTreeSet<Arc<str>> = machines
            .values()
            .map(|machine| &machine.size)
            .filter(|size| !size.is_empty() && !known.contains_key(*size))
            .cloned()
            .collect();
        let mut fault = None;
        for some in Vec::from_iter(unknown).chunks(TYPES) {
            match self.described(some).await {
                Ok(described) => {
                    known.extend(described);
                    for size in some {
                        known.entry(Arc::clone(size)).or_insert_with(|| Facts::of_name(size));
                    }
                }
                Err(error) => {
                    fault.get_or_insert(error);
                }
            }
        }
        for machine in machines.values_mut() {
            if let Some(facts) = known.get(&machine.size) {
                machine.facts = *facts;
                machine.vcpus = machine.vcpus.or(facts.vcpus);
            }
        }
        fault
    }

    /// What EC2 says of types. They are a filter and not the question: of one that EC2 does not know there is no answer then,
    /// and the others have theirs.
    async fn described(&self, sizes: &[Arc<str>]) -> Result<Vec<(Arc<str>, Facts)>> {
        let (client, place) = (&self.session.ec2(&self.region), &self.place());
        self.all(|next| async move {
            let names = filter("instance-type", sizes.iter().map(|size| &**size));
            let request = client.describe_instance_types().filters(names).set_next_token(next);
            let page = request.send().await.answered("describe the instance types of", place)?;
            let facts = page.instance_types().iter().filter_map(|info| {
                let name = info.instance_type()?;
                Some((Arc::from(name.as_str()), Facts::of_description(info)))
            });
            Ok((facts.collect(), page.next_token))
        })
        .await
    }
}
