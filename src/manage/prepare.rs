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
    let is_subject =
        |instance: &&Instance| wanted.target().and_then(|target| target.id().ok()) == Some(&instance.id);
    let plan = match instance.filter(is_subject).map(|instance| (instance, judge(wanted, instance))) {
        Some((instance, Judged::Already(why))) => {
            Plan::nothing(wanted.clone(), instance.id.clone(), instance.label(), why)
        }
        Some((instance, Judged::Refused(reason))) => {
            return Err(Error::new(ErrorKind::Conflict, wanted.verb(), reason)
                .with_provider(managed.client.scope().provider)
                .with_resource(instance.label()));
        }
        _ => managed.client.plan(wanted, instance).await?,
    };
    let protected = protected.or_else(|| instance.and_then(Subject::protected));
    Ok(Prepared { provider: managed.name.clone(), config: managed.config.clone(), plan, protected })
}

#[derive(Debug, PartialEq)]
enum Judged {
    Allowed,
    Already(String),
    Refused(String),
}

/// What a verb means for an instance in its present state.
fn judge(wanted: &Action, instance: &Instance) -> Judged {
    let state = instance.state();
    if wanted.brings_about() == Some(state) {
        return Judged::Already(format!("it is {state}"));
    }
    if let (Action::DeleteInstance { .. }, State::Deleting) = (wanted, state) {
        return Judged::Already("it is being deleted".into());
    }
    let allowed = wanted.allowed_from();
    // An instance on its way is waited for when the step is made.
    if allowed.is_empty() || allowed.contains(&state) || state.is_passing() {
        return Judged::Allowed;
    }
    let words: Vec<_> = allowed.iter().map(|state| state.as_str()).collect();
    Judged::Refused(format!(
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
