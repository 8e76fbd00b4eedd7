//! Plans of what takes more than one call, or whose price a person should know before.

use super::KvmProvider;
use super::definition::{Amount, Draft};
use super::error::{During, refused};
use super::lifecycle::look_at;
use super::link::Link;
use super::pricing::{less, sum};
use super::remove::{Belongings, belongings};
use super::resize::{Change, Way};
use super::volumes::Described;
use crate::model::resource::{Instance, Kind, ResourceId, State};
use crate::provider::{
    Action, Consents, DiskSpec, Downtime, InstanceSpec, Leftover, Plan, ResizePolicy, SizeSpec, Step, Stop,
    Target, VolumeSpec,
};
use crate::{ErrorKind, Result};

impl KvmProvider {
    /// The steps of a change.
    pub(super) async fn planned(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        let simple = || Plan::simple(wanted, now);
        match wanted {
            Action::CreateInstance { spec } => self.plan_create(wanted, spec).await,
            Action::Resize { instance: Target::Id(id), size, policy } => {
                self.plan_resize(wanted, id, size, *policy).await
            }
            Action::DeleteInstance { instance: Target::Id(id), consents } => {
                self.plan_delete(wanted, id, *consents).await
            }
            Action::Stop { instance: Target::Id(id), .. } if !self.is_kept(id).await? => {
                // libvirt says that it is gone, and nothing can start it again.
                let mut plan = simple().downtime(Downtime::Deleted);
                for step in &mut plan.steps {
                    step.undo.clear();
                    step.until = Some(State::Deleted);
                }
                Ok(plan.note("it has no definition: when it stops, it is gone"))
            }
            Action::Restart { instance: Target::Id(id), .. } if !self.is_kept(id).await? => {
                let reason =
                    "it has no definition: when it stops, it is gone and cannot be started; define it first";
                Err(refused(ErrorKind::Conflict, "restart", id.native_id.as_str(), reason))
            }
            Action::CreateVolume { spec } => {
                let plan = simple();
                Ok(Plan { price_delta: self.cost_of_volume(spec.size_bytes)?, ..plan })
            }
            Action::CreateSnapshot { spec } if spec.of.kind == Kind::Instance && !spec.disks_only => {
                let active = self.is_active(&spec.of).await?;
                Ok(if active { simple().downtime(Downtime::Pause) } else { simple() })
            }
            Action::RevertSnapshot { snapshot: Target::Id(snapshot) } => {
                let uuid = snapshot.native_id.split('/').next().unwrap_or_default();
                let active = self.is_active(&snapshot.sibling(Kind::Instance, uuid)).await?;
                let plan = simple().note("what was written since the snapshot is lost");
                Ok(if active { plan.downtime(Downtime::Reboot) } else { plan })
            }
            _ => Ok(simple()),
        }
    }

    async fn is_active(&self, instance: &ResourceId) -> Result<bool> {
        let id = instance.clone();
        self.call("plan", move |link| Ok(link.guest("plan", &id)?.is_active())).await
    }

    /// Whether it outlives its run. Of one that is gone already there is nothing to lose.
    async fn is_kept(&self, instance: &ResourceId) -> Result<bool> {
        let id = instance.clone();
        self.call("plan", move |link| match link.guest_if_any("plan", &id)? {
            Some(guest) => guest.domain.is_persistent().during("plan", &guest.name),
            None => Ok(true),
        })
        .await
    }

    /// Volumes first, then the guest that refers to them, then its start.
    async fn plan_create(&self, wanted: &Action, spec: &InstanceSpec) -> Result<Plan> {
        let size = self.resolved(&spec.size)?;
        let draft = Draft::new(spec, &size, uuid::Uuid::nil())?;
        let (image, location) = (spec.image.clone(), spec.location.clone());
        let image = self
            .call("plan", move |link| {
                link.here_or_none(location.as_deref())?;
                look_at(link, &draft)?;
                image.map(|image| find_image(link, &image)).transpose()
            })
            .await?;
        let mut plan = Plan::new(wanted.clone(), None, spec.name.clone());
        let mut made = InstanceSpec { image: None, ..spec.clone() };
        let mut costs = vec![self.flavours.cost(&size)?];
        if let Some((image, capacity)) = image {
            made.options.entry("image".into()).or_insert_with(|| image.native_id.clone());
            let copy = VolumeSpec {
                name: format!("{}.qcow2", spec.name),
                location: spec.location.clone(),
                format: Some("overlay".into()),
                from: Some(image),
                ..VolumeSpec::default()
            };
            costs.push(self.cost_of_volume(capacity)?);
            made.disks.insert(0, DiskSpec::New(copy));
        }
        for disk in &mut made.disks {
            if let DiskSpec::New(volume) = disk {
                let volume = VolumeSpec {
                    location: volume.location.take().or_else(|| spec.location.clone()),
                    ..std::mem::take(volume)
                };
                if volume.from.is_none() || volume.size_bytes.is_some() {
                    costs.push(self.cost_of_volume(volume.size_bytes)?);
                }
                let step = plan.steps.len();
                let undo = Action::DeleteVolume { volume: Target::Step(step) };
                plan = plan.step(Step::new(Action::CreateVolume { spec: volume }, Some(undo)));
                *disk = DiskSpec::Volume(Target::Step(step));
            }
        }
        let instance = Target::Step(plan.steps.len());
        // What belongs to a guest that this plan makes goes with it; its volumes have steps of their own.
        let consents = Consents { nvram: true, saved_state: true, ..Consents::default() };
        let undo = Action::DeleteInstance { instance: instance.clone(), consents };
        plan = plan.step(Step::new(Action::CreateInstance { spec: made }, Some(undo)));
        if spec.start {
            let how = Stop { force: true, ..Stop::default() };
            let undo = Action::Stop { instance: instance.clone(), how };
            plan = plan.step(Step::new(Action::Start { instance }, Some(undo)));
        }
        plan.price_delta = sum(costs);
        Ok(plan)
    }

    async fn plan_resize(
        &self,
        wanted: &Action,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
    ) -> Result<Plan> {
        let size = self.resolved(size)?;
        let asked = (id.clone(), size.clone());
        let (label, change, way, before) = self
            .call("plan", move |link| {
                let guest = link.guest("resize", &asked.0)?;
                let change = Change::new(&guest, &asked.1)?;
                let way = change.way(&guest.name, policy)?;
                if way == Way::NextBoot && !guest.domain.is_persistent().during("plan", &guest.name)? {
                    let reason = "it has no definition: there is no next start that could bring it this size; \
                                  a running guest cannot get more than it was started for";
                    return Err(refused(ErrorKind::Conflict, "resize", guest.name.as_str(), reason));
                }
                let before = guest.native.state();
                Ok((guest.name, change, way, before))
            })
            .await?;
        // The change waits already, and the guest may be stopped for it now.
        let waits = way == Way::Already
            && change.active
            && policy == ResizePolicy::AllowStopStart
            && change.now != change.wanted;
        if way == Way::Already && !waits {
            let why = if change.active && change.now != change.wanted {
                "the guest gets this size at its next start"
            } else {
                "the guest has this size"
            };
            return Ok(Plan::nothing(wanted.clone(), id.clone(), label, why));
        }
        let instance = || Target::Id(id.clone());
        let back = Action::Resize { instance: instance(), size: change.next.spec(), policy };
        let resize = Step::new(wanted.clone(), Some(back));
        let plan = Plan::new(wanted.clone(), Some(id.clone()), label);
        let mut plan = match way {
            Way::NextBoot | Way::Already if policy == ResizePolicy::AllowStopStart => {
                let start = || Action::Start { instance: instance() };
                let suspend = || Action::Suspend { instance: instance() };
                let stop = Action::Stop { instance: instance(), how: Stop::default() };
                let again = Stop { force: true, ..Stop::default() };
                let suspended = (before == State::Suspended).then(suspend);
                let back = std::iter::once(start()).chain(suspended.clone());
                // The way back leads to one of the two.
                let from = if suspended.is_some() { State::Suspended } else { State::Running };
                let plan = plan.step(Step::new(stop, back).expects(&[from]));
                let plan = if waits { plan } else { plan.step(resize.expects(&[State::Stopped])) };
                let undo = Action::Stop { instance: instance(), how: again };
                let plan = plan.step(Step::new(start(), Some(undo))).downtime(Downtime::StopStart);
                match suspended {
                    Some(suspend) => {
                        plan.step(Step::new(suspend, Some(Action::Resume { instance: instance() })))
                    }
                    None => plan,
                }
            }
            Way::NextBoot => plan.step(resize).downtime(Downtime::NextBoot),
            _ => plan.step(resize),
        };
        let cost = |amount: Amount| self.flavours.cost(&self.resolved(&amount.spec())?);
        plan.price_delta = match (cost(change.wanted)?, cost(change.now)?) {
            (Some(after), before) => sum([Some(after), less(before)]),
            (None, _) => None,
        };
        Ok(plan)
    }

    async fn plan_delete(&self, wanted: &Action, id: &ResourceId, consents: Consents) -> Result<Plan> {
        let asked = id.clone();
        let found = self
            .call("plan", move |link| {
                let Some(guest) = link.guest_if_any("delete", &asked)? else { return Ok(None) };
                let definition = guest.now("delete")?;
                Ok(Some((belongings(link, &guest)?, definition)))
            })
            .await?;
        let Some((mine, definition)) = found else {
            let label = id.native_id.clone();
            return Ok(Plan::nothing(wanted.clone(), id.clone(), label, "the guest is gone"));
        };
        mine.refuse_without(consents)?;
        let mut plan = Plan::new(wanted.clone(), Some(id.clone()), mine.name.clone());
        // The volumes have steps of their own, so that each is seen and kept account of.
        let alone = Consents { volumes: false, ..consents };
        let delete = Action::DeleteInstance { instance: id.clone().into(), consents: alone };
        plan = plan.step(Step::new(delete, None));
        if consents.volumes {
            for volume in &mine.volumes {
                let delete = Action::DeleteVolume { volume: volume.clone().into() };
                plan = plan.step(Step::new(delete, None));
                plan.removes.push(volume.clone());
            }
        }
        plan.removes.extend(mine.snapshots.iter().cloned());
        plan.leaves = leftovers(&mine, consents);
        plan.price_delta = less(self.flavours.cost(&definition.size(&self.flavours.sizes()?))?);
        Ok(plan.downtime(Downtime::Deleted))
    }
}

/// What stays behind when a guest is deleted.
fn leftovers(mine: &Belongings, consents: Consents) -> Vec<Leftover> {
    let left = |id: Option<&ResourceId>, what: String| Leftover { id: id.cloned(), what };
    let mut all = Vec::new();
    if !consents.volumes {
        let volume = |id: &ResourceId| left(Some(id), format!("volume {}", id.native_id));
        all.extend(mine.volumes.iter().map(volume));
        if !mine.snapshots.is_empty() {
            all.push(left(None, "the contents of its snapshots, inside its volumes".into()));
        }
    }
    let named =
        |id: &Option<ResourceId>| id.as_ref().map(|id| format!("{}: ", id.native_id)).unwrap_or_default();
    all.extend(mine.others.iter().map(|(id, why)| left(id.as_ref(), format!("{}{why}", named(id)))));
    if let Some(nvram) = mine.nvram.as_ref().filter(|_| !consents.nvram) {
        all.push(left(None, format!("{nvram}, its firmware's variables")));
    }
    all
}

/// The volume that an image's name stands for, with its size.
fn find_image(link: &Link, image: &str) -> Result<(ResourceId, Option<u64>)> {
    let id = link.id(Kind::Volume, image);
    if !image.contains('/') {
        let reason = "an image is a volume here; write pool/name";
        return Err(refused(ErrorKind::Invalid, "use the image", image, reason));
    }
    let (volume, _) = link.volume("use the image", &id)?;
    let capacity = Described::of(&volume, "use the image", image)?.capacity;
    Ok((id, capacity))
}
