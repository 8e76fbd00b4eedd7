//! Carrying out an approved plan: every step is in the journal before its call is made, the state is read again just
//! before, and what was done is taken back when a later step fails.

use std::time::Duration;

use super::guard::Approved;
use super::journal::Claim;
use super::{Journal, Operation, Phase, StepState, Waiting, wait};
use crate::model::Timestamp;
use crate::model::resource::State;
use crate::provider::{Action, Client, Done, Step};
use crate::{Error, ErrorKind, Result};

/// Tokens of the steps that take something back lie above those of the steps.
const UNDO: usize = 1_000;

/// Longest wait for an instance that is still on its way from an earlier change, before a step.
const SETTLE: Duration = Duration::from_secs(60);

/// What is told while an operation goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<'a> {
    /// A step is begun: its number from 0, and what it is.
    Step(usize, &'a Action),
    /// A step's instance is in this state now.
    State(usize, State),
    /// A step is taken back.
    Undo(usize, &'a Action),
}

/// Carries out operations of one provider.
pub struct Executor<'a> {
    client: &'a Client,
    journal: &'a Journal,
    waiting: Waiting,
    progress: &'a (dyn Fn(&Operation, Progress<'_>) + Sync),
}

impl<'a> Executor<'a> {
    /// `progress` hears of every step.
    pub fn new(
        client: &'a Client,
        journal: &'a Journal,
        waiting: Waiting,
        progress: &'a (dyn Fn(&Operation, Progress<'_>) + Sync),
    ) -> Self {
        Self { client, journal, waiting, progress }
    }

    /// Carries out a plan. The operation says how it ended, also when this fails.
    ///
    /// # Errors
    /// The first error of a step; what happened to the steps before it is in the operation. The journal's, before
    /// anything is begun.
    pub async fn run(
        &self,
        approved: Approved,
        began: &(dyn Fn(&Operation) + Sync),
    ) -> (Operation, Result<()>) {
        let mut operation = approved.into_operation();
        if operation.plan.steps.is_empty() {
            operation.phase = Phase::Done;
            return (operation, Ok(()));
        }
        let claim = match self
            .journal
            .claim(operation.id)
            .and_then(|claim| self.save(&mut operation).map(|()| claim))
        {
            Ok(claim) => claim,
            Err(error) => return (operation, Err(error)),
        };
        began(&operation);
        self.finish(operation, claim).await
    }

    /// Goes on with an operation of the journal: with the step that it was interrupted in, with its way back, or with
    /// waiting for its end.
    ///
    /// # Errors
    /// As [`Self::run`]; [`ErrorKind::Conflict`] while somebody else works on it.
    pub async fn resume(&self, operation: Operation) -> (Operation, Result<()>) {
        let claim = match self.journal.claim(operation.id) {
            Ok(claim) => claim,
            Err(error) => return (operation, Err(error)),
        };
        // It may have gone on since it was listed.
        match self.journal.load(operation.id) {
            Ok(operation) => self.finish(operation, claim).await,
            Err(error) => (operation, Err(error)),
        }
    }

    async fn finish(&self, mut operation: Operation, _claim: Claim) -> (Operation, Result<()>) {
        let ended = match operation.phase {
            Phase::Done | Phase::Unwound => Ok(()),
            Phase::Unwinding | Phase::Stuck => {
                let unwound = self.unwind(&mut operation).await;
                unwound.and_then(|()| Err(given_up(&operation)))
            }
            Phase::Running | Phase::InFlight | Phase::Partial => self.go_on(&mut operation).await,
        };
        self.journal.tidy();
        (operation, ended)
    }

    async fn go_on(&self, operation: &mut Operation) -> Result<()> {
        operation.phase = Phase::Running;
        for index in 0..operation.plan.steps.len() {
            if operation.steps[index].state == StepState::Done {
                continue;
            }
            match self.step(operation, index).await {
                Ok(true) => {}
                Ok(false) => {
                    operation.phase = Phase::InFlight;
                    return self.save(operation);
                }
                Err(failure) => return Err(self.failed(operation, index, failure).await),
            }
        }
        operation.phase = Phase::Done;
        self.save(operation)
    }

    /// One step; `false` when its end is not waited for.
    async fn step(&self, operation: &mut Operation, index: usize) -> Result<bool, Failure> {
        let step = operation.plan.steps[index].clone();
        let action = step.action.resolved(&operation.made()).map_err(Failure::before)?;
        (self.progress)(operation, Progress::Step(index, &action));
        if operation.steps[index].state != StepState::Taken {
            // A step whose call was begun before an interruption may have changed the state already; its token makes
            // the call happen once.
            let again = operation.steps[index].state == StepState::Begun;
            if !again {
                self.expect(&step, &action).await.map_err(Failure::before)?;
            }
            operation.steps[index].state = StepState::Begun;
            self.save(operation).map_err(Failure::before)?;
            let done = match self.client.perform(&action, operation.id.step(index)).await {
                Ok(done) => done,
                // What was to be deleted is gone: that is what was wanted.
                Err(error) if error.kind() == ErrorKind::NotFound && action.verb() == "delete" => {
                    Done::already()
                }
                Err(error) => return Err(Failure { known: is_definite(error.kind()), error }),
            };
            let record = &mut operation.steps[index];
            record.state = StepState::Taken;
            record.changed = done.changed;
            record.note = done.note;
            record.made = done.made.or(record.made.take());
            self.save(operation).map_err(Failure::after)?;
        }
        if let (Some(state), Some(instance)) = (step.until, action.instance()) {
            let is_last = index + 1 == operation.plan.steps.len();
            if is_last && !self.waiting.last {
                return Ok(false);
            }
            let id = instance.id().map_err(Failure::after)?;
            let seen = |state| (self.progress)(operation, Progress::State(index, state));
            wait::until(self.client, id, state, self.waiting.timeout, &seen).await.map_err(Failure::after)?;
        }
        operation.steps[index].state = StepState::Done;
        self.save(operation).map_err(Failure::after)?;
        Ok(true)
    }

    /// Reads the step's instance again and refuses when it is not as the plan took it to be.
    async fn expect(&self, step: &Step, action: &Action) -> Result<()> {
        let Some(instance) = action.instance().filter(|_| !step.expects.is_empty()) else { return Ok(()) };
        let instance = wait::settled(self.client, instance.id()?, SETTLE).await?;
        let state = instance.state();
        if step.expects.contains(&state) || step.until == Some(state) {
            return Ok(());
        }
        let expected: Vec<_> = step.expects.iter().map(|state| state.as_str()).collect();
        let reason = format!(
            "it is {state} now ({}), and the plan needs {}; look at it and plan again",
            instance.status.provider_state,
            expected.join(" or ")
        );
        Err(Error::new(ErrorKind::Conflict, action.verb(), reason)
            .with_provider(self.client.scope().provider)
            .with_resource(instance.id.to_string()))
    }

    async fn failed(&self, operation: &mut Operation, index: usize, failure: Failure) -> Error {
        operation.errors.push(failure.error.chain());
        // Time that is over says nothing against the change: it goes on, and so can the operation.
        if operation.steps[index].state == StepState::Taken && failure.error.kind() == ErrorKind::Unavailable
        {
            self.note(operation);
            return failure.error;
        }
        operation.steps[index].state = if failure.known { StepState::Failed } else { StepState::Begun };
        let done = &operation.plan.steps[..index];
        let can_unwind = done
            .iter()
            .zip(&operation.steps)
            .all(|(step, record)| step.undo.is_some() || !record.changed || record.state != StepState::Done);
        if !can_unwind {
            operation.phase = Phase::Partial;
            operation.steps[index].state = StepState::Waiting;
            self.note(operation);
            return failure.error;
        }
        operation.phase = Phase::Unwinding;
        self.note(operation);
        // What became of the way back is in the operation and its errors.
        if let Err(error) = self.unwind(operation).await {
            tracing::debug!(error = %error.chain(), "taking back what was done");
        }
        failure.error
    }

    /// Takes back what was done, last step first, and goes on past what cannot be taken back.
    async fn unwind(&self, operation: &mut Operation) -> Result<()> {
        operation.phase = Phase::Unwinding;
        let mut first = None;
        for index in (0..operation.plan.steps.len()).rev() {
            let record = &operation.steps[index];
            let to_undo = match record.state {
                StepState::Done | StepState::Taken | StepState::Left => record.changed,
                // Whether it happened is not known.
                StepState::Begun => true,
                StepState::Waiting | StepState::Failed | StepState::Undone => false,
            };
            if !to_undo {
                continue;
            }
            match self.undo(operation, index).await {
                Ok(()) => operation.steps[index].state = StepState::Undone,
                Err(error) => {
                    operation.steps[index].state = StepState::Left;
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
        let Some(undo) = &step.undo else {
            if begun {
                return Ok(());
            }
            return Err(Error::new(ErrorKind::Unsupported, "take back", "there is no way back")
                .with_resource(step.action.to_string()));
        };
        let mut made = operation.made();
        if begun && made[index].is_none() && undo.resolved(&made).is_err() {
            // The answer to a creation was lost. Asked again with the same token the provider says what it made, or
            // makes it now: either way it is known what is to be deleted.
            let action = step.action.resolved(&made)?;
            match self.client.perform(&action, operation.id.step(index)).await {
                Ok(done) => made[index] = done.made,
                Err(error) if is_definite(error.kind()) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let undo = undo.resolved(&made)?;
        (self.progress)(operation, Progress::Undo(index, &undo));
        match self.client.perform(&undo, operation.id.step(UNDO + index)).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && undo.verb() == "delete" => {}
            Err(error) => return Err(error),
        }
        if let (Some(state), Some(instance)) = (undo.brings_about(), undo.instance()) {
            let seen = |state| (self.progress)(operation, Progress::State(index, state));
            wait::until(self.client, instance.id()?, state, self.waiting.timeout, &seen).await?;
        }
        Ok(())
    }

    fn save(&self, operation: &mut Operation) -> Result<()> {
        operation.updated_at = Timestamp::now();
        self.journal.save(operation)
    }

    /// Writes down what is known, where a failing disk must not hide the failure that is being told.
    fn note(&self, operation: &mut Operation) {
        if let Err(error) = self.save(operation) {
            tracing::warn!(error = %error.chain(), id = %operation.id, "the journal is behind");
        }
    }
}

/// A step that failed.
struct Failure {
    error: Error,
    /// Whether it is known that the step changed nothing.
    known: bool,
}

impl Failure {
    fn before(error: Error) -> Self {
        Self { error, known: true }
    }

    fn after(error: Error) -> Self {
        Self { error, known: false }
    }
}

/// Whether an error of this kind says that nothing was changed.
fn is_definite(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Unavailable | ErrorKind::Capacity | ErrorKind::Throttled)
}

fn given_up(operation: &Operation) -> Error {
    let first = operation.errors.first().map_or("a step failed", String::as_str);
    Error::new(ErrorKind::Conflict, "finish", format!("it was taken back, because {first}"))
        .with_resource(operation.plan.wanted.to_string())
}
