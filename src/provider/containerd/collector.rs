//! Telemetry of containers: one shard for each containerd.

use async_trait::async_trait;

use super::config::Config;
use super::inventory::Reader;
use crate::model::resource::Instance;
use crate::model::{BatchBuilder, Identity};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::{Error, Result};

/// Measures the containers of one containerd, in all of its namespaces that the configuration does not leave out.
#[derive(Debug)]
pub struct ContainerdCollector {
    shard: Shard,
    reader: Reader,
}

impl ContainerdCollector {
    /// A collector for the containerd that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a configuration that nothing can be done with.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self { shard: Shard(config.socket.clone()), reader: Reader::new(config)? })
    }
}

#[async_trait]
impl Collector for ContainerdCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        self.reader.namespaces().await?;
        Ok(vec![self.shard.clone()])
    }

    async fn collect(&self, _shard: &Shard, window: Window) -> Result<Collection> {
        let namespaces = self.reader.namespaces().await?;
        let pages: Vec<_> = namespaces.iter().map(|namespace| self.reader.instances(namespace)).collect();
        let (mut instances, mut faults) = (Vec::new(), Vec::new());
        for page in futures::future::join_all(pages).await {
            match page {
                Ok(page) => {
                    instances.extend(page.items);
                    faults.extend(page.errors);
                }
                Err(error) => faults.push(error),
            }
        }
        let mut batches = Vec::new();
        if let Some(first) = instances.first() {
            let mut rows = BatchBuilder::new("status", &identity(first))?;
            for instance in &instances {
                status(&mut rows, instance, window).unwrap_or_else(|error| faults.push(error));
            }
            batches.push(rows.finish()?);
        }
        Ok(Collection { batches, faults })
    }
}

/// Whom the rows of a container are about.
fn identity(instance: &Instance) -> Identity {
    Identity {
        provider: instance.id.provider.clone(),
        account: Some(instance.id.account.clone()),
        region: Some(instance.id.location.clone()),
        zone: None,
        resource_type: "container".into(),
        resource_id: instance.id.native_id.clone(),
        resource_name: Some(instance.label().to_owned()),
        observer: "runtime".into(),
    }
}

fn status(rows: &mut BatchBuilder, instance: &Instance, window: Window) -> Result<(), Error> {
    rows.identify(&identity(instance));
    let mut row = rows.row(window.end);
    let status = &instance.status;
    row.set("state", status.state.as_str())?;
    row.set("up", status.state.is_up())?;
    row.set("stuck", status.state.is_up().is_none())?;
    row.set("provider_state", &status.provider_state)?;
    row.set("reason", status.reason.as_ref())?;
    row.set("size", instance.size.name.as_ref())?;
    row.set("vcpus", instance.size.vcpus.and_then(|vcpus| f64::try_from(vcpus).ok()))?;
    row.set("memory_bytes", instance.size.memory_bytes.map(|bytes| bytes as f64))?;
    let uptime = instance.started_at.map(|started| (window.end - started.0).max(0) as f64 / 1e9);
    row.set("uptime_seconds", uptime)?;
    Ok(())
}
