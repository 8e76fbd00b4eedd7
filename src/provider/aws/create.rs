//! Making an instance: one call to EC2, with its disks in it, so that an instance is there with all of them or not at all.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, HibernationOptionsRequest, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType, Placement,
    ResourceType, RunInstancesMonitoringEnabled,
};

use super::AwsProvider;
use super::calls::{not_there, ready};
use super::disks::{devices, ebs, root_disk};
use super::error::{Answered, failed};
use super::options::InstanceOptions;
use super::tags;
use crate::model::resource::Kind;
use crate::provider::{Done, Guards, InstanceSpec, Token};
use crate::{ErrorKind, Result};

pub(super) const CREATE: &str = "create instance";

impl AwsProvider {
    /// Makes an instance, once for its token: what was made by it before is the answer then.
    pub(super) async fn create_instance(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        let before = self.instance_made_by(CREATE, &region, token).await?;
        let made = match before.and_then(|instance| instance.instance_id) {
            Some(made) => made,
            None => {
                let request = self.run_request(spec, &region, token).await?;
                let answer = request.send().await.answered(CREATE, &spec.name)?;
                let made = answer.instances.into_iter().flatten().find_map(|instance| instance.instance_id);
                made.ok_or_else(|| not_there(CREATE, &spec.name).partly_done())?
            }
        };
        let id = self.id(&region, Kind::Instance, made);
        self.made(&id);
        let done = Done::made(id.clone());
        Ok(match ready(self.name_disks(&id, spec)).await {
            Ok(()) => done,
            Err(note) => done.note(note),
        })
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
        if options.guards != Guards::default() {
            let reason = "it is protected by a step of its own, when all others are done; make a plan and carry that out";
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        }
        let (size, found) = self.resolved(CREATE, region, &spec.name, &spec.size).await?;
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
            .tag_specifications(tags::on(ResourceType::Volume, &named))
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
        if options.detailed_monitoring {
            request = request.monitoring(RunInstancesMonitoringEnabled::builder().enabled(true).build());
        }
        if let Some(tokens) = &options.metadata_tokens {
            let tokens = HttpTokensState::from(tokens.as_str());
            let metadata = InstanceMetadataOptionsRequest::builder().http_tokens(tokens);
            request = request.metadata_options(metadata.build());
        }
        if let Some(root) = root_disk(&spec.name, &options, image.root_device.as_deref())? {
            request = request.block_device_mappings(root);
        }
        for (device, disk) in devices(spec, &image.devices)? {
            tags::check(CREATE, &disk.name, &disk.tags)?;
            let ebs = ebs(disk, options.zone.as_deref(), region)?;
            let mapping = BlockDeviceMapping::builder().device_name(device).ebs(ebs);
            request = request.block_device_mappings(mapping.build());
        }
        Ok(request)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ec2_does_not_have_is_refused() {
        let spec = || InstanceSpec { name: "web".into(), ..InstanceSpec::default() };
        for (spec, word) in [
            (InstanceSpec { command: vec!["sh".into()], ..spec() }, "user_data"),
            (InstanceSpec { environment: vec!["a=b".into()], ..spec() }, "user_data"),
            (InstanceSpec { kernel: Some(Default::default()), ..spec() }, "kernel"),
            (InstanceSpec { name: String::new(), ..spec() }, "name"),
        ] {
            assert!(refuse_others(&spec).unwrap_err().to_string().contains(word));
        }
    }
}
