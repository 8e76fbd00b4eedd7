//! EC2's states in our words.

use aws_sdk_ec2::types::{Instance, InstanceStateName};

use crate::model::resource::{State, Status};

/// Seconds between the making of the first disk's attachment and a launch: what lies further apart was stopped between.
const FIRST_LAUNCH: i64 = 120;

/// What an instance is doing, as a description of it says.
pub(super) fn status(instance: &Instance) -> Status {
    let name = instance.state.as_ref().and_then(|state| state.name.as_ref());
    let reason = instance.state_reason.as_ref();
    let code = reason.and_then(|reason| reason.code.as_deref()).unwrap_or_default();
    let hibernates = code == "Client.UserInitiatedHibernate";
    let (state, billed) = match name {
        Some(InstanceStateName::Pending) if was_stopped(instance) => (State::Starting, Some(false)),
        Some(InstanceStateName::Pending) => (State::Creating, Some(false)),
        Some(InstanceStateName::Running) => (State::Running, Some(true)),
        // Memory is written to the disk while the instance is billed.
        Some(InstanceStateName::Stopping) if hibernates => (State::Suspending, Some(true)),
        Some(InstanceStateName::Stopping) => (State::Stopping, Some(false)),
        Some(InstanceStateName::Stopped) if hibernates => (State::Suspended, Some(false)),
        Some(InstanceStateName::Stopped) => (State::Stopped, Some(false)),
        Some(InstanceStateName::ShuttingDown) => (State::Deleting, Some(false)),
        // The description stays for about an hour.
        Some(InstanceStateName::Terminated) => (State::Deleted, Some(false)),
        _ => (State::Unknown, None),
    };
    let mut status = Status::new(state, name.map_or("", InstanceStateName::as_str));
    status.compute_billed = billed;
    status.reason = reason.and_then(|reason| reason.message.clone().or_else(|| reason.code.clone()));
    status
}

/// Whether a pending instance has been stopped before. EC2 has one word for both; but a start renews the time of the launch,
/// and the disks keep the time at which they were attached.
fn was_stopped(instance: &Instance) -> bool {
    let disks = instance.block_device_mappings.as_deref().unwrap_or_default().iter();
    let attached =
        disks.filter_map(|disk| disk.ebs.as_ref()?.attach_time.as_ref()).map(|time| time.secs()).min();
    let launched = instance.launch_time.as_ref().map(|time| time.secs());
    attached.zip(launched).is_some_and(|(attached, launched)| launched - attached > FIRST_LAUNCH)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::primitives::DateTime;
    use aws_sdk_ec2::types::{
        EbsInstanceBlockDevice, InstanceBlockDeviceMapping, InstanceState, StateReason,
    };

    use super::*;

    fn instance(state: &str, reason: Option<&str>) -> Instance {
        let state = InstanceState::builder().name(InstanceStateName::from(state)).build();
        let reason = reason.map(|code| StateReason::builder().code(code).build());
        Instance::builder().state(state).set_state_reason(reason).build()
    }

    #[test]
    fn every_word_of_ec2_has_one_of_ours() {
        let hibernated = Some("Client.UserInitiatedHibernate");
        for (word, reason, state, billed) in [
            ("pending", None, State::Creating, Some(false)),
            ("running", None, State::Running, Some(true)),
            ("stopping", None, State::Stopping, Some(false)),
            ("stopping", hibernated, State::Suspending, Some(true)),
            ("stopped", Some("Client.UserInitiatedShutdown"), State::Stopped, Some(false)),
            ("stopped", hibernated, State::Suspended, Some(false)),
            ("shutting-down", None, State::Deleting, Some(false)),
            ("terminated", None, State::Deleted, Some(false)),
            ("dreaming", None, State::Unknown, None),
        ] {
            let status = status(&instance(word, reason));
            assert_eq!((status.state, status.compute_billed), (state, billed), "{word} {reason:?}");
            assert_eq!(status.provider_state, word);
            assert_eq!(status.reason.as_deref(), reason);
        }
        assert_eq!(status(&Instance::builder().build()).state, State::Unknown);
    }

    #[test]
    fn an_instance_that_was_stopped_starts_and_is_not_made() {
        let pending = |attached: i64| {
            let disk = EbsInstanceBlockDevice::builder().attach_time(DateTime::from_secs(attached)).build();
            let disk = InstanceBlockDeviceMapping::builder().ebs(disk).build();
            let mut pending = instance("pending", None);
            pending.launch_time = Some(DateTime::from_secs(10_000));
            pending.block_device_mappings = Some(vec![disk]);
            status(&pending).state
        };
        assert_eq!(pending(10_001), State::Creating);
        assert_eq!(pending(5_000), State::Starting);
    }
}
