//! The life of instances. EC2 takes a change on and carries it out by itself; whoever needs its end looks for it.

use async_trait::async_trait;
use aws_sdk_ec2::types::{self, AttributeBooleanValue};
use tokio::time::{Duration, Instant};

use super::AwsProvider;
use super::calls::not_there;
use super::error::{Answered, failed};
use super::state::status;
use super::tags::label;
use crate::model::resource::{ResourceId, State};
use crate::provider::{Consents, Done, Guards, InstanceSpec, Lifecycle, ResizePolicy, SizeSpec, Stop, Token};
use crate::{Error, ErrorKind, Result};

const START: &str = "start";
pub(super) const STOP: &str = "stop";
const PROTECT: &str = "protect";
const SUSPEND: &str = "suspend";
const RESUME: &str = "resume";
/// Pause between two looks at an instance that is given time to stop by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Lifecycle for AwsProvider {
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        self.create_instance(spec, token).await
    }

    async fn start(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let described = self.described(START, id).await?;
        match status(&described).state {
            State::Running | State::Starting | State::Creating => Ok(Done::already()),
            State::Stopped | State::Suspended => self.send_start(START, id).await,
            state => Err(wrong_state(START, id, &described, state, "wait until it has stopped")),
        }
    }

    async fn stop(&self, id: &ResourceId, how: &Stop, _token: Token) -> Result<Done> {
        if how.signal.is_some() {
            let reason = "EC2's instances hear no signals; leave it out";
            return Err(failed(ErrorKind::Invalid, STOP, &id.native_id, reason));
        }
        let described = self.described(STOP, id).await?;
        let state = status(&described).state;
        if state == State::Stopped {
            return Ok(Done::already());
        }
        can_stop(STOP, id, &described)?;
        if !matches!(state, State::Running | State::Stopping) {
            return Err(wrong_state(STOP, id, &described, state, "wait until it runs"));
        }
        let at_once = how.force && how.grace.0.is_zero();
        if state == State::Running || at_once {
            self.send_stop(STOP, id, at_once, false).await?;
        }
        if how.force && !at_once && !self.stops_within(id, how.grace.0).await? {
            self.send_stop(STOP, id, true, false).await?;
            return Ok(Done::changed().note("it was stopped the hard way"));
        }
        Ok(Done::changed())
    }

    /// EC2 calls it hibernation, and has to have known of it when the instance was made.
    async fn suspend(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let described = self.described(SUSPEND, id).await?;
        match status(&described).state {
            State::Suspended | State::Suspending => return Ok(Done::already()),
            State::Running => {}
            state => {
                return Err(wrong_state(SUSPEND, id, &described, state, "only one that runs can hibernate"));
            }
        }
        hibernates(SUSPEND, id, &described)?;
        self.send_stop(SUSPEND, id, false, true).await?;
        Ok(Done::changed())
    }

    async fn resume(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let described = self.described(RESUME, id).await?;
        match status(&described).state {
            State::Running | State::Starting => Ok(Done::already()),
            State::Suspended => self.send_start(RESUME, id).await,
            state => Err(wrong_state(RESUME, id, &described, state, "only one that hibernates can go on")),
        }
    }

    async fn resize(
        &self,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
        _token: Token,
    ) -> Result<Done> {
        self.change_type(id, size, policy).await
    }

    async fn delete(&self, id: &ResourceId, consents: Consents, _token: Token) -> Result<Done> {
        self.terminate(id, consents).await
    }

    /// EC2 takes one of its guards at a time.
    async fn protect(&self, id: &ResourceId, guards: Guards, _token: Token) -> Result<Done> {
        let now = self.guards(PROTECT, id).await?;
        let request =
            || self.session.ec2(&id.location).modify_instance_attribute().instance_id(&id.native_id);
        let set = |value| AttributeBooleanValue::builder().value(value).build();
        if now.delete != guards.delete {
            let request = request().disable_api_termination(set(guards.delete));
            request.send().await.answered(PROTECT, &id.native_id)?;
        }
        if now.stop != guards.stop {
            let answer = request().disable_api_stop(set(guards.stop)).send().await;
            let answer = answer.answered(PROTECT, &id.native_id);
            answer.map_err(|error| if now.delete == guards.delete { error } else { error.partly_done() })?;
        }
        Ok(if now == guards { Done::already() } else { Done::changed() })
    }
}

impl AwsProvider {
    async fn send_start(&self, operation: &str, id: &ResourceId) -> Result<Done> {
        let start = || async {
            let request = self.session.ec2(&id.location).start_instances().instance_ids(&id.native_id);
            request.send().await.answered(operation, &id.native_id)
        };
        self.patient(id, start).await?;
        Ok(Done::changed())
    }

    async fn send_stop(&self, operation: &str, id: &ResourceId, force: bool, hibernate: bool) -> Result<()> {
        let stop = || async {
            let request = self.session.ec2(&id.location).stop_instances().instance_ids(&id.native_id);
            let request = request.set_force(force.then_some(true)).set_hibernate(hibernate.then_some(true));
            request.send().await.answered(operation, &id.native_id)
        };
        self.patient(id, stop).await?;
        Ok(())
    }

    /// Whether an instance that was asked to stop does so in this time.
    async fn stops_within(&self, id: &ResourceId, grace: Duration) -> Result<bool> {
        let over = Instant::now() + grace;
        loop {
            let described = self.described(STOP, id).await?;
            if status(&described).state == State::Stopped {
                return Ok(true);
            }
            if Instant::now() >= over {
                return Ok(false);
            }
            tokio::time::sleep_until((Instant::now() + LOOK_AGAIN).min(over)).await;
        }
    }
}

/// Refuses to stop what EC2 cannot stop.
///
/// # Errors
/// [`ErrorKind::Conflict`] for one that hibernates, [`ErrorKind::Unsupported`] for one whose first disk is an instance
/// store.
pub(super) fn can_stop(operation: &str, id: &ResourceId, instance: &types::Instance) -> Result<()> {
    let state = status(instance).state;
    if matches!(state, State::Suspended | State::Suspending) {
        let hint = "its memory is kept on its disk: start it, and stop it then";
        return Err(wrong_state(operation, id, instance, state, hint));
    }
    if instance.root_device_type == Some(types::DeviceType::InstanceStore) {
        let reason = "its first disk is an instance store, which a stop would empty; EC2 can only delete it";
        let label = label(id, instance.tags.as_deref());
        return Err(failed(ErrorKind::Unsupported, operation, &label, reason));
    }
    Ok(())
}

/// Refuses to hibernate what was not made for it.
///
/// # Errors
/// [`ErrorKind::Unsupported`].
pub(super) fn hibernates(operation: &str, id: &ResourceId, instance: &types::Instance) -> Result<()> {
    let options = instance.hibernation_options.as_ref();
    if options.and_then(|options| options.configured) == Some(true) {
        return Ok(());
    }
    let reason = "EC2 hibernates only what was made with the option hibernation=true; stop it instead";
    Err(failed(ErrorKind::Unsupported, operation, &label(id, instance.tags.as_deref()), reason))
}

/// It is not in a state for this.
pub(super) fn wrong_state(
    operation: &str,
    id: &ResourceId,
    instance: &types::Instance,
    state: State,
    hint: &str,
) -> Error {
    if state == State::Deleting {
        return not_there(operation, &id.native_id);
    }
    let reason = format!("it is {state}; {hint}");
    failed(ErrorKind::Conflict, operation, &label(id, instance.tags.as_deref()), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stop_says_why() {
        let id: ResourceId = "aws/1/r/instance/i-1".parse().unwrap();
        let instance = |state: &str| {
            let name = types::InstanceStateName::from(state);
            let state = types::InstanceState::builder().name(name).build();
            types::Instance::builder().state(state).root_device_type(types::DeviceType::Ebs)
        };
        can_stop(STOP, &id, &instance("running").build()).unwrap();
        let store = instance("running").root_device_type(types::DeviceType::InstanceStore).build();
        let error = can_stop(STOP, &id, &store).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Unsupported && error.to_string().contains("instance store"),
            "{error}"
        );
        let reason = types::StateReason::builder().code("Client.UserInitiatedHibernate").build();
        let error = can_stop(STOP, &id, &instance("stopped").state_reason(reason).build()).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Conflict && error.to_string().contains("kept on its disk"),
            "{error}"
        );
    }
}
