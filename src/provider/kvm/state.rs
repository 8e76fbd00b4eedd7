//! libvirt's states in our words: the one place where they are read, for telemetry and for management.

use virt_sys as libvirt;

use crate::model::resource::{State, Status};

/// What libvirt says of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Native {
    /// `virDomainState`.
    pub(super) state: u32,
    /// The reason, whose meaning depends on the state.
    pub(super) reason: i32,
}

impl From<(u32, i32)> for Native {
    fn from((state, reason): (u32, i32)) -> Self {
        Self { state, reason }
    }
}

impl Native {
    /// In our words.
    pub(super) fn state(self) -> State {
        let reason = u32::try_from(self.reason).unwrap_or(0);
        match (self.state, reason) {
            (libvirt::VIR_DOMAIN_RUNNING | libvirt::VIR_DOMAIN_BLOCKED, _) => State::Running,
            (libvirt::VIR_DOMAIN_PAUSED, libvirt::VIR_DOMAIN_PAUSED_STARTING_UP) => State::Starting,
            (libvirt::VIR_DOMAIN_PAUSED, libvirt::VIR_DOMAIN_PAUSED_SHUTTING_DOWN)
            | (libvirt::VIR_DOMAIN_SHUTDOWN, _) => State::Stopping,
            // Nobody asked for this pause: the guest cannot go on.
            (
                libvirt::VIR_DOMAIN_PAUSED,
                libvirt::VIR_DOMAIN_PAUSED_IOERROR | libvirt::VIR_DOMAIN_PAUSED_CRASHED,
            )
            | (libvirt::VIR_DOMAIN_CRASHED, _) => State::Failed,
            (libvirt::VIR_DOMAIN_PAUSED | libvirt::VIR_DOMAIN_PMSUSPENDED, _) => State::Suspended,
            // However it came to be off, it can be started and changed; how it came is the reason.
            (libvirt::VIR_DOMAIN_SHUTOFF, _) => State::Stopped,
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
            libvirt::VIR_DOMAIN_RUNNING => &RUNNING,
            libvirt::VIR_DOMAIN_PAUSED => &PAUSED,
            libvirt::VIR_DOMAIN_SHUTDOWN => &["", "user"],
            libvirt::VIR_DOMAIN_SHUTOFF => &SHUTOFF,
            libvirt::VIR_DOMAIN_CRASHED => &["", "panicked"],
            _ => return None,
        };
        word(words, u32::try_from(self.reason).ok()?).filter(|word| !word.is_empty())
    }

    /// The status that an inventory shows. `saved` says that the guest's memory is kept in a file (managed save).
    pub(super) fn status(self, saved: bool) -> Status {
        let mut status = Status::new(self.state(), self.word());
        if saved && self.state == libvirt::VIR_DOMAIN_SHUTOFF {
            status.state = State::Suspended;
            return status.because("its memory is kept in a file (managed save)");
        }
        match self.why() {
            Some(reason) => status.because(reason),
            None => status,
        }
    }

    /// Whether it has a process on the hypervisor.
    pub(super) fn is_active(self) -> bool {
        let inactive =
            [libvirt::VIR_DOMAIN_SHUTOFF, libvirt::VIR_DOMAIN_CRASHED, libvirt::VIR_DOMAIN_NOSTATE];
        !inactive.contains(&self.state)
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
            (3, 5, "Failed", "paused", Some("I/O error")),
            (3, 8, "Stopping", "paused", Some("shutting down")),
            (3, 10, "Failed", "paused", Some("crashed")),
            (3, 11, "Starting", "paused", Some("starting up")),
            (4, 0, "Stopping", "in shutdown", None),
            (5, 1, "Stopped", "shut off", Some("shutdown")),
            (5, 3, "Stopped", "shut off", Some("crashed")),
            (5, 6, "Stopped", "shut off", Some("failed")),
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
    fn kept_memory_is_a_state_of_its_own() {
        let native = |state, reason| Native { state, reason };
        let saved = native(5, 5).status(true);
        assert_eq!((saved.state, saved.provider_state.as_str()), (State::Suspended, "shut off"));
        assert!(saved.reason.unwrap().contains("managed save"));
        assert_eq!(native(5, 77).status(false).reason, None);
        assert!(native(3, 1).is_active() && !native(5, 1).is_active());
    }
}
