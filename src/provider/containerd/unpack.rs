//! Layers as snapshots: what a container's root file system stands on.

use std::collections::HashMap;

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::types::Mount;
use uuid::Uuid;

use super::connect::Space;
use super::content;
use super::error::{Answered, failed};
use super::image::Resolved;
use crate::{ErrorKind, Result};

/// The snapshotter that is used where none is named, as containerd itself does.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// Unpacks the layers that are not yet; gives back the name of the uppermost, which is empty for an image without layers.
/// To be called under a lease.
///
/// # Errors
/// A layer cannot be unpacked; those below it stay.
pub(super) async fn unpack(space: &Space, image: &Resolved, snapshotter: &str) -> Result<String> {
    let mut parent = String::new();
    for (number, name) in image.chain().into_iter().enumerate() {
        if !is_there(space, snapshotter, &name).await? {
            let key = format!("extract-{} {name}", Uuid::now_v7());
            let mounts = prepare(space, snapshotter, &key, &parent, HashMap::new()).await?;
            let made = layer(space, image, number, mounts, snapshotter, &name, &key).await;
            if let Err(error) = made {
                remove(space, snapshotter, &key).await.unwrap_or_else(|left| {
                    tracing::warn!("{}", left.chain());
                });
                return Err(error);
            }
        }
        parent = name;
    }
    if !parent.is_empty() {
        // So the snapshots stay as long as the image.
        let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        content::label(space, &image.config_digest, HashMap::from([(key, parent.clone())])).await?;
    }
    Ok(parent)
}

async fn layer(
    space: &Space,
    image: &Resolved,
    number: usize,
    mounts: Vec<Mount>,
    snapshotter: &str,
    name: &str,
    key: &str,
) -> Result<()> {
    let (Some(layer), Some(diff_id)) = (image.layers.get(number), image.diff_ids.get(number)) else {
        return Err(failed(ErrorKind::Invalid, "unpack the layer", name, "the image has no such layer"));
    };
    let request = ApplyRequest { diff: Some(layer.clone()), mounts, ..ApplyRequest::default() };
    let applied = space.diff().await?.apply(space.request(request)).await;
    let applied = applied.answered("unpack the layer", &layer.digest)?.applied.unwrap_or_default();
    if applied.digest != *diff_id {
        let reason = format!("its content is {}, not {diff_id} as the image says", applied.digest);
        return Err(failed(ErrorKind::Invalid, "unpack the layer", &layer.digest, reason));
    }
    let uncompressed = HashMap::from([("containerd.io/uncompressed".to_owned(), diff_id.clone())]);
    content::label(space, &layer.digest, uncompressed).await?;
    let request = CommitSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        labels: HashMap::new(),
    };
    let committed = space.snapshots().await?.commit(space.request(request)).await;
    match committed.answered("keep the layer", name) {
        Ok(()) => Ok(()),
        // Somebody else unpacked the same layer in the meantime.
        Err(error) if error.kind() == ErrorKind::Conflict => remove(space, snapshotter, key).await,
        Err(error) => Err(error),
    }
}

/// Whether there is a snapshot of this name.
///
/// # Errors
/// containerd does not answer.
pub(super) async fn is_there(space: &Space, snapshotter: &str, key: &str) -> Result<bool> {
    let request = StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    match space.snapshots().await?.stat(space.request(request)).await.answered("find the snapshot", key) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A snapshot that can be written to.
///
/// # Errors
/// [`ErrorKind::Conflict`] if there is one of this name.
pub(super) async fn prepare(
    space: &Space,
    snapshotter: &str,
    key: &str,
    parent: &str,
    labels: HashMap<String, String>,
) -> Result<Vec<Mount>> {
    let request = PrepareSnapshotRequest {
        snapshotter: snapshotter.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels,
    };
    let prepared = space.snapshots().await?.prepare(space.request(request)).await;
    Ok(prepared.answered("make the snapshot", key)?.mounts)
}

/// Removes a snapshot; one that is gone already is as good.
///
/// # Errors
/// Something is still based on it, or containerd does not answer.
pub(super) async fn remove(space: &Space, snapshotter: &str, key: &str) -> Result<()> {
    let request = RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
    match space.snapshots().await?.remove(space.request(request)).await.answered("remove the snapshot", key) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
