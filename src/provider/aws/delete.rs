//! The end of an instance, and what of it stays. EC2 has a flag at each disk whether it goes with the instance; here the
//! person's consent decides, and the flags are set to it just before.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::modify_instance_attribute::builders::ModifyInstanceAttributeFluentBuilder;
use aws_sdk_ec2::types::{
    self, EbsInstanceBlockDeviceSpecification, InstanceBlockDeviceMappingSpecification,
};

use super::AwsProvider;
use super::connect::filter;
use super::error::{Answered, failed};
use super::lifecycle::wrong_state;
use super::state::status;
use super::tags::label;
use crate::model::resource::{Kind, ResourceId, State};
use crate::provider::{Consents, Done, Guards, Leftover};
use crate::{ErrorKind, Result};

pub(super) const DELETE: &str = "delete instance";

/// What belongs to an instance.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// Its volumes.
    pub(super) volumes: Vec<ResourceId>,
    /// Snapshots of these.
    pub(super) snapshots: Vec<ResourceId>,
    /// What stays without being a volume or a snapshot, in words.
    pub(super) others: Vec<String>,
}

impl AwsProvider {
    /// Terminates an instance. What is gone already is done.
    pub(super) async fn terminate(&self, id: &ResourceId, consents: Consents) -> Result<Done> {
        let described = self.described(DELETE, id).await?;
        if status(&described).state == State::Deleting {
            return Ok(Done::already());
        }
        // Its guards first: what EC2 refuses is not begun.
        let guards = self.guards(DELETE, id).await?;
        if guards != Guards::default() {
            let which = if guards.delete { "termination" } else { "stop" };
            let reason = format!("EC2's {which} protection is on; turn it off for this instance first");
            let label = label(id, described.tags.as_deref());
            return Err(failed(ErrorKind::Protected, DELETE, &label, reason));
        }
        refuse_without(id, &described, consents)?;
        let flags = flags(&described, consents.volumes);
        self.set_flags(id, &flags).await?;
        let request = self.session.ec2(&id.location).terminate_instances().instance_ids(&id.native_id);
        if let Err(error) = request.send().await.answered(DELETE, &id.native_id) {
            let back = flags.iter().map(|(device, go)| (device.clone(), !go)).collect();
            return Err(match self.set_flags(id, &back).await {
                Ok(()) => error,
                Err(_) => error.partly_done(),
            });
        }
        self.deleted(id);
        for volume in volumes(&described) {
            self.deleted(&id.sibling(Kind::Volume, volume));
        }
        Ok(Done::changed())
    }

    /// The call that settles which disks go with an instance; also what its permission is checked with.
    pub(super) fn flags_request(
        &self,
        id: &ResourceId,
        flags: &Flags,
    ) -> ModifyInstanceAttributeFluentBuilder {
        let flag = |(device, go): (&String, &bool)| {
            let ebs = EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(*go).build();
            InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs).build()
        };
        let request = self.session.ec2(&id.location).modify_instance_attribute().instance_id(&id.native_id);
        request.set_block_device_mappings(Some(flags.iter().map(flag).collect()))
    }

    async fn set_flags(&self, id: &ResourceId, flags: &Flags) -> Result<()> {
        if !flags.is_empty() {
            let request = self.flags_request(id, flags);
            request.send().await.answered("settle which disks stay of", &id.native_id)?;
        }
        Ok(())
    }

    /// What belongs to an instance. What could not be looked for is among the words.
    pub(super) async fn belongings(&self, id: &ResourceId, instance: &types::Instance) -> Belongings {
        let natives = volumes(instance);
        let mut mine = Belongings {
            volumes: natives.iter().map(|volume| id.sibling(Kind::Volume, volume)).collect(),
            ..Belongings::default()
        };
        match self.snapshots_of(DELETE, &id.location, &natives).await {
            Ok(snapshots) => mine.snapshots = snapshots,
            Err(error) => {
                mine.others.push(format!("perhaps snapshots, which could not be looked for: {error}"));
            }
        }
        match self.addresses_of(id).await {
            Ok(addresses) => mine.others.extend(addresses),
            Err(error) => {
                mine.others
                    .push(format!("perhaps an elastic address, which could not be looked for: {error}"));
            }
        }
        let interfaces = instance.network_interfaces.as_deref().unwrap_or_default().iter();
        let staying = interfaces.filter(|interface| {
            let attachment = interface.attachment.as_ref();
            attachment.and_then(|attachment| attachment.delete_on_termination) == Some(false)
        });
        let staying = staying.filter_map(|interface| interface.network_interface_id.as_deref());
        mine.others.extend(staying.map(|id| format!("the network interface {id}")));
        mine
    }

    async fn addresses_of(&self, id: &ResourceId) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_addresses();
        let request = request.filters(filter("instance-id", [id.native_id.as_str()]));
        let answer = request.send().await.answered("look for elastic addresses of", &id.native_id)?;
        let all = answer.addresses.unwrap_or_default().into_iter();
        Ok(all
            .filter_map(|address| address.public_ip)
            .map(|address| format!("the elastic address {address}, which is billed until it is released"))
            .collect())
    }

    /// Whether its public address is an elastic one, which it keeps over a stop; `None` without a public address, and where
    /// that cannot be looked for.
    pub(super) async fn keeps_address(&self, id: &ResourceId, instance: &types::Instance) -> Option<bool> {
        instance.public_ip_address.as_ref()?;
        self.addresses_of(id).await.ok().map(|addresses| !addresses.is_empty())
    }
}

/// The volumes that an instance has.
pub(super) fn volumes(instance: &types::Instance) -> Vec<String> {
    let disks = instance.block_device_mappings.as_deref().unwrap_or_default().iter();
    disks.filter_map(|disk| disk.ebs.as_ref()?.volume_id.clone()).collect()
}

/// What is needed beside the instance.
///
/// # Errors
/// [`ErrorKind::Conflict`] with what has to be allowed.
pub(super) fn refuse_without(id: &ResourceId, instance: &types::Instance, consents: Consents) -> Result<()> {
    match status(instance).state {
        State::Stopped => Ok(()),
        State::Suspended if consents.saved_state => Ok(()),
        State::Suspended => {
            let hint = "its memory is kept on its disk; allow --saved-state to give it up";
            Err(wrong_state(DELETE, id, instance, State::Suspended, hint))
        }
        _ if consents.running => Ok(()),
        state => Err(wrong_state(DELETE, id, instance, state, "stop it first, or allow --running")),
    }
}

/// Devices, and whether the disk of each goes with the instance.
pub(super) type Flags = BTreeMap<String, bool>;

/// The flags of the disks that say otherwise than the consent, as they are to be.
fn flags(instance: &types::Instance, go: bool) -> Flags {
    flags_now(instance).into_iter().filter(|(_, goes)| *goes != go).map(|(device, _)| (device, go)).collect()
}

/// The flags of all disks, as they are.
pub(super) fn flags_now(instance: &types::Instance) -> Flags {
    let disks = instance.block_device_mappings.as_deref().unwrap_or_default().iter();
    let flag = |disk: &types::InstanceBlockDeviceMapping| {
        let goes = disk.ebs.as_ref()?.delete_on_termination.unwrap_or_default();
        Some((disk.device_name.clone()?, goes))
    };
    disks.filter_map(flag).collect()
}

/// What stays when an instance is deleted, and may still cost something.
pub(super) fn leftovers(mine: &Belongings, consents: Consents) -> Vec<Leftover> {
    let left = |id: &ResourceId, what: String| Leftover { id: Some(id.clone()), what };
    let mut all = Vec::new();
    if !consents.volumes {
        all.extend(
            mine.volumes.iter().map(|id| left(id, format!("the volume {}, which is billed", id.native_id))),
        );
    }
    if !consents.snapshots {
        let snapshot = |id| left(id, format!("the snapshot {}, which is billed", id.native_id));
        all.extend(mine.snapshots.iter().map(snapshot));
    }
    all.extend(mine.others.iter().map(|what| Leftover { id: None, what: what.clone() }));
    all
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        EbsInstanceBlockDevice, InstanceBlockDeviceMapping, InstanceState, InstanceStateName,
    };

    use super::*;

    fn id() -> ResourceId {
        "aws/1/r/instance/i-1".parse().unwrap()
    }

    fn instance(state: &str, goes: &[Option<bool>]) -> types::Instance {
        let disk = |(number, goes): (usize, &Option<bool>)| {
            let ebs = EbsInstanceBlockDevice::builder().volume_id(format!("vol-{number}"));
            let ebs = ebs.set_delete_on_termination(*goes).build();
            InstanceBlockDeviceMapping::builder().device_name(format!("/dev/sd{number}")).ebs(ebs).build()
        };
        let state = InstanceState::builder().name(InstanceStateName::from(state)).build();
        types::Instance::builder()
            .state(state)
            .set_block_device_mappings(Some(goes.iter().enumerate().map(disk).collect()))
            .build()
    }

    #[test]
    fn the_consent_decides_over_each_disk() {
        let disks = instance("stopped", &[Some(true), Some(false), None]);
        let names = |go| {
            let flags = flags(&disks, go);
            assert!(flags.values().all(|goes| *goes == go));
            flags.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["/dev/sd0"]);
        assert_eq!(names(true), ["/dev/sd1", "/dev/sd2"]);
        assert_eq!(volumes(&disks), ["vol-0", "vol-1", "vol-2"]);
    }

    #[test]
    fn one_that_runs_takes_a_consent() {
        let running = instance("running", &[]);
        let error = refuse_without(&id(), &running, Consents::default()).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("--running"), "{error}");
        refuse_without(&id(), &running, Consents { running: true, ..Consents::default() }).unwrap();
        refuse_without(&id(), &instance("stopped", &[]), Consents::default()).unwrap();
    }

    #[test]
    fn what_stays_is_named() {
        let mine = Belongings {
            volumes: vec![id().sibling(Kind::Volume, "vol-1")],
            snapshots: vec![id().sibling(Kind::Snapshot, "snap-1")],
            others: vec!["the elastic address 192.0.2.1".into()],
        };
        let words = |consents| {
            let all = leftovers(&mine, consents);
            all.into_iter().map(|left| left.what).collect::<Vec<_>>().join("; ")
        };
        let all = words(Consents::default());
        assert!(all.contains("vol-1") && all.contains("snap-1") && all.contains("192.0.2.1"), "{all}");
        let some = words(Consents { volumes: true, ..Consents::default() });
        assert!(!some.contains("vol-1") && some.contains("snap-1"), "{some}");
    }
}
