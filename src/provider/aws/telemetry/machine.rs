//! An instance and a volume, as far as measuring needs to know them.

use std::sync::Arc;

use aws_sdk_ec2::types::{Instance, MonitoringState, Volume as Described};
use chrono::NaiveDateTime;

use super::super::state::status;
use super::types::Facts;
use crate::model::resource::{Size, State, Status};

/// An instance.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) id: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) size: Arc<str>,
    pub(super) zone: Option<Arc<str>>,
    pub(super) status: Status,
    /// Seconds since 1970 of the last start.
    pub(super) launched: Option<i64>,
    /// The same of the stop or deletion, where EC2 says it, or else of when it was seen first.
    pub(super) ended: Option<i64>,
    pub(super) monitoring: Monitoring,
    /// From when on rows are of this monitoring and no more of the other one, if it was seen to change.
    pub(super) switched: Option<i64>,
    /// Values of the tags that the pipeline file asks for, in its order.
    pub(super) tags: Vec<Option<Arc<str>>>,
    pub(super) vcpus: Option<u32>,
    pub(super) facts: Facts,
}

/// How often an instance publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Monitoring {
    Basic,
    Detailed,
}

/// A volume that is attached.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) id: Arc<str>,
    pub(super) instance: Arc<str>,
    pub(super) kind: String,
    pub(super) attached: Option<i64>,
    /// When it was seen to be no longer so.
    pub(super) gone: Option<i64>,
}

impl Monitoring {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Basic => Self::Detailed,
            Self::Detailed => Self::Basic,
        }
    }

    /// Seconds between two points.
    pub(super) fn period(self) -> i64 {
        match self {
            Self::Basic => 300,
            Self::Detailed => 60,
        }
    }
}

impl Machine {
    /// Reads a description. `tags` are those that the pipeline file asks for.
    pub(super) fn read(instance: &Instance, tags: &[String]) -> Option<Self> {
        let tag = |name: &str| {
            let found = instance.tags().iter().find(|tag| tag.key() == Some(name));
            found.and_then(|tag| tag.value()).filter(|value| !value.is_empty()).map(Arc::from)
        };
        let status = status(instance);
        let over = matches!(status.state, State::Stopped | State::Suspended | State::Deleted);
        let ended = instance.state_transition_reason().and_then(transition).filter(|_| over);
        let cpus = instance.cpu_options();
        let cpus = cpus.and_then(|cpus| cpus.core_count()?.checked_mul(cpus.threads_per_core()?));
        let size = instance.instance_type().map_or("", |size| size.as_str());
        let monitoring = instance.monitoring().and_then(|monitoring| monitoring.state());
        Some(Self {
            id: instance.instance_id()?.into(),
            name: tag("Name"),
            size: size.into(),
            zone: instance.placement().and_then(|placement| placement.availability_zone()).map(Arc::from),
            launched: instance.launch_time().map(|time| time.secs()),
            ended,
            monitoring: match monitoring {
                Some(MonitoringState::Enabled | MonitoringState::Pending) => Monitoring::Detailed,
                _ => Monitoring::Basic,
            },
            switched: None,
            tags: tags.iter().map(|name| tag(name)).collect(),
            vcpus: cpus.and_then(|cpus| u32::try_from(cpus).ok()),
            facts: Facts::of_name(size),
            status,
        })
    }

    /// What is known of its size.
    pub(super) fn size(&self) -> Size {
        Size {
            name: Some(self.size.to_string()).filter(|name| !name.is_empty()),
            vcpus: self.vcpus.map(Into::into),
            memory_bytes: self.facts.memory,
            ..Size::default()
        }
    }

    /// Whether it may publish, now or until lately.
    pub(super) fn lives(&self) -> bool {
        !matches!(self.status.state, State::Stopped | State::Suspended | State::Deleted)
    }
}

impl Volume {
    /// The volume, and the instance that has it.
    pub(super) fn attachment(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.id), Arc::clone(&self.instance))
    }

    /// Reads a description; nothing for one that no instance has.
    pub(super) fn read(volume: &Described) -> Option<Self> {
        let attachment = volume.attachments().iter().find(|attachment| attachment.instance_id().is_some())?;
        Some(Self {
            id: volume.volume_id()?.into(),
            instance: attachment.instance_id()?.into(),
            kind: volume.volume_type().map_or("", |kind| kind.as_str()).to_owned(),
            attached: attachment.attach_time().map(|time| time.secs()),
            gone: None,
        })
    }
}

/// The time in what EC2 says about a change, as `User initiated (2024-01-31 12:34:56 GMT)`.
fn transition(reason: &str) -> Option<i64> {
    let inside =
        reason.rsplit_once('(')?.1.trim_end_matches(')').trim_end_matches(" GMT").trim_end_matches(" UTC");
    NaiveDateTime::parse_from_str(inside, "%Y-%m-%d %H:%M:%S").ok().map(|time| time.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{InstanceState, InstanceStateName, InstanceType, Tag};

    use super::*;

    #[test]
    fn the_time_of_a_stop_is_read_from_the_reason() {
        assert_eq!(transition("User initiated (1970-01-02 00:00:01 GMT)"), Some(86_401));
        assert_eq!(transition("Server.SpotInstanceTermination"), None);
        assert_eq!(transition("(GMT)"), None);
    }

    #[test]
    fn an_instance_is_read_with_its_name_and_the_tags_that_are_wanted() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let instance = Instance::builder()
            .instance_id("i-1")
            .instance_type(InstanceType::from("t3.micro"))
            .state(InstanceState::builder().name(InstanceStateName::Stopped).build())
            .state_transition_reason("User initiated (1970-01-02 00:00:01 GMT)")
            .tags(tag("Name", "web-1"))
            .tags(tag("env", "prod"))
            .build();
        let machine = Machine::read(&instance, &["env".into(), "team".into()]).unwrap();
        assert_eq!(
            (machine.name.as_deref(), machine.ended, machine.lives()),
            (Some("web-1"), Some(86_401), false)
        );
        assert_eq!(machine.tags, [Some("prod".into()), None]);
        assert!(machine.facts.burstable && machine.facts.nitro && !machine.facts.instance_store);
        assert!(
            Machine::read(&Instance::builder().build(), &[]).is_none(),
            "without an id it cannot be measured"
        );
    }
}
