//! libvirt's states and events in words: ours, and libvirt's own.

use crate::model::resource::State;

/// libvirt's `virDomainState` and the reason belonging to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Native {
    /// `virDomainState`.
    pub(super) state: u32,
    /// The reason, whose meaning depends on the state.
    pub(super) reason: i32,
}

impl Native {
    /// In our words.
    pub(super) fn state(self) -> State {
        let reason = u32::try_from(self.reason).unwrap_or(0);
        match self.state {
            virt_sys::VIR_DOMAIN_RUNNING | virt_sys::VIR_DOMAIN_BLOCKED => State::Running,
            virt_sys::VIR_DOMAIN_PAUSED if reason == virt_sys::VIR_DOMAIN_PAUSED_STARTING_UP => {
                State::Starting
            }
            virt_sys::VIR_DOMAIN_PAUSED | virt_sys::VIR_DOMAIN_PMSUSPENDED => State::Suspended,
            virt_sys::VIR_DOMAIN_SHUTDOWN => State::Stopping,
            virt_sys::VIR_DOMAIN_SHUTOFF
                if matches!(
                    reason,
                    virt_sys::VIR_DOMAIN_SHUTOFF_CRASHED | virt_sys::VIR_DOMAIN_SHUTOFF_FAILED
                ) =>
            {
                State::Failed
            }
            virt_sys::VIR_DOMAIN_SHUTOFF => State::Stopped,
            virt_sys::VIR_DOMAIN_CRASHED => State::Failed,
            _ => State::Unknown,
        }
    }

    /// In libvirt's words, as `virsh domstate` prints it.
    pub(super) fn word(self) -> &'static str {
        const WORDS: [&str; 8] =
            ["no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended"];
        word(&WORDS, self.state).unwrap_or("unknown")
    }

    /// The reason in libvirt's words, where it gives one.
    pub(super) fn why(self) -> Option<&'static str> {
        const RUNNING: [&str; 12] = [
            "",
            "booted",
            "migrated",
            "restored",
            "from snapshot",
            "unpaused",
            "migration canceled",
            "save canceled",
            "event wakeup",
            "crashed",
            "post-copy",
            "post-copy failed",
        ];
        const PAUSED: [&str; 15] = [
            "",
            "user",
            "migrating",
            "saving",
            "dumping",
            "I/O error",
            "watchdog",
            "from snapshot",
            "shutting down",
            "creating snapshot",
            "crashed",
            "starting up",
            "post-copy",
            "post-copy failed",
            "api error",
        ];
        const SHUTOFF: [&str; 9] = [
            "",
            "shutdown",
            "destroyed",
            "crashed",
            "migrated",
            "saved",
            "failed",
            "from snapshot",
            "daemon",
        ];
        let words: &[&str] = match self.state {
            virt_sys::VIR_DOMAIN_RUNNING => &RUNNING,
            virt_sys::VIR_DOMAIN_PAUSED => &PAUSED,
            virt_sys::VIR_DOMAIN_SHUTDOWN => &["", "user"],
            virt_sys::VIR_DOMAIN_SHUTOFF => &SHUTOFF,
            virt_sys::VIR_DOMAIN_CRASHED => &["", "panicked"],
            _ => return None,
        };
        word(words, u32::try_from(self.reason).ok()?).filter(|word| !word.is_empty())
    }
}

/// What happened to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A lifecycle event: `virDomainEventType` and its detail.
    Lifecycle(u32, u32),
    /// It started again without leaving its process.
    Rebooted,
}

/// A change in the words of the table `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// The tag `event`.
    pub(super) event: &'static str,
    /// The state afterwards, where the change says.
    pub(super) state: Option<State>,
    /// Why, in libvirt's words.
    pub(super) reason: Option<&'static str>,
}

impl Change {
    /// Whether a run of the guest began.
    pub(super) fn is_start(self) -> bool {
        matches!(self, Self::Lifecycle(virt_sys::VIR_DOMAIN_EVENT_STARTED, _))
    }

    /// In the words of the table `events`.
    pub(super) fn told(self) -> Told {
        let Self::Lifecycle(event, detail) = self else {
            return Told { event: "rebooted", state: Some(State::Running), reason: None };
        };
        let (event, state, reasons): (_, _, &[&'static str]) = match (event, detail) {
            (virt_sys::VIR_DOMAIN_EVENT_DEFINED, virt_sys::VIR_DOMAIN_EVENT_DEFINED_UPDATED) => {
                ("updated", None, &[])
            }
            (virt_sys::VIR_DOMAIN_EVENT_DEFINED, virt_sys::VIR_DOMAIN_EVENT_DEFINED_RENAMED) => {
                ("renamed", None, &[])
            }
            (virt_sys::VIR_DOMAIN_EVENT_DEFINED, _) => ("created", None, &["", "", "", "from snapshot"]),
            (virt_sys::VIR_DOMAIN_EVENT_UNDEFINED, virt_sys::VIR_DOMAIN_EVENT_UNDEFINED_RENAMED) => {
                ("renamed", None, &[])
            }
            // A guest that runs loses only its definition, and goes when it stops.
            (virt_sys::VIR_DOMAIN_EVENT_UNDEFINED, _) => ("deleted", None, &["undefined"]),
            (virt_sys::VIR_DOMAIN_EVENT_STARTED, _) => (
                "started",
                Some(State::Running),
                &["booted", "migrated", "restored", "from snapshot", "event wakeup"],
            ),
            (virt_sys::VIR_DOMAIN_EVENT_SUSPENDED, _) => (
                "suspended",
                Some(State::Suspended),
                &[
                    "paused",
                    "migrated",
                    "I/O error",
                    "watchdog",
                    "restored",
                    "from snapshot",
                    "api error",
                    "post-copy",
                    "post-copy failed",
                ],
            ),
            (virt_sys::VIR_DOMAIN_EVENT_RESUMED, _) => (
                "resumed",
                Some(State::Running),
                &["unpaused", "migrated", "from snapshot", "post-copy", "post-copy failed"],
            ),
            (virt_sys::VIR_DOMAIN_EVENT_STOPPED, _) => {
                let failed = matches!(
                    detail,
                    virt_sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED | virt_sys::VIR_DOMAIN_EVENT_STOPPED_FAILED
                );
                let reasons =
                    &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot"];
                ("stopped", Some(if failed { State::Failed } else { State::Stopped }), reasons)
            }
            (virt_sys::VIR_DOMAIN_EVENT_SHUTDOWN, _) => {
                ("shutdown", Some(State::Stopping), &["finished", "by the guest", "by the host"])
            }
            (virt_sys::VIR_DOMAIN_EVENT_PMSUSPENDED, _) => {
                ("pmsuspended", Some(State::Suspended), &["memory", "disk"])
            }
            (virt_sys::VIR_DOMAIN_EVENT_CRASHED, _) => {
                ("crashed", Some(State::Failed), &["panicked", "crashloaded"])
            }
            _ => ("unknown", None, &[]),
        };
        Told { event, state, reason: word(reasons, detail).filter(|word| !word.is_empty()) }
    }
}

fn word(words: &[&'static str], number: u32) -> Option<&'static str> {
    words.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_our_words_and_in_libvirts() {
        for (state, reason, word, native, why) in [
            (1, 1, "Running", "running", Some("booted")),
            (2, 0, "Running", "idle", None),
            (3, 1, "Suspended", "paused", Some("user")),
            (3, 5, "Suspended", "paused", Some("I/O error")),
            (3, 11, "Starting", "paused", Some("starting up")),
            (4, 0, "Stopping", "in shutdown", None),
            (5, 1, "Stopped", "shut off", Some("shutdown")),
            (5, 3, "Failed", "shut off", Some("crashed")),
            (6, 0, "Failed", "crashed", None),
            (7, 0, "Suspended", "pmsuspended", None),
            (0, 0, "Unknown", "no state", None),
            (99, -1, "Unknown", "unknown", None),
        ] {
            let found = Native { state, reason };
            assert_eq!((found.state().as_str(), found.word(), found.why()), (word, native, why), "{found:?}");
        }
    }

    #[test]
    fn events_in_our_words() {
        let told = |event, detail| {
            let told = Change::Lifecycle(event, detail).told();
            (told.event, told.state.map(State::as_str), told.reason)
        };
        assert_eq!(told(0, 0), ("created", None, None));
        assert_eq!(told(1, 0), ("deleted", None, Some("undefined")));
        assert_eq!(told(2, 1), ("started", Some("Running"), Some("migrated")));
        assert_eq!(told(3, 2), ("suspended", Some("Suspended"), Some("I/O error")));
        assert_eq!(told(5, 1), ("stopped", Some("Stopped"), Some("destroyed")));
        assert_eq!(told(5, 2), ("stopped", Some("Failed"), Some("crashed")));
        assert_eq!(told(8, 0), ("crashed", Some("Failed"), Some("panicked")));
        assert_eq!(told(77, 0).0, "unknown");
        assert_eq!(Change::Rebooted.told().event, "rebooted");
        assert!(Change::Lifecycle(2, 0).is_start() && !Change::Lifecycle(4, 0).is_start());
    }
}
