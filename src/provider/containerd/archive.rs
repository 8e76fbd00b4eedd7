//! Image archives: a tar file with an OCI layout, or what `docker save` writes.
//!
//! The file is read where it lies: an index of its entries is made once, and every blob's digest is checked before
//! containerd gets any of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::error::failed;
use crate::{Error, ErrorKind, Result};

/// The reading of an archive goes wrong in this operation.
const OPERATION: &str = "read the archive";
/// The largest manifest or configuration that is believed.
const LARGEST_JSON: u64 = 8 << 20;
/// Indexes may lie in indexes, but not without end.
const DEEPEST: usize = 4;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Bytes to be stored under their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// As `sha256:<hex>`.
    pub(super) digest: String,
    pub(super) size: u64,
    /// Where they begin in the archive; `None` if they are here.
    pub(super) offset: Option<u64>,
    pub(super) bytes: Vec<u8>,
}

/// An image in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name, if the archive says one.
    pub(super) name: Option<String>,
    /// Its index or manifest.
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// What the archive holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) images: Vec<Found>,
    /// What is to be stored, what is referred to before what refers to it.
    pub(super) blobs: Vec<Blob>,
    /// Labels by digest, with which containerd keeps what an index or manifest refers to.
    pub(super) labels: Vec<(String, HashMap<String, String>)>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

struct Archive<'a> {
    path: &'a Path,
    file: File,
    /// Where each file begins, and its size.
    files: HashMap<String, (u64, u64)>,
    links: HashMap<String, String>,
    contents: Contents,
}

/// Reads what an archive holds and checks all of its digests. Blocks.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a file that is no archive of images, or a damaged one.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let mut archive = Archive::open(path)?;
    if archive.files.contains_key("index.json") {
        archive.layout()?;
    } else if archive.files.contains_key("manifest.json") {
        archive.saved()?;
    } else {
        return Err(archive.bad("it has neither index.json nor manifest.json; it holds no images"));
    }
    if archive.contents.images.is_empty() {
        return Err(archive.bad("it holds no images"));
    }
    Ok(archive.contents)
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let unread = |error| Error::io(OPERATION, path, error).with_provider(super::PROVIDER);
        let mut file = File::open(path).map_err(unread)?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic).map_err(unread)?;
        if magic[..read].starts_with(&[0x1F, 0x8B]) || magic[..read].starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            let reason = "it is compressed as a whole; unpack it with gunzip or zstd first";
            return Err(failed(ErrorKind::Invalid, OPERATION, &path.display().to_string(), reason));
        }
        file.seek(SeekFrom::Start(0)).map_err(unread)?;
        let mut archive =
            Self { path, file, files: HashMap::new(), links: HashMap::new(), contents: Contents::default() };
        archive.index()?;
        Ok(archive)
    }

    fn index(&mut self) -> Result<()> {
        let bad = |error: std::io::Error| {
            let reason = format!("it is no tar file, or a damaged one: {error}");
            failed(ErrorKind::Invalid, OPERATION, &self.path.display().to_string(), reason)
        };
        let mut tar = tar::Archive::new(&self.file);
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        for entry in tar.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name = plain(&entry.path().map_err(bad)?);
            let kind = entry.header().entry_type();
            if kind.is_file() {
                files.insert(name, (entry.raw_file_position(), entry.size()));
            } else if let (true, Some(target)) =
                (kind.is_symlink() || kind.is_hard_link(), entry.link_name().map_err(bad)?)
            {
                // A hard link is named from the top, a symbolic one from where it lies.
                let base = Path::new(&name).parent().filter(|_| kind.is_symlink());
                let target = base.map_or_else(|| target.to_path_buf(), |base| base.join(&target));
                links.insert(name, plain(&target));
            }
        }
        (self.files, self.links) = (files, links);
        Ok(())
    }

    /// The images that `index.json` of an OCI layout names.
    fn layout(&mut self) -> Result<()> {
        let index: ImageIndex = self.json("index.json")?;
        for descriptor in index.manifests() {
            let name = descriptor.annotations().as_ref().and_then(|notes| {
                let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
                keys.into_iter().find_map(|key| notes.get(key)).cloned()
            });
            if !self.tree(descriptor, 0)? {
                return Err(self.bad(format!("its blob {} is missing", descriptor.digest())));
            }
            self.contents.images.push(Found {
                name,
                media_type: descriptor.media_type().to_string(),
                digest: descriptor.digest().to_string(),
                size: descriptor.size(),
            });
        }
        Ok(())
    }

    /// Takes over an index or manifest with all that it refers to; `false` if it is not in the archive, as those of
    /// other platforms may not be.
    fn tree(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool> {
        if depth > DEEPEST {
            return Err(self.bad("its indexes lie too deep in one another"));
        }
        let digest = descriptor.digest().to_string();
        let Some(blob) = self.blob(descriptor)? else { return Ok(false) };
        let file = blob_file(&digest);
        let media_type = descriptor.media_type().to_string();
        let mut labels = HashMap::new();
        if media_type.contains("index") || media_type.contains("manifest.list") {
            let index: ImageIndex = self.json(&file)?;
            for (number, child) in index.manifests().iter().enumerate() {
                if self.tree(child, depth + 1)? {
                    labels.insert(
                        format!("containerd.io/gc.ref.content.m.{number}"),
                        child.digest().to_string(),
                    );
                }
            }
        } else {
            let manifest: ImageManifest = self.json(&file)?;
            for (key, part) in references(&manifest) {
                let found = self
                    .blob(part)?
                    .ok_or_else(|| self.bad(format!("its blob {} is missing", part.digest())))?;
                self.add(found);
                labels.insert(key, part.digest().to_string());
            }
        }
        self.add(blob);
        self.contents.labels.push((digest, labels));
        Ok(true)
    }

    /// The images that `manifest.json` of `docker save` names. Its manifests are not in the archive: they are made.
    fn saved(&mut self) -> Result<()> {
        let saved: Vec<Saved> = self.json("manifest.json")?;
        for image in saved {
            let config = self.hashed(&image.config)?;
            let mut layers = Vec::new();
            for layer in &image.layers {
                let zipped = self.head(layer)?.starts_with(&[0x1F, 0x8B]);
                let media_type = format!("{DOCKER_LAYER}{}", if zipped { ".gzip" } else { "" });
                layers.push((media_type, self.hashed(layer)?));
            }
            let part = |media_type: &str, blob: &Blob| json!({ "mediaType": media_type, "size": blob.size, "digest": blob.digest });
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": DOCKER_MANIFEST,
                "config": part(DOCKER_CONFIG, &config),
                "layers": layers.iter().map(|(media_type, blob)| part(media_type, blob)).collect::<Vec<_>>(),
            });
            let bytes = manifest.to_string().into_bytes();
            let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
            let mut labels =
                HashMap::from([("containerd.io/gc.ref.content.config".to_owned(), config.digest.clone())]);
            for (number, (_, layer)) in layers.iter().enumerate() {
                labels.insert(format!("containerd.io/gc.ref.content.l.{number}"), layer.digest.clone());
            }
            self.add(config);
            layers.into_iter().for_each(|(_, layer)| self.add(layer));
            let size = bytes.len() as u64;
            self.add(Blob { digest: digest.clone(), size, offset: None, bytes });
            self.contents.labels.push((digest.clone(), labels));
            let names = image.repo_tags.unwrap_or_default();
            let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
            let found = names.into_iter().map(|name| Found {
                name: name.as_deref().map(normalized),
                media_type: DOCKER_MANIFEST.into(),
                digest: digest.clone(),
                size,
            });
            self.contents.images.extend(found);
        }
        Ok(())
    }

    fn add(&mut self, blob: Blob) {
        if !self.contents.blobs.iter().any(|other| other.digest == blob.digest) {
            self.contents.blobs.push(blob);
        }
    }

    /// The blob of an OCI layout, checked; `None` if it is not there.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Option<Blob>> {
        let digest = descriptor.digest().to_string();
        let file = blob_file(&digest);
        if !digest.starts_with("sha256:") {
            return Err(self.bad(format!("only SHA-256 is understood, not {digest}")));
        }
        if !self.files.contains_key(&file) {
            return Ok(None);
        }
        let blob = self.hashed(&file)?;
        if blob.digest != digest || blob.size != descriptor.size() {
            return Err(self.bad(format!("its blob {digest} is damaged")));
        }
        Ok(Some(blob))
    }

    /// A file as a blob under its digest.
    fn hashed(&mut self, name: &str) -> Result<Blob> {
        let (offset, size) = self.find(name)?;
        let unread = |error| Error::io(OPERATION, self.path, error).with_provider(super::PROVIDER);
        self.file.seek(SeekFrom::Start(offset)).map_err(unread)?;
        let mut hasher = Sha256::new();
        let read = std::io::copy(&mut (&mut self.file).take(size), &mut hasher).map_err(unread)?;
        if read != size {
            return Err(self.bad("it ends too soon"));
        }
        let digest = format!("sha256:{}", hex(&hasher.finalize()));
        Ok(Blob { digest, size, offset: Some(offset), bytes: Vec::new() })
    }

    fn head(&mut self, name: &str) -> Result<Vec<u8>> {
        let (offset, size) = self.find(name)?;
        self.bytes(offset, size.min(4))
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let (offset, size) = self.find(name)?;
        if size > LARGEST_JSON {
            return Err(self.bad(format!("its {name} is too large")));
        }
        let bytes = self.bytes(offset, size)?;
        serde_json::from_slice(&bytes).map_err(|error| self.bad(format!("its {name} is wrong: {error}")))
    }

    fn bytes(&mut self, offset: u64, size: u64) -> Result<Vec<u8>> {
        let unread = |error| Error::io(OPERATION, self.path, error).with_provider(super::PROVIDER);
        self.file.seek(SeekFrom::Start(offset)).map_err(unread)?;
        let mut bytes = Vec::new();
        (&mut self.file).take(size).read_to_end(&mut bytes).map_err(unread)?;
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let mut name = name;
        for _ in 0..DEEPEST {
            if let Some(found) = self.files.get(name) {
                return Ok(*found);
            }
            let Some(target) = self.links.get(name) else { break };
            name = target;
        }
        Err(self.bad(format!("its {name} is missing")))
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        failed(ErrorKind::Invalid, OPERATION, &self.path.display().to_string(), reason)
    }
}

/// What a manifest refers to, with the label that keeps it.
fn references(manifest: &ImageManifest) -> impl Iterator<Item = (String, &Descriptor)> {
    let layers = manifest.layers().iter().enumerate();
    let layers = layers.map(|(number, layer)| (format!("containerd.io/gc.ref.content.l.{number}"), layer));
    std::iter::once(("containerd.io/gc.ref.content.config".to_owned(), manifest.config())).chain(layers)
}

/// `./a/../b` as `b`.
fn plain(path: &Path) -> String {
    use std::path::Component;
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

fn blob_file(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Docker's short names in full, as containerd's own import writes them.
pub(super) fn normalized(name: &str) -> String {
    let name = match name.rsplit_once('/').map_or(name, |(_, last)| last).contains([':', '@']) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name,
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Bytes as lowercase hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
