//! A provider that fails when it is told to, around a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use barograph::model::resource::{Instance, ResourceId};
use barograph::provider::{
    Action, Capabilities, Consents, Done, Guards, Images, InstanceSpec, Inventory, Lifecycle, NetworkSpec,
    Networks, Plan, Pricing, Provider, ResizePolicy, Scope, SizeSpec, SnapshotSpec, Snapshots, Stop,
    SubnetSpec, Token, VolumeChange, VolumeSpec, Volumes,
};
use barograph::{Error, ErrorKind, Result, Retry};
use parking_lot::Mutex;

/// How a change fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused, and nothing is done.
    Refused,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and the answer is lost.
    Unheard,
}

pub(crate) struct Faulty {
    inner: Arc<dyn Provider>,
    fault: Mutex<Option<(usize, Fault)>>,
    changes: AtomicUsize,
}

impl Faulty {
    /// The change of this number, from 0, fails.
    pub(crate) fn new(inner: Arc<dyn Provider>, at: usize, fault: Fault) -> Self {
        Self { inner, fault: Mutex::new(Some((at, fault))), changes: AtomicUsize::new(0) }
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.fault.lock().is_none()
    }

    async fn make(&self, change: impl Future<Output = Result<Done>>) -> Result<Done> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.lock().take_if(|(at, _)| *at == number).map(|(_, fault)| fault);
        let lost = || Error::unavailable("change", "the answer was lost").with_retry(Retry::Never);
        match fault {
            None => change.await,
            Some(Fault::Refused) => Err(Error::new(ErrorKind::Denied, "change", "it was made to fail")),
            Some(Fault::Unheard) => Err(lost()),
            Some(Fault::Lost) => change.await.and(Err(lost())),
        }
    }
}

#[async_trait]
impl Provider for Faulty {
    fn scope(&self) -> &Scope {
        self.inner.scope()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn inventory(&self) -> &dyn Inventory {
        self.inner.inventory()
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        self.inner.lifecycle().map(|_| self as _)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        self.inner.volumes().map(|_| self as _)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        self.inner.snapshots().map(|_| self as _)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        self.inner.networks().map(|_| self as _)
    }

    fn images(&self) -> Option<&dyn Images> {
        self.inner.images().map(|_| self as _)
    }

    fn pricing(&self) -> Option<&dyn Pricing> {
        self.inner.pricing()
    }

    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        self.inner.plan(wanted, now).await
    }
}

#[async_trait]
impl Lifecycle for Faulty {
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().create(spec, token)).await
    }

    async fn start(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().start(id, token)).await
    }

    async fn stop(&self, id: &ResourceId, how: &Stop, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().stop(id, how, token)).await
    }

    async fn suspend(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().suspend(id, token)).await
    }

    async fn resume(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().resume(id, token)).await
    }

    async fn resize(
        &self,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
        token: Token,
    ) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().resize(id, size, policy, token)).await
    }

    async fn delete(&self, id: &ResourceId, consents: Consents, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().delete(id, consents, token)).await
    }

    async fn protect(&self, id: &ResourceId, guards: Guards, token: Token) -> Result<Done> {
        self.make(self.inner.lifecycle().unwrap().protect(id, guards, token)).await
    }
}

#[async_trait]
impl Volumes for Faulty {
    async fn create(&self, spec: &VolumeSpec, token: Token) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().create(spec, token)).await
    }

    async fn grow(&self, id: &ResourceId, size_bytes: u64, token: Token) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().grow(id, size_bytes, token)).await
    }

    async fn change(&self, id: &ResourceId, change: &VolumeChange, token: Token) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().change(id, change, token)).await
    }

    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().delete(id, token)).await
    }

    async fn attach(
        &self,
        id: &ResourceId,
        to: &ResourceId,
        device: Option<&str>,
        token: Token,
    ) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().attach(id, to, device, token)).await
    }

    async fn detach(&self, id: &ResourceId, from: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.volumes().unwrap().detach(id, from, token)).await
    }
}

#[async_trait]
impl Snapshots for Faulty {
    async fn create(&self, spec: &SnapshotSpec, token: Token) -> Result<Done> {
        self.make(self.inner.snapshots().unwrap().create(spec, token)).await
    }

    async fn copy(&self, id: &ResourceId, location: &str, token: Token) -> Result<Done> {
        self.make(self.inner.snapshots().unwrap().copy(id, location, token)).await
    }

    async fn revert(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.snapshots().unwrap().revert(id, token)).await
    }

    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.snapshots().unwrap().delete(id, token)).await
    }
}

#[async_trait]
impl Networks for Faulty {
    async fn create(&self, spec: &NetworkSpec, token: Token) -> Result<Done> {
        self.make(self.inner.networks().unwrap().create(spec, token)).await
    }

    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.networks().unwrap().delete(id, token)).await
    }

    async fn create_subnet(&self, spec: &SubnetSpec, token: Token) -> Result<Done> {
        self.make(self.inner.networks().unwrap().create_subnet(spec, token)).await
    }

    async fn delete_subnet(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.networks().unwrap().delete_subnet(id, token)).await
    }
}

#[async_trait]
impl Images for Faulty {
    async fn import(
        &self,
        archive: &str,
        location: Option<&str>,
        name: Option<&str>,
        token: Token,
    ) -> Result<Done> {
        self.make(self.inner.images().unwrap().import(archive, location, name, token)).await
    }

    async fn delete(&self, id: &ResourceId, token: Token) -> Result<Done> {
        self.make(self.inner.images().unwrap().delete(id, token)).await
    }
}
