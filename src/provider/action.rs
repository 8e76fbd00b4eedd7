//! What can be done to resources, as data: people's wishes, the steps of a plan, and how to take a step back are all
//! [`Action`]s, so that a plan can be shown, kept in a journal and gone on with.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{
    DiskSpec, InstanceSpec, NetworkSpec, SizeSpec, SnapshotSpec, SubnetSpec, VolumeChange, VolumeSpec,
};
use crate::model::Span;
use crate::model::resource::{Kind, ResourceId, State};
use crate::{Error, Result};

/// The resource that an action is about: one that is there, or the one that an earlier step of the plan made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// By its id.
    Id(ResourceId),
    /// What the step of this number, from 0, has made.
    Step(usize),
}

/// One change of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are the words of the variant's sentence")]
pub enum Action {
    /// Makes an instance; starts it only as a step of its own.
    CreateInstance { spec: InstanceSpec },
    /// Starts an instance, or wakes it when it is suspended.
    Start { instance: Target },
    /// Asks an instance to stop.
    Stop { instance: Target, how: Stop },
    /// Stops an instance and starts it again.
    Restart { instance: Target, how: Stop },
    /// Keeps an instance's memory and takes its processors away.
    Suspend { instance: Target },
    /// Lets a suspended instance go on.
    Resume { instance: Target },
    /// Gives an instance another size.
    Resize { instance: Target, size: SizeSpec, policy: ResizePolicy },
    /// Deletes an instance and, of what belongs to it, what the consents name.
    DeleteInstance { instance: Target, consents: Consents },
    /// Sets the provider's own guards of an instance, or lifts them.
    Protect { instance: Target, guards: Guards },
    /// Makes a volume.
    CreateVolume { spec: VolumeSpec },
    /// Makes a volume larger; there is no way back.
    GrowVolume { volume: Target, size_bytes: u64 },
    /// Gives a volume another class or other figures, and more size with it where that is said: in one call, because
    /// providers count how often a volume is changed. There is no way back.
    ChangeVolume { volume: Target, change: VolumeChange },
    /// Deletes a volume.
    DeleteVolume { volume: Target },
    /// Gives an instance a volume.
    AttachVolume { volume: Target, instance: Target, device: Option<String> },
    /// Takes a volume away from an instance.
    DetachVolume { volume: Target, instance: Target },
    /// Makes a snapshot.
    CreateSnapshot { spec: SnapshotSpec },
    /// Makes a copy of a snapshot in another region.
    CopySnapshot { snapshot: Target, location: String },
    /// Goes back to a snapshot: what was written since is lost.
    RevertSnapshot { snapshot: Target },
    /// Deletes a snapshot.
    DeleteSnapshot { snapshot: Target },
    /// Makes a network.
    CreateNetwork { spec: NetworkSpec },
    /// Deletes a network.
    DeleteNetwork { network: Target },
    /// Makes a subnet.
    CreateSubnet { spec: SubnetSpec },
    /// Deletes a subnet.
    DeleteSubnet { subnet: Target },
    /// Reads an image from an archive.
    ImportImage { archive: String, location: Option<String>, name: Option<String> },
    /// Deletes an image.
    DeleteImage { image: Target },
}

/// How an instance is to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// How long it may take to stop by itself.
    pub grace: Span,
    /// What happens then: power off (or kill) when set; otherwise it is left running and the step fails.
    pub force: bool,
    /// The signal for a container's first process, by name.
    #[serde(default)]
    pub signal: Option<String>,
    /// Keep what is billed allocated, where a provider tells the two apart.
    #[serde(default)]
    pub keep_allocated: bool,
}

impl Default for Stop {
    fn default() -> Self {
        Self { grace: Span(Duration::from_secs(60)), force: false, signal: None, keep_allocated: false }
    }
}

/// How much a resize may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizePolicy {
    /// Nothing: the instance runs on.
    #[default]
    LiveOnly,
    /// The new size may wait for the next start, or the instance be restarted.
    AllowRestart,
    /// The instance may be stopped and started.
    AllowStopStart,
}

/// What may go together with an instance. Everything is kept unless named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consents {
    /// It may run: it is stopped without asking it.
    pub running: bool,
    /// Its volumes.
    pub volumes: bool,
    /// Its snapshots.
    pub snapshots: bool,
    /// Its kept memory (managed save).
    pub saved_state: bool,
    /// Its firmware's variables.
    pub nvram: bool,
}

/// What a provider itself refuses to do to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// To delete it.
    pub delete: bool,
    /// To stop it.
    pub stop: bool,
}

impl Action {
    /// The verb, as on the command line.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CreateInstance { .. }
            | Self::CreateVolume { .. }
            | Self::CreateSnapshot { .. }
            | Self::CreateNetwork { .. }
            | Self::CreateSubnet { .. } => "create",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Suspend { .. } => "suspend",
            Self::Resume { .. } => "resume",
            Self::Resize { .. } => "resize",
            Self::Protect { .. } => "protect",
            Self::GrowVolume { .. } => "grow",
            Self::ChangeVolume { .. } => "change",
            Self::CopySnapshot { .. } => "copy",
            Self::AttachVolume { .. } => "attach",
            Self::DetachVolume { .. } => "detach",
            Self::RevertSnapshot { .. } => "revert",
            Self::ImportImage { .. } => "import",
            Self::DeleteInstance { .. }
            | Self::DeleteVolume { .. }
            | Self::DeleteSnapshot { .. }
            | Self::DeleteNetwork { .. }
            | Self::DeleteSubnet { .. }
            | Self::DeleteImage { .. } => "delete",
        }
    }

    /// What kind of resource it changes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::CreateInstance { .. }
            | Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Resize { .. }
            | Self::DeleteInstance { .. }
            | Self::Protect { .. } => Kind::Instance,
            Self::CreateVolume { .. }
            | Self::GrowVolume { .. }
            | Self::ChangeVolume { .. }
            | Self::DeleteVolume { .. }
            | Self::AttachVolume { .. }
            | Self::DetachVolume { .. } => Kind::Volume,
            Self::CreateSnapshot { .. }
            | Self::CopySnapshot { .. }
            | Self::RevertSnapshot { .. }
            | Self::DeleteSnapshot { .. } => Kind::Snapshot,
            Self::CreateNetwork { .. } | Self::DeleteNetwork { .. } => Kind::Network,
            Self::CreateSubnet { .. } | Self::DeleteSubnet { .. } => Kind::Subnet,
            Self::ImportImage { .. } | Self::DeleteImage { .. } => Kind::Image,
        }
    }

    /// The resource that it changes; `None` when it makes one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::CreateInstance { .. }
            | Self::CreateVolume { .. }
            | Self::CreateSnapshot { .. }
            | Self::CreateNetwork { .. }
            | Self::CreateSubnet { .. }
            | Self::ImportImage { .. } => None,
            Self::Start { instance }
            | Self::Stop { instance, .. }
            | Self::Restart { instance, .. }
            | Self::Suspend { instance }
            | Self::Resume { instance }
            | Self::Resize { instance, .. }
            | Self::DeleteInstance { instance, .. }
            | Self::Protect { instance, .. } => Some(instance),
            Self::GrowVolume { volume, .. }
            | Self::ChangeVolume { volume, .. }
            | Self::DeleteVolume { volume }
            | Self::AttachVolume { volume, .. }
            | Self::DetachVolume { volume, .. } => Some(volume),
            Self::CopySnapshot { snapshot, .. }
            | Self::RevertSnapshot { snapshot }
            | Self::DeleteSnapshot { snapshot } => Some(snapshot),
            Self::DeleteNetwork { network } => Some(network),
            Self::DeleteSubnet { subnet } => Some(subnet),
            Self::DeleteImage { image } => Some(image),
        }
    }

    /// The instance whose state it depends on, if any.
    pub fn instance(&self) -> Option<&Target> {
        match self {
            Self::AttachVolume { instance, .. } | Self::DetachVolume { instance, .. } => Some(instance),
            _ if self.kind() == Kind::Instance => self.target(),
            _ => None,
        }
    }

    /// The states in which the verb makes sense for an instance; empty where the state does not matter.
    pub fn allowed_from(&self) -> &'static [State] {
        match self {
            Self::Start { .. } => &[State::Stopped, State::Suspended, State::Failed],
            Self::Stop { .. } => {
                &[State::Running, State::Suspended, State::Stopping, State::Starting, State::Failed]
            }
            Self::Restart { .. } | Self::Suspend { .. } => &[State::Running],
            Self::Resume { .. } => &[State::Suspended],
            Self::Resize { .. } => &[State::Running, State::Stopped],
            _ => &[],
        }
    }

    /// The state that the verb brings about, of an instance that is in it already when there is nothing to do.
    pub fn brings_about(&self) -> Option<State> {
        match self {
            Self::Start { .. } | Self::Resume { .. } => Some(State::Running),
            Self::Stop { .. } => Some(State::Stopped),
            Self::Suspend { .. } => Some(State::Suspended),
            Self::DeleteInstance { .. } => Some(State::Deleted),
            _ => None,
        }
    }

    /// Whether it can take something away from people that have not been asked: guards look at these.
    pub fn is_disruptive(&self) -> bool {
        !matches!(
            self,
            Self::CreateInstance { .. }
                | Self::Start { .. }
                | Self::Resume { .. }
                | Self::Protect { .. }
                | Self::CreateVolume { .. }
                | Self::GrowVolume { .. }
                | Self::ChangeVolume { .. }
                | Self::AttachVolume { .. }
                | Self::CreateSnapshot { .. }
                | Self::CopySnapshot { .. }
                | Self::CreateNetwork { .. }
                | Self::CreateSubnet { .. }
                | Self::ImportImage { .. }
        )
    }

    /// The same action with what earlier steps have made in the place of their numbers.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a step that has made nothing yet: the plan is wrong.
    pub fn resolved(&self, made: &[Option<ResourceId>]) -> Result<Self> {
        let mut action = self.clone();
        for target in action.targets_mut() {
            if let Target::Step(step) = *target {
                let id = made.get(step).cloned().flatten().ok_or_else(|| {
                    let reason = format!("it needs what step {} makes, which is not there", step + 1);
                    Error::invalid("carry out a plan", reason).with_resource(self.to_string())
                })?;
                *target = Target::Id(id);
            }
        }
        Ok(action)
    }

    fn targets_mut(&mut self) -> Vec<&mut Target> {
        match self {
            Self::CreateInstance { spec } => {
                let disks = spec.disks.iter_mut().filter_map(|disk| match disk {
                    DiskSpec::Volume(volume) => Some(volume),
                    DiskSpec::New(_) => None,
                });
                disks.collect()
            }
            Self::CreateVolume { .. }
            | Self::CreateSnapshot { .. }
            | Self::CreateNetwork { .. }
            | Self::CreateSubnet { .. }
            | Self::ImportImage { .. } => Vec::new(),
            Self::Start { instance }
            | Self::Stop { instance, .. }
            | Self::Restart { instance, .. }
            | Self::Suspend { instance }
            | Self::Resume { instance }
            | Self::Resize { instance, .. }
            | Self::DeleteInstance { instance, .. }
            | Self::Protect { instance, .. } => vec![instance],
            Self::AttachVolume { volume, instance, .. } | Self::DetachVolume { volume, instance } => {
                vec![volume, instance]
            }
            Self::GrowVolume { volume, .. }
            | Self::ChangeVolume { volume, .. }
            | Self::DeleteVolume { volume } => vec![volume],
            Self::CopySnapshot { snapshot, .. }
            | Self::RevertSnapshot { snapshot }
            | Self::DeleteSnapshot { snapshot } => vec![snapshot],
            Self::DeleteNetwork { network } => vec![network],
            Self::DeleteSubnet { subnet } => vec![subnet],
            Self::DeleteImage { image } => vec![image],
        }
    }
}

impl Target {
    /// The id.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] while it still stands for a step.
    pub fn id(&self) -> Result<&ResourceId> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Step(step) => {
                let reason = format!("what step {} makes is not known yet", step + 1);
                Err(Error::invalid("carry out a plan", reason))
            }
        }
    }
}

impl From<ResourceId> for Target {
    fn from(id: ResourceId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(&id.native_id),
            Self::Step(step) => write!(f, "what step {} made", step + 1),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, kind) = (self.verb(), self.kind());
        match self {
            Self::CreateInstance { spec } => write!(f, "create instance {}", spec.name),
            Self::CreateVolume { spec } => write!(f, "create volume {}", spec.name),
            Self::CreateSnapshot { spec } => {
                write!(f, "create snapshot {} of {}", spec.name, spec.of.native_id)
            }
            Self::CreateNetwork { spec } => write!(f, "create network {}", spec.name),
            Self::CreateSubnet { spec } => write!(f, "create subnet {}", spec.name),
            Self::ImportImage { archive, .. } => write!(f, "import images from {archive}"),
            Self::AttachVolume { volume, instance, .. } => write!(f, "attach volume {volume} to {instance}"),
            Self::DetachVolume { volume, instance } => write!(f, "detach volume {volume} from {instance}"),
            Self::GrowVolume { volume, size_bytes } => {
                write!(f, "grow volume {volume} to {}", crate::model::Size(*size_bytes))
            }
            Self::Resize { instance, size, .. } => write!(f, "resize instance {instance} to {size}"),
            Self::Protect { instance, guards } if *guards == Guards::default() => {
                write!(f, "lift the protection of instance {instance}")
            }
            Self::ChangeVolume { volume, change } => write!(f, "change volume {volume} to {change}"),
            Self::CopySnapshot { snapshot, location } => write!(f, "copy snapshot {snapshot} to {location}"),
            other => match other.target() {
                Some(target) => write!(f, "{verb} {kind} {target}"),
                None => write!(f, "{verb} {kind}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(native: &str) -> ResourceId {
        ResourceId {
            provider: "test".into(),
            account: "a".into(),
            location: "here".into(),
            kind: Kind::Volume,
            native_id: native.into(),
        }
    }

    #[test]
    fn an_action_survives_a_journal() {
        let action = Action::AttachVolume { volume: Target::Step(0), instance: id("i").into(), device: None };
        let text = serde_json::to_string(&action).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
        assert_eq!(action.to_string(), "attach volume what step 1 made to i");
    }

    #[test]
    fn a_step_is_replaced_by_what_it_made() {
        let action = Action::DeleteVolume { volume: Target::Step(1) };
        let resolved = action.resolved(&[None, Some(id("v"))]).unwrap();
        assert_eq!(resolved.target().unwrap().id().unwrap(), &id("v"));
        assert!(action.resolved(&[Some(id("v"))]).unwrap_err().to_string().contains("step 2"));
        assert!(action.target().unwrap().id().is_err());
    }
}
