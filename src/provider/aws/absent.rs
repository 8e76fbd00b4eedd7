//! Stands for the `aws` provider in a build without it: configurations are checked as ever, and a run says what is missing.

#[path = "config.rs"]
mod config;
#[path = "cost.rs"]
mod cost;
#[path = "wanted.rs"]
mod wanted;

use std::time::Duration;

use async_trait::async_trait;

pub use config::{Account, Config, Endpoints, Role, WebIdentity};
pub use cost::{Assumed, BilledBy, Budget, Estimate, Line, Quotas};
pub use wanted::{Convert, Input, Metric, SettleBy};

use super::{
    Capabilities, Collection, Collector, Inventory, Pages, Provider, Scope, Shard, Window, listing::no_pages,
};
use crate::model::resource::{Instance, Region, ResourceId};
use crate::{Error, ErrorKind, Result};

/// Never made in this build.
#[derive(Debug)]
pub struct AwsCollector(());

/// Never made in this build.
#[derive(Debug)]
pub struct AwsProvider(Scope);

impl AwsCollector {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(_: &Config) -> Result<Self> {
        Err(absent("measure"))
    }

    /// Never called in this build.
    #[must_use]
    pub fn of_source(self, _: &str, _: Duration, _: &crate::telemetry::Telemetry) -> Self {
        self
    }
}

/// Refuses.
///
/// # Errors
/// [`ErrorKind::Unsupported`], always.
pub async fn estimate(_: &Config, _: Duration, _: Option<Assumed>) -> Result<Estimate> {
    Err(absent("estimate"))
}

impl AwsProvider {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    #[expect(clippy::unused_async, reason = "as with AWS built in")]
    pub async fn open(_: &Config, account: &Account) -> Result<Self> {
        Err(absent("manage").with_resource(account.label()))
    }
}

#[async_trait]
impl Collector for AwsCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Err(absent("measure"))
    }

    async fn collect(&self, _: &Shard, _: Window) -> Result<Collection> {
        Err(absent("measure"))
    }
}

#[async_trait]
impl Provider for AwsProvider {
    fn scope(&self) -> &Scope {
        &self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }
}

#[async_trait]
impl Inventory for AwsProvider {
    fn regions(&self) -> Pages<'_, Region> {
        no_pages(absent("manage"))
    }

    fn instances<'a>(&'a self, _: &'a str) -> Pages<'a, Instance> {
        no_pages(absent("manage"))
    }

    async fn instance(&self, _: &ResourceId) -> Result<Instance> {
        Err(absent("manage"))
    }
}

fn absent(operation: &str) -> Error {
    let reason = "this build has no AWS support; build with the feature aws";
    Error::new(ErrorKind::Unsupported, operation, reason).with_provider("aws")
}
