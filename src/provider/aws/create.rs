//! Making an instance: one call to EC2, with its disks in it, so that an instance is there with all of them or not at all.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HibernationOptionsRequest, HttpTokensState,
    IamInstanceProfileSpecification, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    InstanceType, Placement, ResourceType, RunInstancesMonitoringEnabled, VolumeType,
};

use super::AwsProvider;
use super::calls::{first, gib, until};
use super::error::{Answered, failed};
use super::options::{InstanceOptions, VolumeOptions};
use super::tags;
use crate::model::resource::{Kind, ResourceId};
use crate::provider::{DiskSpec, Done, InstanceSpec, Token, VolumeSpec};
use crate::{ErrorKind, Result};

const CREATE: &str = "create instance";

/// Names that EC2 suggests for further disks of Linux, which Windows takes too.
const DEVICES: [char; 11] = ['f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p'];

impl AwsProvider {
    /// Makes an instance, once for its token: what was made by it before is the answer then.
    pub(super) async fn create_instance(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        let disks = new_disks(spec)?;
        let before = self.instance_made_by(CREATE, &region, token).await?;
        let made = match before.and_then(|instance| instance.instance_id) {
            Some(made) => made,
            None => {
                let request = self.run_request(spec, &region, token).await?;
                let answer = request.send().await.answered(CREATE, &spec.name)?;
                let instance = first(CREATE, &spec.name, answer.instances)?;
                first(CREATE, &spec.name, Some(instance.instance_id.into_iter().collect()))?
            }
        };
        let id = self.id(&region, Kind::Instance, made);
        self.made(&id);
        self.name_disks(&id, &disks).await?;
        Ok(Done::made(id))
    }

    /// The call that makes an instance; also what its permission is checked with.
    pub(super) async fn run_request(
        &self,
        spec: &InstanceSpec,
        region: &str,
        token: Token,
    ) -> Result<RunInstancesFluentBuilder> {
        let options = InstanceOptions::read(&spec.name, &spec.options)?;
        refuse_others(spec)?;
        let (size, found) = self.resolved(CREATE, region, &spec.size).await?;
        let image = self.image_for(CREATE, region, spec.image.as_deref(), &spec.name).await?;
        image.suits(CREATE, &spec.name, spec.architecture.as_deref(), &size, &found)?;
        if options.hibernation && !found.hibernates {
            let reason = format!("{size} cannot hibernate; choose another type, or leave the option out");
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        }
        let subnets = self.subnets_for(CREATE, region, &spec.networks, options.zone.as_deref()).await?;
        let network = subnets.first().map(|subnet| subnet.network.as_str());
        let groups = self.groups_for(CREATE, region, &options.security_groups, network).await?;

        let named = tags::wanted(CREATE, &spec.name, &spec.tags, token)?;
        // The mark is the instance's; what comes with it is found through it.
        let without: Vec<_> =
            named.iter().filter(|tag| tag.key.as_deref() != Some(tags::TOKEN)).cloned().collect();
        let mut request = self
            .session
            .ec2(region)
            .run_instances()
            .client_token(token.to_string())
            .image_id(&image.id)
            .instance_type(InstanceType::from(size.as_str()))
            .min_count(1)
            .max_count(1)
            .tag_specifications(tags::on(ResourceType::Instance, &named))
            .tag_specifications(tags::on(ResourceType::Volume, &without))
            .set_key_name(options.key.clone());
        if options.public_address.is_some() || subnets.len() > 1 {
            for (number, subnet) in (0..).zip(&subnets) {
                let interface = InstanceNetworkInterfaceSpecification::builder()
                    .device_index(number)
                    .subnet_id(&subnet.id)
                    .set_associate_public_ip_address(options.public_address.filter(|_| subnets.len() == 1))
                    .set_groups((!groups.is_empty()).then(|| groups.clone()))
                    .delete_on_termination(true);
                request = request.network_interfaces(interface.build());
            }
        } else {
            request = request
                .set_subnet_id(subnets.first().map(|subnet| subnet.id.clone()))
                .set_security_group_ids((!groups.is_empty()).then_some(groups));
        }
        if let (Some(zone), true) = (&options.zone, subnets.is_empty()) {
            request = request.placement(Placement::builder().availability_zone(zone).build());
        }
        if let Some(text) = &options.user_data {
            request = request.user_data(aws_smithy_types::base64::encode(text));
        }
        if let Some(profile) = &options.instance_profile {
            let builder = IamInstanceProfileSpecification::builder();
            let is_arn = profile.starts_with("arn:");
            let builder = if is_arn { builder.arn(profile) } else { builder.name(profile) };
            request = request.iam_instance_profile(builder.build());
        }
        if options.hibernation {
            request =
                request.hibernation_options(HibernationOptionsRequest::builder().configured(true).build());
        }
        if options.protection {
            request = request.disable_api_termination(true);
        }
        if options.stop_protection {
            request = request.disable_api_stop(true);
        }
        if options.detailed_monitoring {
            request = request.monitoring(RunInstancesMonitoringEnabled::builder().enabled(true).build());
        }
        if let Some(tokens) = &options.metadata_tokens {
            let tokens = HttpTokensState::from(tokens.as_str());
            let metadata = InstanceMetadataOptionsRequest::builder().http_tokens(tokens);
            request = request.metadata_options(metadata.build());
        }
        if let Some(root) = root_disk(spec, &options, image.root_device.as_deref())? {
            request = request.block_device_mappings(root);
        }
        for (device, disk) in devices(spec, &new_disks(spec)?, &image.devices)? {
            let ebs = ebs(disk, options.zone.as_deref(), region)?;
            let mapping = BlockDeviceMapping::builder().device_name(device).ebs(ebs);
            request = request.block_device_mappings(mapping.build());
        }
        Ok(request)
    }

    /// Gives the further disks their own names and tags, which one call to EC2 cannot.
    async fn name_disks(&self, id: &ResourceId, disks: &[&VolumeSpec]) -> Result<()> {
        if disks.iter().all(|disk| disk.name.is_empty() && disk.tags.is_empty()) {
            return Ok(());
        }
        let label = &id.native_id;
        // EC2 lists them only some time after its answer.
        let volumes = until(CREATE, label, "listed with its disks", || async {
            let described = self.described(CREATE, id).await?;
            let root = described.root_device_name.clone();
            let mut mapped: Vec<(String, String)> = described
                .block_device_mappings
                .unwrap_or_default()
                .into_iter()
                .filter(|disk| disk.device_name.is_some() && disk.device_name != root)
                .filter_map(|disk| Some((disk.device_name?, disk.ebs?.volume_id?)))
                .collect();
            mapped.sort();
            // An image may bring further disks; ours are the last.
            let skip = mapped.len().checked_sub(disks.len());
            Ok(skip.map(|skip| mapped.split_off(skip)))
        });
        for (disk, (_, volume)) in disks.iter().zip(volumes.await?) {
            tags::check(CREATE, &disk.name, &disk.tags)?;
            let mut all = disk.tags.clone();
            if !disk.name.is_empty() {
                all.insert(tags::NAME.into(), disk.name.clone());
            }
            if all.is_empty() {
                continue;
            }
            let volume = id.sibling(Kind::Volume, volume);
            self.made(&volume);
            let name = || async {
                let all = all.iter().map(|(key, value)| tags::tag(key, value)).collect();
                let request = self.session.ec2(&id.location).create_tags().resources(&volume.native_id);
                request.set_tags(Some(all)).send().await.answered("name the volume", &volume.native_id)
            };
            self.patient(&volume, name).await?;
        }
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

/// Refuses what an instance of EC2 does not have.
pub(super) fn refuse_others(spec: &InstanceSpec) -> Result<()> {
    let wrong = |what: &str| {
        let reason = format!("EC2's instances have no {what}; leave it out");
        Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason))
    };
    if spec.kernel.is_some() {
        return wrong("kernel of their own");
    }
    if !spec.command.is_empty() {
        return wrong("command; what they start with goes into the option user_data");
    }
    if !spec.environment.is_empty() {
        return wrong("environment; what they start with goes into the option user_data");
    }
    if spec.name.is_empty() {
        return wrong("empty name");
    }
    Ok(())
}

fn root_disk(
    spec: &InstanceSpec,
    options: &InstanceOptions,
    device: Option<&str>,
) -> Result<Option<BlockDeviceMapping>> {
    if options.root_size.is_none() && options.root_class.is_none() && !options.hibernation {
        return Ok(None);
    }
    let Some(device) = device else {
        let reason = "the image does not say which disk is its first, so its size cannot be chosen; leave the options out";
        return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
    };
    let size = options.root_size.map(|bytes| gib(CREATE, &spec.name, bytes)).transpose()?;
    let ebs = EbsBlockDevice::builder()
        .set_volume_size(size)
        .set_volume_type(options.root_class.as_deref().map(VolumeType::from))
        // Memory is kept on it, so EC2 wants it encrypted.
        .set_encrypted(options.hibernation.then_some(true))
        .build();
    Ok(Some(BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()))
}

/// A name for each further disk that the image's own disks do not have.
fn devices<'a>(
    spec: &InstanceSpec,
    disks: &[&'a VolumeSpec],
    taken: &[String],
) -> Result<Vec<(String, &'a VolumeSpec)>> {
    let free = DEVICES.iter().map(|letter| format!("/dev/sd{letter}")).filter(|name| !taken.contains(name));
    let all: Vec<_> = free.zip(disks.iter().copied()).collect();
    if all.len() < disks.len() {
        let reason = format!("{} further disks are too many; attach volumes instead", disks.len());
        return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
    }
    Ok(all)
}

fn ebs(disk: &VolumeSpec, zone: Option<&str>, region: &str) -> Result<EbsBlockDevice> {
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
    Ok(EbsBlockDevice::builder()
        .set_volume_size(size)
        .set_volume_type(Some(VolumeType::from(disk.class.as_deref().unwrap_or("gp3"))))
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

    fn spec() -> InstanceSpec {
        InstanceSpec { name: "web".into(), ..InstanceSpec::default() }
    }

    #[test]
    fn devices_are_free_ones() {
        let disk = VolumeSpec::default();
        let named = devices(&spec(), &[&disk, &disk], &["/dev/sdf".into()]).unwrap();
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["/dev/sdg", "/dev/sdh"]);
        assert!(devices(&spec(), &[&disk; 12], &[]).is_err());
    }

    #[test]
    fn what_ec2_does_not_have_is_refused() {
        for (spec, word) in [
            (InstanceSpec { command: vec!["sh".into()], ..spec() }, "user_data"),
            (InstanceSpec { environment: vec!["a=b".into()], ..spec() }, "user_data"),
            (InstanceSpec { kernel: Some(Default::default()), ..spec() }, "kernel"),
            (InstanceSpec { name: String::new(), ..spec() }, "name"),
        ] {
            assert!(refuse_others(&spec).unwrap_err().to_string().contains(word));
        }
        let disk = VolumeSpec { name: "d".into(), size_bytes: Some(2 << 30), ..VolumeSpec::default() };
        for (disk, word) in [
            (VolumeSpec { zone: Some("b".into()), ..disk.clone() }, "place of its instance"),
            (VolumeSpec { location: Some("other".into()), ..disk.clone() }, "place of its instance"),
            (VolumeSpec { format: Some("raw".into()), ..disk.clone() }, "format"),
            (VolumeSpec { size_bytes: None, ..disk.clone() }, "size is missing"),
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
        assert_eq!(root_disk(&spec(), &options, Some("/dev/xvda")).unwrap(), None);
        let options = InstanceOptions { root_size: Some(20 << 30), ..options };
        let root = root_disk(&spec(), &options, Some("/dev/xvda")).unwrap().unwrap();
        assert_eq!(root.ebs.unwrap().volume_size, Some(20));
        assert!(root_disk(&spec(), &options, None).is_err());
    }
}
