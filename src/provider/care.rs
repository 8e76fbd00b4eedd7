//! What the layers around a provider, and those who print, have to know of an action: where it is done, how long it may
//! take, whether it may be asked for again, and what of it is not for everybody's eyes.

use super::{Action, Plan, Step};

/// What is printed in the place of a value that may be a secret.
pub const HIDDEN: &str = "[hidden]";

impl Action {
    /// The place that it is done in; `None` where that is left to the provider.
    pub fn location(&self) -> Option<&str> {
        let of_target = || self.target().and_then(|target| target.id().ok()).map(|id| id.location.as_str());
        match self {
            Self::CreateInstance { spec } => spec.location.as_deref(),
            Self::CreateVolume { spec } => spec.location.as_deref(),
            Self::CreateSnapshot { spec } => Some(&spec.of.location),
            Self::CreateNetwork { spec } => spec.location.as_deref(),
            Self::CreateSubnet { spec } => Some(&spec.network.location),
            Self::ImportImage { location, .. } => location.as_deref(),
            _ => of_target(),
        }
    }

    /// Whether it may write as much as a disk or an image holds, and takes as long as that takes.
    pub fn copies_data(&self) -> bool {
        match self {
            Self::CreateVolume { spec } => spec.from.is_some(),
            Self::ImportImage { .. }
            | Self::CreateSnapshot { .. }
            | Self::RevertSnapshot { .. }
            | Self::DeleteSnapshot { .. } => true,
            _ => false,
        }
    }

    /// Whether it may be asked for again when it is not known if it happened. Going back to a snapshot a second time would
    /// throw away what was written since the first, and no provider remembers for long that it did it.
    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Self::RevertSnapshot { .. })
    }

    /// For people's eyes: names of environment variables without their values, and nothing of what a machine is told at its
    /// first start.
    #[must_use]
    pub fn shown(&self) -> Self {
        let mut shown = self.clone();
        if let Self::CreateInstance { spec } = &mut shown {
            for variable in &mut spec.environment {
                if let Some((name, _)) = variable.split_once('=') {
                    *variable = format!("{name}={HIDDEN}");
                }
            }
            if let Some(text) = spec.options.get_mut("user_data") {
                *text = HIDDEN.into();
            }
        }
        shown
    }
}

impl Plan {
    /// As [`Action::shown`].
    #[must_use]
    pub fn shown(&self) -> Self {
        let shown = |step: &Step| Step {
            action: step.action.shown(),
            undo: step.undo.iter().map(Action::shown).collect(),
            ..step.clone()
        };
        Self { wanted: self.wanted.shown(), steps: self.steps.iter().map(shown).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::{Kind, ResourceId};
    use crate::provider::{InstanceSpec, VolumeSpec};

    #[test]
    fn an_action_is_done_where_its_description_or_its_target_says() {
        let id: ResourceId = "kvm/a/there/volume/v".parse().unwrap();
        assert_eq!(id.kind, Kind::Volume);
        assert_eq!(Action::DeleteVolume { volume: id.clone().into() }.location(), Some("there"));
        let spec = VolumeSpec { location: Some("here".into()), from: Some(id), ..VolumeSpec::default() };
        let copy = Action::CreateVolume { spec };
        assert_eq!((copy.location(), copy.copies_data()), (Some("here"), true));
        let anywhere = Action::CreateInstance { spec: InstanceSpec::default() };
        assert_eq!((anywhere.location(), anywhere.copies_data()), (None, false));
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let environment = vec!["PASSWORD=hunter2".to_owned(), "BARE".to_owned()];
        let action = Action::CreateInstance { spec: InstanceSpec { environment, ..InstanceSpec::default() } };
        let plan = Plan::simple(&action, None).shown();
        let text = serde_json::to_string(&plan).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("PASSWORD=[hidden]") && text.contains("BARE"), "{text}");
    }
}
