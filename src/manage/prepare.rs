//! From a wish to a plan.

use super::{Managed, Subject};
use crate::model::resource::{Instance, State};
use crate::provider::{Action, Plan};
use crate::{Error, ErrorKind, Result};

/// A plan with what the guards look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The source that it goes through.
    pub provider: String,
    /// The pipeline file, if one was named.
    pub config: Option<String>,
    /// The plan.
    pub plan: Plan,
    /// What protects the subject, if something does.
    pub protected: Option<String>,
}

/// Plans a change. `instance` is the one whose state matters, as it is now; `subject` is what changes, where it is
/// another thing than that.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what the provider cannot do, [`ErrorKind::Conflict`] for what makes no sense in the
/// present state, and what the provider's own planning finds.
pub async fn prepare(
    managed: &Managed,
    wanted: &Action,
    instance: Option<&Instance>,
    protected: Option<String>,
) -> Result<Prepared> {
    let protected = protected.or_else(|| instance.and_then(Subject::protected));
    let is_subject =
        |instance: &&Instance| wanted.target().and_then(|target| target.id().ok()) == Some(&instance.id);
    let plan = match instance
        .filter(is_subject)
        .and_then(|instance| Some((instance, already(wanted, instance)?)))
    {
        Some((instance, why)) => Plan::nothing(wanted.clone(), instance.id.clone(), instance.label(), why),
        None => match (managed.client.plan(wanted, instance).await, &protected) {
            (Ok(plan), _) => plan,
            // What the guard says comes first: the hint of the provider would lead to it all the same.
            (Err(error), Some(by)) if wanted.is_disruptive() && error.kind() == ErrorKind::Conflict => {
                return Err(super::guard::protected_by(by)
                    .with_resource(error.resource().unwrap_or_default())
                    .with_source(error));
            }
            (Err(error), _) => return Err(error),
        },
    };
    if let Some(instance) = instance.filter(is_subject)
        && let Some(reason) = refused(wanted, &plan, instance)
    {
        return Err(Error::new(ErrorKind::Conflict, wanted.verb(), reason)
            .with_provider(managed.client.scope().provider)
            .with_resource(instance.label()));
    }
    Ok(Prepared { provider: managed.name.clone(), config: managed.config.clone(), plan, protected })
}

/// Why there is nothing to do, if the instance is in the state that is wanted.
fn already(wanted: &Action, instance: &Instance) -> Option<String> {
    let state = instance.state();
    if wanted.brings_about() == Some(state) {
        return Some(format!("it is {state}"));
    }
    let deleting = matches!((wanted, state), (Action::DeleteInstance { .. }, State::Deleting));
    deleting.then(|| "it is being deleted".into())
}

/// Why the plan makes no sense for the instance in its present state. The plan says in which states its first step may be
/// made, and an instance on its way is waited for then.
fn refused(wanted: &Action, plan: &Plan, instance: &Instance) -> Option<String> {
    let state = instance.state();
    let step =
        plan.steps.first().filter(|step| !step.expects.is_empty() && step.action.instance().is_some())?;
    if step.expects.contains(&state) || step.until == Some(state) || state.is_passing() {
        return None;
    }
    let words: Vec<_> = step.expects.iter().map(|state| state.as_str()).collect();
    Some(format!(
        "it is {state} ({}), and only one that is {} can be {}",
        instance.status.provider_state,
        words.join(" or "),
        past(wanted.verb())
    ))
}

fn past(verb: &str) -> &'static str {
    match verb {
        "start" => "started",
        "stop" => "stopped",
        "restart" => "restarted",
        "suspend" => "suspended",
        "resume" => "resumed",
        "resize" => "resized",
        _ => "changed",
    }
}
