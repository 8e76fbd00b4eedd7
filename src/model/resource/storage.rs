//! Images, volumes and snapshots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ResourceId;
use crate::model::Timestamp;

/// What instances are made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Which.
    pub id: ResourceId,
    /// Name or reference.
    pub name: String,
    /// Content digest, where there is one.
    pub digest: Option<String>,
    /// Instruction set.
    pub architecture: Option<String>,
    /// Bytes that it takes.
    pub size_bytes: Option<u64>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// A disk that outlives an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Which.
    pub id: ResourceId,
    /// Name.
    pub name: Option<String>,
    /// The pool, tier or type: `default`, `gp3`.
    pub class: Option<String>,
    /// Format: `qcow2`, `raw`.
    pub format: Option<String>,
    /// Size as an instance sees it.
    pub size_bytes: Option<u64>,
    /// Bytes that it takes where it lies.
    pub allocated_bytes: Option<u64>,
    /// Operations per second that it can do, where that is known.
    pub iops: Option<u64>,
    /// Bytes per second that it can move, where that is known.
    pub throughput_bytes: Option<u64>,
    /// Whether what it holds is encrypted.
    pub encrypted: Option<bool>,
    /// Part of the region.
    pub zone: Option<String>,
    /// The instances that have it.
    pub attached_to: Vec<ResourceId>,
    /// State in the provider's words.
    pub provider_state: Option<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// The content of a volume or an instance at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Which.
    pub id: ResourceId,
    /// Name.
    pub name: Option<String>,
    /// The volume or the instance that it is of.
    pub of: Option<ResourceId>,
    /// The snapshot that it builds on.
    pub parent: Option<ResourceId>,
    /// Bytes that it takes, where that is known.
    pub size_bytes: Option<u64>,
    /// State in the provider's words.
    pub provider_state: Option<String>,
    /// Whether the present content goes back to it.
    pub current: Option<bool>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}
