//! Stands for the `kvm` provider in a build without it: configurations are checked as ever, and a run says what is
//! missing.

#[path = "config.rs"]
mod config;

use async_trait::async_trait;

pub use config::Config;

use super::{Collection, Collector, Shard, Window};
use crate::{Error, ErrorKind, Result};

/// Never made in this build.
#[derive(Debug)]
pub struct KvmCollector(());

impl KvmCollector {
    /// Refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], always.
    pub fn new(config: &Config) -> Result<Self> {
        Err(absent().with_resource(&config.uri))
    }
}

#[async_trait]
impl Collector for KvmCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Err(absent())
    }

    async fn collect(&self, _: &Shard, _: Window) -> Result<Collection> {
        Err(absent())
    }
}

fn absent() -> Error {
    let reason = "this build has no libvirt support; build with the feature kvm";
    Error::new(ErrorKind::Unsupported, "measure the guests of", reason).with_provider("kvm")
}
