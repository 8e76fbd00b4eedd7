//! containerd's containers, over its own gRPC interface: one namespace is one place.
//!
//! Every container has a process of its own at containerd's side, the shim, and a shim that hangs holds up every call
//! that needs it. So whatever is asked of a task has a deadline, and costs only its own container.

use std::time::Duration;

use async_trait::async_trait;

mod archive;
mod collector;
mod config;
mod connect;
mod container;
mod content;
mod create;
mod error;
mod events;
mod figures;
mod image;
mod images;
mod import;
mod inventory;
mod lease;
mod lifecycle;
mod mapping;
mod message;
mod meter;
mod metrics;
mod netns;
mod planning;
mod pricing;
mod process;
mod resize;
mod resources;
mod run;
mod signal;
mod spec;
mod state;
mod tasks;
mod unpack;
mod usage;
mod user;

pub use collector::ContainerdCollector;
pub use config::{Config, bad_namespace};

use self::inventory::Reader;
use super::{Action, Capabilities, Images, Inventory, Lifecycle, Plan, Pricing, Provider, Scope};
use crate::Result;
use crate::model::resource::Instance;

/// The name in ids and errors.
const PROVIDER: &str = "containerd";
/// A healthy shim takes some milliseconds; below this a deadline finds only stuck ones.
const MIN_DEADLINE: Duration = Duration::from_millis(100);

/// Manages the containers of one containerd.
#[derive(Debug)]
pub struct ContainerdProvider {
    reader: Reader,
}

impl ContainerdProvider {
    /// A provider for the containerd that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a configuration that nothing can be done with.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self { reader: Reader::new(config)? })
    }
}

#[async_trait]
impl Provider for ContainerdProvider {
    fn scope(&self) -> &Scope {
        &self.reader.scope
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            instances: true,
            lifecycle: true,
            ends_by_itself: true,
            suspend: true,
            resize_live: true,
            resize_stopped: true,
            images: true,
            import_images: true,
            delete_images: true,
            sizes: self.reader.flavours.has_sizes(),
            prices: self.reader.flavours.has_prices(),
            ..Capabilities::default()
        }
    }

    fn inventory(&self) -> &dyn Inventory {
        &self.reader
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(&self.reader)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(&self.reader)
    }

    fn pricing(&self) -> Option<&dyn Pricing> {
        Some(&self.reader)
    }

    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        if let Action::ImportImage { archive, location, name } = wanted {
            return import::plan(&self.reader, wanted, archive, location.as_deref(), name.as_deref()).await;
        }
        planning::plan(&self.reader, wanted, now).await
    }
}
