//! Waiting for a state.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::resource::{Instance, ResourceId, State};
use crate::provider::{Action, Client};
use crate::{Error, ErrorKind, Result};

/// Bounds of the pauses between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long an instance has to stay in another state than the wanted one before it counts as having come to rest there.
const RESTS: Duration = Duration::from_secs(5);

/// The same for the state in which it was seen first: a provider's answers may be older than the change.
const STALE: Duration = Duration::from_secs(15);

/// How long a person waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Whether the end of the last step is waited for. The steps before it always are: the next needs what they lead to.
    pub last: bool,
    /// Longest wait for one step.
    pub timeout: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { last: true, timeout: Duration::from_secs(600) }
    }
}

/// Looks until an instance is in the state that `action` leads to, and gives back what a person should know of its end.
/// States on the way do not count: `Stopping` is not `Stopped`.
///
/// Two other ends are as good: what was to stop and is gone had no definition that outlives it; and what was to start and
/// rests in `Stopped` ran and has ended, where instances end by themselves when their work is done.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when time is over, with what it is in then; [`ErrorKind::Conflict`] when the instance
/// comes to rest in another state; those of reading it.
pub(super) async fn until(
    client: &Client,
    action: &Action,
    id: &ResourceId,
    wanted: State,
    timeout: Duration,
    seen: &(dyn Fn(State) + Sync),
) -> Result<Option<String>> {
    let until = Instant::now() + timeout;
    let mut pause = PAUSES.0;
    // A state that was there before the change took hold is no answer to it; one that stays is.
    let ends_by_itself = client.capabilities().ends_by_itself;
    let mut looks = 0;
    let mut moved = false;
    let mut last = None;
    let mut since = Instant::now();
    loop {
        let instance = match client.instance(id).await {
            Ok(instance) => instance,
            Err(error) if error.kind() == ErrorKind::NotFound => match wanted {
                State::Deleted => return Ok(None),
                State::Stopped => {
                    return Ok(Some("it is gone: it had no definition that outlives it".into()));
                }
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let state = instance.state();
        seen(state);
        if state == wanted {
            return Ok(None);
        }
        if last == Some(state) {
            looks += 1;
        } else {
            moved = last.is_some();
            (last, looks, since) = (Some(state), 0, Instant::now());
        }
        let stays = if moved || ends_by_itself { RESTS } else { STALE };
        let rests = match state {
            State::Failed | State::Deleted => looks >= 2,
            State::Unknown => false,
            state => !state.is_passing() && looks >= 2 && since.elapsed() >= stays,
        };
        if rests {
            let reason = instance.status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            if ends_by_itself && matches!(action, Action::Start { .. }) && state == State::Stopped {
                return Ok(Some(format!("it ran and has ended{reason}")));
            }
            let reason = format!("it became {state} instead of {wanted}{reason}");
            return Err(Error::new(ErrorKind::Conflict, "wait for", reason).with_resource(id.to_string()));
        }
        if Instant::now() >= until {
            let reason = format!(
                "it is still {state}, not {wanted}, after {}; what was begun goes on",
                humantime::format_duration(timeout)
            );
            return Err(timed_out(reason).with_resource(id.to_string()));
        }
        tokio::time::sleep_until((Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0)).min(until))
            .await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Waits while an instance is on its way to another state.
///
/// # Errors
/// As [`until`].
pub(super) async fn settled(client: &Client, id: &ResourceId, timeout: Duration) -> Result<Instance> {
    let until = Instant::now() + timeout;
    let mut pause = PAUSES.0;
    loop {
        let instance = client.instance(id).await?;
        if !instance.state().is_passing() || Instant::now() >= until {
            return Ok(instance);
        }
        tokio::time::sleep_until((Instant::now() + pause).min(until)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Time is over before an instance has come to rest from an earlier change.
pub(super) fn on_its_way(id: &ResourceId, state: State, timeout: Duration) -> Error {
    let reason = format!(
        "it is still {state} after {}, and the next step needs it at rest; what was begun goes on",
        humantime::format_duration(timeout)
    );
    timed_out(reason).with_resource(id.to_string())
}

/// What the command line tells from other failures: nothing is wrong but the time.
fn timed_out(reason: String) -> Error {
    Error::unavailable("wait for", reason).with_retry(crate::Retry::Never)
}
