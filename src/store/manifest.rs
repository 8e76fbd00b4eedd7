//! Which segments live, and up to where the log is in them: a chain of numbered files that are only ever created.
//!
//! Version `n` is `manifest/<n as 20 digits>.json`. Each file says what changed; the first one and every 64th hold the
//! whole state, so that a reader needs at most 64 files and older ones can go. A commit is one create-only write,
//! durable before anything that relies on it happens: segments and log position change together or not at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::SegmentMeta;
use super::options::Windows;
use super::root::{NotCreated, Root};
use crate::log::Position;
use crate::{Error, ErrorKind, Result};

/// Folder of the manifest files.
pub(super) const FOLDER: &str = "manifest";

/// Every so many versions the whole state is written.
const CHECKPOINT_EVERY: u64 = 64;

/// The state of a store as of one version.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    /// Rises by one with each commit.
    pub(super) version: u64,
    /// All rows before this position of the log are in segments.
    pub(super) log: Position,
    /// Length of the time windows.
    pub(super) windows: Windows,
    /// Live segments by table.
    pub(super) tables: BTreeMap<String, Vec<SegmentMeta>>,
    /// Files that are no longer live but may be in use.
    pub(super) removed: Vec<Removed>,
}

/// A file that waits for its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removed {
    pub(super) table: String,
    pub(super) id: String,
    pub(super) path: String,
    /// The first version without it.
    pub(super) version: u64,
    /// When that was, in milliseconds since 1970 UTC.
    pub(super) at: i64,
}

/// A change to be committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Edit {
    /// New log position, if it moves.
    pub(super) log: Option<Position>,
    /// New segments with their table. A precedence of [`FRESH`] becomes the number of the new version.
    pub(super) added: Vec<(String, SegmentMeta)>,
    /// Segments that end, as table and id.
    pub(super) removed: Vec<(String, String)>,
    /// Ids of removed files that are deleted by now.
    pub(super) deleted: Vec<String>,
}

/// The precedence of a segment that has none yet.
pub(super) const FRESH: u64 = 0;

/// What a manifest file holds: in a checkpoint everything, otherwise the change from the version before.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    version: u64,
    log: Position,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    windows: Option<Windows>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    added: BTreeMap<String, Vec<SegmentMeta>>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    removed: Vec<Removed>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    deleted: Vec<String>,
}

impl Manifest {
    /// The state of a store without rows.
    pub(super) fn empty(windows: Windows) -> Self {
        Self { version: 0, log: Position::START, windows, tables: BTreeMap::new(), removed: Vec::new() }
    }

    /// All live segments with their table.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&str, &SegmentMeta)> {
        self.tables.iter().flat_map(|(table, list)| list.iter().map(move |segment| (table.as_str(), segment)))
    }

    /// The next version, with `edit` done at `now` (milliseconds since 1970 UTC).
    fn entry(&self, edit: Edit, now: i64) -> Result<Entry> {
        let version = self.version + 1;
        let live: HashSet<&str> = self.segments().map(|(_, segment)| segment.id.as_str()).collect();
        let mut removed = Vec::with_capacity(edit.removed.len());
        for (table, id) in edit.removed {
            let segment =
                self.tables.get(&table).and_then(|list| list.iter().find(|segment| segment.id == id));
            let Some(segment) = segment.filter(|segment| live.contains(segment.id.as_str())) else {
                return Err(Error::new(ErrorKind::Conflict, "commit", "a segment to be replaced is gone")
                    .with_provider("store")
                    .with_resource(id));
            };
            removed.push(Removed { path: segment.path.clone(), table, id, version, at: now });
        }
        let mut added: BTreeMap<String, Vec<SegmentMeta>> = BTreeMap::new();
        for (table, mut segment) in edit.added {
            if segment.precedence == FRESH {
                segment.precedence = version;
            }
            added.entry(table).or_default().push(segment);
        }
        Ok(Entry {
            version,
            log: edit.log.unwrap_or(self.log),
            windows: None,
            added,
            removed,
            deleted: edit.deleted,
        })
    }

    /// The state after a change.
    fn apply(&self, entry: Entry) -> Self {
        let mut next = Self { version: entry.version, log: entry.log, ..self.clone() };
        let gone: HashSet<&str> = entry.removed.iter().map(|removed| removed.id.as_str()).collect();
        for removed in &entry.removed {
            if let Some(segments) = next.tables.get_mut(&removed.table) {
                segments.retain(|segment| !gone.contains(segment.id.as_str()));
            }
        }
        for (table, segments) in entry.added {
            next.tables.entry(table).or_default().extend(segments);
        }
        next.tables.retain(|_, segments| !segments.is_empty());
        next.removed.retain(|removed| !entry.deleted.contains(&removed.id));
        next.removed.extend(entry.removed);
        next
    }

    fn checkpoint(&self) -> Entry {
        Entry {
            version: self.version,
            log: self.log,
            windows: Some(self.windows),
            added: self.tables.clone(),
            removed: self.removed.clone(),
            deleted: Vec::new(),
        }
    }

    fn from_checkpoint(entry: Entry) -> Result<Self> {
        let Some(windows) = entry.windows else {
            return Err(damaged(entry.version, "it should hold the whole state and does not"));
        };
        let (version, log, tables, removed) = (entry.version, entry.log, entry.added, entry.removed);
        Ok(Self { version, log, windows, tables, removed })
    }
}

/// The newest state on disk, or `None` if nothing was ever committed. `base` is a state read before; only what is
/// newer is read then.
///
/// # Errors
/// [`ErrorKind::NotFound`] while a writer cleans up under the reader: read again. [`ErrorKind::Invalid`] if a file is
/// damaged.
pub(super) async fn load(root: &Root, base: Option<&Arc<Manifest>>) -> Result<Option<Arc<Manifest>>> {
    let versions = versions(root).await?;
    let Some(newest) = versions.last().copied() else {
        return Ok(None);
    };
    let mut state = match base {
        Some(base) if base.version == newest => return Ok(Some(Arc::clone(base))),
        Some(base) if base.version < newest && versions.binary_search(&(base.version + 1)).is_ok() => {
            Some(Manifest::clone(base))
        }
        _ => None,
    };
    let first = match &state {
        Some(state) => state.version + 1,
        None => checkpoint_of(newest),
    };
    for version in first..=newest {
        let entry = match read(root, version).await {
            Ok(entry) => entry,
            // A power cut during the very last commit: it was never relied upon, so the version before counts.
            Err(error) if error.kind() == ErrorKind::Invalid && version == newest => {
                tracing::debug!(version, error = %error.chain(), "the last commit was cut off and does not count");
                return match state {
                    Some(state) => Ok(Some(Arc::new(state))),
                    None if newest == 1 => Ok(None),
                    None => Box::pin(load_whole(root, newest - 1)).await,
                };
            }
            Err(error) => return Err(error),
        };
        state = Some(match state {
            _ if is_checkpoint(version) => Manifest::from_checkpoint(entry)?,
            Some(state) => state.apply(entry),
            None => return Err(damaged(version, "nothing comes before it")),
        });
    }
    Ok(state.map(Arc::new))
}

/// The state of one version, from its checkpoint on.
async fn load_whole(root: &Root, version: u64) -> Result<Option<Arc<Manifest>>> {
    let first = checkpoint_of(version);
    let mut state = Manifest::from_checkpoint(read(root, first).await?)?;
    for version in first + 1..=version {
        state = state.apply(read(root, version).await?);
    }
    Ok(Some(Arc::new(state)))
}

/// Commits a change on top of `current` and gives the new state. Only one commit may run at a time.
///
/// # Errors
/// [`ErrorKind::Conflict`] if somebody else committed in between or a segment to be removed is gone. Nothing is changed
/// after an error, unless it is doubtful: then the next opening may go by the change or not.
pub(super) async fn commit(
    root: &Root,
    current: &Manifest,
    edit: Edit,
    now: i64,
) -> std::result::Result<Manifest, NotCreated> {
    let entry = current.entry(edit, now)?;
    let version = entry.version;
    let (text, next) = if is_checkpoint(version) {
        let next = current.apply(entry);
        (encode(&next.checkpoint())?, next)
    } else {
        (encode(&entry)?, current.apply(entry))
    };
    root.create(&name(version), text).await?;
    Ok(next)
}

/// Deletes the files of versions that no reader starts from: those before the last checkpoint but one.
pub(super) async fn clean(root: &Root, current: u64) -> Result<()> {
    let keep = checkpoint_of(checkpoint_of(current).saturating_sub(1).max(1));
    for version in versions(root).await?.into_iter().filter(|version| *version < keep) {
        root.remove(&name(version)).await?;
    }
    Ok(())
}

/// Deletes files of versions after `current` for good: commits that were cut off.
pub(super) async fn discard_after(root: &Root, current: u64) -> Result<()> {
    for version in versions(root).await?.into_iter().filter(|version| *version > current) {
        tracing::warn!(version, "a commit that was cut off does not count");
        root.remove_durably(&name(version)).await?;
    }
    Ok(())
}

/// Whether this version's file holds the whole state.
pub(super) fn is_checkpoint(version: u64) -> bool {
    version == 1 || version.is_multiple_of(CHECKPOINT_EVERY)
}

/// The newest checkpoint at or before a version.
fn checkpoint_of(version: u64) -> u64 {
    (version - version % CHECKPOINT_EVERY).max(1)
}

fn name(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

/// Versions on disk, rising.
async fn versions(root: &Root) -> Result<Vec<u64>> {
    let prefix = object_store::path::Path::from(FOLDER);
    let files = root.objects().list(Some(&prefix));
    let mut versions: Vec<u64> = files
        .try_filter_map(|file| async move {
            let number = file.location.filename().and_then(|name| name.strip_suffix(".json"));
            Ok(number.and_then(|number| number.parse::<u64>().ok()))
        })
        .try_collect()
        .await
        .map_err(|e| {
            Error::unavailable("list", "input/output error")
                .with_provider("store")
                .with_resource(FOLDER)
                .with_source(e)
        })?;
    versions.sort_unstable();
    Ok(versions)
}

async fn read(root: &Root, version: u64) -> Result<Entry> {
    let text = root.read(&name(version)).await?;
    let entry: Entry =
        serde_json::from_slice(&text).map_err(|e| damaged(version, "it cannot be read").with_source(e))?;
    if entry.version != version {
        return Err(damaged(version, "it is another version than its name says"));
    }
    Ok(entry)
}

fn encode(entry: &Entry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry)
        .map_err(|e| damaged(entry.version, "it cannot be written as JSON").with_source(e))
}

fn damaged(version: u64, reason: &str) -> Error {
    Error::invalid("use the manifest", format!("{reason}; restore the file from a backup"))
        .with_provider("store")
        .with_resource(name(version))
}
