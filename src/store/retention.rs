//! What goes: windows past the retention, and files that nobody can be reading any more.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::compaction::{compact, rest};
use super::manifest::{Edit, Manifest};
use super::output;
use super::root::{Root, blocking};
use super::state::{Core, now_millis, now_nanos};
use crate::{Error, Result};

/// Wait after work that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Retention, deletion and compaction, one after the other, until stopped.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(core.options.maintenance_interval) => {}
        }
        let work = async {
            drop_old(&core).await?;
            delete_removed(&core).await?;
            compact(&core, rest(&core)?).await
        };
        let result = work.await;
        core.metrics.state(&core);
        match result {
            Err(error) if !core.stop.is_cancelled() => {
                tracing::error!(error = %error.chain(), "background work of the store failed; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
            _ => {}
        }
    }
}

/// Takes windows that ended before the retention out of the manifest.
pub(super) async fn drop_old(core: &Core) -> Result<()> {
    let Some(retention) = core.options.retention else {
        return Ok(());
    };
    let retention = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
    let before = now_nanos().saturating_sub(retention);
    let _turn = core.maintaining.lock().await;
    let removed: Vec<_> = core
        .manifest()
        .segments()
        .filter(|(_, segment)| segment.window_end <= before)
        .map(|(table, segment)| (table.to_owned(), segment.id.clone()))
        .collect();
    if removed.is_empty() {
        return Ok(());
    }
    core.metrics.dropped_segments.inc_by(removed.len() as u64);
    core.commit(Edit { removed, ..Edit::default() }, |_| {}).await
}

/// Deletes files that were removed long enough ago and that no snapshot of this process names.
pub(super) async fn delete_removed(core: &Core) -> Result<()> {
    let grace = i64::try_from(core.options.grace.as_millis()).unwrap_or(i64::MAX);
    let before = now_millis().saturating_sub(grace);
    let (manifest, in_use) = {
        let mut state = core.state.lock();
        (Arc::clone(&state.manifest), state.oldest_version())
    };
    let mut deleted = Vec::new();
    for removed in manifest.removed.iter().filter(|removed| removed.at <= before && removed.version <= in_use)
    {
        core.root.remove(&removed.path).await?;
        deleted.push(removed.id.clone());
    }
    drop(manifest);
    if deleted.is_empty() {
        return Ok(());
    }
    core.commit(Edit { deleted, ..Edit::default() }, |_| {}).await
}

/// Deletes segment files that the manifest does not know: a crash came between writing and committing them. Only for
/// the holder of the lock, before it writes.
pub(super) async fn sweep(root: &Root, manifest: &Manifest) -> Result<()> {
    let live = manifest.segments().map(|(_, segment)| segment.path.as_str());
    let known: HashSet<PathBuf> = live
        .chain(manifest.removed.iter().map(|removed| removed.path.as_str()))
        .map(|path| root.folder().join(path))
        .collect();
    let folder = root.folder().join(output::FOLDER);
    blocking(move || {
        for file in files(&folder)? {
            if !known.contains(&file) {
                tracing::info!(path = %file.display(), "deleting a file that was never committed");
                std::fs::remove_file(&file).map_err(|e| Error::io("delete", &file, e))?;
            }
        }
        Ok(())
    })
    .await
}

/// Whether there is any segment file.
pub(super) async fn any_segment(root: &Root) -> Result<bool> {
    let folder = root.folder().join(output::FOLDER);
    blocking(move || Ok(!files(&folder)?.is_empty())).await
}

/// All files in the folder's folders; also unfinished uploads, which an object store would not list.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let failed = |e| Error::io("list", folder, e).with_provider("store");
        std::fs::read_dir(folder)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect()
    };
    let mut files = Vec::new();
    for table in list(folder)? {
        if table.is_dir() {
            files.extend(list(&table)?.into_iter().filter(|path| path.is_file()));
        }
    }
    Ok(files)
}
