//! Waiting for a state.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::resource::{Instance, ResourceId, State};
use crate::provider::Client;
use crate::{Error, ErrorKind, Result};

/// Bounds of the pauses between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

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

/// Looks until an instance is in a state. States on the way do not count: `Stopping` is not `Stopped`.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when time is over, with what it is in then; [`ErrorKind::Conflict`] when the instance
/// settles in another state; those of reading it.
pub(super) async fn until(
    client: &Client,
    id: &ResourceId,
    wanted: State,
    timeout: Duration,
    seen: &(dyn Fn(State) + Sync),
) -> Result<()> {
    let until = Instant::now() + timeout;
    let mut pause = PAUSES.0;
    // A state that was there before the change took hold is no answer to it; one that stays is.
    let mut settled = 0;
    let mut last = None;
    loop {
        let state = match client.instance(id).await {
            Ok(instance) => instance.state(),
            Err(error) if error.kind() == ErrorKind::NotFound && wanted == State::Deleted => return Ok(()),
            Err(error) => return Err(error),
        };
        seen(state);
        if state == wanted {
            return Ok(());
        }
        settled = if last == Some(state) && !state.is_passing() { settled + 1 } else { 0 };
        last = Some(state);
        if matches!(state, State::Failed | State::Deleted) && settled >= 2 {
            let reason = format!("it became {state} instead of {wanted}");
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

/// What the command line tells from other failures: nothing is wrong but the time.
fn timed_out(reason: String) -> Error {
    Error::unavailable("wait for", reason).with_retry(crate::Retry::Never)
}
