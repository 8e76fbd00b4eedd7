//! The limits of what one command may do, in the one place that every change passes.

use super::{Operation, Prepared};
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

/// A plan that may be carried out. Only [`Guard::approve`] makes one.
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
    pub fn approve(
        &self,
        prepared: Vec<Prepared>,
        confirm: impl FnOnce(&[Prepared]) -> Result<bool>,
    ) -> Result<Vec<Approved>> {
        self.check(&prepared)?;
        let changes = prepared.iter().any(|prepared| !prepared.plan.steps.is_empty());
        if changes && !confirm(&prepared)? {
            return Err(refuse("nothing was changed: it was not confirmed; answer yes, or add --yes"));
        }
        Ok(prepared
            .into_iter()
            .map(|prepared| Approved {
                operation: Operation::new(&prepared.provider, prepared.config.as_deref(), prepared.plan),
            })
            .collect())
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
            let reason = format!("it is protected by {by}, so nothing is touched; lift that first");
            return Err(refuse(reason).with_resource(&plan.label));
        }
        Ok(())
    }
}

/// Whether a plan takes something away from anybody.
fn disturbs(plan: &Plan) -> bool {
    let quiet_resize =
        plan.wanted.verb() == "resize" && matches!(plan.downtime, Downtime::None | Downtime::NextBoot);
    !plan.steps.is_empty() && plan.wanted.is_disruptive() && !quiet_resize
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protected, "go on", reason)
}
