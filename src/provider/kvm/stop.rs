//! Stopping a guest: it is asked, again and again within the grace time, and powered off only where that was allowed.

use std::time::{Duration, Instant};

use super::KvmProvider;
use super::error::{During, refused};
use super::lifecycle::wrong_state;
use super::link::{Guest, Link, absent};
use crate::model::Span;
use crate::model::resource::{ResourceId, State};
use crate::provider::{Done, Stop};
use crate::{Error, ErrorKind, Result};

/// How often a guest that is to stop is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often it is asked: one that boots does not hear the first time.
const ASK_AGAIN: Duration = Duration::from_secs(10);

const STOP: &str = "stop";

/// What a look at a guest that is to stop has shown.
enum Look {
    Stopped,
    Forced,
    Running { name: String, woken: bool },
}

/// Stops a guest. One that stood still and did not stop stands still again afterwards. No thread waits meanwhile.
pub(super) async fn stop(provider: &KvmProvider, id: &ResourceId, how: &Stop) -> Result<Done> {
    let mut woken = false;
    let stopped = stop_gently(provider, id, how, &mut woken).await;
    let Err(error) = stopped else { return stopped };
    if !woken {
        return Err(error);
    }
    let target = id.clone();
    Err(match provider.call(STOP, move |link| suspend_again(link, &target)).await {
        Ok(State::Suspended) => error,
        // It has stopped meanwhile, and done what it was woken for.
        Ok(_) => return Ok(Done::changed()),
        Err(second) => {
            let reason = format!("{}; and it runs now, though it was suspended: {second}", error.reason());
            refused(error.kind(), STOP, error.resource().unwrap_or_default(), reason)
                .with_retry(error.retry())
                .with_source(error)
                .partly_done()
        }
    })
}

async fn stop_gently(
    provider: &KvmProvider,
    id: &ResourceId,
    how: &Stop,
    suspended: &mut bool,
) -> Result<Done> {
    let begun = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        let over = begun.elapsed() >= how.grace.0;
        let due = asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        let (target, force) = (id.clone(), how.force);
        let first = asked.is_none();
        let step =
            provider.call(STOP, move |link| look(link, &target, first, due && !over, over && force)).await?;
        match step {
            Look::Stopped if first => return Ok(Done::already()),
            Look::Stopped => return Ok(Done::changed()),
            Look::Forced => return Ok(Done::changed().note("it was powered off")),
            Look::Running { name, woken } => {
                *suspended |= woken;
                if over {
                    return Err(still_runs(&name, Span(how.grace.0), *suspended));
                }
            }
        }
        if due {
            asked = Some(Instant::now());
        }
        let left = how.grace.0.saturating_sub(begun.elapsed());
        tokio::time::sleep(LOOK_AGAIN.min(left).max(Duration::from_millis(10))).await;
    }
}

fn still_runs(name: &str, grace: Span, suspended: bool) -> Error {
    let as_before = if suspended { "was suspended again" } else { "still runs" };
    let reason = format!(
        "the guest did not stop within {grace} and {as_before}: it may have no ACPI, or still boot. Give it more time, or \
         allow force"
    );
    refused(ErrorKind::Conflict, STOP, name, reason)
}

/// Looks at a guest that is to stop, and asks or forces it.
fn look(link: &Link, id: &ResourceId, first: bool, ask: bool, force: bool) -> Result<Look> {
    let found = if first { Some(link.guest(STOP, id)?) } else { link.guest_if_any(STOP, id)? };
    // One without a definition is gone when it has stopped.
    let Some(guest) = found else { return Ok(Look::Stopped) };
    if !guest.is_active() {
        return match (guest.is_saved(), force) {
            (false, _) => Ok(Look::Stopped),
            (true, true) => {
                guest.domain.managed_save_remove(0).during(STOP, &guest.name)?;
                Ok(Look::Forced)
            }
            (true, false) if first => {
                let hint =
                    "its memory is kept in a file: start it and stop it then, or allow force to give it up";
                Err(wrong_state(STOP, &guest, State::Suspended, hint))
            }
            (true, false) => Ok(Look::Stopped),
        };
    }
    if force {
        return match absent(guest.domain.destroy().during(STOP, &guest.name)) {
            Ok(_) => Ok(Look::Forced),
            // It stopped by itself in the same moment.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Look::Stopped),
            Err(error) => Err(error),
        };
    }
    let woken = ask && request(&guest)?;
    Ok(Look::Running { name: guest.name.clone(), woken })
}

/// Asks a guest to stop. One that stands still cannot hear it: it goes on first, and whether it did is the answer.
fn request(guest: &Guest) -> Result<bool> {
    let woken = match guest.native.state {
        virt_sys::VIR_DOMAIN_PAUSED => guest.domain.resume().during(STOP, &guest.name).map(|_| true)?,
        virt_sys::VIR_DOMAIN_PMSUSPENDED => {
            guest.domain.pm_wakeup(0).during(STOP, &guest.name).map(|_| true)?
        }
        virt_sys::VIR_DOMAIN_SHUTDOWN => return Ok(false),
        _ => false,
    };
    match guest.domain.shutdown().during(STOP, &guest.name) {
        Ok(_) => Ok(woken),
        // It stopped by itself in the same moment: the next look sees it.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(woken),
        Err(error) if woken && guest.domain.suspend().is_err() => Err(error.partly_done()),
        Err(error) => Err(error),
    }
}

/// Suspends a guest that was woken in vain; gives back what it is now.
pub(super) fn suspend_again(link: &Link, id: &ResourceId) -> Result<State> {
    let Some(guest) = link.guest_if_any(STOP, id)? else { return Ok(State::Stopped) };
    match guest.native.state() {
        State::Running => guest.domain.suspend().during(STOP, &guest.name).map(|_| State::Suspended),
        state @ (State::Suspended | State::Stopped) => Ok(state),
        state => Err(wrong_state(STOP, &guest, state, "look at it")),
    }
}
