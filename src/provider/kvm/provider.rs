//! Management of libvirt's guests: what this provider can do, and who does it.
//!
//! One connection is one hypervisor, and its host name is the location of everything. Every verb is a job for one of the
//! [`Workers`]; nothing here waits inside libvirt.

use std::collections::VecDeque;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Config;
use super::link::Link;
use super::pricing::Rates;
use super::sizes::Sizes;
use super::workers::{Limits, Workers};
use crate::model::resource::Instance;
use crate::provider::{
    Action, Capabilities, Done, Inventory, Lifecycle, Networks, Plan, Pricing, Provider, Scope, Snapshots,
    Token, Volumes,
};
use crate::{Error, Result};

/// Steps that are remembered; a plan has far fewer.
const REMEMBERED: usize = 1024;

/// Manages the guests, volumes, snapshots and networks of one libvirt connection.
pub struct KvmProvider {
    pub(super) scope: Scope,
    pub(super) sizes: Sizes,
    pub(super) rates: Option<Rates>,
    workers: Workers,
    /// What steps did that leave no trace of their token in libvirt.
    done: Mutex<VecDeque<(Token, Done)>>,
}

/// Whose resources a connection has.
pub(super) fn scope(uri: &str) -> Scope {
    Scope { provider: "kvm", account: uri.to_owned() }
}

impl KvmProvider {
    /// A provider for the connection that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a URI that cannot be one, and for a file of sizes or prices that cannot be read as
    /// such; the file's own error if it cannot be read at all.
    pub fn new(config: &Config) -> Result<Self> {
        Self::with_limits(config, Limits::default())
    }

    pub(super) fn with_limits(config: &Config, limits: Limits) -> Result<Self> {
        if config.uri.is_empty() || config.uri.contains('\0') {
            return Err(
                Error::invalid("connect", "the URI is empty or holds a NUL byte").with_provider("kvm")
            );
        }
        Ok(Self {
            scope: scope(&config.uri),
            sizes: Sizes::load(config.sizes.as_deref())?,
            rates: Rates::load(config.prices.as_deref())?,
            workers: Workers::new(&config.uri, limits),
            done: Mutex::default(),
        })
    }

    /// Calls libvirt on one of the workers.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Link) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.workers.call(operation, job).await
    }

    /// As [`Self::call`], once for each token: a step that is repeated after it was done gives the same answer.
    pub(super) async fn once(
        &self,
        token: Token,
        operation: &'static str,
        job: impl FnOnce(&Link) -> Result<Done> + Send + 'static,
    ) -> Result<Done> {
        let before = self.done.lock().iter().find(|(known, _)| *known == token).map(|(_, done)| done.clone());
        if let Some(before) = before {
            return Ok(Done { changed: false, ..before });
        }
        let done = self.call(operation, job).await?;
        let mut all = self.done.lock();
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back((token, done.clone()));
        Ok(done)
    }
}

#[async_trait]
impl Provider for KvmProvider {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            instances: true,
            lifecycle: true,
            suspend: true,
            resize_live: true,
            resize_stopped: true,
            volumes: true,
            attach: true,
            clone_volume: true,
            snapshots: true,
            make_snapshots: true,
            revert: true,
            networks: true,
            make_networks: true,
            subnets: true,
            sizes: true,
            prices: true,
            // A snapshot lies inside its volume, and a volume has no class that could change.
            volume_from_snapshot: false,
            change_volume: false,
            copy_snapshots: false,
            // A subnet comes and goes with its network, an image is a volume, a hypervisor has no zones; libvirt knows
            // neither tokens nor dry runs nor a guard against deletion.
            make_subnets: false,
            images: false,
            import_images: false,
            delete_images: false,
            zones: false,
            client_token: false,
            native_dry_run: false,
            protection: false,
        }
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn pricing(&self) -> Option<&dyn Pricing> {
        Some(self)
    }

    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        self.planned(wanted, now).await
    }

    async fn close(&self) {
        self.workers.close();
    }
}

impl std::fmt::Debug for KvmProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvmProvider").field("scope", &self.scope).finish_non_exhaustive()
    }
}
