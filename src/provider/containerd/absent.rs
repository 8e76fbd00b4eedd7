//! Stands for the `containerd` provider in a build without it: configurations are checked as ever, and a run says what
//! is missing.

#[path = "config.rs"]
mod config;

use async_trait::async_trait;

pub use config::{Config, bad_namespace};

use super::{Capabilities, Collection, Collector, Inventory, Provider, Scope, Shard, Window};
use crate::{Error, ErrorKind, Result};

/// Never made in this build.
#[derive(Debug)]
pub struct ContainerdCollector(Never);

/// Never made in this build.
#[derive(Debug)]
pub struct ContainerdProvider(Never);

#[derive(Debug)]
enum Never {}

impl ContainerdCollector {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(config: &Config) -> Result<Self> {
        Err(absent("measure the containers of").with_resource(&config.socket))
    }
}

#[async_trait]
impl Collector for ContainerdCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        match self.0 {}
    }

    async fn collect(&self, _: &Shard, _: Window) -> Result<Collection> {
        match self.0 {}
    }
}

impl ContainerdProvider {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(config: &Config) -> Result<Self> {
        Err(absent("manage the containers of").with_resource(&config.socket))
    }
}

#[async_trait]
impl Provider for ContainerdProvider {
    fn scope(&self) -> &Scope {
        match self.0 {}
    }

    fn capabilities(&self) -> Capabilities {
        match self.0 {}
    }

    fn inventory(&self) -> &dyn Inventory {
        match self.0 {}
    }
}

fn absent(operation: &str) -> Error {
    let reason = "this build has no containerd support; build with the feature containerd";
    Error::new(ErrorKind::Unsupported, operation, reason).with_provider("containerd")
}
