//! Stands for the `kvm` provider in a build without it: configurations are checked as ever, and a run says what is
//! missing.

#[path = "config.rs"]
mod config;

use async_trait::async_trait;

pub use config::Config;

use super::{
    Capabilities, Collection, Collector, Inventory, Pages, Provider, Scope, Shard, Window, listing::no_pages,
};
use crate::model::resource::{Instance, Region, ResourceId};
use crate::{Error, ErrorKind, Result};

/// Never made in this build.
#[derive(Debug)]
pub struct KvmCollector(());

/// Never made in this build.
#[derive(Debug)]
pub struct KvmProvider(Scope);

impl KvmCollector {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(config: &Config) -> Result<Self> {
        Err(absent("measure the guests of").with_resource(&config.uri))
    }
}

impl KvmProvider {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(config: &Config) -> Result<Self> {
        Err(absent("manage the guests of").with_resource(&config.uri))
    }
}

#[async_trait]
impl Collector for KvmCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Err(absent("measure the guests of"))
    }

    async fn collect(&self, _: &Shard, _: Window) -> Result<Collection> {
        Err(absent("measure the guests of"))
    }
}

#[async_trait]
impl Provider for KvmProvider {
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
impl Inventory for KvmProvider {
    fn regions(&self) -> Pages<'_, Region> {
        no_pages(absent("manage the guests of"))
    }

    fn instances<'a>(&'a self, _: &'a str) -> Pages<'a, Instance> {
        no_pages(absent("manage the guests of"))
    }

    async fn instance(&self, _: &ResourceId) -> Result<Instance> {
        Err(absent("manage the guests of"))
    }
}

fn absent(operation: &str) -> Error {
    let reason = "this build has no libvirt support; build with the feature kvm";
    Error::new(ErrorKind::Unsupported, operation, reason).with_provider("kvm")
}
