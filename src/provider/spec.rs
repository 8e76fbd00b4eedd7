//! What to make: the small descriptions that people write and plans carry.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::action::Target;
use crate::model::resource::ResourceId;

/// An instance to be made. A provider refuses what it cannot give; nothing is left out in silence.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceSpec {
    /// Name; of a container its id.
    pub name: String,
    /// Region or namespace; the provider's only one if left out.
    pub location: Option<String>,
    /// How large.
    pub size: SizeSpec,
    /// What it is made from.
    pub image: Option<String>,
    /// Instruction set; the hypervisor's own if left out.
    pub architecture: Option<String>,
    /// Kernel to boot instead of what is on the disk: kernel, initial ram disk, command line.
    pub kernel: Option<KernelSpec>,
    /// Disks in their order.
    pub disks: Vec<DiskSpec>,
    /// Names of the networks in their order.
    pub networks: Vec<String>,
    /// Command of a container, in place of the image's.
    pub command: Vec<String>,
    /// Environment of a container, as `NAME=value`.
    pub environment: Vec<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// Start it once it is made.
    pub start: bool,
    /// What only one provider knows, by its own names.
    pub options: BTreeMap<String, String>,
}

/// A size by its name, by its parts, or by a name with parts changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizeSpec {
    /// A size that the provider or the operator's file knows.
    pub name: Option<String>,
    /// Virtual processors.
    pub vcpus: Option<Decimal>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Room to grow while it runs.
    pub max_vcpus: Option<Decimal>,
    /// Room to grow while it runs.
    pub max_memory_bytes: Option<u64>,
}

impl fmt::Display for SizeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vcpus = self.vcpus.map(|vcpus| format!("{vcpus} vCPUs"));
        let memory = self.memory_bytes.map(|bytes| crate::model::Size(bytes).to_string());
        let parts: Vec<_> = self.name.clone().into_iter().chain(vcpus).chain(memory).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A kernel to boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelSpec {
    /// File with the kernel, on the hypervisor.
    pub kernel: String,
    /// File with the initial ram disk, on the hypervisor.
    pub initrd: Option<String>,
    /// Command line.
    pub arguments: Option<String>,
}

/// A disk of an instance to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSpec {
    /// A volume that is there.
    Volume(Target),
    /// A volume to be made for it.
    New(VolumeSpec),
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Region; the provider's only one if left out.
    pub location: Option<String>,
    /// Part of the region, where volumes are of one.
    pub zone: Option<String>,
    /// Pool, tier or type.
    pub class: Option<String>,
    /// Size; of a copy at least that of its source, which it has if left out.
    pub size_bytes: Option<u64>,
    /// Format: `qcow2`, `raw`.
    pub format: Option<String>,
    /// The volume or snapshot that it begins as a copy of.
    pub from: Option<ResourceId>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
    /// What only one provider knows, by its own names.
    pub options: BTreeMap<String, String>,
}

/// What a volume is to become; what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeChange {
    /// Tier or type.
    pub class: Option<String>,
    /// Size; at least the present one.
    pub size_bytes: Option<u64>,
    /// What only one provider knows, by its own names.
    pub options: BTreeMap<String, String>,
}

impl fmt::Display for VolumeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size_bytes.map(|bytes| crate::model::Size(bytes).to_string());
        let options = self.options.iter().map(|(name, value)| format!("{name}={value}"));
        let parts: Vec<_> = self.class.clone().into_iter().chain(size).chain(options).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A snapshot to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// The volume or the instance.
    pub of: ResourceId,
    /// Name.
    pub name: String,
    /// Text for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Keep the disks alone, not the memory of an instance that runs.
    #[serde(default)]
    pub disks_only: bool,
    /// Tags or labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Name.
    pub name: String,
    /// Region; the provider's only one if left out.
    pub location: Option<String>,
    /// How it reaches others: `nat`, `route`, `isolated`.
    pub mode: Option<String>,
    /// Address block.
    pub cidr: Option<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
}

/// A subnet to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// Name.
    pub name: String,
    /// The network.
    pub network: ResourceId,
    /// Address block.
    pub cidr: String,
    /// Part of the region.
    #[serde(default)]
    pub zone: Option<String>,
    /// Tags or labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}
