//! Operations whose end nobody waited for: once their instance has come to rest they are over, and the journal may forget
//! them in time.

use std::time::Duration;

use super::rest::remind;
use super::{Executor, Operation, Phase, StepState};
use crate::ErrorKind;
use crate::model::resource::State;

/// Operations that are looked at beside the one that was carried out.
const MOST: usize = 20;

/// How long that may hold up who carried it out.
const PATIENCE: Duration = Duration::from_secs(5);

impl Executor<'_> {
    /// Looks at the operations of the same source that are in flight. What cannot be read now is left for the next time.
    pub(super) async fn settle(&self, beside: &Operation) {
        if tokio::time::timeout(PATIENCE, self.look_at_others(beside)).await.is_err() {
            tracing::debug!("some operations in flight are looked at another time");
        }
    }

    async fn look_at_others(&self, beside: &Operation) {
        let Ok((operations, _)) = self.journal.list() else { return };
        let in_flight = operations.into_iter().filter(|operation| {
            operation.phase == Phase::InFlight
                && operation.id != beside.id
                && (&operation.provider, &operation.config) == (&beside.provider, &beside.config)
        });
        for listed in in_flight.take(MOST) {
            let Ok(_claim) = self.journal.claim(listed.id) else { continue };
            let Ok(mut operation) = self.journal.load(listed.id) else { continue };
            if operation.phase != Phase::InFlight {
                continue;
            }
            remind(&self.client, &operation);
            let Some(note) = self.has_settled(&operation).await else { continue };
            if let Some(last) = operation.steps.last_mut() {
                last.state = StepState::Done;
                last.note = note.or(last.note.take());
            }
            operation.phase = Phase::Done;
            self.note(&mut operation);
        }
    }

    /// Whether the last step of an operation is over, and with what remark; `None` while it is not, or cannot be told.
    async fn has_settled(&self, operation: &Operation) -> Option<Option<String>> {
        let step = operation.plan.steps.last()?;
        let action = step.action.resolved(&operation.made()).ok()?;
        let id = action.instance()?.id().ok()?;
        match self.client.instance(id).await {
            Ok(instance) if Some(instance.state()) == step.until => Some(None),
            Ok(instance) if instance.state().is_passing() || instance.state() == State::Unknown => None,
            Ok(instance) => {
                Some(Some(format!("nobody waited for its end; later it was {}", instance.state())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Some(None),
            Err(_) => None,
        }
    }
}
