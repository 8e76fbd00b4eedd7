//! Images of a namespace: listed, read from an archive, deleted.

use std::path::PathBuf;

use async_trait::async_trait;
use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image as Record, ListImagesRequest,
    UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use futures::StreamExt;
use prost_types::FieldMask;

use super::archive::{self, Contents};
use super::connect::Space;
use super::container::{tags, timestamp};
use super::error::{Answered, failed};
use super::inventory::Reader;
use super::lease::Lease;
use super::{content, create, image, unpack};
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
        let path = PathBuf::from(archive);
        let contents =
            tokio::task::spawn_blocking(move || archive::read(&path)).await.map_err(|error| {
                failed(ErrorKind::Unavailable, "read the archive", archive, "the reading thread failed")
                    .with_source(error)
            })??;
        let names = names(&contents, name, archive)?;
        let lease = Lease::take(&space).await?;
        let imported = import(lease.space(), &contents, &names, archive).await;
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

/// The names that the images of an archive get.
fn names(contents: &Contents, wanted: Option<&str>, archive: &str) -> Result<Vec<String>> {
    let invalid = |reason: &str| failed(ErrorKind::Invalid, "import the image", archive, reason);
    let digest = contents.images.first().map(|image| &image.digest);
    match wanted {
        Some(wanted) if contents.images.iter().all(|image| Some(&image.digest) == digest) => {
            Ok(vec![archive::normalized(wanted)])
        }
        Some(_) => {
            Err(invalid("it holds several images, which cannot all have one name; leave the name out"))
        }
        None => {
            let names = contents.images.iter().map(|image| image.name.clone()).collect::<Option<Vec<_>>>();
            names.ok_or_else(|| invalid("it does not say how its image is called; name it"))
        }
    }
}

/// Stores what the archive holds, makes the records and unpacks the layers. Whether anything was not so already.
async fn import(space: &Space, contents: &Contents, names: &[String], archive: &str) -> Result<bool> {
    for blob in &contents.blobs {
        content::write(space, blob, archive).await?;
    }
    for (digest, labels) in &contents.labels {
        content::label(space, digest, labels.clone()).await?;
    }
    let mut changed = false;
    for (name, found) in names.iter().zip(&contents.images) {
        let target = Descriptor {
            media_type: found.media_type.clone(),
            digest: found.digest.clone(),
            size: i64::try_from(found.size).unwrap_or(i64::MAX),
            ..Descriptor::default()
        };
        let record = Record { name: name.clone(), target: Some(target), ..Record::default() };
        // Before there is a record that promises it: an image that is not for this machine is refused whole.
        let resolved = image::resolved(space, &record).await?;
        unpack::unpack(space, &resolved, unpack::SNAPSHOTTER).await?;
        changed |= write_record(space, record).await?;
    }
    Ok(changed)
}

async fn write_record(space: &Space, record: Record) -> Result<bool> {
    let name = record.name.clone();
    let mut client = space.images().await?;
    let request = CreateImageRequest { image: Some(record.clone()), ..CreateImageRequest::default() };
    match client.create(space.request(request)).await.answered("make the image", &name) {
        Ok(_) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error),
    }
    let there = client.get(space.request(GetImageRequest { name: name.clone() })).await;
    let there = there.answered("find the image", &name)?.image.and_then(|image| image.target);
    if there.map(|target| target.digest) == record.target.as_ref().map(|target| target.digest.clone()) {
        return Ok(false);
    }
    let mask = FieldMask { paths: vec!["target".into()] };
    let request =
        UpdateImageRequest { image: Some(record), update_mask: Some(mask), ..UpdateImageRequest::default() };
    client.update(space.request(request)).await.answered("change the image", &name)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::archive::Found;
    use super::*;

    fn contents(images: &[(Option<&str>, &str)]) -> Contents {
        let image = |(name, digest): &(Option<&str>, &str)| Found {
            name: name.map(str::to_owned),
            media_type: String::new(),
            digest: (*digest).to_owned(),
            size: 1,
        };
        Contents { images: images.iter().map(image).collect(), ..Contents::default() }
    }

    #[test]
    fn an_image_has_the_name_of_the_archive_or_the_one_that_is_given() {
        let one = contents(&[(None, "a")]);
        assert_eq!(names(&one, Some("x"), "f").unwrap(), ["docker.io/library/x:latest"]);
        assert!(names(&one, None, "f").unwrap_err().reason().contains("name it"));
        let two = contents(&[(Some("a.b/c:1"), "a"), (Some("a.b/c:2"), "b")]);
        assert_eq!(names(&two, None, "f").unwrap(), ["a.b/c:1", "a.b/c:2"]);
        assert!(names(&two, Some("x"), "f").is_err());
        let same = contents(&[(Some("a.b/c:1"), "a"), (Some("a.b/c:2"), "a")]);
        assert_eq!(names(&same, Some("a.b/c:3"), "f").unwrap(), ["a.b/c:3"]);
    }
}
