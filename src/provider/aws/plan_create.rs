//! The plan of a new instance. EC2 makes it with its disks in one call; what that call cannot do are steps of their own.

use super::AwsProvider;
use super::calls::gib;
use super::costs::{Disk, Paid};
use super::create::CREATE;
use super::error::failed;
use super::images::Chosen;
use super::options::{InstanceOptions, PROTECTION, STOP_PROTECTION};
use super::planning::new_disk;
use super::tags::exactly;
use crate::provider::{Action, Consents, DiskSpec, Guards, InstanceSpec, Plan, Step, Stop, Target};
use crate::{ErrorKind, Result};

impl AwsProvider {
    /// EC2 starts what it makes; what was not to be started is stopped again.
    pub(super) async fn plan_create(&self, wanted: &Action, spec: &InstanceSpec) -> Result<Plan> {
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        let options = InstanceOptions::read(&spec.name, &spec.options)?;
        let mut made = InstanceSpec { location: Some(region.clone()), ..spec.clone() };
        for guard in [PROTECTION, STOP_PROTECTION] {
            made.options.remove(guard);
        }
        let mut volumes = Vec::new();
        made.disks.retain(|disk| match disk {
            DiskSpec::Volume(volume) => {
                volumes.push(volume.clone());
                false
            }
            DiskSpec::New(_) => true,
        });
        self.refuse_zone(CREATE, &spec.name, &region, options.zone.as_deref()).await?;
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
        if options.guards != Guards::default() {
            // The last: until then its way back is to stop and to delete it.
            let protect = |guards| Action::Protect { instance: instance(), guards };
            plan = plan.step(Step::new(protect(options.guards), Some(protect(Guards::default()))));
        }
        if let Some(subnet) = subnets.first() {
            let zone = subnet.zone.as_deref().unwrap_or("its zone");
            plan = plan.note(format!("it goes into the subnet {} in {zone}", subnet.id));
        }
        if !self.described_by(CREATE, &region, exactly("tag:Name", &spec.name)).await?.is_empty() {
            plan = plan.note("there is one of this name: commands will take them by their ids alone");
        }
        let paid = self.paid_for(spec, &region, &options, &image).await?;
        Ok(self.priced(plan, &region, &paid, &[]).await)
    }

    /// What is paid for of an instance that is made: itself where it runs, the disks of its image, and its own.
    async fn paid_for(
        &self,
        spec: &InstanceSpec,
        region: &str,
        options: &InstanceOptions,
        image: &Chosen,
    ) -> Result<Vec<Paid>> {
        let mut paid = Vec::new();
        if spec.start {
            let (kind, _) = self.resolved(CREATE, region, &spec.name, &spec.size).await?;
            paid.push(Paid::Instance { kind, system: image.system });
        }
        let root = options.root_size.map(|bytes| gib(CREATE, &spec.name, bytes)).transpose()?;
        for (number, (gib, class)) in image.disks.iter().enumerate() {
            let own = Disk { gib: *gib, class: class.clone(), ..Disk::default() };
            paid.push(Paid::Volume(match number {
                0 => Disk {
                    gib: root.or(own.gib),
                    class: options.root_class.clone().or(own.class),
                    iops: options.root_iops,
                    ..Disk::default()
                },
                _ => own,
            }));
        }
        for disk in &spec.disks {
            if let DiskSpec::New(disk) = disk {
                paid.push(Paid::Volume(new_disk(CREATE, disk)?));
            }
        }
        Ok(paid)
    }
}
