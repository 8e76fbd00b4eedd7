//! Plans: what a change of EC2 takes, what takes it back, and what a person should know before. What a name stands for is
//! looked up here, so that the plan says it and a later step cannot mean another thing.

use super::AwsProvider;
use super::calls::{absent, gib};
use super::costs::{Disk, Paid};
use super::lifecycle::{STOP, can_stop, hibernates};
use super::limits::USUAL;
use super::modification::{CHANGE, Modification};
use super::networks::{CREATE_SUBNET, refuse_block};
use super::options::VolumeOptions;
use crate::Result;
use crate::model::resource::{Instance, ResourceId};
use crate::provider::{Action, Leftover, Plan, SubnetSpec, Target, Token, VolumeChange, VolumeSpec};

impl AwsProvider {
    /// The steps of a change.
    pub(super) async fn planned(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        let simple = || Plan::simple(wanted, now);
        Ok(match wanted {
            Action::CreateInstance { spec } => self.plan_create(wanted, spec).await?,
            Action::Resize { instance: Target::Id(id), size, policy } => {
                self.plan_resize(wanted, id, size, *policy).await?
            }
            Action::DeleteInstance { instance: Target::Id(id), consents } => {
                self.plan_delete(wanted, id, *consents).await?
            }
            Action::Start { instance: Target::Id(id) } | Action::Resume { instance: Target::Id(id) } => {
                let starts = Paid::instance(&self.described("start", id).await?);
                self.priced(simple(), &id.location, &[starts], &[]).await
            }
            Action::Suspend { instance: Target::Id(id) } => {
                let described = self.described("suspend", id).await?;
                hibernates("suspend", id, &described)?;
                self.plan_stop(simple(), id, &described).await
            }
            Action::Stop { instance: Target::Id(id), .. } => {
                let described = self.described(STOP, id).await?;
                can_stop(STOP, id, &described)?;
                self.plan_stop(simple(), id, &described).await
            }
            Action::Restart { instance: Target::Id(id), .. } => {
                let described = self.described("restart", id).await?;
                can_stop("restart", id, &described)?;
                self.with_losses(simple(), id, &described).await
            }
            Action::CreateVolume { spec } => self.plan_volume(simple(), spec).await?,
            Action::GrowVolume { volume: Target::Id(id), size_bytes } => {
                let change = VolumeChange { size_bytes: Some(*size_bytes), ..VolumeChange::default() };
                self.plan_change(simple(), id, &change).await?
            }
            Action::ChangeVolume { volume: Target::Id(id), change } => {
                self.plan_change(simple(), id, change).await?
            }
            Action::DeleteVolume { volume: Target::Id(id) } => {
                let plan = simple().note("what it holds is gone; a snapshot of it stays");
                // One that is gone is deleted, and costs nothing.
                match absent(self.volume_now("delete volume", id).await)? {
                    Some(volume) => {
                        self.priced(plan, &id.location, &[], &[Paid::Volume(Disk::of(&volume))]).await
                    }
                    None => plan,
                }
            }
            Action::DetachVolume { volume: Target::Id(id), instance: Target::Id(from) } => {
                self.plan_detach(simple(), id, from).await?
            }
            Action::CreateSnapshot { spec } => {
                // What an instance stands for is settled now.
                let mut spec = spec.clone();
                spec.of = self.volume_to_keep("create snapshot", &spec).await?;
                Plan::simple(&Action::CreateSnapshot { spec }, now)
            }
            Action::CopySnapshot { snapshot: Target::Id(id), location } => {
                self.refuse_target(id, location).await?;
                let plan = simple()
                    .note("the content goes over the network, which is billed as traffic between regions");
                match self.snapshot_now("copy snapshot", id).await?.encrypted {
                    Some(true) => {
                        plan.note(format!("it is encrypted, and the copy with the default key of {location}"))
                    }
                    _ => plan,
                }
            }
            Action::CreateNetwork { spec } => {
                self.network_place(spec)?;
                simple()
            }
            Action::CreateSubnet { spec } => {
                self.refuse_subnet(spec).await?;
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
        })
    }

    async fn plan_volume(&self, plan: Plan, spec: &VolumeSpec) -> Result<Plan> {
        const CREATE: &str = "create volume";
        let (region, _) = self.volume_request(spec, nobody()).await?;
        self.refuse_zone(CREATE, &spec.name, &region, spec.zone.as_deref()).await?;
        let mut volume = new_disk(CREATE, spec)?;
        if let (None, Some(from)) = (volume.gib, &spec.from) {
            volume.gib = self.snapshot_now(CREATE, from).await?.volume_size;
        }
        Ok(self.priced(plan, &region, &[Paid::Volume(volume)], &[]).await)
    }

    async fn plan_change(&self, plan: Plan, id: &ResourceId, change: &VolumeChange) -> Result<Plan> {
        let described = self.volume_now(CHANGE, id).await?;
        let now = Disk::of(&described);
        let differs = Modification::new(id, &described, change)?.unwrap_or_default();
        // A new type does not keep what was paid for of the old one.
        let kept = |figure: Option<i32>| figure.filter(|_| differs.class.is_none());
        let then = Disk {
            iops: differs.iops.or(kept(now.iops)),
            throughput: differs.throughput.or(kept(now.throughput)),
            gib: differs.size.or(now.gib),
            class: differs.class.clone().or_else(|| now.class.clone()),
        };
        let plan = plan.note(
            "EBS changes a volume only a few times a day, and moves its content for hours beside the work",
        );
        Ok(self.priced(plan, &id.location, &[Paid::Volume(then)], &[Paid::Volume(now)]).await)
    }

    /// The way back gives it the same device.
    async fn plan_detach(&self, mut plan: Plan, id: &ResourceId, from: &ResourceId) -> Result<Plan> {
        let volume = self.volume_now("detach volume", id).await?;
        let mut attached = volume.attachments.into_iter().flatten();
        let here = attached.find(|one| one.instance_id.as_deref() == Some(from.native_id.as_str()));
        let device = here.and_then(|here| here.device);
        let back = || Action::AttachVolume {
            volume: id.clone().into(),
            instance: from.clone().into(),
            device: device.clone(),
        };
        for step in &mut plan.steps {
            step.undo = vec![back()];
        }
        Ok(plan.note("a system that still uses its file system keeps hold of it; unmount it there first"))
    }

    async fn refuse_subnet(&self, spec: &SubnetSpec) -> Result<()> {
        let region = self.place(CREATE_SUBNET, &spec.name, Some(&spec.network.location))?;
        refuse_block(CREATE_SUBNET, &spec.name, &spec.cidr)?;
        self.refuse_zone(CREATE_SUBNET, &spec.name, &region, spec.zone.as_deref()).await
    }
}

/// A volume that is to be made, as far as its price goes.
///
/// # Errors
/// Its description does not fit.
pub(super) fn new_disk(operation: &str, spec: &VolumeSpec) -> Result<Disk> {
    let options = VolumeOptions::read(&spec.name, &spec.options)?;
    Ok(Disk {
        class: Some(spec.class.clone().unwrap_or_else(|| USUAL.to_owned())),
        gib: spec.size_bytes.map(|bytes| gib(operation, &spec.name, bytes)).transpose()?,
        iops: options.iops,
        throughput: options.throughput,
    })
}

/// The token of a call that is only looked at: nobody's, and new, so that EC2 never knows it with other words.
pub(super) fn nobody() -> Token {
    Token::random()
}

/// The id of a target, which has none yet where an earlier step makes it.
pub(super) fn known(target: &Target) -> Option<&ResourceId> {
    match target {
        Target::Id(id) => Some(id),
        Target::Step(_) => None,
    }
}
