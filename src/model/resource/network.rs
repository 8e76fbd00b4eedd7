//! Networks, subnets, regions and zones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ResourceId;

/// A network that instances are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Which.
    pub id: ResourceId,
    /// Name.
    pub name: Option<String>,
    /// How it reaches others: `nat`, `route`, `isolated`, a cloud's own word.
    pub mode: Option<String>,
    /// Address blocks, as `10.0.0.0/24`.
    pub cidrs: Vec<String>,
    /// Whether it is in use now.
    pub active: Option<bool>,
    /// The device on the host: `virbr0`.
    pub bridge: Option<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
}

/// A block of addresses in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Which.
    pub id: ResourceId,
    /// Name.
    pub name: Option<String>,
    /// The network that it is a part of.
    pub network: ResourceId,
    /// Address block.
    pub cidr: Option<String>,
    /// The address of the way out.
    pub gateway: Option<String>,
    /// Addresses that nothing has.
    pub free_addresses: Option<u64>,
    /// Part of the region.
    pub zone: Option<String>,
    /// Tags or labels.
    pub tags: BTreeMap<String, String>,
}

/// A place with instances of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Which; its native id is the `location` of what is in it.
    pub id: ResourceId,
    /// Name for people.
    pub name: Option<String>,
    /// Whether the account may use it.
    pub enabled: Option<bool>,
}

/// A part of a region that fails on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Which.
    pub id: ResourceId,
    /// The region.
    pub region: String,
    /// What the place is called for all accounts, where its name means another for each.
    pub zone_id: Option<String>,
    /// State in the provider's words.
    pub provider_state: Option<String>,
}
