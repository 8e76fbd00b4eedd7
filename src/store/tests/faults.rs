//! What goes wrong in one place stays there.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::steps::{files, with_column};
use super::*;
use crate::ErrorKind;
use crate::log::FolderLock;
use crate::store::root::Root;
use crate::store::state::Core;

/// A disk that, while it is broken, cannot make a manifest file durable (its name shows only later) nor delete any.
#[derive(Debug)]
struct Disk {
    files: LocalFileSystem,
    broken: AtomicBool,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

fn late(location: &Location) -> Location {
    Location::from(format!("{location}.late"))
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(
        &self,
        location: &Location,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let hidden = self.broken.load(Ordering::SeqCst) && location.as_ref().starts_with("manifest");
        let location = if hidden { late(location) } else { location.clone() };
        self.files.put_opts(&location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> object_store::Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Location>>,
    ) -> BoxStream<'static, object_store::Result<Location>> {
        if self.broken.load(Ordering::SeqCst) {
            let source = "input/output error".into();
            let error = object_store::Error::Generic { store: "broken", source };
            return futures::stream::iter([Err(error)]).boxed();
        }
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> object_store::Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Location,
        to: &Location,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// A store on a disk that breaks during the commit of its second flush; three rows in all.
async fn with_doubtful_commit(folder: &Path) -> (Store, Arc<Disk>, std::path::PathBuf) {
    drop(open(folder).await.close().await);
    let disk = Arc::new(Disk {
        files: LocalFileSystem::new_with_prefix(folder).unwrap(),
        broken: AtomicBool::new(false),
    });
    let root = Root::new(folder, Arc::clone(&disk) as Arc<dyn ObjectStore>);
    let lock = FolderLock::take(folder).unwrap();
    let store = Store::start(Core::open_at(root, lock, quiet(folder)).await.unwrap());
    store.append(&[row("a", BASE, &[("cores", 1.0)])]).await.unwrap();
    store.flush().await.unwrap();
    store.append(&[row("a", BASE + 1, &[("cores", 2.0)])]).await.unwrap();
    let version = store.statistics().version;
    disk.broken.store(true, Ordering::SeqCst);
    store.flush().await.unwrap_err();
    assert_eq!(files(folder), 2, "the segment that the doubtful commit names stays");
    store.append(&[row("a", BASE + 2, &[("cores", 3.0)])]).await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
    let manifest = folder.join(format!("manifest/{:020}.json", version + 1));
    (store, disk, manifest)
}

#[tokio::test]
async fn a_commit_that_turns_out_to_have_survived_names_files_that_are_there() {
    for survived in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (store, _, manifest) = with_doubtful_commit(folder.path()).await;
        drop(store);
        let late = manifest.with_extension("json.late");
        match survived {
            true => std::fs::rename(late, manifest).unwrap(),
            false => std::fs::remove_file(late).unwrap(),
        }
        let store = open_when_free(folder.path()).await;
        assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
        store.flush().await.unwrap();
        assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
    }
}

#[tokio::test]
async fn a_doubtful_commit_is_taken_back_before_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, disk, manifest) = with_doubtful_commit(folder.path()).await;
    std::fs::rename(manifest.with_extension("json.late"), &manifest).unwrap();
    store.flush().await.unwrap_err();
    disk.broken.store(false, Ordering::SeqCst);
    store.flush().await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 3);
    assert_eq!(files(folder.path()), 3, "the opening sweeps what the doubtful commit left");
}

#[tokio::test]
async fn a_damaged_segment_keeps_only_its_own_group_from_being_merged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for i in 0..2 {
        let other = MetricBatch::try_new("other", row("a", BASE + i, &[("cores", 1.0)]).into_records());
        store.append(&[row("a", BASE + i, &[("cores", 1.0)]), other.unwrap()]).await.unwrap();
        store.flush().await.unwrap();
    }
    let segment = &store.snapshot().unwrap().tables["cpu"].segments[0];
    let path = folder.path().join(&segment.path);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, vec![0; whole.len()]).unwrap();
    let report = store.compact().await.unwrap();
    assert_eq!((report.jobs, report.failed), (1, 1));
    let tables = store.snapshot().unwrap().tables;
    assert_eq!((tables["cpu"].segments.len(), tables["other"].segments.len()), (2, 1));

    std::fs::write(&path, whole).unwrap();
    assert_eq!(store.compact().await.unwrap().jobs, 1);
    assert_eq!(read(&store.snapshot().unwrap()).await.len(), 4);
}

#[tokio::test]
async fn an_append_that_fails_leaves_no_type_behind() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { log_bytes: 1 << 20, ..quiet(folder.path()) };
    let store = Store::open(options).await.unwrap();
    let plain = row("a", BASE, &[("cores", 1.0)]);
    let noise: String = (0..4 << 20).map(|_| fastrand::alphanumeric()).collect();
    let huge = with_column(&plain, "x", Arc::new(StringArray::from(vec![noise])) as ArrayRef);
    let error = store.append(&[huge]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let number = with_column(&plain, "x", Arc::new(Int64Array::from(vec![1])));
    let appended = store.append(&[number]).await.unwrap();
    assert_eq!((appended.rows, appended.rejected.len()), (1, 0));
}

#[tokio::test]
async fn a_sequence_cut_into_files_is_merged_as_one() {
    const ROWS: i64 = 40_000;
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { segment_bytes: 1, ..quiet(folder.path()) };
    let store = Store::open(options).await.unwrap();
    let name = |i: i64| format!("host-{:05}", i % 977);
    for version in 0..2 {
        let names: Vec<_> = (0..ROWS).map(name).collect();
        let fields = [("cores", f64::from(version))];
        let specs: Vec<RowSpec<'_>> = (0..ROWS)
            .filter(|i| version == 0 || i % 3 == 0)
            .map(|i| (names[i as usize].as_str(), None, BASE + i, &fields[..]))
            .collect();
        store.append(&[rows(&specs)]).await.unwrap();
        store.flush().await.unwrap();
    }
    let cut = store.snapshot().unwrap().tables["cpu"].segments.len();
    assert!(cut > 4, "{cut} files");
    let before = read(&store.snapshot().unwrap()).await;
    let report = store.compact().await.unwrap();
    assert_eq!((report.jobs, report.inputs, report.rows), (1, cut as u64, ROWS as u64));
    let after = read(&store.snapshot().unwrap()).await;
    assert!(before == after, "merging changed rows");
    assert!(after.iter().all(|(key, fields)| fields["cores"] == f64::from((key.3 - BASE) % 3 == 0)));
}
