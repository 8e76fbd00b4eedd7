//! Images: the account's own are listed, and whichever one a creation names is looked at.

use async_trait::async_trait;
use aws_sdk_ec2::types;

use super::AwsProvider;
use super::calls::{first, not_there};
use super::error::{Answered, failed};
use super::inventory::{MOST, Paged, page};
use super::price_list::System;
use super::sizes::{Type, architecture};
use super::tags::{exactly, shown};
use crate::model::resource::{Image, Kind, ResourceId};
use crate::provider::{Done, Images, Token};
use crate::{ErrorKind, Result};

const DELETE: &str = "delete image";

/// What a creation has to know of its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) id: String,
    /// Instruction set in EC2's word; not known of one that EC2 looks up itself.
    pub(super) architecture: Option<String>,
    pub(super) root_device: Option<String>,
    pub(super) devices: Vec<String>,
    /// Sizes in GiB and types of the disks that it brings.
    pub(super) disks: Vec<(Option<i32>, Option<String>)>,
    /// Kept on EBS, so that an instance of it can be stopped.
    pub(super) on_ebs: bool,
    /// Whose licence is paid for; not known of an image that EC2 looks up itself.
    pub(super) system: Option<System>,
}

impl AwsProvider {
    pub(super) async fn images_page(&self, region: &str, token: Option<String>) -> Paged<Image> {
        let request = self.session.ec2(region).describe_images().owners("self").max_results(MOST);
        let answer = request.set_next_token(token).send().await.answered("list the images of", region)?;
        let page = page(answer.images, "image", region, |image| {
            let id = image.image_id.as_ref()?;
            Some(Image {
                id: self.id(region, Kind::Image, id),
                name: image.name.clone().unwrap_or_else(|| id.clone()),
                digest: None,
                architecture: image.architecture.as_ref().map(|word| architecture(word.as_str()).to_owned()),
                size_bytes: None,
                tags: shown(image.tags.as_deref()),
                created_at: image.creation_date.as_ref().and_then(|time| time.parse().ok()),
            })
        });
        Ok((page, answer.next_token))
    }

    /// The image that a creation names: by its id, by the name of one of the account's own, or as a parameter that EC2
    /// looks up itself (`resolve:ssm:...`).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where none is named or a name means several; [`ErrorKind::NotFound`].
    pub(super) async fn image_for(
        &self,
        operation: &str,
        region: &str,
        image: Option<&str>,
        name: &str,
    ) -> Result<Chosen> {
        let Some(image) = image else {
            let reason =
                "it has to be made from an image; name one by its id, for example ami-0123456789abcdef0";
            return Err(failed(ErrorKind::Invalid, operation, name, reason));
        };
        if image.starts_with("resolve:") {
            return Ok(Chosen { id: image.to_owned(), on_ebs: true, ..Chosen::default() });
        }
        let native = image.parse::<ResourceId>().map_or_else(|_| image.to_owned(), |id| id.native_id);
        let request = self.session.ec2(region).describe_images();
        let request = if native.starts_with("ami-") {
            request.image_ids(&native)
        } else {
            request.owners("self").filters(exactly("name", &native))
        };
        let found = request.send().await.answered("find the image", image)?.images.unwrap_or_default();
        match &found[..] {
            [one] => chosen(one).ok_or_else(|| not_there("find the image", image)),
            [] => {
                let reason = "there is no such image here; name one by its id (ami-...), or one of the account's own by \
                              its name";
                Err(failed(ErrorKind::NotFound, "find the image", image, reason))
            }
            several => {
                let reason = format!("{} images have this name; say which by its id", several.len());
                Err(failed(ErrorKind::Invalid, "find the image", image, reason))
            }
        }
    }

    /// The account's own image.
    async fn own_image(&self, id: &ResourceId) -> Result<types::Image> {
        let request = self.session.ec2(&id.location).describe_images().image_ids(&id.native_id);
        let answer = request.send().await.answered(DELETE, &id.native_id)?;
        first(DELETE, &id.native_id, answer.images)
    }

    /// The snapshots that an image was made of.
    ///
    /// # Errors
    /// Those of `DescribeImages`.
    pub(super) async fn snapshots_of_image(&self, id: &ResourceId) -> Result<Vec<ResourceId>> {
        let image = self.own_image(id).await?;
        let disks = image.block_device_mappings.unwrap_or_default().into_iter();
        let snapshots = disks.filter_map(|disk| disk.ebs?.snapshot_id);
        Ok(snapshots.map(|snapshot| id.sibling(Kind::Snapshot, snapshot)).collect())
    }
}

impl Chosen {
    /// Refuses a type that cannot run the image.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`].
    pub(super) fn suits(
        &self,
        operation: &str,
        name: &str,
        wanted: Option<&str>,
        size: &str,
        found: &Type,
    ) -> Result<()> {
        let Some(word) = &self.architecture else { return Ok(()) };
        let own = architecture(word);
        if wanted.is_some_and(|wanted| architecture(wanted) != own) {
            let reason = format!(
                "the image {} is for {own}; name another image, or leave the architecture out",
                self.id
            );
            return Err(failed(ErrorKind::Invalid, operation, name, reason));
        }
        if !found.architectures.is_empty() && !found.architectures.contains(word) {
            let reason = format!(
                "the image {} is for {own}, and {size} runs {}; choose another type or image",
                self.id,
                found.architectures.join(", ")
            );
            return Err(failed(ErrorKind::Invalid, operation, name, reason));
        }
        Ok(())
    }
}

fn chosen(image: &types::Image) -> Option<Chosen> {
    let disks = image.block_device_mappings.as_deref().unwrap_or_default();
    let ebs = disks.iter().filter_map(|disk| disk.ebs.as_ref());
    Some(Chosen {
        id: image.image_id.clone()?,
        architecture: image.architecture.as_ref().map(|word| word.as_str().to_owned()),
        root_device: image.root_device_name.clone(),
        devices: disks.iter().filter_map(|disk| disk.device_name.clone()).collect(),
        disks: ebs
            .map(|ebs| (ebs.volume_size, ebs.volume_type.as_ref().map(|kind| kind.as_str().to_owned())))
            .collect(),
        on_ebs: image.root_device_type.as_ref().is_none_or(|kind| kind.as_str() == "ebs"),
        system: System::of(
            image.platform_details.as_deref().or(image.platform.as_ref().map(types::PlatformValues::as_str)),
        ),
    })
}

#[async_trait]
impl Images for AwsProvider {
    async fn import(&self, archive: &str, _: Option<&str>, _: Option<&str>, _: Token) -> Result<Done> {
        let reason = "EC2 imports images from S3, which is not done here; make one with its own tools";
        Err(failed(ErrorKind::Unsupported, "import image", archive, reason))
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let image = self.own_image(id).await?;
        if image.owner_id.as_ref().is_some_and(|owner| *owner != self.scope.account) {
            let reason = "it is another account's, which alone can delete it";
            return Err(failed(ErrorKind::Denied, DELETE, &id.native_id, reason));
        }
        let request = self.session.ec2(&id.location).deregister_image().image_id(&id.native_id);
        request.send().await.answered(DELETE, &id.native_id)?;
        Ok(Done::changed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resource::Size;

    #[test]
    fn an_image_is_run_by_a_type_of_its_instruction_set() {
        let image = Chosen { id: "ami-1".into(), architecture: Some("arm64".into()), ..Chosen::default() };
        let found = |words: &[&str]| Type {
            size: Size::default(),
            architectures: words.iter().map(|word| (*word).into()).collect(),
            hibernates: false,
            takes_ebs: true,
            needs_ena: false,
            virtualizations: Vec::new(),
        };
        let suits = |wanted, found: &Type| image.suits("create", "web", wanted, "t3.micro", found);
        suits(None, &found(&["arm64"])).unwrap();
        suits(Some("aarch64"), &found(&["arm64"])).unwrap();
        suits(None, &found(&[])).unwrap();
        let error = suits(None, &found(&["x86_64"])).unwrap_err();
        assert!(error.to_string().contains("is for aarch64, and t3.micro runs x86_64"), "{error}");
        assert!(suits(Some("x86_64"), &found(&["arm64"])).is_err());
    }
}
