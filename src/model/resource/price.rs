//! What things cost. An unknown price is no price; it is never zero.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ResourceId;
use crate::model::Timestamp;

/// The price of one unit of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Which.
    pub id: ResourceId,
    /// What is priced: a size's name, a volume's class.
    pub item: String,
    /// Amount for one unit.
    pub amount: Decimal,
    /// ISO 4217: `USD`.
    pub currency: String,
    /// The unit.
    pub unit: PriceUnit,
    /// Where it holds.
    pub region: String,
    /// Operating system that it includes, where that matters.
    pub os: Option<String>,
    /// How it is bought.
    pub purchase: Purchase,
    /// Since when it holds, or when it was read.
    pub as_of: Option<Timestamp>,
    /// Where it is from: a file, a price list.
    pub source: String,
}

/// What a price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceUnit {
    /// An instance of the size for an hour.
    InstanceHour,
    /// A processor for an hour.
    VcpuHour,
    /// A GiB of memory for an hour.
    MemoryGibHour,
    /// A GiB of disk for a month.
    VolumeGibMonth,
    /// A GiB of snapshot for a month.
    SnapshotGibMonth,
}

/// How something is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purchase {
    /// Without a commitment.
    OnDemand,
    /// May be taken away.
    Spot,
    /// With a commitment.
    Reserved,
}

/// An amount of money for a length of time, with how much of it could not be priced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// For an hour.
    pub per_hour: Decimal,
    /// ISO 4217.
    pub currency: String,
    /// Things in it whose price is not known, so that the amount is too low.
    pub unpriced: usize,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.per_hour.round_sf(4).unwrap_or(self.per_hour);
        write!(f, "{:+} {} per hour", amount.normalize(), self.currency)?;
        match self.unpriced {
            0 => Ok(()),
            unpriced => write!(f, ", {unpriced} not priced"),
        }
    }
}
