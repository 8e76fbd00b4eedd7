//! Instances and their sizes.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{ResourceId, State, Status};
use crate::model::Timestamp;

/// The tag that protects a resource of a provider without a guard of its own: `barograph.protected=true`.
pub const PROTECTED_TAG: &str = "barograph.protected";

/// Whether tags say that their resource is not to be disturbed.
pub fn is_protected(tags: &BTreeMap<String, String>) -> bool {
    tags.get(PROTECTED_TAG).is_some_and(|value| !matches!(value.as_str(), "" | "false" | "no" | "0"))
}

/// A virtual machine, or a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which.
    pub id: ResourceId,
    /// The name people gave it; providers allow several of one name.
    pub name: Option<String>,
    /// Its state and when that was seen.
    pub status: Status,
    /// What it may use now.
    pub size: Size,
    /// What it was made from, as the provider writes it.
    pub image: Option<String>,
    /// Part of the region.
    pub zone: Option<String>,
    /// The disks that it has.
    pub disks: Vec<Disk>,
    /// The networks that it is in.
    pub interfaces: Vec<Interface>,
    /// Tags or labels, as they are.
    pub tags: BTreeMap<String, String>,
    /// Whether the provider's own guard forbids to delete it; `None` where that was not asked.
    pub protected: Option<bool>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When its present run began.
    pub started_at: Option<Timestamp>,
    /// What only this provider says, in its own words.
    pub raw: serde_json::Map<String, serde_json::Value>,
}

/// A disk as an instance has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Name inside the instance or in its definition: `vda`, `/dev/xvda`.
    pub device: String,
    /// The volume behind it, where it is one.
    pub volume: Option<ResourceId>,
    /// The file or device behind it where it is no volume that we know.
    pub source: Option<String>,
    /// Whether the instance may only read it.
    pub read_only: bool,
}

/// A network interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interface {
    /// Name where it is known: `vnet3`, `eth0`, an interface's id.
    pub name: Option<String>,
    /// The network that it is in.
    pub network: Option<ResourceId>,
    /// Hardware address, lowercase with colons.
    pub mac: Option<String>,
    /// Addresses, as text.
    pub addresses: Vec<String>,
}

/// How much an instance may use. What is not known, or not limited, is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// The provider's or the operator's name of it: `m5.large`, `small`.
    pub name: Option<String>,
    /// Virtual processors; containers may have a part of one.
    pub vcpus: Option<Decimal>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// The most processors that it can get while it runs.
    pub max_vcpus: Option<Decimal>,
    /// The most memory that it can get while it runs.
    pub max_memory_bytes: Option<u64>,
    /// Instruction set: `x86_64`, `aarch64`.
    pub architecture: Option<String>,
    /// Graphics processors.
    pub gpus: Option<u32>,
    /// Disk space that belongs to the size and goes with the instance.
    pub local_disk_bytes: Option<u64>,
    /// Regions or zones that have it; empty if that is not known.
    pub available_in: Vec<String>,
}

impl Instance {
    /// The name if it has one, else the native id.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id.native_id)
    }

    /// Whether a guard of the provider's or of ours forbids to disturb it; `None` where only our tag is known, and not set.
    pub fn is_protected(&self) -> Option<bool> {
        if is_protected(&self.tags) { Some(true) } else { self.protected }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.status.state
    }
}
