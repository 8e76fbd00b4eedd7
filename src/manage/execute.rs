//! Carrying out an approved plan: every step is in the journal before its call is made, the state is read again just
//! before, and what was done is taken back ([`super::unwind`]) when a later step fails.

use super::guard::Approved;
use super::journal::Claim;
use super::{Journal, Operation, Phase, StepState, Waiting, wait};
use crate::model::Timestamp;
use crate::model::resource::State;
use crate::provider::{Action, Client, Done, Step};
use crate::{Error, ErrorKind, Result};

/// What is told while an operation goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<'a> {
    /// A step is begun: its number from 0, and what it is.
    Step(usize, &'a Action),
    /// The provider has taken a step on; what it made is in the operation.
    Taken(usize),
    /// A step's instance is in this state now.
    State(usize, State),
    /// A step is taken back.
    Undo(usize, &'a Action),
}

/// Carries out operations of one provider.
pub struct Executor<'a> {
    pub(super) client: Client,
    pub(super) journal: &'a Journal,
    pub(super) waiting: Waiting,
    pub(super) progress: &'a (dyn Fn(&Operation, Progress<'_>) + Sync),
}

impl<'a> Executor<'a> {
    /// `progress` hears of every step.
    pub fn new(
        client: &Client,
        journal: &'a Journal,
        waiting: Waiting,
        progress: &'a (dyn Fn(&Operation, Progress<'_>) + Sync),
    ) -> Self {
        // Who waits so long for a step waits so long for its call.
        Self { client: client.patient(waiting.timeout), journal, waiting, progress }
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
    /// As [`Self::run`]; [`ErrorKind::Conflict`] while somebody else works on it, or has since it was approved.
    pub async fn resume(&self, approved: Approved) -> (Operation, Result<()>) {
        let operation = approved.into_operation();
        let claim = match self.journal.claim(operation.id) {
            Ok(claim) => claim,
            Err(error) => return (operation, Err(error)),
        };
        match self.journal.load(operation.id) {
            Ok(now) if now == operation => self.finish(operation, claim).await,
            Ok(now) => {
                let reason =
                    format!("somebody else went on with it, and it is {} now; look again", now.phase);
                let error = Error::new(ErrorKind::Conflict, "resume operation", reason);
                (now, Err(error.with_resource(operation.id.to_string())))
            }
            Err(error) => (operation, Err(error)),
        }
    }

    async fn finish(&self, mut operation: Operation, _claim: Claim) -> (Operation, Result<()>) {
        let ended = match operation.phase {
            Phase::Done | Phase::Unwound | Phase::Abandoned => Ok(()),
            Phase::Unwinding | Phase::Stuck => {
                let unwound = Box::pin(self.unwind(&mut operation)).await;
                unwound.and_then(|()| Err(given_up(&operation)))
            }
            Phase::Running | Phase::InFlight | Phase::Partial => Box::pin(self.go_on(&mut operation)).await,
        };
        self.settle(&operation).await;
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
            if again && !action.is_repeatable() {
                return Err(Failure::open(in_doubt(&action)));
            }
            self.expect(&step, &action, again).await?;
            operation.steps[index].state = StepState::Begun;
            self.save(operation)
                .map_err(|error| if again { Failure::open(error) } else { Failure::before(error) })?;
            let done = match self.client.perform(&action, operation.id.step(index)).await {
                Ok(done) => done,
                Err(error) if error.kind() == ErrorKind::NotFound && is_done_when_gone(&action) => {
                    let changed = error.is_partly_done() || action.verb() != "delete";
                    Done { changed, ..Done::already() }
                }
                Err(error) if again || !changed_nothing(&error) => return Err(Failure::open(error)),
                Err(error) => return Err(Failure::before(error)),
            };
            let record = &mut operation.steps[index];
            record.state = StepState::Taken;
            // That it is so already may be this step's own doing.
            record.changed = done.changed || again;
            record.note = done.note;
            record.made = done.made.or(record.made.take());
            self.save(operation).map_err(Failure::open)?;
            (self.progress)(operation, Progress::Taken(index));
        }
        if let (Some(state), Some(instance)) = (step.until, action.instance()) {
            let is_last = index + 1 == operation.plan.steps.len();
            if is_last && !self.waiting.last {
                return Ok(false);
            }
            let id = instance.id().map_err(Failure::open)?;
            let seen = |state| (self.progress)(operation, Progress::State(index, state));
            let note = wait::until(&self.client, &action, id, state, self.waiting.timeout, &seen);
            if let Some(note) = note.await.map_err(Failure::open)? {
                operation.steps[index].note = Some(note);
            }
        }
        operation.steps[index].state = StepState::Done;
        self.save(operation).map_err(Failure::open)?;
        Ok(true)
    }

    /// Reads the step's instance again and refuses when it is not as the plan took it to be. A step that was begun before
    /// may have brought its instance on its way, or to its end.
    async fn expect(&self, step: &Step, action: &Action, again: bool) -> Result<(), Failure> {
        let left = if again { Left::AsItIs } else { Left::Nothing };
        let id = match (action.instance(), &step.instance) {
            _ if step.expects.is_empty() => return Ok(()),
            (Some(instance), _) => instance.id().map_err(Failure::before)?,
            (None, Some(instance)) => instance,
            (None, None) => return Ok(()),
        };
        let timeout = self.waiting.timeout;
        let instance = match wait::settled(&self.client, id, timeout).await {
            // The call itself knows best what that means after it was made once.
            Err(error) if again && error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure { error, left }),
            Ok(instance) => instance,
        };
        let state = instance.state();
        if step.expects.contains(&state) || step.until == Some(state) || (again && state.is_passing()) {
            return Ok(());
        }
        if state.is_passing() {
            return Err(Failure { error: wait::on_its_way(id, state, timeout), left: Left::Early });
        }
        let expected: Vec<_> = step.expects.iter().map(|state| state.as_str()).collect();
        let reason = format!(
            "it is {state} now ({}), and the plan needs {}; look at it and plan again",
            instance.status.provider_state,
            expected.join(" or ")
        );
        let error = Error::new(ErrorKind::Conflict, action.verb(), reason)
            .with_provider(self.client.scope().provider)
            .with_resource(instance.id.to_string());
        Err(Failure { error, left })
    }

    async fn failed(&self, operation: &mut Operation, index: usize, failure: Failure) -> Error {
        operation.errors.push(failure.error.chain());
        let step = &operation.plan.steps[index];
        let taken = operation.steps[index].state == StepState::Taken;
        // Time that is over says nothing against the change: it goes on, and so can the operation.
        let begun = index > 0 && failure.left == Left::Early;
        if begun || (taken && failure.error.kind() == ErrorKind::Unavailable) {
            self.note(operation);
            return failure.error;
        }
        if failure.left == Left::AsItIs {
            operation.phase = Phase::Partial;
            self.note(operation);
            return failure.error;
        }
        let open = failure.left == Left::Open;
        let before = operation.plan.steps[..index].iter().zip(&operation.steps);
        let can_unwind = (!open || step.can_be_undone())
            && before.clone().all(|(step, record)| {
                step.can_be_undone() || !record.changed || record.state != StepState::Done
            });
        if !can_unwind {
            // What may have happened is asked for again with its token; what did not happen begins anew.
            let again = step.action.is_repeatable();
            operation.phase = if open && !again { Phase::Abandoned } else { Phase::Partial };
            operation.steps[index].state = if open { StepState::Begun } else { StepState::Waiting };
            self.note(operation);
            return failure.error;
        }
        operation.steps[index].state = if open { StepState::Begun } else { StepState::Failed };
        operation.phase = Phase::Unwinding;
        self.note(operation);
        // What became of the way back is in the operation and its errors.
        if let Err(error) = self.unwind(operation).await {
            tracing::debug!(error = %error.chain(), "taking back what was done");
        }
        failure.error
    }

    fn save(&self, operation: &mut Operation) -> Result<()> {
        operation.updated_at = Timestamp::now();
        self.journal.save(operation)
    }

    /// Writes down what is known, where a failing disk must not hide the failure that is being told.
    pub(super) fn note(&self, operation: &mut Operation) {
        if let Err(error) = self.save(operation) {
            tracing::warn!(error = %error.chain(), id = %operation.id, "the journal is behind");
        }
    }
}

/// A step that failed.
struct Failure {
    error: Error,
    left: Left,
}

/// What is known of a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It changed nothing.
    Nothing,
    /// It changed nothing: its instance was still on its way from the step before when time was over.
    Early,
    /// It may have changed something, or did.
    Open,
    /// It was begun before, and something else has happened since: a person decides.
    AsItIs,
}

impl Failure {
    fn before(error: Error) -> Self {
        Self { error, left: Left::Nothing }
    }

    fn open(error: Error) -> Self {
        Self { error, left: Left::Open }
    }
}

/// Whether an error says that nothing was changed.
pub(super) fn changed_nothing(error: &Error) -> bool {
    let open = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Capacity | ErrorKind::Throttled);
    error.is_nothing_done() || (!open && !error.is_partly_done())
}

/// Whether that its target is gone is as good as having done it: what was to be deleted, and what was to stop and had no
/// definition that outlives it.
pub(super) fn is_done_when_gone(action: &Action) -> bool {
    matches!(action, Action::Stop { .. }) || action.verb() == "delete"
}

fn in_doubt(action: &Action) -> Error {
    let reason = "it was begun, whether it happened is not known, and done twice it would do harm; look at it, and give the \
                  command again if it did not";
    Error::new(ErrorKind::Conflict, action.verb(), reason).with_resource(action.to_string())
}

fn given_up(operation: &Operation) -> Error {
    let first = operation.errors.first().map_or("a step failed", String::as_str);
    Error::new(ErrorKind::Conflict, "finish", format!("it was taken back, because {first}"))
        .with_resource(operation.plan.wanted.to_string())
}
