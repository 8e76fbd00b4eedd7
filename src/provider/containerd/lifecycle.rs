//! The life of containers: each call finds the container, and its parts do the rest.

use async_trait::async_trait;
use containerd_client::services::v1::DeleteContainerRequest;

use super::error::{Answered, failed};
use super::inventory::Reader;
use super::run::Running;
use super::state::Seen;
use super::{create, resize, unpack};
use crate::model::resource::{ResourceId, State};
use crate::provider::{Consents, Done, InstanceSpec, Lifecycle, ResizePolicy, SizeSpec, Stop, Token};
use crate::{Error, ErrorKind, Result};

#[async_trait]
impl Lifecycle for Reader {
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        create::create(self, spec, token).await
    }

    async fn start(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let (space, container) = self.container(id).await?;
        Running { space: &space, container: &container }.start().await
    }

    async fn stop(&self, id: &ResourceId, how: &Stop, _token: Token) -> Result<Done> {
        let (space, container) = self.container(id).await?;
        Running { space: &space, container: &container }.stop(how).await
    }

    async fn suspend(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let (space, container) = self.container(id).await?;
        Running { space: &space, container: &container }.pause().await
    }

    async fn resume(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let (space, container) = self.container(id).await?;
        Running { space: &space, container: &container }.resume().await
    }

    /// Always possible while it runs, so that the policy never matters.
    async fn resize(&self, id: &ResourceId, size: &SizeSpec, _: ResizePolicy, _token: Token) -> Result<Done> {
        let size = self.flavours.resolved(size).map_err(|error| error.with_provider(super::PROVIDER))?;
        let (space, container) = self.container(id).await?;
        resize::resize(&space, &container, &size).await
    }

    async fn delete(&self, id: &ResourceId, consents: Consents, _token: Token) -> Result<Done> {
        let (space, container) = match self.container(id).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Done::already()),
            found => found?,
        };
        let running = Running { space: &space, container: &container };
        let seen = running.seen().await?;
        let mut ended = false;
        match (&seen, seen.state()) {
            (Seen::Absent, _) => {}
            (_, State::Stopped) => running.bury().await.map(drop)?,
            _ if consents.running => {
                running.kill_now().await?;
                ended = true;
                running.bury().await.map_err(Error::partly_done)?;
            }
            _ => {
                let reason = "it runs; stop it first, or consent to ending it";
                return Err(failed(ErrorKind::Conflict, "delete", &container.id, reason));
            }
        }
        let request = space.request(DeleteContainerRequest { id: container.id.clone() });
        let deleted = match space.containers().await {
            Ok(mut client) => client.delete(request).await.answered("delete", &container.id),
            Err(error) => Err(error),
        };
        match deleted {
            // It was running when this began.
            Err(error) if error.kind() != ErrorKind::NotFound && ended => return Err(error.partly_done()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What it wrote belongs to it alone; the image's own layers stay.
        let done = Done::changed();
        if container.snapshot_key.is_empty() {
            return Ok(done);
        }
        Ok(match unpack::remove(&space, &container.snapshotter, &container.snapshot_key).await {
            Ok(()) => done,
            Err(error) => {
                done.note(format!("its snapshot {} is left: {}", container.snapshot_key, error.reason()))
            }
        })
    }
}
