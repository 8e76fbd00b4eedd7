//! libvirt's states in our words: the one place where they are read, for telemetry and for management.

use virt_sys as libvirt;

use crate::model::resource::{State, Status};

/// What libvirt says of a guest: its `virDomainState` and the reason that belongs to it.
pub(super) type Raw = (u32, i32);

/// The state in our words.
pub(super) fn state((state, reason): Raw) -> State {
    let reason = u32::try_from(reason).unwrap_or(0);
    match (state, reason) {
        (libvirt::VIR_DOMAIN_RUNNING | libvirt::VIR_DOMAIN_BLOCKED, _) => State::Running,
        (libvirt::VIR_DOMAIN_PAUSED, libvirt::VIR_DOMAIN_PAUSED_STARTING_UP) => State::Starting,
        (libvirt::VIR_DOMAIN_PAUSED, libvirt::VIR_DOMAIN_PAUSED_SHUTTING_DOWN)
        | (libvirt::VIR_DOMAIN_SHUTDOWN, _) => State::Stopping,
        // Nobody asked for this pause: the guest cannot go on.
        (
            libvirt::VIR_DOMAIN_PAUSED,
            libvirt::VIR_DOMAIN_PAUSED_IOERROR | libvirt::VIR_DOMAIN_PAUSED_CRASHED,
        )
        | (
            libvirt::VIR_DOMAIN_SHUTOFF,
            libvirt::VIR_DOMAIN_SHUTOFF_CRASHED | libvirt::VIR_DOMAIN_SHUTOFF_FAILED,
        )
        | (libvirt::VIR_DOMAIN_CRASHED, _) => State::Failed,
        (libvirt::VIR_DOMAIN_PAUSED | libvirt::VIR_DOMAIN_PMSUSPENDED, _) => State::Suspended,
        (libvirt::VIR_DOMAIN_SHUTOFF, _) => State::Stopped,
        _ => State::Unknown,
    }
}

/// The status that an inventory shows. `saved` says that the guest's memory is kept in a file (managed save).
pub(super) fn status(raw: Raw, saved: bool) -> Status {
    let mut status = Status::new(state(raw), word(raw.0));
    if saved && raw.0 == libvirt::VIR_DOMAIN_SHUTOFF {
        status.state = State::Suspended;
        return status.because("its memory is kept in a file (managed save)");
    }
    match reason(raw) {
        Some(reason) => status.because(reason),
        None => status,
    }
}

/// Whether it has a process on the hypervisor.
pub(super) fn is_active(raw: Raw) -> bool {
    !matches!(raw.0, libvirt::VIR_DOMAIN_SHUTOFF | libvirt::VIR_DOMAIN_CRASHED | libvirt::VIR_DOMAIN_NOSTATE)
}

/// The state as `virsh domstate` writes it.
pub(super) fn word(state: u32) -> String {
    match state {
        libvirt::VIR_DOMAIN_NOSTATE => "no state",
        libvirt::VIR_DOMAIN_RUNNING => "running",
        libvirt::VIR_DOMAIN_BLOCKED => "idle",
        libvirt::VIR_DOMAIN_PAUSED => "paused",
        libvirt::VIR_DOMAIN_SHUTDOWN => "in shutdown",
        libvirt::VIR_DOMAIN_SHUTOFF => "shut off",
        libvirt::VIR_DOMAIN_CRASHED => "crashed",
        libvirt::VIR_DOMAIN_PMSUSPENDED => "pmsuspended",
        other => return format!("state {other}"),
    }
    .into()
}

/// Why it is in this state, where that tells more than the state does.
pub(super) fn reason((state, reason): Raw) -> Option<&'static str> {
    let words: &[&str] = match state {
        libvirt::VIR_DOMAIN_RUNNING => &[
            "",
            "booted",
            "migrated",
            "restored",
            "from a snapshot",
            "unpaused",
            "migration canceled",
            "save canceled",
            "woken up",
            "restarted after a crash",
            "post-copy migration",
            "post-copy migration failed",
        ],
        libvirt::VIR_DOMAIN_PAUSED => &[
            "",
            "paused by a user",
            "being migrated",
            "being saved",
            "being dumped",
            "input or output error: look at the disk and its pool",
            "stopped by its watchdog",
            "from a snapshot",
            "shutting down",
            "snapshot in progress",
            "crashed",
            "starting up",
            "post-copy migration",
            "post-copy migration failed",
            "could not set its processors' limits",
        ],
        libvirt::VIR_DOMAIN_SHUTOFF => &[
            "",
            "shut down",
            "destroyed",
            "crashed",
            "migrated away",
            "saved",
            "failed to start",
            "from a snapshot",
            "the daemon lost it",
        ],
        libvirt::VIR_DOMAIN_CRASHED => &["", "panicked"],
        _ => &[],
    };
    let found = usize::try_from(reason).ok().and_then(|reason| words.get(reason));
    found.copied().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_our_words() {
        for (raw, wanted) in [
            ((1, 1), State::Running),
            ((2, 0), State::Running),
            ((3, 1), State::Suspended),
            ((3, 5), State::Failed),
            ((3, 8), State::Stopping),
            ((3, 10), State::Failed),
            ((3, 11), State::Starting),
            ((4, 0), State::Stopping),
            ((5, 1), State::Stopped),
            ((5, 3), State::Failed),
            ((6, 0), State::Failed),
            ((7, 0), State::Suspended),
            ((0, 0), State::Unknown),
            ((99, -1), State::Unknown),
        ] {
            assert_eq!(state(raw), wanted, "{raw:?}");
        }
    }

    #[test]
    fn the_raw_state_and_its_reason_are_kept() {
        let failed = status((3, 5), false);
        assert_eq!((failed.state, failed.provider_state.as_str()), (State::Failed, "paused"));
        assert!(failed.reason.unwrap().contains("input or output error"));
        let saved = status((5, 5), true);
        assert_eq!(saved.state, State::Suspended);
        assert!(saved.reason.unwrap().contains("managed save"));
        assert_eq!(status((99, -1), false).provider_state, "state 99");
        assert_eq!(status((5, 77), false).reason, None);
        assert!(is_active((3, 1)) && !is_active((5, 1)));
    }
}
