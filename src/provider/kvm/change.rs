//! What happens to guests, in the words of the table `events`.

use crate::model::resource::State;

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
                // Nobody asked for this pause: the guest cannot go on.
                Some(match detail {
                    virt_sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => State::Failed,
                    _ => State::Suspended,
                }),
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
            (virt_sys::VIR_DOMAIN_EVENT_STOPPED, _) => (
                "stopped",
                Some(State::Stopped),
                &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot"],
            ),
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
    fn events_in_our_words() {
        let told = |event, detail| {
            let told = Change::Lifecycle(event, detail).told();
            (told.event, told.state.map(State::as_str), told.reason)
        };
        assert_eq!(told(0, 0), ("created", None, None));
        assert_eq!(told(1, 0), ("deleted", None, Some("undefined")));
        assert_eq!(told(2, 1), ("started", Some("Running"), Some("migrated")));
        assert_eq!(told(3, 2), ("suspended", Some("Failed"), Some("I/O error")));
        assert_eq!(told(5, 1), ("stopped", Some("Stopped"), Some("destroyed")));
        assert_eq!(told(5, 2), ("stopped", Some("Stopped"), Some("crashed")));
        assert_eq!(told(8, 0), ("crashed", Some("Failed"), Some("panicked")));
        assert_eq!(told(77, 0).0, "unknown");
        assert_eq!(Change::Rebooted.told().event, "rebooted");
        assert!(Change::Lifecycle(2, 0).is_start() && !Change::Lifecycle(4, 0).is_start());
    }
}
