//! containerd's states as ours, and why a container ended.

use std::collections::HashMap;

use containerd_client::types::v1::{Process, Status as Native};

use crate::model::resource::{State, Status};

/// Labels of ours on containers. A container's task must be deleted before the next is made, and with it goes what it
/// ended with; so that is written down here.
pub(super) mod label {
    /// What all of ours begin with.
    pub(in super::super) const OURS: &str = "barograph/";
    /// The token of the call that made the container.
    pub(in super::super) const TOKEN: &str = "barograph/token";
    /// The name of its size.
    pub(in super::super) const SIZE: &str = "barograph/size";
    /// The exit status of its last task.
    pub(in super::super) const EXIT: &str = "barograph/exit-status";
    /// When that task ended.
    pub(in super::super) const EXITED_AT: &str = "barograph/exited-at";
    /// That it ended because it took more memory than it may.
    pub(in super::super) const OUT_OF_MEMORY: &str = "barograph/out-of-memory";
}

/// What is known of the task of a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// It has none.
    Absent,
    /// It has this one.
    Task(Box<Process>),
    /// Its shim does not answer.
    Silent,
}

impl Seen {
    /// The task, if there is one that answers.
    pub(super) fn task(&self) -> Option<&Process> {
        match self {
            Self::Task(task) => Some(task),
            Self::Absent | Self::Silent => None,
        }
    }

    /// In our words.
    pub(super) fn state(&self) -> State {
        match self {
            Self::Absent => State::Stopped,
            Self::Task(task) => state(task.status()),
            Self::Silent => State::Unknown,
        }
    }
}

/// The status of a container with these labels.
pub(super) fn status(seen: &Seen, labels: &HashMap<String, String>, out_of_memory: bool) -> Status {
    match seen {
        Seen::Absent => {
            let status = Status::new(State::Stopped, "no task");
            match labels.get(label::EXIT).and_then(|code| code.parse().ok()) {
                Some(code) => status.because(exit_reason(code, labels.contains_key(label::OUT_OF_MEMORY))),
                None => status,
            }
        }
        Seen::Task(task) => {
            let native = task.status();
            let status = Status::new(state(native), native.as_str_name());
            match native {
                Native::Stopped => status.because(exit_reason(task.exit_status, out_of_memory)),
                Native::Unknown => status.because("its shim does not answer"),
                _ => status,
            }
        }
        Seen::Silent => Status::new(State::Unknown, "no answer").because("its shim does not answer"),
    }
}

fn state(native: Native) -> State {
    match native {
        Native::Created => State::Starting,
        Native::Running => State::Running,
        Native::Stopped => State::Stopped,
        Native::Paused => State::Suspended,
        Native::Pausing => State::Suspending,
        Native::Unknown => State::Unknown,
    }
}

/// Why a process ended: `exit 137 (killed by signal 9), out of memory`.
pub(super) fn exit_reason(code: u32, out_of_memory: bool) -> String {
    let signal = code.checked_sub(128).filter(|signal| (1..=64).contains(signal));
    let signal = signal.map(|signal| format!(" (killed by signal {signal})")).unwrap_or_default();
    let memory = if out_of_memory { ", out of memory" } else { "" };
    format!("exit {code}{signal}{memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(status: Native, exit_status: u32) -> Seen {
        Seen::Task(Box::new(Process { status: status.into(), exit_status, ..Process::default() }))
    }

    #[test]
    fn every_state_of_a_task_is_one_of_ours() {
        for (native, ours) in [
            (Native::Created, State::Starting),
            (Native::Running, State::Running),
            (Native::Stopped, State::Stopped),
            (Native::Paused, State::Suspended),
            (Native::Pausing, State::Suspending),
            (Native::Unknown, State::Unknown),
        ] {
            assert_eq!(task(native, 0).state(), ours);
        }
        let new = Seen::Task(Box::new(Process { status: 77, ..Process::default() }));
        assert_eq!(new.state(), State::Unknown, "what a later containerd may say");
        assert_eq!(Seen::Silent.state(), State::Unknown);
        assert_eq!(Seen::Absent.state(), State::Stopped);
    }

    #[test]
    fn why_it_ended_survives_its_task() {
        let none = HashMap::new();
        let reason = |seen: &Seen, labels: &HashMap<_, _>, memory| status(seen, labels, memory).reason;
        let stopped = task(Native::Stopped, 137);
        assert_eq!(reason(&stopped, &none, false).unwrap(), "exit 137 (killed by signal 9)");
        assert_eq!(reason(&stopped, &none, true).unwrap(), "exit 137 (killed by signal 9), out of memory");
        let good = task(Native::Stopped, 0);
        assert_eq!(reason(&good, &none, false).unwrap(), "exit 0");
        assert_eq!(reason(&Seen::Absent, &none, false), None);
        let kept = HashMap::from([(label::EXIT.to_owned(), "3".to_owned())]);
        assert_eq!(reason(&Seen::Absent, &kept, false).unwrap(), "exit 3");
        assert_eq!(reason(&task(Native::Running, 0), &kept, false), None);
    }
}
