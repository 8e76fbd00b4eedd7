//! What containers take on the disk, at a pace of its own: for some snapshotters it is counted file by file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_client::services::v1::snapshots::UsageRequest;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::Space;
use super::error::Answered;
use crate::{Error, ErrorKind};

/// How long the count of one snapshot may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a count is begun.
const TRIES: u32 = 3;

/// A container's own layer on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// The snapshotter.
    pub(super) snapshotter: String,
    /// Its name there.
    pub(super) key: String,
}

/// What a layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes.
    pub(super) bytes: i64,
    /// Files and folders.
    pub(super) inodes: i64,
}

/// What was counted and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// By namespace and container.
    pub(super) taken: BTreeMap<(String, String), (Layer, Taken)>,
    /// What went wrong.
    pub(super) errors: Vec<Error>,
}

/// Counts beside the collections.
#[derive(Debug)]
pub(super) struct Usage {
    every: Duration,
    due: Instant,
    counted: Arc<Mutex<Counted>>,
    task: Option<JoinHandle<()>>,
}

impl Usage {
    /// Counts every so often.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, due: Instant::now(), counted: Arc::default(), task: None }
    }

    /// What has been counted since the last call; begins the next count when it is due. Never waits.
    pub(super) fn poll(&mut self, layers: impl FnOnce() -> Vec<(Space, String, Layer)>) -> Counted {
        let idle = self.task.as_ref().is_none_or(JoinHandle::is_finished);
        if idle && !self.every.is_zero() && Instant::now() >= self.due {
            self.due = Instant::now() + self.every;
            self.task = Some(tokio::spawn(count(layers(), Arc::clone(&self.counted))));
        }
        std::mem::take(&mut *self.counted.lock())
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// One after the other: each may read a whole disk.
async fn count(layers: Vec<(Space, String, Layer)>, counted: Arc<Mutex<Counted>>) {
    let mut clients = HashMap::new();
    for (space, id, layer) in layers {
        let client = match clients.entry(space.name().to_owned()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => match space.snapshots().await {
                Ok(client) => entry.insert(client),
                Err(error) => {
                    counted.lock().errors.push(error);
                    return;
                }
            },
        };
        let mut tries = 0;
        let answer = loop {
            let request = UsageRequest { snapshotter: layer.snapshotter.clone(), key: layer.key.clone() };
            let answer = timeout(PATIENCE, client.usage(space.request(request))).await;
            tries += 1;
            // A file that is deleted while files are counted makes the whole count fail.
            match answer {
                Ok(Err(_)) if tries < TRIES => {}
                answer => break answer.map(|answer| answer.answered("count what is taken by", &id)),
            }
        };
        let mut counted = counted.lock();
        match answer {
            Ok(Ok(answer)) => {
                let taken = Taken { bytes: answer.size, inodes: answer.inodes };
                counted.taken.insert((space.name().to_owned(), id), (layer, taken));
            }
            // Its container is gone.
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {}
            Ok(Err(error)) => counted.errors.push(error),
            Err(_) => {
                let reason =
                    "the snapshotter has not counted it within 30 s; count less often with `usage_every`";
                counted.errors.push(super::error::failed(
                    ErrorKind::Unavailable,
                    "count what is taken by",
                    &id,
                    reason,
                ));
            }
        }
    }
}
