//! Plans: what a change of EC2 takes, what takes it back, and what a person should know before. What a name stands for is
//! looked up here, so that the plan says it and a later step cannot mean another thing.

use super::AwsProvider;
use super::delete::{leftovers, refuse_without};
use super::error::failed;
use super::instances::type_of;
use super::lifecycle::hibernates;
use super::options::InstanceOptions;
use super::price_list::System;
use super::pricing::{difference, less, sum};
use super::resize::{RESIZE, fits, needs_stop};
use super::state::status;
use super::tags::name;
use crate::model::resource::{Cost, Instance, Kind, ResourceId, State};
use crate::provider::{
    Action, Consents, DiskSpec, Downtime, InstanceSpec, Leftover, Plan, ResizePolicy, SizeSpec, Step, Stop,
    Target, Token,
};
use crate::{ErrorKind, Result};

const CREATE: &str = "create instance";
const ADDRESS: &str = "its public address changes: it is no elastic one";

impl AwsProvider {
    /// The steps of a change, with whether they are permitted.
    pub(super) async fn planned(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        let simple = || Plan::simple(wanted, now);
        let plan = match wanted {
            Action::CreateInstance { spec } => self.plan_create(wanted, spec).await?,
            Action::Resize { instance: Target::Id(id), size, policy } => {
                self.plan_resize(wanted, id, size, *policy).await?
            }
            Action::DeleteInstance { instance: Target::Id(id), consents } => {
                self.plan_delete(wanted, id, *consents).await?
            }
            Action::Start { instance: Target::Id(id) } | Action::Resume { instance: Target::Id(id) } => {
                let cost = self.cost_of_instance(id).await;
                Plan { price_delta: cost, ..simple() }
            }
            Action::Suspend { instance: Target::Id(id) } => {
                hibernates("suspend", id, &self.described("suspend", id).await?)?;
                self.plan_stop(simple(), id).await
            }
            Action::Stop { instance: Target::Id(id), .. } => self.plan_stop(simple(), id).await,
            Action::Restart { instance: Target::Id(id), .. } => self.with_address(simple(), id).await,
            Action::CreateVolume { spec } => {
                let (region, _) = self.volume_request(spec, nobody()).await?;
                let gib = spec.size_bytes.and_then(|bytes| i32::try_from(bytes >> 30).ok());
                let class = spec.class.as_deref().or(Some("gp3"));
                let cost = self.quiet(self.cost_of_volume(&region, class, gib).await);
                Plan { price_delta: cost, ..simple() }
            }
            Action::GrowVolume { volume: Target::Id(id), .. }
            | Action::ChangeVolume { volume: Target::Id(id), .. } => self.plan_change(simple(), id).await?,
            Action::DeleteVolume { volume: Target::Id(id) } => {
                let cost = self.cost_of_volume_now(id).await;
                Plan { price_delta: less(cost), ..simple() }
                    .note("what it holds is gone; a snapshot of it stays")
            }
            Action::CreateSnapshot { spec } => {
                // What an instance stands for is settled now.
                let mut spec = spec.clone();
                spec.of = self.volume_to_keep("create snapshot", &spec).await?;
                Plan::simple(&Action::CreateSnapshot { spec }, now)
            }
            Action::CopySnapshot { snapshot: Target::Id(id), location } => {
                self.copy_place(id, location)?;
                simple().note("the content goes over the network, which is billed as traffic between regions")
            }
            Action::CreateNetwork { spec } => {
                self.network_place(spec)?;
                simple()
            }
            Action::DeleteNetwork { network: Target::Id(id) } => {
                self.refuse_used("delete network", id).await?;
                simple()
            }
            Action::DeleteSubnet { subnet: Target::Id(id) } => {
                self.refuse_used("delete subnet", id).await?;
                simple()
            }
            Action::DeleteImage { image: Target::Id(id) } => {
                let snapshots = self.snapshots_of_image(id).await?;
                let left = snapshots.into_iter().map(|id| Leftover {
                    what: format!(
                        "the snapshot {}, which the image was made of and which is billed",
                        id.native_id
                    ),
                    id: Some(id),
                });
                Plan { leaves: left.collect(), ..simple() }
            }
            _ => simple(),
        };
        self.permitted(plan).await
    }

    /// EC2 starts what it makes; what was not to be started is stopped again.
    async fn plan_create(&self, wanted: &Action, spec: &InstanceSpec) -> Result<Plan> {
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        let options = InstanceOptions::read(&spec.name, &spec.options)?;
        let mut made = InstanceSpec { location: Some(region.clone()), ..spec.clone() };
        let mut volumes = Vec::new();
        made.disks.retain(|disk| match disk {
            DiskSpec::Volume(volume) => {
                volumes.push(volume.clone());
                false
            }
            DiskSpec::New(_) => true,
        });
        // A volume that is there decides over the zone.
        let mut zone = options.zone.clone();
        for volume in &volumes {
            let id = volume.id()?;
            let own = self.volume_now("attach volume", id).await?.availability_zone;
            if zone.is_some() && own != zone {
                let reason = format!(
                    "it is in {}, and the instance would be in {}; an instance has volumes of its own zone alone",
                    own.as_deref().unwrap_or("another zone"),
                    zone.as_deref().unwrap_or_default()
                );
                return Err(failed(ErrorKind::Invalid, "attach volume", &id.native_id, reason));
            }
            zone = own;
        }
        if let Some(zone) = &zone {
            made.options.insert("zone".into(), zone.clone());
        }
        let image = self.image_for(CREATE, &region, spec.image.as_deref(), &spec.name).await?;
        made.image = Some(image.id.clone());
        let subnets = self.subnets_for(CREATE, &region, &spec.networks, zone.as_deref()).await?;
        made.networks = subnets.iter().map(|subnet| subnet.id.clone()).collect();
        if options.public_address.is_some() && subnets.len() != 1 {
            let reason = "a public address goes with exactly one network; name one with --network";
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        }
        if !spec.start && !image.on_ebs {
            let reason =
                "an instance of this image cannot be stopped, so it can only be made to run; add --start";
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        }

        let mut costs = Vec::new();
        if spec.start {
            let (size, _) = self.resolved(CREATE, &region, &spec.size).await?;
            let system = System::of(image.platform.as_deref());
            costs.push(self.quiet(self.cost_of_type(&region, &size, system).await));
        }
        let root = options.root_size.and_then(|bytes| i32::try_from(bytes >> 30).ok());
        for (number, (gib, class)) in image.disks.iter().enumerate() {
            let (gib, class) = match number {
                0 => (root.or(*gib), options.root_class.clone().or_else(|| class.clone())),
                _ => (*gib, class.clone()),
            };
            costs.push(self.quiet(self.cost_of_volume(&region, class.as_deref(), gib).await));
        }
        for disk in &made.disks {
            let DiskSpec::New(disk) = disk else { continue };
            let gib = disk.size_bytes.and_then(|bytes| i32::try_from(bytes >> 30).ok());
            let class = disk.class.as_deref().unwrap_or("gp3");
            costs.push(self.quiet(self.cost_of_volume(&region, Some(class), gib).await));
        }

        let instance = || Target::Step(0);
        // What came with it goes with it; volumes that were there are detached before.
        let consents = Consents { running: true, volumes: true, ..Consents::default() };
        let undo = Action::DeleteInstance { instance: instance(), consents };
        let mut plan = Plan::new(wanted.clone(), None, spec.name.clone());
        plan = plan.step(Step::new(Action::CreateInstance { spec: made }, Some(undo)));
        for volume in volumes {
            let undo = Action::DetachVolume { volume: volume.clone(), instance: instance() };
            let attach = Action::AttachVolume { volume, instance: instance(), device: None };
            plan = plan.step(Step::new(attach, Some(undo)));
        }
        let start = || Action::Start { instance: instance() };
        if spec.start {
            let how =
                Stop { force: true, grace: crate::model::Span(std::time::Duration::ZERO), ..Stop::default() };
            plan = plan.step(Step::new(start(), Some(Action::Stop { instance: instance(), how })));
        } else {
            let stop = Action::Stop { instance: instance(), how: Stop::default() };
            plan = plan.step(Step::new(stop, Some(start())));
            plan = plan.note("EC2 starts what it makes: it runs for a moment, which is billed for a minute");
        }
        if let Some(subnet) = subnets.first() {
            let zone = subnet.zone.as_deref().unwrap_or("its zone");
            plan = plan.note(format!("it goes into the subnet {} in {zone}", subnet.id));
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
        let described = self.described(RESIZE, id).await?;
        let label =
            name(&super::tags::shown(described.tags.as_deref())).unwrap_or_else(|| id.native_id.clone());
        let (new, found) = self.resolved(RESIZE, &id.location, size).await?;
        let old = type_of(&described).unwrap_or_default().to_owned();
        if old == new {
            return Ok(Plan::nothing(wanted.clone(), id.clone(), label, format!("it is of type {new}")));
        }
        fits(id, &described, &new, &found)?;
        let runs = status(&described).state != State::Stopped;
        if runs && policy != ResizePolicy::AllowStopStart {
            return Err(needs_stop(id, &described, policy));
        }
        let instance = || Target::Id(id.clone());
        let to = |name: &str| {
            let size = SizeSpec { name: Some(name.to_owned()), ..SizeSpec::default() };
            Action::Resize { instance: instance(), size, policy }
        };
        let change = Step::new(to(&new), Some(to(&old))).expects(&[State::Stopped]);
        let mut plan = Plan::new(wanted.clone(), Some(id.clone()), label);
        if runs {
            let start = || Action::Start { instance: instance() };
            let stop = Action::Stop { instance: instance(), how: Stop::default() };
            let how = Stop { force: true, ..Stop::default() };
            let undo = Action::Stop { instance: instance(), how };
            plan = plan
                .step(Step::new(stop, Some(start())).expects(&[State::Running]))
                .step(change)
                .step(Step::new(start(), Some(undo)))
                .downtime(Downtime::StopStart)
                .note(format!("if {new} cannot be started, it is {old} again and started"));
            plan = self.with_address(plan, id).await;
            let system = system_of(&described);
            let then = self.quiet(self.cost_of_type(&id.location, &new, system).await);
            let now = self.quiet(self.cost_of_type(&id.location, &old, system).await);
            plan.price_delta = difference(now, then);
        } else {
            plan =
                plan.step(change).note("it stays stopped; the new type costs something from its next start");
        }
        Ok(plan)
    }

    async fn plan_delete(&self, wanted: &Action, id: &ResourceId, consents: Consents) -> Result<Plan> {
        let described = self.described("delete instance", id).await?;
        refuse_without(id, &described, consents)?;
        let label =
            name(&super::tags::shown(described.tags.as_deref())).unwrap_or_else(|| id.native_id.clone());
        let mine = self.belongings(id, &described).await;
        let mut plan =
            Plan::new(wanted.clone(), Some(id.clone()), label).step(Step::new(wanted.clone(), None));
        let mut costs = Vec::new();
        if status(&described).state == State::Running {
            let kind = type_of(&described).unwrap_or_default();
            costs.push(self.quiet(self.cost_of_type(&id.location, kind, system_of(&described)).await));
        }
        if consents.volumes {
            for volume in &mine.volumes {
                costs.push(self.cost_of_volume_now(volume).await);
            }
            plan.removes.extend(mine.volumes.iter().cloned());
        }
        if consents.snapshots {
            for snapshot in &mine.snapshots {
                let delete = Action::DeleteSnapshot { snapshot: snapshot.clone().into() };
                plan = plan.step(Step::new(delete, None));
            }
            plan.removes.extend(mine.snapshots.iter().cloned());
        }
        plan.leaves = leftovers(&mine, consents);
        plan.price_delta = less(sum(costs));
        Ok(plan.downtime(Downtime::Deleted))
    }

    async fn plan_stop(&self, plan: Plan, id: &ResourceId) -> Plan {
        let cost = self.cost_of_instance(id).await;
        let plan = Plan { price_delta: less(cost), ..plan };
        self.with_address(plan, id).await.note("its disks are billed on")
    }

    async fn plan_change(&self, plan: Plan, id: &ResourceId) -> Result<Plan> {
        let now = self.volume_now("change volume", id).await?;
        let (size, class) = match &plan.wanted {
            Action::GrowVolume { size_bytes, .. } => (Some(*size_bytes), None),
            Action::ChangeVolume { change, .. } => (change.size_bytes, change.class.clone()),
            _ => (None, None),
        };
        let own = now.volume_type.as_ref().map(|class| class.as_str().to_owned());
        let gib = size.and_then(|bytes| i32::try_from(bytes >> 30).ok()).or(now.size);
        let before = self.quiet(self.cost_of_volume(&id.location, own.as_deref(), now.size).await);
        let class = class.or(own);
        let after = self.quiet(self.cost_of_volume(&id.location, class.as_deref(), gib).await);
        let plan = plan.note(
            "EBS changes a volume only a few times a day, and moves its content for hours beside the work",
        );
        Ok(Plan { price_delta: difference(before, after), ..plan })
    }

    async fn with_address(&self, plan: Plan, id: &ResourceId) -> Plan {
        let Ok(described) = self.described("plan", id).await else { return plan };
        match self.keeps_address(id, &described).await {
            Some(false) => plan.note(ADDRESS),
            _ => plan,
        }
    }

    async fn cost_of_instance(&self, id: &ResourceId) -> Option<Cost> {
        let described = self.described("plan", id).await.ok()?;
        let cost = self.cost_of_type(&id.location, type_of(&described)?, system_of(&described)).await;
        self.quiet(cost)
    }

    async fn cost_of_volume_now(&self, id: &ResourceId) -> Option<Cost> {
        let volume = self.volume_now("plan", id).await.ok()?;
        let class = volume.volume_type.as_ref().map(|class| class.as_str());
        self.quiet(self.cost_of_volume(&id.location, class, volume.size).await)
    }

    /// A price that cannot be read is no reason against a change; it is unknown.
    fn quiet(&self, cost: Result<Option<Cost>>) -> Option<Cost> {
        cost.unwrap_or_else(|error| {
            tracing::debug!(account = self.session.id(), error = %error.chain(), "reading a price");
            None
        })
    }
}

/// The token of a call that is only looked at: nobody's, and new, so that EC2 never knows it with other words.
pub(super) fn nobody() -> Token {
    Token::random()
}

fn system_of(instance: &aws_sdk_ec2::types::Instance) -> Option<System> {
    let platform = instance.platform.as_ref().map(aws_sdk_ec2::types::PlatformValues::as_str);
    System::of(instance.platform_details.as_deref().or(platform))
}

/// The kinds of what a plan makes or changes, for the check of its permissions.
pub(super) fn known(target: &Target) -> Option<&ResourceId> {
    match target {
        Target::Id(id) if id.kind != Kind::Price => Some(id),
        _ => None,
    }
}
