//! The limits of what one command may do, in the one place that every change passes.

use super::{Operation, Prepared, Rest};
use crate::provider::{Downtime, Plan};
use crate::{Error, ErrorKind, Result};

pub use crate::model::resource::PROTECTED_TAG;

/// What is checked before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Resources that one command may change, delete or make; more refuse the whole command, never a part of it.
    pub max_affected: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_affected: 10 }
    }
}

/// A plan that may be carried out. Only [`Guard`] makes one.
#[derive(Debug)]
pub struct Approved {
    operation: Operation,
}

impl Approved {
    /// What it will do.
    pub fn plan(&self) -> &Plan {
        &self.operation.plan
    }

    /// The source that it goes through.
    pub fn provider(&self) -> &str {
        &self.operation.provider
    }

    pub(super) fn into_operation(self) -> Operation {
        self.operation
    }
}

impl Guard {
    /// Lets plans through, all or none. `confirm` is asked last and only when something would change.
    ///
    /// # Errors
    /// [`ErrorKind::Protected`]: too many resources, a protected one, or the person said no.
    pub async fn approve(
        &self,
        prepared: Vec<Prepared>,
        confirm: impl AsyncFnOnce(&[Prepared]) -> Result<bool>,
    ) -> Result<Vec<Approved>> {
        self.check(&prepared)?;
        confirmed(&prepared, confirm).await?;
        Ok(prepared
            .into_iter()
            .map(|prepared| Approved {
                operation: Operation::new(&prepared.provider, prepared.config.as_deref(), prepared.plan),
            })
            .collect())
    }

    /// Lets what is left of an operation go on, as [`Self::approve`] lets plans through.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub async fn approve_rest(
        &self,
        rest: Rest,
        confirm: impl AsyncFnOnce(&[Prepared]) -> Result<bool>,
    ) -> Result<Approved> {
        let prepared = std::slice::from_ref(&rest.prepared);
        self.check(prepared)?;
        confirmed(prepared, confirm).await?;
        Ok(Approved { operation: rest.operation })
    }

    /// Whether the plans keep within the limits.
    ///
    /// # Errors
    /// [`ErrorKind::Protected`].
    pub fn check(&self, prepared: &[Prepared]) -> Result<()> {
        let affected: usize = prepared.iter().map(|prepared| prepared.plan.affected()).sum();
        if affected > self.max_affected {
            let reason = format!(
                "{affected} resources would be affected and {} are allowed, so none is touched; select fewer, or add \
                 --max-affected {affected}",
                self.max_affected
            );
            return Err(refuse(reason));
        }
        for Prepared { plan, protected, .. } in prepared {
            let Some(by) = protected.as_deref().filter(|_| disturbs(plan)) else { continue };
            return Err(protected_by(by).with_resource(&plan.label));
        }
        Ok(())
    }
}

/// Asks, if anything would change.
async fn confirmed(
    prepared: &[Prepared],
    confirm: impl AsyncFnOnce(&[Prepared]) -> Result<bool>,
) -> Result<()> {
    let changes = prepared.iter().any(|prepared| !prepared.plan.steps.is_empty());
    if changes && !confirm(prepared).await? {
        return Err(refuse("nothing was changed: it was not confirmed; answer yes, or add --yes"));
    }
    Ok(())
}

/// Whether a plan takes something away from anybody.
fn disturbs(plan: &Plan) -> bool {
    let quiet_resize =
        plan.wanted.verb() == "resize" && matches!(plan.downtime, Downtime::None | Downtime::NextBoot);
    plan.steps.iter().any(|step| step.action.is_disruptive()) && !quiet_resize
}

/// Something protects a resource.
pub(super) fn protected_by(by: &str) -> Error {
    refuse(format!("it is protected by {by}, so nothing is touched; lift that first"))
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protected, "go on", reason)
}
