//! Blobs in containerd's content store, each under the digest of its bytes.

use std::collections::HashMap;
use std::io::SeekFrom;

use containerd_client::services::v1::{
    Info, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use futures::{Stream, StreamExt, stream};
use prost_types::FieldMask;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use uuid::Uuid;

use super::archive::Blob;
use super::connect::Space;
use super::error::{failed, translated};
use crate::{Error, ErrorKind, Result};

/// Manifests and configurations are some kilobytes; more than this is something else.
const LARGEST_JSON: usize = 8 << 20;
/// gRPC takes messages up to 4 MiB.
const CHUNK: usize = 1 << 20;

/// A small blob, whole.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it is not there.
pub(super) async fn read(space: &Space, digest: &str) -> Result<Vec<u8>> {
    let request = space.request(ReadContentRequest { digest: digest.to_owned(), ..Default::default() });
    let heard = |status| translated("read the content", digest, status);
    let mut parts = space.content().await?.read(request).await.map_err(heard)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.map_err(heard)? {
        bytes.extend_from_slice(&part.data);
        if bytes.len() > LARGEST_JSON {
            let reason = "it is too large for a manifest or a configuration";
            return Err(failed(ErrorKind::Invalid, "read the content", digest, reason));
        }
    }
    Ok(bytes)
}

/// Stores a blob; one that is there already stays, and is kept by the lease.
///
/// # Errors
/// The archive cannot be read, or containerd does not take it.
pub(super) async fn write(space: &Space, blob: &Blob, archive: &str) -> Result<()> {
    let unread = |error| Error::io("read the archive", archive, error).with_provider(super::PROVIDER);
    let file = match blob.offset {
        Some(offset) => {
            let mut file = File::open(archive).await.map_err(unread)?;
            file.seek(SeekFrom::Start(offset)).await.map_err(unread)?;
            Some(file)
        }
        None => None,
    };
    let heard = |status: tonic::Status| translated("store the content", &blob.digest, status);
    let request = space.request(messages(blob, file));
    let mut answers = match space.content().await?.write(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(()),
        Err(status) => return Err(heard(status)),
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) if answer.action() == WriteAction::Commit => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => {
                let reason = "the archive ended too soon; it is damaged, or changes while it is read";
                return Err(failed(ErrorKind::Invalid, "store the content", &blob.digest, reason));
            }
            Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(()),
            Err(status) => return Err(heard(status)),
        }
    }
}

/// Sets labels of a blob; they are what keeps one blob while another refers to it.
///
/// # Errors
/// containerd does not take them.
pub(super) async fn label(space: &Space, digest: &str, labels: HashMap<String, String>) -> Result<()> {
    if labels.is_empty() {
        // A change that names no part would be one of all, and take the others away.
        return Ok(());
    }
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
    let request = space.request(UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) });
    let answer = space.content().await?.update(request).await;
    answer.map(drop).map_err(|status| translated("label the content", digest, status))
}

/// The messages that write a blob: its bytes in parts, then the word that it is whole. Without that word containerd
/// keeps nothing.
fn messages(blob: &Blob, file: Option<File>) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
    let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
    let first = WriteContentRequest {
        action: WriteAction::Write.into(),
        r#ref: format!("barograph-{}", Uuid::now_v7()),
        total: size,
        expected: blob.digest.clone(),
        ..WriteContentRequest::default()
    };
    let commit = WriteContentRequest { action: WriteAction::Commit.into(), ..first.clone() };
    let bytes = blob.bytes.clone();
    let parts = stream::unfold((file, bytes, 0_i64), move |(mut file, mut bytes, offset)| async move {
        let left = usize::try_from(size - offset).unwrap_or(0).min(CHUNK);
        if left == 0 {
            return None;
        }
        let data = match &mut file {
            Some(file) => {
                let mut data = vec![0; left];
                file.read_exact(&mut data).await.ok()?;
                data
            }
            None => bytes.drain(..left.min(bytes.len())).collect(),
        };
        let next = offset + i64::try_from(data.len()).unwrap_or(0);
        (!data.is_empty()).then_some(((offset, data), (file, bytes, next)))
    });
    let begun = first.clone();
    let parts = parts.map(move |(offset, data)| {
        (
            offset + i64::try_from(data.len()).unwrap_or(0),
            WriteContentRequest { offset, data, ..begun.clone() },
        )
    });
    // The word that it is whole follows only if it is.
    let empty = (size == 0).then_some((0, first));
    stream::iter(empty).chain(parts).flat_map(move |(end, part)| {
        let commit = (end == size).then(|| WriteContentRequest { offset: size, ..commit.clone() });
        stream::iter([part].into_iter().chain(commit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: &[u8], size: u64) -> Blob {
        Blob { digest: "sha256:x".into(), size, offset: None, bytes: bytes.to_vec() }
    }

    #[tokio::test]
    async fn only_what_is_whole_is_committed() {
        let actions = async |blob: Blob| -> Vec<(WriteAction, i64, usize)> {
            let parts = messages(&blob, None).map(|part| (part.action(), part.offset, part.data.len()));
            parts.collect().await
        };
        let (write, commit) = (WriteAction::Write, WriteAction::Commit);
        assert_eq!(actions(blob(b"abc", 3)).await, [(write, 0, 3), (commit, 3, 0)]);
        assert_eq!(actions(blob(b"", 0)).await, [(write, 0, 0), (commit, 0, 0)]);
        assert_eq!(actions(blob(b"ab", 3)).await, [(write, 0, 2)]);
        let large = vec![7; CHUNK + 1];
        let size = large.len() as i64;
        let expected = [(write, 0, CHUNK), (write, CHUNK as i64, 1), (commit, size, 0)];
        assert_eq!(actions(blob(&large, size as u64)).await, expected);
    }
}
