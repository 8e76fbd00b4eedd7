//! Another size for a guest: at once within the maxima that it was started with, else at its next start.

use std::time::{Duration, Instant};

use super::definition::{Amount, kibibytes, whole};
use super::domain::Definition;
use super::error::{During, refused};
use super::link::Guest;
use crate::model::resource::Size;
use crate::provider::{Done, ResizePolicy, SizeSpec};
use crate::{ErrorKind, Result};

const RESIZE: &str = "resize";

/// How long a guest may take to let a processor go, beside the time that libvirt has waited for it.
const LET_GO: Duration = Duration::from_secs(5);
const LIVE: u32 = virt_sys::VIR_DOMAIN_AFFECT_LIVE;
const CONFIG: u32 = virt_sys::VIR_DOMAIN_AFFECT_CONFIG;

/// How a guest gets its new size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It has it.
    Already,
    /// While it runs.
    Live,
    /// It runs, and gets it at its next start.
    NextBoot,
    /// It does not run.
    Stopped,
}

/// A guest's size now, after its next start, and as it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) active: bool,
    pub(super) now: Amount,
    pub(super) next: Amount,
    pub(super) wanted: Amount,
}

impl Amount {
    fn defined(definition: &Definition) -> Self {
        Self {
            vcpus: definition.vcpus,
            max_vcpus: definition.max_vcpus,
            memory: definition.memory,
            max_memory: definition.max_memory,
        }
    }

    /// As people write it.
    pub(super) fn spec(self) -> SizeSpec {
        SizeSpec {
            name: None,
            vcpus: Some(self.vcpus.into()),
            memory_bytes: Some(self.memory),
            max_vcpus: Some(self.max_vcpus.into()),
            max_memory_bytes: Some(self.max_memory),
        }
    }
}

impl Change {
    /// What the wanted size means for a guest. Parts that are not named stay; maxima grow with what they must hold.
    pub(super) fn new(guest: &Guest, size: &Size) -> Result<Self> {
        let next = Amount::defined(&guest.next(RESIZE)?);
        let active = guest.is_active();
        let now = if active { Amount::defined(&guest.now(RESIZE)?) } else { next };
        Ok(Self { active, now, next, wanted: wanted(&guest.name, next, size)? })
    }

    /// The way that a policy allows.
    pub(super) fn way(&self, label: &str, policy: ResizePolicy) -> Result<Way> {
        let Self { active, now, next, wanted } = *self;
        if !active {
            return Ok(if wanted == next { Way::Already } else { Way::Stopped });
        }
        if wanted == next && (now.vcpus, now.memory) == (wanted.vcpus, wanted.memory) {
            return Ok(Way::Already);
        }
        let fits = wanted.vcpus <= now.max_vcpus && wanted.memory <= now.max_memory;
        if fits && (wanted.max_vcpus, wanted.max_memory) == (next.max_vcpus, next.max_memory) {
            return Ok(Way::Live);
        }
        if policy == ResizePolicy::LiveOnly {
            let most = format!("{} processors and {}", now.max_vcpus, crate::model::Size(now.max_memory));
            let reason = format!(
                "a running guest cannot get more than it was started for ({most}), nor other maxima; \
                 allow a restart (policy allow-restart: at its next start) or a stop (policy allow-stop-start)"
            );
            return Err(refused(ErrorKind::Conflict, RESIZE, label, reason));
        }
        Ok(if wanted == next { Way::Already } else { Way::NextBoot })
    }
}

fn wanted(label: &str, next: Amount, size: &Size) -> Result<Amount> {
    let vcpus = size.vcpus.map_or(Ok(next.vcpus), |vcpus| whole(vcpus, label))?;
    let memory = size.memory_bytes.map_or(Ok(next.memory), |bytes| kibibytes(bytes, label))?;
    let wanted = Amount {
        vcpus,
        memory,
        max_vcpus: size.max_vcpus.map_or(Ok(next.max_vcpus.max(vcpus)), |most| whole(most, label))?,
        max_memory: size
            .max_memory_bytes
            .map_or(Ok(next.max_memory.max(memory)), |most| kibibytes(most, label))?,
    };
    if wanted.max_vcpus < wanted.vcpus || wanted.max_memory < wanted.memory {
        let reason = "the most it can grow to is less than what it gets; raise max_vcpus or max_memory";
        return Err(refused(ErrorKind::Invalid, RESIZE, label, reason));
    }
    Ok(wanted)
}

/// Gives a guest its new size.
pub(super) fn resize(guest: &Guest, size: &Size, policy: ResizePolicy) -> Result<Done> {
    let change = Change::new(guest, size)?;
    let Change { now, next, wanted, .. } = change;
    match change.way(&guest.name, policy)? {
        Way::Already => Ok(Done::already()),
        Way::Live => {
            let flags = guest.flags()?;
            undo_on_error(live(guest, now, wanted, flags), || live(guest, wanted, now, flags))?;
            let done = Done::changed();
            Ok(if wanted.memory == now.memory {
                done
            } else {
                done.note("the guest's balloon driver follows within seconds, if the guest has one")
            })
        }
        Way::NextBoot => {
            undo_on_error(config(guest, next, wanted), || config(guest, wanted, next))?;
            Ok(Done::changed().note("the guest gets it at its next start"))
        }
        Way::Stopped => {
            undo_on_error(config(guest, next, wanted), || config(guest, wanted, next))?;
            Ok(Done::changed())
        }
    }
}

/// A half that was done is taken back when the other half fails.
fn undo_on_error(done: Result<()>, undo: impl FnOnce() -> Result<()>) -> Result<()> {
    done.map_err(|error| match undo() {
        Ok(()) => error,
        Err(second) => {
            let reason = format!("{}; and the old size could not be restored: {second}", error.reason());
            let failed = refused(error.kind(), RESIZE, error.resource().unwrap_or_default(), reason);
            failed.with_source(error).partly_done()
        }
    })
}

fn live(guest: &Guest, from: Amount, to: Amount, flags: u32) -> Result<()> {
    // One after the other: not every driver takes both flags at once. The answer of these setters beside the error says
    // nothing.
    for flag in [LIVE, CONFIG].into_iter().filter(|flag| flags & flag != 0) {
        if from.vcpus != to.vcpus {
            match guest.domain.set_vcpus_flags(to.vcpus, flag) {
                Err(_) if flag == LIVE && to.vcpus < from.vcpus => let_go(guest, to.vcpus)?,
                set => drop(set.during(RESIZE, &guest.name)?),
            }
        }
        if from.memory != to.memory {
            guest.domain.set_memory_flags(to.memory / 1024, flag).during(RESIZE, &guest.name)?;
        }
    }
    Ok(())
}

/// A guest lets a processor go when it gets to it, and libvirt waits for that only some seconds.
fn let_go(guest: &Guest, vcpus: u32) -> Result<()> {
    let until = Instant::now() + LET_GO;
    while Instant::now() < until {
        if guest.now(RESIZE)?.vcpus == vcpus {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let reason = "the guest does not let a processor go: one that is still booting, or whose system cannot, keeps it; \
                  try again, or resize with the policy allow-stop-start";
    Err(refused(ErrorKind::Unavailable, RESIZE, &guest.name, reason))
}

/// Changes the description: a maximum before what it must hold when it grows, and after it when it shrinks.
fn config(guest: &Guest, from: Amount, to: Amount) -> Result<()> {
    let vcpus =
        |count: u32, flag| guest.domain.set_vcpus_flags(count, CONFIG | flag).during(RESIZE, &guest.name);
    let memory = |bytes: u64, flag| {
        guest.domain.set_memory_flags(bytes / 1024, CONFIG | flag).during(RESIZE, &guest.name)
    };
    let (most_vcpus, most_memory) = (virt_sys::VIR_DOMAIN_VCPU_MAXIMUM, virt_sys::VIR_DOMAIN_MEM_MAXIMUM);
    if to.max_vcpus > from.max_vcpus {
        vcpus(to.max_vcpus, most_vcpus)?;
    }
    if to.vcpus != from.vcpus {
        vcpus(to.vcpus, 0)?;
    }
    if to.max_vcpus < from.max_vcpus {
        vcpus(to.max_vcpus, most_vcpus)?;
    }
    if to.max_memory > from.max_memory {
        memory(to.max_memory, most_memory)?;
    }
    if to.memory != from.memory {
        memory(to.memory, 0)?;
    }
    if to.max_memory < from.max_memory {
        memory(to.max_memory, most_memory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SMALL: Amount = Amount { vcpus: 1, max_vcpus: 4, memory: 128 * MIB, max_memory: 256 * MIB };

    fn change(active: bool, size: &Size) -> Change {
        Change { active, now: SMALL, next: SMALL, wanted: wanted("g", SMALL, size).unwrap() }
    }

    fn size(vcpus: u32, memory: u64) -> Size {
        Size { vcpus: Some(vcpus.into()), memory_bytes: Some(memory * MIB), ..Size::default() }
    }

    #[test]
    fn what_fits_is_live_and_what_does_not_needs_the_policy_that_is_named() {
        use ResizePolicy::{AllowRestart, AllowStopStart, LiveOnly};
        let way = |active, size: &Size, policy| change(active, size).way("g", policy);
        assert_eq!(way(true, &size(1, 128), LiveOnly).unwrap(), Way::Already);
        assert_eq!(way(true, &size(4, 256), LiveOnly).unwrap(), Way::Live);
        assert_eq!(way(true, &size(2, 64), AllowStopStart).unwrap(), Way::Live);
        let error = way(true, &size(5, 128), LiveOnly).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.to_string().contains("allow-restart") && error.to_string().contains("allow-stop-start")
        );
        assert_eq!(way(true, &size(5, 128), AllowRestart).unwrap(), Way::NextBoot);
        assert_eq!(way(true, &size(1, 512), AllowStopStart).unwrap(), Way::NextBoot);
        let roomier = Size { max_vcpus: Some(8.into()), ..Size::default() };
        assert!(way(true, &roomier, LiveOnly).is_err());
        assert_eq!(way(false, &size(8, 512), LiveOnly).unwrap(), Way::Stopped);
        assert_eq!(way(false, &Size::default(), LiveOnly).unwrap(), Way::Already);
    }

    #[test]
    fn a_larger_maximum_that_waits_does_not_make_the_old_one_larger() {
        let grown = Amount { max_vcpus: 8, ..SMALL };
        let change = Change { active: true, now: SMALL, next: grown, wanted: Amount { vcpus: 8, ..grown } };
        assert!(change.way("g", ResizePolicy::LiveOnly).is_err());
        assert_eq!(change.way("g", ResizePolicy::AllowRestart).unwrap(), Way::NextBoot);
        let change = Change { wanted: Amount { vcpus: 2, ..grown }, ..change };
        assert_eq!(change.way("g", ResizePolicy::LiveOnly).unwrap(), Way::Live);
    }

    #[test]
    fn maxima_grow_with_what_they_hold_and_never_below_it() {
        let grown = wanted("g", SMALL, &size(8, 512)).unwrap();
        assert_eq!((grown.max_vcpus, grown.max_memory), (8, 512 * MIB));
        let narrow = Size { max_vcpus: Some(1.into()), ..size(2, 128) };
        assert!(wanted("g", SMALL, &narrow).is_err());
    }
}
