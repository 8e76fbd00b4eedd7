//! Reading images from an archive: everything is stored and unpacked first, and only then do the names change, all of them
//! or none.

use std::path::PathBuf;

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image as Record, UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use prost_types::FieldMask;

use super::archive::{self, Contents, Found};
use super::connect::Space;
use super::error::{Answered, failed};
use super::inventory::Reader;
use super::{content, create, image, unpack};
use crate::model::resource::Kind;
use crate::provider::{Action, Plan, Step};
use crate::{Error, ErrorKind, Result};

/// What an archive holds.
///
/// # Errors
/// It cannot be read, or is no archive of images.
pub(super) async fn contents(archive: &str) -> Result<Contents> {
    let path = PathBuf::from(archive);
    tokio::task::spawn_blocking(move || archive::read(&path)).await.map_err(|error| {
        failed(ErrorKind::Unavailable, "read the archive", archive, "the reading thread failed")
            .with_source(error)
    })?
}

/// The names that the images of an archive get.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is not clear which.
pub(super) fn names(contents: &Contents, wanted: Option<&str>, archive: &str) -> Result<Vec<String>> {
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

/// The plan of an import: it looks which names there are already, so that its way back takes nothing away that was there
/// before.
///
/// # Errors
/// Those of the archive and of containerd.
pub(super) async fn plan(
    reader: &Reader,
    wanted: &Action,
    archive: &str,
    location: Option<&str>,
    name: Option<&str>,
) -> Result<Plan> {
    let namespace = create::location(reader, location).await?;
    let space = reader.space(&namespace)?;
    let contents = contents(archive).await?;
    let names = names(&contents, name, archive)?;
    let mut there = Vec::new();
    for (name, found) in names.iter().zip(&contents.images) {
        there.push((
            name.clone(),
            found.digest.clone(),
            target(&space, name).await?.map(|target| target.digest),
        ));
    }
    let id = |name: &str| reader.scope.id(&namespace, Kind::Image, name);
    let changes = there.iter().any(|(_, new, old)| old.as_ref() != Some(new));
    if let Some((name, ..)) = there.first().filter(|_| !changes) {
        return Ok(Plan::nothing(wanted.clone(), id(name), name, "it is there already"));
    }
    let undo = way_back(&there).map(|made| {
        let delete = |name: &str| Action::DeleteImage { image: id(name).into() };
        made.into_iter().map(delete).collect::<Vec<_>>()
    });
    let plan = Plan::simple(wanted, None);
    let moved = there
        .iter()
        .filter_map(|(name, new, old)| old.as_ref().filter(|old| *old != new).map(|old| (name, old)));
    let notes =
        moved.map(|(name, old)| format!("{name} is {old} now, which may go once it has another name"));
    let notes = notes.collect();
    Ok(Plan { steps: vec![Step::new(wanted.clone(), undo.unwrap_or_default())], notes, ..plan })
}

/// The names that an import makes, and that are deleted to take it back: of (name, new content, old content). `None` if a
/// name moves away from a content that was there before: containerd removes that as soon as nothing names it.
fn way_back(there: &[(String, String, Option<String>)]) -> Option<Vec<&str>> {
    let moves = there.iter().any(|(_, new, old)| old.as_ref().is_some_and(|old| old != new));
    let made = there.iter().filter(|(_, _, old)| old.is_none()).map(|(name, ..)| name.as_str());
    (!moves).then(|| made.collect())
}

/// Stores what the archive holds, unpacks the layers and makes the records. Whether anything was not so already.
///
/// # Errors
/// Those of the archive and of containerd; the names are as they were then, or the error says that they could not be set
/// back.
pub(super) async fn import(
    space: &Space,
    contents: &Contents,
    names: &[String],
    archive: &str,
) -> Result<bool> {
    for blob in &contents.blobs {
        content::write(space, blob, archive).await?;
    }
    for (digest, labels) in &contents.labels {
        content::label(space, digest, labels.clone()).await?;
    }
    let records: Vec<_> =
        names.iter().zip(&contents.images).map(|(name, found)| record(name, found)).collect();
    // Before there is a record that promises it: an image that is not for this machine is refused whole.
    for record in &records {
        let resolved = image::resolved(space, record).await?;
        unpack::unpack(space, &resolved, unpack::SNAPSHOTTER).await?;
    }
    let mut written = Vec::new();
    for record in records {
        match write(space, record.clone()).await {
            Ok(Written::Same) => {}
            Ok(done) => written.push((record, done)),
            Err(error) => return Err(set_back(space, written, error).await),
        }
    }
    Ok(!written.is_empty())
}

/// What writing a record changed.
enum Written {
    /// There was none.
    New,
    /// It led to this.
    Moved(Descriptor),
    /// It was so already.
    Same,
}

fn record(name: &str, found: &Found) -> Record {
    let target = Descriptor {
        media_type: found.media_type.clone(),
        digest: found.digest.clone(),
        size: i64::try_from(found.size).unwrap_or(i64::MAX),
        ..Descriptor::default()
    };
    Record { name: name.to_owned(), target: Some(target), ..Record::default() }
}

async fn write(space: &Space, record: Record) -> Result<Written> {
    let name = record.name.clone();
    let mut client = space.images().await?;
    let request = CreateImageRequest { image: Some(record.clone()), ..CreateImageRequest::default() };
    match client.create(space.request(request)).await.answered("make the image", &name) {
        Ok(_) => return Ok(Written::New),
        Err(error) if error.kind() == ErrorKind::Conflict => {}
        Err(error) => return Err(error),
    }
    let old = target(space, &name).await?.unwrap_or_default();
    if Some(&old.digest) == record.target.as_ref().map(|target| &target.digest) {
        return Ok(Written::Same);
    }
    point(space, record).await?;
    Ok(Written::Moved(old))
}

/// What an image's record leads to, if there is one.
async fn target(space: &Space, name: &str) -> Result<Option<Descriptor>> {
    let there = space.images().await?.get(space.request(GetImageRequest { name: name.to_owned() })).await;
    match there.answered("find the image", name) {
        Ok(there) => Ok(there.image.and_then(|image| image.target)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn point(space: &Space, record: Record) -> Result<()> {
    let name = record.name.clone();
    let mask = FieldMask { paths: vec!["target".into()] };
    let request =
        UpdateImageRequest { image: Some(record), update_mask: Some(mask), ..UpdateImageRequest::default() };
    space.images().await?.update(space.request(request)).await.answered("change the image", &name).map(drop)
}

/// The names as they were, after an error.
async fn set_back(space: &Space, written: Vec<(Record, Written)>, error: Error) -> Error {
    let mut left = Vec::new();
    for (record, written) in written.into_iter().rev() {
        let name = record.name.clone();
        let back = match written {
            Written::New => delete(space, &name).await,
            Written::Moved(old) => point(space, Record { target: Some(old), ..record }).await,
            Written::Same => Ok(()),
        };
        if let Err(second) = back {
            left.push(format!("{name}: {}", second.reason()));
        }
    }
    if left.is_empty() {
        return error;
    }
    let reason = format!("{}; and these names could not be set back: {}", error.reason(), left.join(", "));
    failed(error.kind(), "import the image", error.resource().unwrap_or_default(), reason)
        .with_source(error)
        .partly_done()
}

async fn delete(space: &Space, name: &str) -> Result<()> {
    let request = DeleteImageRequest { name: name.to_owned(), sync: false, target: None };
    space.images().await?.delete(space.request(request)).await.answered("delete the image", name)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_way_back_deletes_only_what_was_not_there() {
        let there =
            |name: &str, old: Option<&str>| (name.to_owned(), "new".to_owned(), old.map(str::to_owned));
        assert_eq!(way_back(&[there("a", None), there("b", Some("new"))]), Some(vec!["a"]));
        assert_eq!(way_back(&[there("a", None), there("b", Some("old"))]), None);
    }
}
