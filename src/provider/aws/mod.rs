//! AWS: instances and volumes of EC2, measured by CloudWatch and managed through EC2's own interface.

mod calls;
mod collector;
mod config;
mod connect;
mod create;
mod delete;
mod error;
mod images;
mod instances;
mod inventory;
mod lifecycle;
mod modification;
mod networks;
mod options;
mod permitted;
mod planning;
mod price_list;
mod pricing;
mod provider;
mod resize;
mod sizes;
mod snapshots;
mod state;
mod tags;
mod uses;
mod volumes;

pub use collector::AwsCollector;
pub use config::{Account, Config, Endpoints, Role, WebIdentity};
pub use provider::AwsProvider;

/// The provider's name.
const PROVIDER: &str = "aws";
