//! The things that providers have: nouns, states and prices that mean the same everywhere.
//!
//! What a provider does not say is `None`, never 0 and never an empty text.

mod id;
mod instance;
mod network;
mod price;
mod state;
mod storage;

pub use id::{Kind, ResourceId};
pub use instance::{Disk, Instance, Interface, PROTECTED_TAG, Size, is_protected};
pub use network::{Network, Region, Subnet, Zone};
pub use price::{Cost, Price, PriceUnit, Purchase};
pub use state::{State, Status};
pub use storage::{Image, Snapshot, Volume};
