//! An account that could not be signed in to, among others that could: whatever it is asked for, it answers with the reason.
//! So it is an error beside what the others have, as a region is that does not answer.

use async_trait::async_trait;

use crate::model::resource::{Instance, Region, ResourceId};
use crate::provider::listing::no_pages;
use crate::provider::{Action, Capabilities, Inventory, Pages, Plan, Provider, Scope};
use crate::{Error, ErrorKind, Result, Retry};

/// Stands for the account.
#[derive(Debug)]
pub(super) struct Unopened {
    scope: Scope,
    kind: ErrorKind,
    reason: String,
}

impl Unopened {
    /// `account` is what people call it.
    pub(super) fn new(provider: &'static str, account: &str, error: &Error) -> Self {
        Self {
            scope: Scope { provider, account: account.to_owned() },
            kind: error.kind(),
            reason: error.chain(),
        }
    }

    fn error(&self) -> Error {
        Error::new(self.kind, "sign in to", self.reason.clone())
            .with_provider(self.scope.provider)
            .with_resource(&self.scope.account)
            .with_retry(Retry::Never)
    }
}

#[async_trait]
impl Provider for Unopened {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Everything, so that nothing is refused for another reason than the real one.
    fn capabilities(&self) -> Capabilities {
        Capabilities::everything()
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }

    async fn plan(&self, _: &Action, _: Option<&Instance>) -> Result<Plan> {
        Err(self.error())
    }
}

#[async_trait]
impl Inventory for Unopened {
    fn regions(&self) -> Pages<'_, Region> {
        no_pages(self.error())
    }

    fn instances<'a>(&'a self, _: &'a str) -> Pages<'a, Instance> {
        no_pages(self.error())
    }

    async fn instance(&self, _: &ResourceId) -> Result<Instance> {
        Err(self.error())
    }
}
