//! Another type for an instance. EC2 changes it only while the instance is stopped, and finds out late what does not go
//! together; so what can be known is looked at before anything is stopped.

use aws_sdk_ec2::types::{self, AttributeValue};

use super::AwsProvider;
use super::error::{Answered, failed};
use super::instances::type_of;
use super::lifecycle::wrong_state;
use super::sizes::{Type, architecture};
use super::state::status;
use super::tags::label;
use crate::model::resource::{ResourceId, State};
use crate::provider::{Done, ResizePolicy, SizeSpec};
use crate::{ErrorKind, Result};

pub(super) const RESIZE: &str = "resize";

impl AwsProvider {
    /// Changes the type of an instance that is stopped; it stays stopped.
    pub(super) async fn change_type(
        &self,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
    ) -> Result<Done> {
        let described = self.described(RESIZE, id).await?;
        let (name, found) = self.resolved(RESIZE, &id.location, &id.native_id, size).await?;
        if type_of(&described) == Some(name.as_str()) {
            return Ok(Done::already());
        }
        fits(id, &described, &name, &found)?;
        match status(&described).state {
            State::Stopped => {}
            State::Running => return Err(needs_stop(id, &described, policy)),
            state => {
                let hint = "only one that is stopped gets another type";
                return Err(wrong_state(RESIZE, id, &described, state, hint));
            }
        }
        let request = self.session.ec2(&id.location).modify_instance_attribute().instance_id(&id.native_id);
        let request = request.instance_type(AttributeValue::builder().value(&name).build());
        request.send().await.answered(RESIZE, &id.native_id)?;
        Ok(Done::changed())
    }
}

/// It runs, and may not be stopped for this.
pub(super) fn needs_stop(id: &ResourceId, instance: &types::Instance, policy: ResizePolicy) -> crate::Error {
    let reason = match policy {
        ResizePolicy::AllowStopStart => {
            "it runs: a plan stops it first and starts it again; make a plan and carry that out"
        }
        _ => {
            "EC2 changes the type of a stopped instance alone; allow the stop and start with the policy \
             allow-stop-start, or stop it first"
        }
    };
    failed(ErrorKind::Conflict, RESIZE, &label(id, instance.tags.as_deref()), reason)
}

/// Refuses a type that the instance cannot become.
///
/// # Errors
/// [`ErrorKind::Invalid`] with what does not fit.
pub(super) fn fits(id: &ResourceId, instance: &types::Instance, name: &str, found: &Type) -> Result<()> {
    let wrong = |reason: String| {
        Err(failed(ErrorKind::Invalid, RESIZE, &label(id, instance.tags.as_deref()), reason))
    };
    if let Some(word) = instance.architecture.as_ref().map(types::ArchitectureValues::as_str)
        && !found.architectures.is_empty()
        && !found.architectures.iter().any(|known| known == word)
    {
        let others = found.architectures.iter().map(|word| architecture(word)).collect::<Vec<_>>().join(", ");
        return wrong(format!(
            "its disks hold a system for {}, and {name} runs {others}; choose another type",
            architecture(word)
        ));
    }
    if let Some(word) = instance.virtualization_type.as_ref().map(types::VirtualizationType::as_str)
        && !found.virtualizations.is_empty()
        && !found.virtualizations.iter().any(|known| known == word)
    {
        return wrong(format!("it is virtualised as {word}, which {name} is not; choose another type"));
    }
    if instance.root_device_type.as_ref().is_some_and(|kind| kind.as_str() != "ebs") {
        return wrong(
            "its first disk is an instance store, which a stop would empty; make a new instance instead"
                .into(),
        );
    }
    if !found.takes_ebs {
        return wrong(format!("{name} does not start from a volume of EBS; choose another type"));
    }
    if instance.instance_lifecycle == Some(types::InstanceLifecycleType::Spot) {
        return wrong("a spot instance keeps its type; make a new one instead".into());
    }
    let hibernates = instance.hibernation_options.as_ref().and_then(|options| options.configured);
    if hibernates == Some(true) && !found.hibernates {
        return wrong(format!(
            "it was made so that it can hibernate, and {name} cannot; choose another type"
        ));
    }
    if instance.ena_support == Some(false) && found.needs_ena {
        return wrong(format!(
            "its image lacks the network driver (ENA) that {name} needs; choose another type"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::Size;

    fn found() -> Type {
        Type {
            size: Size::default(),
            architectures: vec!["x86_64".into()],
            hibernates: false,
            takes_ebs: true,
            needs_ena: true,
            virtualizations: vec!["hvm".into()],
        }
    }

    fn instance() -> types::builders::InstanceBuilder {
        types::Instance::builder()
            .architecture(types::ArchitectureValues::X8664)
            .virtualization_type(types::VirtualizationType::Hvm)
            .root_device_type(types::DeviceType::Ebs)
    }

    #[test]
    fn what_an_instance_cannot_become_is_named() {
        let id: ResourceId = "aws/1/r/instance/i-1".parse().unwrap();
        fits(&id, &instance().build(), "m5.large", &found()).unwrap();
        let hibernation = types::HibernationOptions::builder().configured(true).build();
        for (instance, word) in [
            (instance().architecture(types::ArchitectureValues::Arm64).build(), "a system for aarch64"),
            (instance().virtualization_type(types::VirtualizationType::Paravirtual).build(), "paravirtual"),
            (instance().root_device_type(types::DeviceType::InstanceStore).build(), "instance store"),
            (instance().instance_lifecycle(types::InstanceLifecycleType::Spot).build(), "spot"),
            (instance().hibernation_options(hibernation).build(), "hibernate"),
            (instance().ena_support(false).build(), "network driver"),
        ] {
            let error = fits(&id, &instance, "m5.large", &found()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_running_one_names_the_policy_that_is_needed() {
        let id: ResourceId = "aws/1/r/instance/i-1".parse().unwrap();
        for policy in [ResizePolicy::LiveOnly, ResizePolicy::AllowRestart] {
            let error = needs_stop(&id, &instance().build(), policy);
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains("allow-stop-start"), "{error}");
        }
    }
}
