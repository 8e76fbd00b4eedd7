//! Volumes of EBS. Each call waits until EBS has taken the change on so far that the next one can be made: a new volume is
//! available, an attached one is attached. What takes hours after that, EBS does beside the work of the instance.

use async_trait::async_trait;
use aws_sdk_ec2::operation::create_volume::builders::CreateVolumeFluentBuilder;
use aws_sdk_ec2::types::{self, ResourceType, VolumeState, VolumeType};

use super::AwsProvider;
use super::calls::{absent, first, gib, not_there, ready, until};
use super::error::{Answered, failed};
use super::inventory::MOST_VOLUMES;
use super::limits::{self, Wanted};
use super::modification::{CHANGE, Modification};
use super::options::VolumeOptions;
use super::state::status;
use super::tags::{label, made_by, on, wanted};
use crate::model::resource::{Kind, ResourceId, State};
use crate::provider::{Done, Token, VolumeChange, VolumeSpec, Volumes};
use crate::{Error, ErrorKind, Result};

const CREATE: &str = "create volume";
const ATTACH: &str = "attach volume";
const DETACH: &str = "detach volume";
const DELETE: &str = "delete volume";

#[async_trait]
impl Volumes for AwsProvider {
    async fn create(&self, spec: &VolumeSpec, token: Token) -> Result<Done> {
        let (region, request) = self.volume_request(spec, token).await?;
        let made = match self.volume_made_by(&region, token).await? {
            Some(made) => made,
            None => {
                let answer = request.send().await.answered(CREATE, &spec.name)?;
                answer.volume_id.ok_or_else(|| not_there(CREATE, &spec.name).partly_done())?
            }
        };
        let id = self.id(&region, Kind::Volume, made);
        self.made(&id);
        let state = until(|| async {
            let state = self.volume_now(CREATE, &id).await?.state;
            Ok(state.filter(|state| *state != VolumeState::Creating))
        });
        match ready(state).await {
            Ok(VolumeState::Error) => Err(self.throw_away(&id).await),
            Ok(_) => Ok(Done::made(id)),
            Err(note) => Ok(Done::made(id).note(note)),
        }
    }

    async fn grow(&self, id: &ResourceId, size_bytes: u64, token: Token) -> Result<Done> {
        let change = VolumeChange { size_bytes: Some(size_bytes), ..VolumeChange::default() };
        self.change(id, &change, token).await
    }

    /// All in one call: EBS counts how often a volume is changed.
    async fn change(&self, id: &ResourceId, change: &VolumeChange, _token: Token) -> Result<Done> {
        let volume = self.volume_now(CHANGE, id).await?;
        let Some(wanted) = Modification::new(id, &volume, change)? else { return Ok(Done::already()) };
        let modify = || async {
            let request = self.session.ec2(&id.location).modify_volume().volume_id(&id.native_id);
            let request =
                request.set_size(wanted.size).set_iops(wanted.iops).set_throughput(wanted.throughput);
            let request = request.set_volume_type(wanted.class.as_deref().map(VolumeType::from));
            request.send().await.answered(CHANGE, &id.native_id)
        };
        let begun = match self.patient(id, modify).await {
            Ok(answer) => answer.volume_modification.and_then(|begun| begun.start_time),
            Err(error) if error.kind() == ErrorKind::Conflict => match self.is_at(id, &wanted).await? {
                Some(begun) => Some(begun),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        until(|| self.modified(id, begun)).await?;
        Ok(Done::changed())
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let volume = self.volume_now(DELETE, id).await?;
        if matches!(volume.state, Some(VolumeState::Deleting | VolumeState::Deleted)) {
            return Ok(Done::already());
        }
        if let Some(holder) = volume.attachments.as_deref().unwrap_or_default().first() {
            let holder = holder.instance_id.as_deref().unwrap_or("another service");
            let reason = format!("{holder} has it; detach it first");
            return Err(failed(
                ErrorKind::Conflict,
                DELETE,
                label(id, volume.tags.as_deref()).as_str(),
                reason,
            ));
        }
        let request = self.session.ec2(&id.location).delete_volume().volume_id(&id.native_id);
        request.send().await.answered(DELETE, &id.native_id)?;
        self.deleted(id);
        Ok(Done::changed())
    }

    async fn attach(
        &self,
        id: &ResourceId,
        instance: &ResourceId,
        device: Option<&str>,
        _token: Token,
    ) -> Result<Done> {
        let volume = self.volume_now(ATTACH, id).await?;
        let mut attachments = volume.attachments.as_deref().unwrap_or_default().iter();
        let here = |attachment: &&types::VolumeAttachment| {
            attachment.instance_id.as_deref() == Some(instance.native_id.as_str())
        };
        if let Some(attached) = attachments.clone().find(here) {
            let other = device.filter(|device| attached.device.as_deref() != Some(device));
            return match other {
                None => Ok(Done::already()),
                Some(device) => {
                    let now = attached.device.as_deref().unwrap_or("another device");
                    let reason = format!("the instance has it as {now}, not {device}; detach it first");
                    Err(failed(ErrorKind::Conflict, ATTACH, &id.native_id, reason))
                }
            };
        }
        if let Some(other) = attachments.next().filter(|_| volume.multi_attach_enabled != Some(true)) {
            let holder = other.instance_id.as_deref().unwrap_or("another service");
            let reason = format!("{holder} has it; detach it there");
            return Err(failed(ErrorKind::Conflict, ATTACH, &id.native_id, reason));
        }
        // What is just being made can neither be taken nor take it yet.
        let described = until(|| async {
            let described = self.described(ATTACH, instance).await?;
            let state = status(&described).state;
            let comes = self.volume_now(ATTACH, id).await?.state == Some(VolumeState::Creating);
            Ok((!comes && !matches!(state, State::Creating | State::Starting)).then_some(described))
        })
        .await?;
        let zone = described.placement.as_ref().and_then(|placement| placement.availability_zone.as_ref());
        if let (Some(own), Some(zone)) = (&volume.availability_zone, zone)
            && own != zone
        {
            let reason = format!(
                "it is in {own}, and the instance in {zone}; make a snapshot of it and a volume of that in {zone}"
            );
            return Err(failed(ErrorKind::Invalid, ATTACH, &id.native_id, reason));
        }
        let device = match device {
            Some(device) => device.to_owned(),
            None => free_device(&described).ok_or_else(|| {
                let reason = "the instance has no device name left; name one with --device";
                failed(ErrorKind::Conflict, ATTACH, &instance.native_id, reason)
            })?,
        };
        let attach = || async {
            let request = self.session.ec2(&id.location).attach_volume().volume_id(&id.native_id);
            let request = request.instance_id(&instance.native_id).device(&device);
            request.send().await.answered(ATTACH, &id.native_id)
        };
        self.patient(id, attach).await?;
        until(|| async {
            let volume = self.volume_now(ATTACH, id).await?;
            let attached = volume.attachments.as_deref().unwrap_or_default().iter().find(here);
            let state = attached.and_then(|attached| attached.state.as_ref());
            Ok(state.filter(|state| **state == types::VolumeAttachmentState::Attached).map(|_| ()))
        })
        .await
        .map_err(Error::partly_done)?;
        Ok(Done::changed())
    }

    async fn detach(&self, id: &ResourceId, instance: &ResourceId, _token: Token) -> Result<Done> {
        let volume = self.volume_now(DETACH, id).await?;
        let here = |attachment: &types::VolumeAttachment| {
            attachment.instance_id.as_deref() == Some(instance.native_id.as_str())
        };
        let attached = volume.attachments.as_deref().unwrap_or_default().iter().find(|one| here(one));
        let Some(attached) = attached else { return Ok(Done::already()) };
        if attached.state != Some(types::VolumeAttachmentState::Detaching) {
            // Always from whom: EC2 takes it without, for volumes of one instance alone.
            let request = self.session.ec2(&id.location).detach_volume().volume_id(&id.native_id);
            let request = request.instance_id(&instance.native_id);
            request.send().await.answered(DETACH, &id.native_id)?;
        }
        until(|| async {
            let volume = absent(self.volume_now(DETACH, id).await)?;
            let attached = volume.and_then(|volume| volume.attachments).unwrap_or_default();
            Ok((!attached.iter().any(here)).then_some(()))
        })
        .await
        .map_err(Error::partly_done)?;
        Ok(Done::changed())
    }
}

impl AwsProvider {
    /// The volume that a step's own token made, if it did.
    async fn volume_made_by(&self, region: &str, token: Token) -> Result<Option<String>> {
        let there = self
            .volumes_by(CREATE, region, made_by(token))
            .await?
            .into_iter()
            .filter(|volume| !matches!(volume.state, Some(VolumeState::Deleting | VolumeState::Deleted)));
        Ok(there.filter_map(|volume| volume.volume_id).next())
    }

    /// EC2's own descriptions of the volumes that a filter finds.
    ///
    /// # Errors
    /// Those of `DescribeVolumes`.
    pub(super) async fn volumes_by(
        &self,
        operation: &str,
        region: &str,
        by: types::Filter,
    ) -> Result<Vec<types::Volume>> {
        let request = self.session.ec2(region).describe_volumes().max_results(MOST_VOLUMES).filters(by);
        request.into_paginator().items().send().try_collect().await.answered(operation, region)
    }

    /// Takes back a volume that EBS could not make, and says so.
    async fn throw_away(&self, id: &ResourceId) -> Error {
        let reason = "EBS could not make it, for example because its key may not be used";
        let request = self.session.ec2(&id.location).delete_volume().volume_id(&id.native_id);
        match absent(request.send().await.answered(DELETE, &id.native_id)) {
            Ok(_) => {
                self.deleted(id);
                failed(ErrorKind::Conflict, CREATE, &id.native_id, reason).nothing_done()
            }
            Err(error) => {
                let reason = format!("{reason}; what there is of it could not be deleted: {error}");
                failed(ErrorKind::Conflict, CREATE, &id.native_id, reason).partly_done()
            }
        }
    }

    /// The call that makes a volume and where; also what its permission is checked with.
    pub(super) async fn volume_request(
        &self,
        spec: &VolumeSpec,
        token: Token,
    ) -> Result<(String, CreateVolumeFluentBuilder)> {
        let wrong = |reason: String| Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        let tags = wanted(CREATE, &spec.name, &spec.tags, token)?;
        let options = VolumeOptions::read(&spec.name, &spec.options)?;
        if spec.format.is_some() {
            return wrong("EC2's volumes have no format; leave it out".into());
        }
        let from = match &spec.from {
            None => None,
            Some(from) if from.kind == Kind::Snapshot && from.location == region => {
                Some(from.native_id.clone())
            }
            Some(from) if from.kind == Kind::Snapshot => {
                let reason = format!(
                    "the snapshot is in {}; copy it to {region} first: barograph snapshots copy {} --to {region}",
                    from.location, from.native_id
                );
                return wrong(reason);
            }
            Some(_) => {
                return wrong(
                    "a volume begins empty or with a snapshot; make one of the volume first".into(),
                );
            }
        };
        if from.is_none() && spec.size_bytes.is_none() {
            return wrong("its size is missing; write one, for example 20GiB".into());
        }
        let size = spec.size_bytes.map(|bytes| gib(CREATE, &spec.name, bytes)).transpose()?;
        let class = spec.class.as_deref().unwrap_or(limits::USUAL);
        let figures = Wanted { gib: size, iops: options.iops, throughput: options.throughput };
        limits::check(CREATE, &spec.name, class, figures, "iops")?;
        let Some(zone) = &spec.zone else {
            let zones = self.zones_of_region(CREATE, &spec.name, &region).await?;
            return wrong(format!(
                "a volume is in one zone, that of the instances which are to have it; say which: {}",
                zones.join(", ")
            ));
        };
        let request = self
            .session
            .ec2(&region)
            .create_volume()
            .client_token(token.to_string())
            .availability_zone(zone)
            .volume_type(VolumeType::from(class))
            .set_size(size)
            .set_snapshot_id(from)
            .set_iops(options.iops)
            .set_throughput(options.throughput)
            .set_encrypted(options.encrypted)
            .set_kms_key_id(options.kms_key)
            .set_multi_attach_enabled(options.multi_attach)
            .tag_specifications(on(ResourceType::Volume, &tags));
        Ok((region, request))
    }

    /// EC2's own description of a volume.
    pub(super) async fn volume_now(&self, operation: &str, id: &ResourceId) -> Result<types::Volume> {
        let native = id.native_id.as_str();
        let read = || async {
            let request = self.session.ec2(&id.location).describe_volumes().volume_ids(native);
            first(operation, native, request.send().await.answered(operation, native)?.volumes)
        };
        self.patient(id, read).await
    }
}

/// A device name that the instance does not use. Only one that EC2 suggests for further disks of its kind.
fn free_device(instance: &types::Instance) -> Option<String> {
    let disks = instance.block_device_mappings.as_deref().unwrap_or_default();
    let used: Vec<&str> = disks.iter().filter_map(|disk| disk.device_name.as_deref()).collect();
    // One disk may go by two names: `/dev/sdf` and `/dev/xvdf` are the same to a guest of Xen.
    let free = |letters: &str| {
        used.iter().all(|used| {
            let own = used.trim_start_matches("/dev/").trim_start_matches("xvd").trim_start_matches("sd");
            own != letters
        })
    };
    let near = ('f'..='p').map(|letter| letter.to_string()).find(|letters| free(letters));
    let far = || {
        ('b'..='d')
            .flat_map(|one| ('a'..='z').map(move |two| format!("{one}{two}")))
            .find(|letters| free(letters))
    };
    near.map(|letters| format!("/dev/sd{letters}"))
        .or_else(|| far().map(|letters| format!("/dev/xvd{letters}")))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::InstanceBlockDeviceMapping;

    use super::*;

    #[test]
    fn a_device_is_one_that_nothing_uses() {
        let with = |names: &[String]| {
            let disks =
                names.iter().map(|name| InstanceBlockDeviceMapping::builder().device_name(name).build());
            types::Instance::builder().set_block_device_mappings(Some(disks.collect())).build()
        };
        assert_eq!(free_device(&with(&[])).as_deref(), Some("/dev/sdf"));
        let used = ["/dev/sda1".to_owned(), "/dev/xvdf".into(), "/dev/sdg".into()];
        assert_eq!(free_device(&with(&used)).as_deref(), Some("/dev/sdh"));
        let near: Vec<_> = ('f'..='p').map(|letter| format!("/dev/sd{letter}")).collect();
        assert_eq!(free_device(&with(&near)).as_deref(), Some("/dev/xvdba"));
    }
}
