//! What a change will do before it is done: the object that `--dry-run` prints is the one that execution consumes.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::action::{Action, Consents, Guards, Stop, Target};
use super::spec::SizeSpec;
use crate::model::resource::{Cost, Instance, ResourceId, State};

/// A change as steps, each with its way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What was asked for.
    pub wanted: Action,
    /// The resource that changes; `None` when one is made.
    pub subject: Option<ResourceId>,
    /// Its name for people.
    pub label: String,
    /// In their order; none when there is nothing to do.
    pub steps: Vec<Step>,
    /// Why there is nothing to do.
    pub already: Option<String>,
    /// What the users of the instance will notice.
    pub downtime: Downtime,
    /// How much more it costs, where prices are known.
    pub price_delta: Option<Cost>,
    /// What is deleted together with the subject.
    pub removes: Vec<ResourceId>,
    /// What stays behind and may still cost something.
    pub leaves: Vec<Leftover>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// Whether the provider was asked if this is permitted; without it the first step may be denied.
    pub permission_checked: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What takes it back, in this order, to the state before; empty where nothing can.
    pub undo: Vec<Action>,
    /// The step's instance, where the action itself does not name it: the one that a snapshot is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<ResourceId>,
    /// States of the step's instance in which it may be done; the state is read again just before. Empty where it does
    /// not matter.
    pub expects: Vec<State>,
    /// The state of the step's instance that is waited for.
    pub until: Option<State>,
}

/// What the users of an instance notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downtime {
    /// Nothing.
    #[default]
    None,
    /// Nothing now; the change waits for the next start.
    NextBoot,
    /// It stands still and goes on.
    Pause,
    /// It is restarted.
    Reboot,
    /// It is stopped and started.
    StopStart,
    /// It is gone until somebody starts it.
    Stopped,
    /// It is gone for good.
    Deleted,
}

/// Something that stays behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its id, where it is a resource.
    pub id: Option<ResourceId>,
    /// What it is and why it stays.
    pub what: String,
}

impl Plan {
    /// A plan without steps.
    pub fn new(wanted: Action, subject: Option<ResourceId>, label: impl Into<String>) -> Self {
        Self {
            wanted,
            subject,
            label: label.into(),
            steps: Vec::new(),
            already: None,
            downtime: Downtime::None,
            price_delta: None,
            removes: Vec::new(),
            leaves: Vec::new(),
            notes: Vec::new(),
            permission_checked: false,
        }
    }

    /// A plan for what is so already.
    pub fn nothing(
        wanted: Action,
        subject: ResourceId,
        label: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { already: Some(why.into()), ..Self::new(wanted, Some(subject), label) }
    }

    /// With one more step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// With this downtime.
    #[must_use]
    pub fn downtime(mut self, downtime: Downtime) -> Self {
        self.downtime = downtime;
        self
    }

    /// With one more remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// How many resources it changes, deletes or makes.
    pub fn affected(&self) -> usize {
        if self.steps.is_empty() {
            return 0;
        }
        let targets = || self.steps.iter().map(|step| step.action.target());
        let made = targets().filter(Option::is_none).count();
        // What an earlier step makes is counted there.
        let there = targets().flatten().filter_map(|target| target.id().ok());
        made + there.chain(&self.removes).collect::<BTreeSet<_>>().len()
    }

    /// The first step after which there is no way back, from 0.
    pub fn point_of_no_return(&self) -> Option<usize> {
        self.steps.iter().position(|step| !step.can_be_undone())
    }
}

impl Plan {
    /// The plan of a change that a provider makes in one call, or in the two of a restart. `now` is the instance as it
    /// is, where the change is of one.
    pub fn simple(wanted: &Action, now: Option<&Instance>) -> Self {
        let subject = match wanted.target() {
            Some(Target::Id(id)) => Some(id.clone()),
            _ => None,
        };
        let of_instance = now.filter(|now| subject.as_ref() == Some(&now.id));
        let label = of_instance.map(|now| now.label().to_owned());
        let label = label.or_else(|| subject.as_ref().map(|id| id.native_id.clone()));
        let plan = Self::new(wanted.clone(), subject, label.unwrap_or_else(|| wanted.to_string()));
        let step = |undo| Step::new(wanted.clone(), undo);
        let before = now.map(Instance::state);
        let forced = || Stop { force: true, ..Stop::default() };
        let made = || Target::Step(0);
        match wanted {
            Action::CreateInstance { spec } => {
                let undo = Action::DeleteInstance { instance: made(), consents: Consents::default() };
                let plan = plan.step(step(vec![undo]));
                if !spec.start {
                    return plan;
                }
                let undo = Action::Stop { instance: made(), how: forced() };
                plan.step(Step::new(Action::Start { instance: made() }, Some(undo)))
            }
            Action::Start { instance } => {
                let undo = match before {
                    Some(State::Suspended | State::Suspending) => {
                        vec![Action::Suspend { instance: instance.clone() }]
                    }
                    // Nothing makes it fail again.
                    Some(State::Failed) => vec![],
                    _ => vec![Action::Stop { instance: instance.clone(), how: forced() }],
                };
                plan.step(step(undo).from(before))
            }
            Action::Stop { instance, .. } => {
                let start = Action::Start { instance: instance.clone() };
                let undo = match before {
                    Some(State::Suspended | State::Suspending) => {
                        vec![start, Action::Suspend { instance: instance.clone() }]
                    }
                    Some(State::Failed) => vec![],
                    _ => vec![start],
                };
                plan.step(step(undo).from(before)).downtime(Downtime::Stopped)
            }
            Action::Restart { instance, how } => {
                let stop = Action::Stop { instance: instance.clone(), how: how.clone() };
                let start = Action::Start { instance: instance.clone() };
                // From a start that is in doubt back to one that is known: stopped, and started by the step before.
                let again = Action::Stop { instance: instance.clone(), how: forced() };
                plan.step(Step::new(stop, Some(start.clone())).expects(&[State::Running]))
                    .step(Step::new(start, Some(again)))
                    .downtime(Downtime::StopStart)
            }
            Action::Suspend { instance } => {
                plan.step(step(vec![Action::Resume { instance: instance.clone() }])).downtime(Downtime::Pause)
            }
            Action::Resume { instance } => {
                plan.step(step(vec![Action::Suspend { instance: instance.clone() }]))
            }
            Action::Resize { instance, policy, .. } => {
                let back = now.map(|now| Action::Resize {
                    instance: instance.clone(),
                    size: SizeSpec {
                        vcpus: now.size.vcpus,
                        memory_bytes: now.size.memory_bytes,
                        ..SizeSpec::default()
                    },
                    policy: *policy,
                });
                plan.step(step(back.into_iter().collect()))
            }
            Action::DeleteInstance { .. } => plan.step(step(vec![])).downtime(Downtime::Deleted),
            Action::Protect { instance, .. } => {
                let undo = Action::Protect { instance: instance.clone(), guards: Guards::default() };
                plan.step(step(vec![undo]))
            }
            Action::CreateVolume { .. } => plan.step(step(vec![Action::DeleteVolume { volume: made() }])),
            Action::AttachVolume { volume, instance, .. } => {
                let undo = Action::DetachVolume { volume: volume.clone(), instance: instance.clone() };
                plan.step(step(vec![undo]))
            }
            Action::DetachVolume { volume, instance } => {
                let undo =
                    Action::AttachVolume { volume: volume.clone(), instance: instance.clone(), device: None };
                plan.step(step(vec![undo]))
            }
            Action::CreateSnapshot { .. } => {
                plan.step(step(vec![Action::DeleteSnapshot { snapshot: made() }]))
            }
            Action::CopySnapshot { .. } => {
                // What changes is the copy, which is not there yet.
                let plan = Self { subject: None, ..plan };
                plan.step(step(vec![Action::DeleteSnapshot { snapshot: made() }]))
            }
            Action::CreateNetwork { .. } => plan.step(step(vec![Action::DeleteNetwork { network: made() }])),
            Action::CreateSubnet { .. } => plan.step(step(vec![Action::DeleteSubnet { subnet: made() }])),
            Action::ImportImage { .. } => plan.step(step(vec![Action::DeleteImage { image: made() }])),
            Action::GrowVolume { .. } => plan
                .step(step(vec![]))
                .note("the file system in it stays as large as it was until the instance grows it"),
            Action::ChangeVolume { change, .. } if change.size_bytes.is_some() => plan
                .step(step(vec![]))
                .note("the file system in it stays as large as it was until the instance grows it"),
            Action::RevertSnapshot { .. } => {
                let step = match now {
                    Some(now) => step(vec![]).of(&now.id).expects(&[now.state()]),
                    None => step(vec![]),
                };
                plan.step(step)
            }
            Action::ChangeVolume { .. }
            | Action::DeleteVolume { .. }
            | Action::DeleteSnapshot { .. }
            | Action::DeleteNetwork { .. }
            | Action::DeleteSubnet { .. }
            | Action::DeleteImage { .. } => plan.step(step(vec![])),
        }
    }
}

impl Step {
    /// A step that is taken back by `undo`, allowed in the states that its verb makes sense in.
    pub fn new(action: Action, undo: impl IntoIterator<Item = Action>) -> Self {
        let expects = action.allowed_from().to_vec();
        let until = action.brings_about();
        Self { action, undo: undo.into_iter().collect(), instance: None, expects, until }
    }

    /// Whether there is a way back.
    pub fn can_be_undone(&self) -> bool {
        !self.undo.is_empty()
    }

    /// About this instance, which the action itself does not name.
    #[must_use]
    pub fn of(mut self, instance: &ResourceId) -> Self {
        self.instance = Some(instance.clone());
        self
    }

    /// Allowed only from the state that its way back leads to again, where the plan knows one that lasts.
    #[must_use]
    fn from(mut self, before: Option<State>) -> Self {
        let lasting = match before {
            Some(State::Suspending) => Some(State::Suspended),
            Some(State::Stopping) if self.until == Some(State::Running) => Some(State::Stopped),
            Some(state @ (State::Stopped | State::Suspended | State::Running | State::Failed)) => Some(state),
            _ => None,
        };
        if let Some(state) = lasting.filter(|state| self.expects.contains(state)) {
            self.expects = vec![state];
        }
        self
    }

    /// Allowed in these states instead.
    #[must_use]
    pub fn expects(mut self, states: &[State]) -> Self {
        self.expects = states.to_vec();
        self
    }

    /// Over when its instance is in this state, or at once.
    #[must_use]
    pub fn until(mut self, state: Option<State>) -> Self {
        self.until = state;
        self
    }
}

impl Downtime {
    /// The word, as in a plan's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NextBoot => "next-boot",
            Self::Pause => "pause",
            Self::Reboot => "reboot",
            Self::StopStart => "stop-start",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for Downtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Plan {
    /// Several lines, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.wanted)?;
        if self.wanted.target().is_some_and(|target| target.to_string() != self.label) {
            write!(f, " ({})", self.label)?;
        }
        if let Some(already) = &self.already {
            return write!(f, "\n  nothing to do: {already}");
        }
        for (number, step) in self.steps.iter().enumerate() {
            write!(f, "\n  {}. {}", number + 1, step.action)?;
            if let Some(until) = step.until {
                write!(f, ", until {until}")?;
            }
            let undo: Vec<_> = step.undo.iter().map(Action::to_string).collect();
            match undo.is_empty() {
                false => write!(f, "; back by: {}", undo.join(", then "))?,
                true => write!(f, "; cannot be taken back")?,
            }
        }
        if self.downtime != Downtime::None {
            write!(f, "\n  downtime: {}", self.downtime)?;
        }
        if let Some(delta) = &self.price_delta {
            write!(f, "\n  price: {delta}")?;
        }
        for removed in &self.removes {
            write!(f, "\n  also deletes: {} {}", removed.kind, removed.native_id)?;
        }
        for left in &self.leaves {
            write!(f, "\n  leaves behind: {}", left.what)?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{InstanceSpec, VolumeSpec};

    #[test]
    fn what_is_made_counts_as_affected_and_what_several_steps_change_counts_once() {
        let spec = InstanceSpec { start: true, ..InstanceSpec::default() };
        let plan = Plan::simple(&Action::CreateInstance { spec }, None);
        assert_eq!((plan.steps.len(), plan.affected()), (2, 1));
        let volume = Action::CreateVolume { spec: VolumeSpec::default() };
        let plan = plan.step(Step::new(volume.clone(), None)).step(Step::new(volume, None));
        assert_eq!(plan.affected(), 3);
        let id: ResourceId = "kvm/a/here/instance/i".parse().unwrap();
        let other: ResourceId = "kvm/a/here/volume/v".parse().unwrap();
        let restart = Action::Restart { instance: id.into(), how: Stop::default() };
        let mut plan = Plan::simple(&restart, None);
        assert_eq!((plan.steps.len(), plan.affected()), (2, 1));
        plan.removes.push(other.clone());
        let plan = plan.step(Step::new(Action::DeleteVolume { volume: other.into() }, None));
        assert_eq!(plan.affected(), 2);
    }
}
