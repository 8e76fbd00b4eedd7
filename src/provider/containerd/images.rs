//! Images of a namespace.

use containerd_client::services::v1::ListImagesRequest;

use super::container::{tags, timestamp};
use super::error::Answered;
use super::inventory::Reader;
use crate::Result;
use crate::model::resource::{Image, Kind};
use crate::provider::Page;

/// All images of a namespace.
///
/// # Errors
/// containerd does not answer.
pub(super) async fn list(reader: &Reader, namespace: &str) -> Result<Page<Image>> {
    let space = reader.space(namespace)?;
    let mut client = space.images().await?;
    let list = client.list(space.request(ListImagesRequest::default())).await;
    let images = list.answered("list images of", namespace)?.images;
    let image = |image: containerd_client::services::v1::Image| Image {
        id: reader.scope.id(namespace, Kind::Image, &image.name),
        digest: image.target.as_ref().map(|target| target.digest.clone()),
        architecture: None,
        size_bytes: None,
        tags: tags(&image.labels),
        created_at: image.created_at.as_ref().and_then(timestamp),
        name: image.name,
    };
    Ok(images.into_iter().map(image).collect::<Vec<_>>().into())
}
