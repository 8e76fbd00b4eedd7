//! A change on its way, as the journal keeps it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::resource::ResourceId;
use crate::provider::{Action, Plan, Step, Token};

/// An attempt to carry out a plan. It is on disk before the first call, so that nothing that was begun is forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, from which each step has its token.
    pub id: Token,
    /// The source that it goes through: a name in the pipeline file, or a provider's type.
    pub provider: String,
    /// The pipeline file, if one was named.
    pub config: Option<String>,
    /// What is to be done.
    pub plan: Plan,
    /// How far it is.
    pub phase: Phase,
    /// One for each step of the plan.
    pub steps: Vec<StepRecord>,
    /// When it began.
    pub started_at: Timestamp,
    /// When this was written.
    pub updated_at: Timestamp,
    /// What went wrong, in the order in which it did.
    pub errors: Vec<String>,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Steps are being done; after an interruption it can go on.
    Running,
    /// The last step was taken on and nobody waits for its end.
    InFlight,
    /// All steps are done.
    Done,
    /// A step failed and the steps before it are being taken back.
    Unwinding,
    /// A step failed and everything is as it was before.
    Unwound,
    /// A step failed after one that cannot be taken back, or cannot be taken back itself and may have happened; it can go
    /// on.
    Partial,
    /// A step failed, and so did a way back: a person has to look.
    Stuck,
    /// Nobody goes on with it: a person gave it up, or whether its last step happened is not known and it must not happen
    /// twice.
    Abandoned,
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// State.
    pub state: StepState,
    /// What it made.
    pub made: Option<ResourceId>,
    /// Whether it changed anything.
    pub changed: bool,
    /// What a person should know.
    pub note: Option<String>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    #[default]
    Waiting,
    /// Its call was begun; whether it was heard is not known until it has ended.
    Begun,
    /// The provider has taken it on; the state that it leads to is waited for.
    Taken,
    /// Done.
    Done,
    /// It failed.
    Failed,
    /// It was done and is taken back.
    Undone,
    /// It was done and could not be taken back.
    Left,
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "not begun",
            Self::Begun => "begun",
            Self::Taken => "taken on",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undone => "taken back",
            Self::Left => "left",
        })
    }
}

impl Operation {
    /// A new attempt.
    pub fn new(provider: &str, config: Option<&str>, plan: Plan) -> Self {
        let now = Timestamp::now();
        Self {
            id: Token::random(),
            provider: provider.into(),
            config: config.map(Into::into),
            phase: Phase::Running,
            steps: vec![StepRecord::default(); plan.steps.len()],
            plan,
            started_at: now,
            updated_at: now,
            errors: Vec::new(),
        }
    }

    /// What the steps have made so far, by step.
    pub fn made(&self) -> Vec<Option<ResourceId>> {
        self.steps.iter().map(|step| step.made.clone()).collect()
    }

    /// The resource that it is about: the plan's, or what the wanted action has made.
    pub fn resource(&self) -> Option<ResourceId> {
        let kind = self.plan.wanted.kind();
        let made = || self.steps.iter().filter_map(|step| step.made.clone()).find(|made| made.kind == kind);
        self.plan.subject.clone().or_else(made)
    }

    /// Whether anything was changed and stayed so.
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.changed && step.state != StepState::Undone)
    }

    /// Whether a step is to be taken back when the operation is.
    pub(super) fn is_to_undo(&self, index: usize) -> bool {
        let record = &self.steps[index];
        match record.state {
            StepState::Done | StepState::Taken | StepState::Left => record.changed,
            // Whether it happened is not known.
            StepState::Begun => true,
            StepState::Waiting | StepState::Failed | StepState::Undone => false,
        }
    }

    /// What is left to be done: the steps to come, or the way back. A plan without steps when only an end is waited for,
    /// or nothing.
    pub fn rest(&self) -> Plan {
        let made = self.made();
        let known = |action: &Action| action.resolved(&made).unwrap_or_else(|_| action.clone());
        let all = || self.plan.steps.iter().enumerate();
        let steps: Vec<Step> = match self.phase {
            Phase::Done | Phase::Unwound | Phase::Abandoned => Vec::new(),
            Phase::Unwinding | Phase::Stuck => {
                let to_undo = all().rev().filter(|(index, _)| self.is_to_undo(*index));
                to_undo
                    .flat_map(|(_, step)| step.undo.iter().map(|undo| Step::new(known(undo), None)))
                    .collect()
            }
            Phase::Running | Phase::InFlight | Phase::Partial => {
                let to_do = all().filter(|(index, _)| {
                    !matches!(self.steps[*index].state, StepState::Done | StepState::Taken)
                });
                let to_do = to_do.map(|(_, step)| Step { action: known(&step.action), ..step.clone() });
                to_do.collect()
            }
        };
        let already = steps.is_empty().then(|| match self.phase {
            phase if phase.is_over() => format!("it is {phase}"),
            _ => "only its end is waited for".into(),
        });
        Plan { steps, already, ..self.plan.clone() }
    }

    /// For people's eyes: without values that may be secrets.
    #[must_use]
    pub fn shown(&self) -> Self {
        Self { plan: self.plan.shown(), ..self.clone() }
    }

    /// Remarks of the steps.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.note.as_deref())
    }
}

impl Phase {
    /// Whether there is nothing left to do.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Unwound | Self::Abandoned)
    }

    /// The word, as in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::InFlight => "in_flight",
            Self::Done => "done",
            Self::Unwinding => "unwinding",
            Self::Unwound => "unwound",
            Self::Partial => "partial",
            Self::Stuck => "stuck",
            Self::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
