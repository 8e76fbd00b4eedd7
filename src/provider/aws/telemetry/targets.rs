//! From what there is to what is asked for, shard by shard. What the inventory knows is here; [`super::listed`] has what only
//! ListMetrics knows, and [`super::own`] the metrics of the pipeline file.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::error::failed;
use super::identity::identity;
use super::inventory::Snapshot;
use super::listing::{Question, Series};
use super::machine::{Machine, Monitoring};
use super::mapping::{Namespace, Resource};
use super::part::{Part, Rhythm, Wanted};
use super::place::Place;
use super::read::Context;
use super::target::{Ask, Dimensions, Share, Target};
use super::types::Facts;
use crate::model::Identity;
use crate::{Error, ErrorKind, Result};

/// In a window that is longer, what was silent for long is of interest too, in seconds: ListMetrics leaves it out otherwise.
const SILENT: i64 = 3 * 3_600;

/// What a shard asks for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// What could not be found out beside.
    pub(super) faults: Vec<Error>,
    /// Metrics of the pipeline file that no series is of.
    pub(super) missed: Vec<String>,
}

/// Makes the targets of a part.
pub(super) struct Maker<'a> {
    pub(super) place: &'a Place,
    pub(super) context: &'a Context,
    pub(super) part: &'a Part,
    /// Nothing where EC2 may not be asked, and nothing is known of instances.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// What was silent for long is of interest too.
    silent: bool,
    /// ListMetrics may not be called.
    pub(super) denied: Option<Error>,
    pub(super) found: Found,
}

impl<'a> Maker<'a> {
    /// With what there is now; `since` is from when on it is read. Metrics of one's own may be readable where EC2 is not.
    ///
    /// # Errors
    /// EC2 does not say what there is, as it would at another time.
    pub(super) async fn look(
        context: &'a Context,
        place: &'a Place,
        part: &'a Part,
        now: i64,
        since: i64,
    ) -> Result<Self> {
        let needed = part.namespace == "AWS/EC2" || part.namespace == "AWS/EBS";
        let (snapshot, faults) = match place.snapshot(now, since).await {
            Ok((snapshot, faults)) => (Some(snapshot), faults),
            Err(error) if error.kind() == ErrorKind::Denied && !needed => (None, vec![error]),
            Err(error) => return Err(error),
        };
        let found = Found { faults, ..Found::default() };
        Ok(Self { place, context, part, snapshot, now, silent: now - since > SILENT, denied: None, found })
    }

    /// All targets.
    ///
    /// # Errors
    /// Nothing of it could be found out, or something could not that may be at another time.
    pub(super) async fn targets(mut self) -> Result<Found> {
        let namespaces = self.context.mapping.namespaces;
        if let Some(namespace) = namespaces.iter().find(|known| known.namespace == self.part.namespace) {
            match namespace.resource {
                Resource::Instance => self.machines(namespace),
                Resource::Volume => self.volumes(namespace)?,
                Resource::Listed => self.listed(namespace, false).await?,
            }
            if self.place.linked && namespace.resource != Resource::Listed {
                self.listed(namespace, true).await?;
            }
        }
        self.own().await?;
        match self.denied {
            Some(error) if self.found.targets.is_empty() => return Err(error),
            denied => self.found.faults.extend(denied),
        }
        Ok(self.found)
    }

    pub(super) fn wanted(&self) -> Wanted<'a> {
        Wanted { config: &self.place.config, part: self.part }
    }

    /// The series that answer a question; none where ListMetrics is denied.
    pub(super) async fn series(&mut self, mut question: Question) -> Result<Arc<Vec<Series>>> {
        question.silent = self.silent;
        match self.place.listed(&question, self.now).await {
            Ok((series, fault)) => {
                self.found.faults.extend(fault);
                Ok(series)
            }
            Err(error) if error.kind() == ErrorKind::Denied => {
                self.denied.get_or_insert(error);
                Ok(Arc::default())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn target(
        &self,
        identity: Identity,
        owner: Option<Arc<str>>,
        dimensions: Dimensions,
        ask: Arc<Ask>,
    ) -> Target {
        let mut key = owner.as_deref().unwrap_or_default().to_owned();
        for (name, value) in &*dimensions {
            key.extend(["\0", name, "\0", value]);
        }
        Target {
            key: key.into(),
            namespace: self.part.namespace.as_str().into(),
            identity: Arc::new(identity),
            owner,
            dimensions,
            tags: Vec::new(),
            ask,
            began: None,
            ended: None,
            share: Share::default(),
        }
    }

    /// One whose rows are of an instance of the inventory.
    pub(super) fn of_machine(
        &self,
        machine: &Machine,
        dimensions: Dimensions,
        ask: Arc<Ask>,
        observer: &str,
    ) -> Target {
        let (account, region) = (self.place.session.id(), self.place.region.as_str());
        let identity = identity(account, region, &machine.id, Some(machine), observer);
        let tags = self.context.columns.iter().zip(&machine.tags);
        let tags = tags.filter_map(|(column, value)| Some((Arc::clone(column), Arc::clone(value.as_ref()?))));
        Target {
            tags: tags.collect(),
            began: machine.launched.map(|launched| self.down(launched)),
            ended: machine.ended.map(|ended| self.down(ended) + self.part.period),
            ..self.target(identity, None, dimensions, ask)
        }
    }

    /// The beginning of the period that a time is in.
    fn down(&self, time: i64) -> i64 {
        time.div_euclid(self.part.period) * self.part.period
    }

    fn machines(&mut self, namespace: &Namespace) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let mut asks: HashMap<(Rhythm, Facts), Arc<Ask>> = HashMap::new();
        let name: Arc<str> = namespace.dimension.as_str().into();
        for machine in snapshot.machines.values() {
            let facts = Facts { memory: None, vcpus: None, ..machine.facts };
            let dimensions: Dimensions = Arc::new([(Arc::clone(&name), Arc::clone(&machine.id))]);
            for (rhythm, share) in self.rhythms(machine) {
                let ask = asks
                    .entry((rhythm, facts))
                    .or_insert_with(|| Arc::new(self.wanted().of_facts(namespace, rhythm, &facts)));
                if ask.figures.is_empty() {
                    continue;
                }
                let (dimensions, ask) = (Arc::clone(&dimensions), Arc::clone(ask));
                let mut target =
                    Target { share, ..self.of_machine(machine, dimensions, ask, &namespace.observer) };
                if rhythm == Rhythm::Own {
                    target.key = format!("checks\0{}", target.key).into();
                }
                self.found.targets.push(target);
            }
        }
    }

    /// Where the monitoring of an instance has changed, one part makes its rows up to then, and another those after.
    fn rhythms(&self, machine: &Machine) -> Vec<(Rhythm, Share)> {
        let share = |monitoring: Monitoring, share| (Rhythm::Of(monitoring), share);
        let mut rhythms = vec![(Rhythm::Own, Share::default())];
        match machine.switched {
            Some(cut) if !self.wanted().levels() => {
                let (before, now) = (machine.monitoring.other(), machine.monitoring);
                rhythms.push(share(before, Share { after: None, until: Some(cut) }));
                rhythms.push(share(now, Share { after: Some(cut), until: None }));
            }
            _ => rhythms.push(share(machine.monitoring, Share::default())),
        }
        rhythms
    }

    /// # Errors
    /// It could not be found out yet which there are: their points wait.
    fn volumes(&mut self, namespace: &Namespace) -> Result<()> {
        let Some(snapshot) = self.snapshot.clone() else { return Ok(()) };
        let Some(volumes) = &snapshot.volumes else {
            let reason = "they could not be listed yet; see the fault of the inventory";
            return Err(failed(ErrorKind::Unavailable, "measure the volumes of", &self.place.name(), reason));
        };
        let mut asks: HashMap<(bool, &str), Arc<Ask>> = HashMap::new();
        let name: Arc<str> = namespace.dimension.as_str().into();
        for volume in volumes {
            let Some(machine) = snapshot.machines.get(&volume.instance) else { continue };
            let kind = (machine.facts.nitro, volume.kind.as_str());
            let ask = asks.entry(kind).or_insert_with(|| {
                Arc::new(self.wanted().of_volume(namespace, &machine.facts, &volume.kind))
            });
            if ask.figures.is_empty() {
                continue;
            }
            let dimensions = Arc::new([(Arc::clone(&name), Arc::clone(&volume.id))]);
            let mut target = self.of_machine(machine, dimensions, Arc::clone(ask), &namespace.observer);
            target.key = format!("{}\0{}", volume.instance, target.key).into();
            target.share.after = volume.attached.map(|attached| self.down(attached));
            target.share.until = volume.gone.map(|gone| self.down(gone) + self.part.period);
            self.found.targets.push(target);
        }
        Ok(())
    }
}
