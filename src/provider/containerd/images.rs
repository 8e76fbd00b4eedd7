//! Images of a namespace: listed, read from an archive ([`super::import`]), deleted.

use async_trait::async_trait;
use containerd_client::services::v1::{DeleteImageRequest, ListImagesRequest};
use futures::StreamExt;

use super::container::{tags, timestamp};
use super::error::Answered;
use super::inventory::Reader;
use super::lease::Lease;
use super::{create, image, import};
use crate::model::resource::{Image, Kind, ResourceId};
use crate::provider::{Done, Images, Page, Token};
use crate::{ErrorKind, Result};

/// Images whose sizes are read at once.
const AT_ONCE: usize = 8;

/// All images of a namespace. What cannot be known of one, because its content is not here, is left out of it.
///
/// # Errors
/// containerd does not answer.
pub(super) async fn list(reader: &Reader, namespace: &str) -> Result<Page<Image>> {
    let space = reader.space(namespace)?;
    let mut client = space.images().await?;
    let list = client.list(space.request(ListImagesRequest::default())).await;
    let records = list.answered("list images of", namespace)?.images;
    let space = &space;
    let described = records.into_iter().map(|record| async move {
        let resolved = image::resolved(space, &record).await.ok();
        let bytes = resolved.as_ref().map(|image| {
            let layers = image.layers.iter().map(|layer| u64::try_from(layer.size).unwrap_or(0)).sum::<u64>();
            layers + image.manifest.config().size()
        });
        Image {
            id: reader.scope.id(namespace, Kind::Image, &record.name),
            digest: record.target.as_ref().map(|target| target.digest.clone()),
            architecture: resolved.map(|_| std::env::consts::ARCH.to_owned()),
            size_bytes: bytes,
            tags: tags(&record.labels),
            created_at: record.created_at.as_ref().and_then(timestamp),
            name: record.name,
        }
    });
    let described: Vec<_> = described.collect();
    let mut images: Vec<_> = futures::stream::iter(described).buffer_unordered(AT_ONCE).collect().await;
    images.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(images.into())
}

#[async_trait]
impl Images for Reader {
    async fn import(
        &self,
        archive: &str,
        location: Option<&str>,
        name: Option<&str>,
        _token: Token,
    ) -> Result<Done> {
        let namespace = create::location(self, location).await?;
        let space = self.space(&namespace)?;
        let contents = import::contents(archive).await?;
        let names = import::names(&contents, name, archive)?;
        let lease = Lease::take(&space).await?;
        let imported = import::import(lease.space(), &contents, &names, archive).await;
        lease.over().await;
        let changed = imported?;
        let id = |name: &String| self.scope.id(&namespace, Kind::Image, name);
        let done = Done { made: names.first().map(id), changed, note: None };
        Ok(match names.len() {
            0 | 1 => done,
            _ => done.note(format!("the archive holds {}", names.join(", "))),
        })
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let space = self.place(id, Kind::Image)?;
        // Waits for the content to be gone too, so that the space is free afterwards.
        let request = DeleteImageRequest { name: id.native_id.clone(), sync: true, target: None };
        let deleted = space.images().await?.delete(space.request(request)).await;
        match deleted.answered("delete the image", &id.native_id) {
            Ok(()) => Ok(Done::changed()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Done::already()),
            Err(error) => Err(error),
        }
    }
}
