//! Instances as EC2 describes them.

use std::collections::BTreeMap;

use aws_sdk_ec2::types;
use serde_json::{Map, Value};

use super::AwsProvider;
use super::calls::{at, first};
use super::error::{Answered, failed};
use super::inventory::{MOST, Paged, unreadable};
use super::sizes::{Type, architecture};
use super::state::status;
use super::tags::{made_by, name, shown};
use crate::model::resource::{Disk, Instance, Interface, Kind, ResourceId, Size, State};
use crate::provider::{Guards, Page, Token};
use crate::{ErrorKind, Result};

impl AwsProvider {
    /// A page of instances. Those that are gone, and that EC2 describes for another hour, are not among them: their names
    /// may be taken again.
    pub(super) async fn instances_page(&self, region: &str, token: Option<String>) -> Paged<Instance> {
        let request = self.session.ec2(region).describe_instances().max_results(MOST);
        let answer = request.set_next_token(token).send().await.answered("list the instances of", region)?;
        let found = answer.reservations.unwrap_or_default().into_iter();
        let found: Vec<_> = found.flat_map(|reservation| reservation.instances.unwrap_or_default()).collect();
        let mut errors = Vec::new();
        let types = found.iter().filter_map(type_of);
        let types = self.types(region, types).await.unwrap_or_else(|error| {
            // What they are called is known all the same.
            errors.push(error);
            BTreeMap::new()
        });
        let mut items = Vec::with_capacity(found.len());
        for instance in &found {
            match self.instance_of(region, instance, &types) {
                Some(instance) if instance.state() == State::Deleted => {}
                Some(instance) => items.push(instance),
                None => errors.push(unreadable("instance", region)),
            }
        }
        Ok((Page { items, errors }, answer.next_token))
    }

    /// One instance, with its protection, which EC2's lists leave out.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] also for one whose description is still there after its end.
    pub(super) async fn instance_now(&self, operation: &str, id: &ResourceId) -> Result<Instance> {
        let described = self.described(operation, id).await?;
        let types = self.types(&id.location, type_of(&described)).await?;
        let instance = self.instance_of(&id.location, &described, &types);
        let mut instance = instance.ok_or_else(|| unreadable("instance", &id.location))?;
        // Who waits for the end of a change looks often, and protection is of no interest then.
        if !instance.state().is_passing() {
            let guards = self.guards(operation, id).await?;
            instance.protected = Some(guards.delete || guards.stop);
        }
        Ok(instance)
    }

    /// EC2's own description of an instance that is not gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] with EC2's reason for one that is.
    pub(super) async fn described(&self, operation: &str, id: &ResourceId) -> Result<types::Instance> {
        let found = self.patient(id, || self.describe(operation, id)).await?;
        let status = status(&found);
        if status.state == State::Deleted {
            let why = status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let reason = format!("it was terminated{why}");
            return Err(failed(ErrorKind::NotFound, operation, &id.native_id, reason));
        }
        Ok(found)
    }

    async fn describe(&self, operation: &str, id: &ResourceId) -> Result<types::Instance> {
        let native = id.native_id.as_str();
        let request = self.session.ec2(&id.location).describe_instances().instance_ids(native);
        let answer = request.send().await.answered(operation, native)?;
        let reservation = first(operation, native, answer.reservations)?;
        first(operation, native, reservation.instances)
    }

    /// The instances that a filter finds, without those that are gone.
    ///
    /// # Errors
    /// Those of `DescribeInstances`.
    pub(super) async fn described_by(
        &self,
        operation: &str,
        region: &str,
        by: types::Filter,
    ) -> Result<Vec<types::Instance>> {
        let request = self.session.ec2(region).describe_instances().max_results(MOST).filters(by);
        let found =
            request.into_paginator().items().send().try_collect().await.answered(operation, region)?;
        let found = found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default());
        Ok(found.filter(|instance| status(instance).state != State::Deleted).collect())
    }

    /// The instance that a step's own token made, if it did.
    ///
    /// # Errors
    /// Those of `DescribeInstances`.
    pub(super) async fn instance_made_by(
        &self,
        operation: &str,
        region: &str,
        token: Token,
    ) -> Result<Option<types::Instance>> {
        // Where the tag is not seen yet, EC2 itself knows the token: it is the call's client token too.
        Ok(self.described_by(operation, region, made_by(token)).await?.into_iter().next())
    }

    /// What EC2 refuses to do to it.
    ///
    /// # Errors
    /// Those of `DescribeInstanceAttribute`.
    pub(super) async fn guards(&self, operation: &str, id: &ResourceId) -> Result<Guards> {
        use types::InstanceAttributeName as Name;
        let delete = self.attribute(operation, id, Name::DisableApiTermination).await?;
        Ok(Guards { delete, stop: self.attribute(operation, id, Name::DisableApiStop).await? })
    }

    async fn attribute(
        &self,
        operation: &str,
        id: &ResourceId,
        name: types::InstanceAttributeName,
    ) -> Result<bool> {
        let ask = || async {
            let request = self.session.ec2(&id.location).describe_instance_attribute();
            let request = request.instance_id(&id.native_id).attribute(name.clone());
            request.send().await.answered(operation, &id.native_id)
        };
        let answer = self.patient(id, ask).await?;
        let set = answer.disable_api_termination.or(answer.disable_api_stop);
        Ok(set.and_then(|set| set.value) == Some(true))
    }

    /// An instance in our words. Its protection is not known here: EC2 tells it of one at a time.
    pub(super) fn instance_of(
        &self,
        region: &str,
        instance: &types::Instance,
        types: &BTreeMap<String, Type>,
    ) -> Option<Instance> {
        let id = self.id(region, Kind::Instance, instance.instance_id.as_ref()?);
        let tags = shown(instance.tags.as_deref());
        let status = status(instance);
        let runs = matches!(status.state, State::Running | State::Starting | State::Creating);
        Some(Instance {
            name: name(&tags),
            size: size(instance, types),
            image: instance.image_id.clone(),
            zone: instance.placement.as_ref().and_then(|placement| placement.availability_zone.clone()),
            disks: disks(self, region, instance),
            interfaces: interfaces(self, region, instance),
            tags,
            protected: None,
            created_at: created(instance),
            started_at: at(instance.launch_time.as_ref()).filter(|_| runs),
            raw: raw(instance),
            status,
            id,
        })
    }
}

/// The name of its type.
pub(super) fn type_of(instance: &types::Instance) -> Option<&str> {
    instance.instance_type.as_ref().map(types::InstanceType::as_str)
}

fn size(instance: &types::Instance, types: &BTreeMap<String, Type>) -> Size {
    let name = type_of(instance);
    let known = name.and_then(|name| types.get(name)).map(|found| found.size.clone());
    let mut size = known.unwrap_or_else(|| Size { name: name.map(str::to_owned), ..Size::default() });
    if let Some(word) = &instance.architecture {
        size.architecture = Some(architecture(word.as_str()).to_owned());
    }
    // Fewer cores, or one thread of each, can be chosen when an instance is made.
    let cores = instance.cpu_options.as_ref().and_then(|cpu| cpu.core_count.zip(cpu.threads_per_core));
    if let Some((cores, threads)) = cores.filter(|(cores, threads)| *cores > 0 && *threads > 0) {
        size.vcpus = Some((cores * threads).into());
    }
    size
}

fn disks(provider: &AwsProvider, region: &str, instance: &types::Instance) -> Vec<Disk> {
    let disks = instance.block_device_mappings.as_deref().unwrap_or_default().iter();
    let disk = |disk: &types::InstanceBlockDeviceMapping| Disk {
        device: disk.device_name.clone().unwrap_or_default(),
        volume: disk
            .ebs
            .as_ref()
            .and_then(|ebs| ebs.volume_id.as_ref())
            .map(|volume| provider.id(region, Kind::Volume, volume)),
        source: None,
        read_only: false,
    };
    disks.map(disk).collect()
}

fn interfaces(provider: &AwsProvider, region: &str, instance: &types::Instance) -> Vec<Interface> {
    let interface = |interface: &types::InstanceNetworkInterface| {
        let private = interface.private_ip_addresses.as_deref().unwrap_or_default().iter();
        let mut addresses: Vec<String> =
            private.clone().filter_map(|address| address.private_ip_address.clone()).collect();
        let six = interface.ipv6_addresses.as_deref().unwrap_or_default().iter();
        addresses.extend(six.filter_map(|address| address.ipv6_address.clone()));
        addresses.extend(private.filter_map(|address| address.association.as_ref()?.public_ip.clone()));
        Interface {
            name: interface.network_interface_id.clone(),
            network: interface.vpc_id.as_ref().map(|vpc| provider.id(region, Kind::Network, vpc)),
            mac: interface.mac_address.as_ref().map(|mac| mac.to_lowercase()),
            addresses,
        }
    };
    let interfaces = instance.network_interfaces.as_deref().unwrap_or_default().iter();
    let mut all: Vec<Interface> = interfaces.map(interface).collect();
    if all.is_empty() && (instance.private_ip_address.is_some() || instance.public_ip_address.is_some()) {
        let addresses = instance.private_ip_address.iter().chain(&instance.public_ip_address).cloned();
        all.push(Interface {
            network: instance.vpc_id.as_ref().map(|vpc| provider.id(region, Kind::Network, vpc)),
            addresses: addresses.collect(),
            ..Interface::default()
        });
    }
    all
}

/// When it was made: EC2 tells only when it was started last, but its first interface is as old as itself.
fn created(instance: &types::Instance) -> Option<crate::model::Timestamp> {
    let attached = instance.network_interfaces.as_deref().unwrap_or_default().iter();
    let attached = attached.filter_map(|interface| interface.attachment.as_ref());
    let first = attached.filter(|attached| attached.device_index == Some(0));
    first.filter_map(|first| at(first.attach_time.as_ref())).min()
}

/// What only EC2 says, in its own words.
fn raw(instance: &types::Instance) -> Map<String, Value> {
    let mut raw = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| value.as_str() != Some("")) {
            raw.insert(name.into(), value);
        }
    };
    let text = |text: Option<&String>| text.map(|text| Value::from(text.as_str()));
    put("vpc_id", text(instance.vpc_id.as_ref()));
    put("subnet_id", text(instance.subnet_id.as_ref()));
    put("key_name", text(instance.key_name.as_ref()));
    put("public_ip_address", text(instance.public_ip_address.as_ref()));
    put("public_dns_name", text(instance.public_dns_name.as_ref()));
    put("private_dns_name", text(instance.private_dns_name.as_ref()));
    put("platform_details", text(instance.platform_details.as_ref()));
    put("platform", instance.platform.as_ref().map(|platform| platform.as_str().into()));
    put("root_device_name", text(instance.root_device_name.as_ref()));
    put("root_device_type", instance.root_device_type.as_ref().map(|kind| kind.as_str().into()));
    put("lifecycle", instance.instance_lifecycle.as_ref().map(|kind| kind.as_str().into()));
    put("state_transition_reason", text(instance.state_transition_reason.as_ref()));
    put("virtualization_type", instance.virtualization_type.as_ref().map(|kind| kind.as_str().into()));
    put("ebs_optimized", instance.ebs_optimized.map(Value::from));
    let monitoring = instance.monitoring.as_ref().and_then(|monitoring| monitoring.state.as_ref());
    put("monitoring", monitoring.map(|state| state.as_str().into()));
    let hibernation = instance.hibernation_options.as_ref().and_then(|options| options.configured);
    put("hibernation", hibernation.map(Value::from));
    let placement = instance.placement.as_ref();
    put("tenancy", placement.and_then(|at| at.tenancy.as_ref()).map(|tenancy| tenancy.as_str().into()));
    put("placement_group", text(placement.and_then(|at| at.group_name.as_ref())));
    put("host_id", text(placement.and_then(|at| at.host_id.as_ref())));
    let profile = instance.iam_instance_profile.as_ref();
    put("instance_profile", text(profile.and_then(|profile| profile.arn.as_ref())));
    let tokens = instance.metadata_options.as_ref().and_then(|options| options.http_tokens.as_ref());
    put("metadata_tokens", tokens.map(|tokens| tokens.as_str().into()));
    let groups = instance.security_groups.as_deref().unwrap_or_default().iter();
    let groups: Vec<Value> = groups.filter_map(|group| text(group.group_id.as_ref())).collect();
    put("security_groups", (!groups.is_empty()).then_some(Value::Array(groups)));
    raw
}
