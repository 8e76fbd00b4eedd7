//! From an image's name to what a container needs of it: its configuration and the layers of its root file system.

use std::collections::HashMap;

use containerd_client::services::v1::{GetImageRequest, Image};
use containerd_client::types::Descriptor;
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::archive::{hex, normalized};
use super::connect::Space;
use super::content;
use super::error::{Answered, failed};
use crate::{ErrorKind, Result};

/// Indexes may lie in indexes, but not without end.
const DEEPEST: usize = 4;

/// An image for this machine's processors.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// Its manifest.
    pub(super) manifest: ImageManifest,
    /// Where the configuration is.
    pub(super) config_digest: String,
    /// How containers of it run.
    pub(super) config: ImageConfiguration,
    /// The layers as they are stored, the lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// Their digests when unpacked.
    pub(super) diff_ids: Vec<String>,
}

impl Resolved {
    /// The names of the snapshots, one upon the other.
    pub(super) fn chain(&self) -> Vec<String> {
        chain_ids(&self.diff_ids)
    }
}

/// The image of a name. Docker's short names are understood too.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none.
pub(super) async fn named(space: &Space, name: &str) -> Result<Image> {
    let mut client = space.images().await?;
    let mut missing = None;
    for name in [name.to_owned(), normalized(name)] {
        let answer = client.get(space.request(GetImageRequest { name: name.clone() })).await;
        match answer.answered("find the image", &name) {
            Ok(answer) => match answer.image {
                Some(image) => return Ok(image),
                None => continue,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => missing = missing.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    let reason = format!("the namespace {} has no such image; import it first", space.name());
    let error = failed(ErrorKind::NotFound, "find the image", name, reason);
    Err(match missing {
        Some(missing) => error.with_source(missing),
        None => error,
    })
}

/// What a container of the image needs.
///
/// # Errors
/// Its content is not there, is not for this machine, or cannot be understood.
pub(super) async fn resolved(space: &Space, image: &Image) -> Result<Resolved> {
    let bad = |reason: &str| failed(ErrorKind::Invalid, "use the image", &image.name, reason);
    let mut target = image.target.clone().ok_or_else(|| bad("it has no content"))?;
    for _ in 0..DEEPEST {
        if !is_index(&target.media_type) {
            return of_manifest(space, image, &target).await;
        }
        let index: ImageIndex = json(space, &target.digest).await?;
        let fits = |descriptor: &&oci_spec::image::Descriptor| match descriptor.platform() {
            Some(platform) => {
                platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture()
            }
            None => true,
        };
        let child = index.manifests().iter().find(fits);
        let child = child.ok_or_else(|| bad("it has nothing for this machine's processors"))?;
        target = descriptor(child);
    }
    Err(bad("its indexes lie too deep in one another"))
}

async fn of_manifest(space: &Space, image: &Image, target: &Descriptor) -> Result<Resolved> {
    let bad = |reason: &str| failed(ErrorKind::Invalid, "use the image", &image.name, reason);
    let manifest: ImageManifest = json(space, &target.digest).await?;
    let config_digest = manifest.config().digest().to_string();
    let config: ImageConfiguration = json(space, &config_digest).await?;
    let diff_ids: Vec<String> = config.rootfs().diff_ids().clone();
    let layers: Vec<_> = manifest.layers().iter().map(descriptor).collect();
    if layers.len() != diff_ids.len() {
        return Err(bad("its manifest and its configuration do not agree about its layers"));
    }
    if config.architecture().to_string() != architecture() {
        return Err(bad("it is not for this machine's processors"));
    }
    Ok(Resolved { manifest, config_digest, config, layers, diff_ids })
}

async fn json<T: DeserializeOwned>(space: &Space, digest: &str) -> Result<T> {
    let bytes = content::read(space, digest).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        failed(ErrorKind::Invalid, "understand the content", digest, format!("it is wrong: {error}"))
    })
}

fn descriptor(descriptor: &oci_spec::image::Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type().to_string(),
        digest: descriptor.digest().to_string(),
        size: i64::try_from(descriptor.size()).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    }
}

fn is_index(media_type: &str) -> bool {
    media_type.contains("image.index") || media_type.contains("manifest.list")
}

/// This machine's processors in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The names of snapshots: the first is the layer's own digest, each other that of the one below and its layer's.
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(below) => format!("sha256:{}", hex(&Sha256::digest(format!("{below} {diff_id}")))),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_named_as_containerd_names_it() {
        // What a real containerd made of these two layers.
        let diff_ids = [
            "sha256:7e48e627cd33137404b8ee09c4aca8d85a47acf96f810befa3df3f0a5d33666a".to_owned(),
            "sha256:8103b9946602f1cc8f5326bcd0796d2ba072e83bec7bbd60d014c7c62d97471e".to_owned(),
        ];
        let second = "sha256:19d0360c6e3d8fc67589ba25cc30cd0e77714894e9fa708cb2cc205bd46376ef";
        assert_eq!(chain_ids(&diff_ids), [diff_ids[0].as_str(), second]);
        assert!(chain_ids(&[]).is_empty());
        assert!(is_index("application/vnd.oci.image.index.v1+json"));
        assert!(is_index("application/vnd.docker.distribution.manifest.list.v2+json"));
        assert!(!is_index("application/vnd.oci.image.manifest.v1+json"));
    }
}
