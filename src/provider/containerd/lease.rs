//! A lease: containerd's garbage collection leaves alone what is made under it, until it is released.

use std::collections::HashMap;
use std::time::Duration;

use containerd_client::services::v1::{CreateRequest, DeleteRequest};
use uuid::Uuid;

use super::connect::Space;
use super::error::Answered;
use crate::Result;
use crate::model::Timestamp;

/// A lease of a process that was killed ends by itself after this.
const LIFE: Duration = Duration::from_secs(3600);

/// A lease; released by [`Self::over`], not by dropping it.
#[derive(Debug)]
pub(super) struct Lease {
    id: String,
    space: Space,
}

impl Lease {
    /// # Errors
    /// containerd does not give one.
    pub(super) async fn take(space: &Space) -> Result<Self> {
        let id = format!("barograph-{}", Uuid::now_v7());
        let end = i64::try_from(LIFE.as_nanos()).unwrap_or(i64::MAX);
        let end = Timestamp(Timestamp::now().0.saturating_add(end));
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), end.to_string())]);
        let request = space.request(CreateRequest { id: id.clone(), labels });
        space.leases().await?.create(request).await.answered("take a lease in", space.name())?;
        Ok(Self { space: space.leased(&id)?, id })
    }

    /// Where things are made under it.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// Releases it; what nothing else refers to may go.
    pub(super) async fn over(self) {
        let request = self.space.request(DeleteRequest { id: self.id.clone(), sync: false });
        let released = match self.space.leases().await {
            Ok(mut client) => client.delete(request).await.answered("release the lease", &self.id),
            Err(error) => Err(error),
        };
        if let Err(error) = released {
            tracing::warn!("{}; it ends by itself within an hour", error.chain());
        }
    }
}
