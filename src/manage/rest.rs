//! What is left of an operation, for the guards to look at before it goes on.

use super::{Managed, Operation, Prepared, StepState, Subject};
use crate::model::resource::{Image, Instance, Kind, Network, ResourceId, Snapshot, Subnet, Volume};
use crate::provider::client::Listed;
use crate::provider::{Client, Past};
use crate::{Error, ErrorKind, Result};

/// An operation of the journal with what is left of it. [`super::Guard::approve_rest`] lets it go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    pub(super) operation: Operation,
    /// What is left, as a plan: its steps to come, or its way back.
    pub prepared: Prepared,
}

/// Looks at what is left of an operation, and whether what it will change is protected by now.
///
/// # Errors
/// What it will change cannot be read.
pub async fn rest(managed: &Managed, operation: Operation) -> Result<Rest> {
    remind(&managed.client, &operation);
    let plan = operation.rest();
    let made = operation.made();
    let mut protected = None;
    for step in plan.steps.iter().filter(|step| step.action.is_disruptive()) {
        let named = [step.action.target(), step.action.instance()];
        let ids = named.into_iter().flatten().filter_map(|target| target.id().ok()).chain(&step.instance);
        for id in ids {
            // What the operation itself has made is its own to take back.
            if protected.is_none() && !made.iter().flatten().any(|made| made == id) {
                protected = protection(&managed.client, id).await?;
            }
        }
    }
    let prepared =
        Prepared { provider: managed.name.clone(), config: managed.config.clone(), plan, protected };
    Ok(Rest { operation, prepared })
}

/// Tells the provider what an operation remembers: "not there" is no clear word of what was made a moment ago.
pub(super) fn remind(client: &Client, operation: &Operation) {
    for (number, step) in operation.steps.iter().enumerate() {
        if let Some(made) = &step.made {
            client.remember(Past::Made(made), operation.updated_at);
        } else if step.state == StepState::Begun {
            client.remember(Past::Begun(operation.id.step(number)), operation.updated_at);
        }
    }
}

/// What protects a resource, if something does; nothing protects what is gone.
async fn protection(client: &Client, id: &ResourceId) -> Result<Option<String>> {
    match id.kind {
        Kind::Instance => match client.instance(id).await {
            Ok(instance) => Ok(Instance::protected(&instance)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        },
        Kind::Volume => listed::<Volume>(client, id).await,
        Kind::Snapshot => listed::<Snapshot>(client, id).await,
        Kind::Network => listed::<Network>(client, id).await,
        Kind::Subnet => listed::<Subnet>(client, id).await,
        Kind::Image => listed::<Image>(client, id).await,
        Kind::Size | Kind::Region | Kind::Zone | Kind::Price => Ok(None),
    }
}

async fn listed<T: Listed + Subject>(client: &Client, id: &ResourceId) -> Result<Option<String>> {
    let listing = client.list::<T>(&id.location, &|_| ()).await;
    match listing.items.iter().find(|item| item.id() == id) {
        Some(found) => Ok(found.protected()),
        None if listing.complete => Ok(None),
        None => {
            let reason = "whether it is protected cannot be seen now; try again later";
            Err(Error::unavailable("read", reason).with_resource(id.to_string()))
        }
    }
}
