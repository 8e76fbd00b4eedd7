//! The way back: what an operation did is taken back, last step first.

use super::execute::{changed_nothing, is_done_when_gone};
use super::{Executor, Operation, Phase, Progress, StepState, wait};
use crate::provider::Action;
use crate::{Error, ErrorKind, Result};

/// Tokens of the steps that take something back lie above those of the steps, those of each step's second one above those
/// of the first ones.
const UNDO: usize = 1_000;

impl Executor<'_> {
    /// Takes back what was done, last step first, and goes on past what cannot be taken back.
    pub(super) async fn unwind(&self, operation: &mut Operation) -> Result<()> {
        operation.phase = Phase::Unwinding;
        let mut first = None;
        for index in (0..operation.plan.steps.len()).rev() {
            if !operation.is_to_undo(index) {
                continue;
            }
            match self.undo(operation, index).await {
                Ok(()) => operation.steps[index].state = StepState::Undone,
                Err(error) => {
                    // Of what was begun it has to stay known that it may have happened.
                    let record = &mut operation.steps[index];
                    if record.state != StepState::Begun {
                        record.state = StepState::Left;
                    }
                    operation.errors.push(format!("taking it back: {}", error.chain()));
                    first.get_or_insert(error);
                }
            }
            self.note(operation);
        }
        operation.phase = if first.is_some() { Phase::Stuck } else { Phase::Unwound };
        self.note(operation);
        first.map_or(Ok(()), Err)
    }

    async fn undo(&self, operation: &Operation, index: usize) -> Result<()> {
        let step = &operation.plan.steps[index];
        let begun = operation.steps[index].state == StepState::Begun;
        if !step.can_be_undone() {
            let reason = if begun { "whether it happened is not known" } else { "there is no way back" };
            return Err(Error::new(ErrorKind::Unsupported, "take back", reason)
                .with_resource(step.action.to_string()));
        }
        let mut made = operation.made();
        let resolved =
            |made: &[_]| step.undo.iter().map(|undo| undo.resolved(made)).collect::<Result<Vec<_>>>();
        if begun && made[index].is_none() && resolved(&made).is_err() {
            // The answer to a creation was lost. Asked again with the same token the provider says what it made, or
            // makes it now: either way it is known what is to be deleted.
            let action = step.action.resolved(&made)?;
            match self.client.perform(&action, operation.id.step(index)).await {
                Ok(done) => made[index] = done.made,
                Err(error) if error.is_nothing_done() => return Ok(()),
                // Another's, or the one that the lost call is still making.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let reason = format!("whether it was made is not known; asked again: {}", error.reason());
                    return Err(Error::new(ErrorKind::Conflict, "take back", reason)
                        .with_resource(action.to_string())
                        .with_source(error));
                }
                Err(error) if changed_nothing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let way_back = resolved(&made)?;
        if self.is_back(&way_back).await {
            return Ok(());
        }
        for (number, undo) in way_back.iter().enumerate() {
            self.take_back(operation, index, number, undo).await?;
        }
        Ok(())
    }

    /// Whether the instance is already where a way back leads, as after a call that was not heard: what stands still is not
    /// let go to be stopped again.
    async fn is_back(&self, way_back: &[Action]) -> bool {
        let Some(last) = way_back.last() else { return false };
        let (Some(state), Some(Ok(id))) =
            (last.brings_about(), last.instance().map(|instance| instance.id()))
        else {
            return false;
        };
        self.client.instance(id).await.is_ok_and(|instance| instance.state() == state)
    }

    async fn take_back(
        &self,
        operation: &Operation,
        index: usize,
        number: usize,
        undo: &Action,
    ) -> Result<()> {
        (self.progress)(operation, Progress::Undo(index, undo));
        let token = operation.id.step(UNDO * (number + 1) + index);
        match self.client.perform(undo, token).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && is_done_when_gone(undo) => {}
            Err(error) => return Err(error),
        }
        if let (Some(state), Some(instance)) = (undo.brings_about(), undo.instance()) {
            let seen = |state| (self.progress)(operation, Progress::State(index, state));
            wait::until(&self.client, undo, instance.id()?, state, self.waiting.timeout, &seen).await?;
        }
        Ok(())
    }
}
