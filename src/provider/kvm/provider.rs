//! Management of libvirt's guests: what this provider can do, and who does it.
//!
//! One connection is one hypervisor, and its host name is the location of everything. Every verb is a job for one of the
//! [`Workers`]; nothing here waits inside libvirt.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Config;
use super::error::refused;
use super::link::Link;
use super::memory::Memory;
use super::pricing;
use super::workers::{Limits, Workers};
use crate::model::resource::Instance;
use crate::provider::flavours::Flavours;
use crate::provider::{
    Action, Capabilities, Done, Inventory, Lifecycle, Networks, Plan, Pricing, Provider, Scope, Snapshots,
    Token, Volumes,
};
use crate::{Error, ErrorKind, Result};

/// Manages the guests, volumes, snapshots and networks of one libvirt connection.
pub struct KvmProvider {
    pub(super) scope: Scope,
    pub(super) flavours: Flavours,
    workers: Workers,
    memory: Arc<Mutex<Memory>>,
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
        let flavours = Flavours::new(config.sizes.clone(), config.prices.clone());
        pricing::check(&flavours).map_err(|error| error.with_provider("kvm"))?;
        Ok(Self {
            scope: scope(&config.uri),
            flavours,
            workers: Workers::new(&config.uri, limits),
            memory: Arc::default(),
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

    /// As [`Self::call`], once for each token: a step that is repeated after it was done gives the same answer, also when
    /// nobody waited for the first any more.
    pub(super) async fn once(
        &self,
        token: Token,
        operation: &'static str,
        job: impl FnOnce(&Link) -> Result<Done> + Send + 'static,
    ) -> Result<Done> {
        if let Some(done) = self.memory.lock().answer(token) {
            return Ok(done);
        }
        let memory = Arc::clone(&self.memory);
        self.call(operation, move |link| {
            let done = job(link)?;
            memory.lock().done(token, &done);
            Ok(done)
        })
        .await
    }

    /// What an end of the process does to what is remembered.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        std::thread::sleep(std::time::Duration::from_millis(2));
        *self.memory.lock() = Memory::default();
    }

    /// As [`Self::once`], of what must not be done again where it is not known whether it was: by a call whose answer was
    /// lost, or by an earlier process. The job says when it begins.
    pub(super) async fn at_most_once(
        &self,
        token: Token,
        operation: &'static str,
        resource: String,
        job: impl FnOnce(&Link, &dyn Fn()) -> Result<Done> + Send + 'static,
    ) -> Result<Done> {
        let memory = Arc::clone(&self.memory);
        self.once(token, operation, move |link| {
            if memory.lock().may_have_begun(token) {
                let reason = "it was begun before, and whether it was done is not known; done again it could undo what \
                              came after. Look at the guest, and give the command anew if it is still wanted";
                return Err(refused(ErrorKind::Conflict, operation, resource, reason).partly_done());
            }
            let done = job(link, &|| memory.lock().begin(token));
            // Where the connection broke nobody knows what became of the call; every other answer is one.
            if done.as_ref().is_err_and(|error| !error.is_partly_done()) {
                memory.lock().forget(token);
            }
            done
        })
        .await
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
            ends_by_itself: false,
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
