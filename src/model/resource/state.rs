//! One set of states for what every provider calls differently.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The state of an instance, in words that mean the same for every provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// It is being made.
    Creating,
    /// It was asked to run and does not yet.
    Starting,
    /// It runs.
    Running,
    /// It was asked to stop and still runs.
    Stopping,
    /// It does not run and can be started.
    Stopped,
    /// Its memory is being kept.
    Suspending,
    /// Its memory is kept and it does not run.
    Suspended,
    /// It is being deleted.
    Deleting,
    /// It is gone. Only a provider's clear word makes this state, never a listing that lacks it.
    Deleted,
    /// The provider gave up on it.
    Failed,
    /// The provider says something that we do not know.
    Unknown,
}

impl State {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Creating,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Suspending,
        Self::Suspended,
        Self::Deleting,
        Self::Deleted,
        Self::Failed,
        Self::Unknown,
    ];

    /// The word, as in the column `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::Deleting => "Deleting",
            Self::Deleted => "Deleted",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether it will become another state by itself.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Creating | Self::Starting | Self::Stopping | Self::Suspending | Self::Deleting)
    }

    /// Whether it runs; `None` where that cannot be told.
    pub fn is_up(self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            state => Some(matches!(state, Self::Running | Self::Stopping | Self::Suspending)),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!("{text:?} is no state; there are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// A state as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In our words.
    pub state: State,
    /// In the provider's own.
    pub provider_state: String,
    /// Why, where the provider says: an exit code, out of memory, an input or output error.
    pub reason: Option<String>,
    /// Whether the provider bills its processors and memory in this state.
    pub compute_billed: Option<bool>,
    /// When it was seen.
    pub observed_at: Timestamp,
}

impl Status {
    /// A state seen now.
    pub fn new(state: State, provider_state: impl Into<String>) -> Self {
        Self {
            state,
            provider_state: provider_state.into(),
            reason: None,
            compute_billed: None,
            observed_at: Timestamp::now(),
        }
    }

    /// With the provider's reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!("Halted".parse::<State>().unwrap_err().contains("Stopped"));
        assert_eq!(State::Unknown.is_up(), None);
        assert_eq!(State::Stopping.is_up(), Some(true));
    }
}
