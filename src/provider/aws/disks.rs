//! The disks that are made with an instance: what they are, which device each is, and their names.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice, VolumeType};

use super::AwsProvider;
use super::calls::{gib, until};
use super::create::CREATE;
use super::error::{Answered, failed};
use super::limits::{self, Wanted};
use super::options::{InstanceOptions, VolumeOptions};
use super::tags;
use crate::model::resource::{Kind, ResourceId};
use crate::provider::{DiskSpec, InstanceSpec, VolumeSpec};
use crate::{ErrorKind, Result};

/// Names that EC2 suggests for further disks of Linux, which Windows takes too.
const DEVICES: [char; 11] = ['f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p'];

impl AwsProvider {
    /// Gives the further disks their own names and tags, which one call to EC2 cannot.
    ///
    /// # Errors
    /// Those of `DescribeInstances` and `CreateTags`.
    pub(super) async fn name_disks(&self, id: &ResourceId, spec: &InstanceSpec) -> Result<()> {
        let disks = new_disks(spec)?;
        if disks.iter().all(|disk| disk.name.is_empty() && disk.tags.is_empty()) {
            return Ok(());
        }
        let image = self.image_for(CREATE, &id.location, spec.image.as_deref(), &spec.name).await?;
        let devices = devices(spec, &image.devices)?;
        // EC2 lists them only some time after its answer.
        let volumes = until(|| async {
            let described = self.described(CREATE, id).await?;
            let mapped = described.block_device_mappings.into_iter().flatten();
            let mapped: BTreeMap<String, String> =
                mapped.filter_map(|disk| Some((disk.device_name?, disk.ebs?.volume_id?))).collect();
            let ours = devices.iter().map(|(device, _)| mapped.get(device).cloned());
            Ok(ours.collect::<Option<Vec<_>>>())
        });
        for ((_, disk), volume) in devices.iter().zip(volumes.await?) {
            let volume = id.sibling(Kind::Volume, volume);
            self.made(&volume);
            self.name_disk(&volume, disk).await?;
        }
        Ok(())
    }

    async fn name_disk(&self, volume: &ResourceId, disk: &VolumeSpec) -> Result<()> {
        let mut all = disk.tags.clone();
        if !disk.name.is_empty() {
            all.insert(tags::NAME.into(), disk.name.clone());
        }
        if all.is_empty() {
            return Ok(());
        }
        let name = || async {
            let all = all.iter().map(|(key, value)| tags::tag(key, value)).collect();
            let request = self.session.ec2(&volume.location).create_tags().resources(&volume.native_id);
            request.set_tags(Some(all)).send().await.answered("name the volume", &volume.native_id)
        };
        self.patient(volume, name).await?;
        Ok(())
    }
}

/// The disks that are made with an instance. Volumes that are there are attached by steps of their own.
fn new_disks(spec: &InstanceSpec) -> Result<Vec<&VolumeSpec>> {
    let mut new = Vec::with_capacity(spec.disks.len());
    for disk in &spec.disks {
        let DiskSpec::New(volume) = disk else {
            let reason =
                "a volume that is there is attached by a step of its own; make a plan and carry that out";
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        };
        new.push(volume);
    }
    Ok(new)
}

/// What is said of the first disk, which the image brings.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub(super) fn root_disk(
    name: &str,
    options: &InstanceOptions,
    device: Option<&str>,
) -> Result<Option<BlockDeviceMapping>> {
    let said = options.root_size.is_some() || options.root_class.is_some() || options.root_iops.is_some();
    if !said && !options.hibernation {
        return Ok(None);
    }
    let Some(device) = device else {
        let reason = "the image does not say which disk is its first, so its size cannot be chosen; leave the options out";
        return Err(failed(ErrorKind::Invalid, CREATE, name, reason));
    };
    let size = options.root_size.map(|bytes| gib(CREATE, name, bytes)).transpose()?;
    if let Some(class) = &options.root_class {
        let wanted = Wanted { gib: size, iops: options.root_iops, throughput: None };
        limits::check(CREATE, name, class, wanted, "root_iops")?;
    }
    let ebs = EbsBlockDevice::builder()
        .set_volume_size(size)
        .set_volume_type(options.root_class.as_deref().map(VolumeType::from))
        .set_iops(options.root_iops)
        // Memory is kept on it, so EC2 wants it encrypted.
        .set_encrypted(options.hibernation.then_some(true))
        .build();
    Ok(Some(BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()))
}

/// The further disks, each with the name of a device that none of the image's own disks (`taken`) has.
///
/// # Errors
/// [`ErrorKind::Invalid`] for too many, and for a volume that is there.
pub(super) fn devices<'a>(spec: &'a InstanceSpec, taken: &[String]) -> Result<Vec<(String, &'a VolumeSpec)>> {
    let disks = new_disks(spec)?;
    let free = DEVICES.iter().map(|letter| format!("/dev/sd{letter}")).filter(|name| !taken.contains(name));
    let all: Vec<_> = free.zip(disks.iter().copied()).collect();
    if all.len() < disks.len() {
        let reason = format!("{} further disks are too many; attach volumes instead", disks.len());
        return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
    }
    Ok(all)
}

/// A further disk, as EC2 takes it.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub(super) fn ebs(disk: &VolumeSpec, zone: Option<&str>, region: &str) -> Result<EbsBlockDevice> {
    let operation = "create volume";
    let wrong = |reason: &str| Err(failed(ErrorKind::Invalid, operation, &disk.name, reason));
    if disk.location.as_ref().is_some_and(|place| place != region)
        || (disk.zone.is_some() && disk.zone.as_deref() != zone)
    {
        return wrong("a disk is in the place of its instance; leave its own out");
    }
    if disk.format.is_some() {
        return wrong("EC2's disks have no format; leave it out");
    }
    let from = match &disk.from {
        None => None,
        Some(from) if from.kind == Kind::Snapshot => Some(from.native_id.clone()),
        Some(_) => return wrong("a disk begins empty or with a snapshot; name one"),
    };
    if from.is_none() && disk.size_bytes.is_none() {
        return wrong("its size is missing; write one, for example 20GiB");
    }
    let options = VolumeOptions::read(&disk.name, &disk.options)?;
    if options.multi_attach.is_some() {
        return wrong("a disk for several instances is made alone and then attached; leave multi_attach out");
    }
    let size = disk.size_bytes.map(|bytes| gib(operation, &disk.name, bytes)).transpose()?;
    let class = disk.class.as_deref().unwrap_or(limits::USUAL);
    let wanted = Wanted { gib: size, iops: options.iops, throughput: options.throughput };
    limits::check(operation, &disk.name, class, wanted, "iops")?;
    Ok(EbsBlockDevice::builder()
        .set_volume_size(size)
        .volume_type(VolumeType::from(class))
        .set_snapshot_id(from)
        .set_iops(options.iops)
        .set_throughput(options.throughput)
        .set_encrypted(options.encrypted)
        .set_kms_key_id(options.kms_key)
        .delete_on_termination(false)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(disks: usize) -> InstanceSpec {
        let disks = vec![DiskSpec::New(VolumeSpec::default()); disks];
        InstanceSpec { name: "web".into(), disks, ..InstanceSpec::default() }
    }

    #[test]
    fn devices_are_free_ones() {
        let spec = spec(2);
        let named = devices(&spec, &["/dev/sdf".into()]).unwrap();
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/dev/sdg", "/dev/sdh"]);
        assert!(devices(&self::spec(12), &[]).is_err());
    }

    #[test]
    fn what_a_disk_cannot_be_is_refused() {
        let disk = VolumeSpec { name: "d".into(), size_bytes: Some(2 << 30), ..VolumeSpec::default() };
        for (disk, word) in [
            (VolumeSpec { zone: Some("b".into()), ..disk.clone() }, "place of its instance"),
            (VolumeSpec { location: Some("other".into()), ..disk.clone() }, "place of its instance"),
            (VolumeSpec { format: Some("raw".into()), ..disk.clone() }, "format"),
            (VolumeSpec { size_bytes: None, ..disk.clone() }, "size is missing"),
            (VolumeSpec { class: Some("gp9".into()), ..disk.clone() }, "gp9"),
        ] {
            let error = ebs(&disk, Some("a"), "here").unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        let made = ebs(&disk, None, "here").unwrap();
        assert_eq!((made.volume_size, made.delete_on_termination), (Some(2), Some(false)));
    }

    #[test]
    fn the_first_disk_is_the_images_unless_something_is_said_of_it() {
        let options = InstanceOptions::default();
        assert_eq!(root_disk("web", &options, Some("/dev/xvda")).unwrap(), None);
        let options = InstanceOptions { root_size: Some(20 << 30), ..options };
        let root = root_disk("web", &options, Some("/dev/xvda")).unwrap().unwrap();
        assert_eq!(root.ebs.unwrap().volume_size, Some(20));
        assert!(root_disk("web", &options, None).is_err());
        let options = InstanceOptions { root_class: Some("io2".into()), ..options };
        let error = root_disk("web", &options, Some("/dev/xvda")).unwrap_err();
        assert!(error.to_string().contains("root_iops"), "{error}");
        let options = InstanceOptions { root_iops: Some(1_000), ..options };
        let root = root_disk("web", &options, Some("/dev/xvda")).unwrap().unwrap().ebs.unwrap();
        assert_eq!((root.iops, root.volume_type), (Some(1_000), Some(VolumeType::Io2)));
    }
}
