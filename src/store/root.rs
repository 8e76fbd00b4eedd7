//! The store's folder: object-store paths for everything, with the fsyncs that a local disk needs on top.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::{Error, ErrorKind, Result};

/// Where the files of a store lie; cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Root {
    folder: Arc<FsPath>,
    objects: Arc<dyn ObjectStore>,
}

impl Root {
    /// The root in an existing folder.
    pub(super) fn open(folder: &FsPath) -> Result<Self> {
        let folder = std::fs::canonicalize(folder).map_err(|e| Error::io("open store", folder, e))?;
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|e| failed("open store", "", e))?;
        Ok(Self::new(&folder, Arc::new(objects)))
    }

    /// The root of objects that lie in this folder.
    pub(super) fn new(folder: &FsPath, objects: Arc<dyn ObjectStore>) -> Self {
        Self { folder: folder.into(), objects }
    }

    /// The folder on the local disk: for the log, the lock and fsync.
    pub(super) fn folder(&self) -> &FsPath {
        &self.folder
    }

    /// All objects of the store.
    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Writes an object that must not exist yet; durable on return.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it exists. [`NotCreated::doubtful`] says whether this one may be there all the same.
    pub(super) async fn create(&self, name: &str, content: Vec<u8>) -> std::result::Result<(), NotCreated> {
        let location = Path::from(name);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects
            .put_opts(&location, Bytes::from(content).into(), options)
            .await
            .map_err(|e| failed("write", name, e))?;
        if let Err(error) = self.sync(name).await {
            // It may or may not survive a power cut, so it must be gone, and stay so.
            let gone = self.remove_durably(name).await;
            return Err(NotCreated { error, doubtful: gone.is_err() });
        }
        Ok(())
    }

    /// The whole content of a small object.
    pub(super) async fn read(&self, name: &str) -> Result<Bytes> {
        let read = async { self.objects.get(&Path::from(name)).await?.bytes().await };
        read.await.map_err(|e| failed("read", name, e))
    }

    /// Deletes an object; one that is gone already is no error.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match self.objects.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", name, error)),
        }
    }

    /// Deletes an object so that no power cut brings it back.
    pub(super) async fn remove_durably(&self, name: &str) -> Result<()> {
        self.remove(name).await?;
        match name.rsplit_once('/') {
            Some((folder, _)) => self.sync(folder).await,
            None => self.sync("").await,
        }
    }

    /// Makes an object and its name survive a power cut.
    pub(super) async fn sync(&self, name: &str) -> Result<()> {
        let (folder, path) = (Arc::clone(&self.folder), self.folder.join(name));
        blocking(move || {
            // A folder on the way may be new, so its name needs it too.
            for path in path.ancestors().take_while(|path| path.starts_with(&folder)) {
                let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
                synced.map_err(|e| Error::io("sync", path, e).with_provider("store"))?;
            }
            Ok(())
        })
        .await
    }
}

/// Why an object was not created.
#[derive(Debug)]
pub(super) struct NotCreated {
    pub(super) error: Error,
    /// It could neither be made durable nor be taken back: it may be there, now or after a power cut.
    pub(super) doubtful: bool,
}

impl From<Error> for NotCreated {
    fn from(error: Error) -> Self {
        Self { error, doubtful: false }
    }
}

/// Makes the folders of a store and makes their names survive a power cut.
pub(super) fn create_folders(folder: &FsPath, names: &[&str]) -> Result<()> {
    let failed = |path: &FsPath, e| Error::io("create the store's folder", path, e).with_provider("store");
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    for path in &paths {
        std::fs::create_dir_all(path).map_err(|e| failed(path, e))?;
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    for path in std::iter::once(folder).chain(parent) {
        std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| failed(path, e))?;
    }
    Ok(())
}

/// Runs file work on a thread where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(interrupted(error)),
    }
}

/// Runs a future that computes a lot on a thread of its own, so that it never delays the runtime's other tasks.
pub(super) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || runtime.block_on(work)).await
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::unavailable("finish a background task of the store", "it was stopped or panicked")
        .with_source(error)
        .with_provider("store")
}

/// An object-store fault as ours.
fn failed(operation: &str, name: &str, error: object_store::Error) -> Error {
    use object_store::Error as Object;
    let full = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source())
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded));
    let (kind, reason) = match &error {
        _ if full => (ErrorKind::Capacity, "the disk is full; free some space"),
        Object::NotFound { .. } => (ErrorKind::NotFound, "no such file"),
        Object::AlreadyExists { .. } => (ErrorKind::Conflict, "it exists already"),
        Object::PermissionDenied { .. } => (ErrorKind::Denied, "permission denied; check the owner and mode"),
        _ => (ErrorKind::Unavailable, "input/output error"),
    };
    Error::new(kind, operation, reason).with_provider("store").with_resource(name).with_source(error)
}
