//! AWS: instances and volumes of EC2, measured by CloudWatch and managed through EC2's own interface.

mod calls;
mod config;
mod connect;
mod cost;
mod costs;
mod create;
mod delete;
mod disks;
mod error;
mod images;
mod instances;
mod inventory;
mod lately;
mod lifecycle;
mod limits;
mod modification;
mod networks;
mod options;
mod permitted;
mod plan_create;
mod plan_instance;
mod planning;
mod price_list;
mod pricing;
mod provider;
mod resize;
mod sizes;
mod snapshots;
mod state;
mod tags;
mod telemetry;
mod uses;
mod volumes;
mod wanted;

pub use config::{Account, Config, Endpoints, Role, WebIdentity};
pub use cost::{Assumed, BilledBy, Budget, Estimate, Line, Quotas};
pub use provider::AwsProvider;
pub use telemetry::{AwsCollector, Spent, estimate};
pub use wanted::{Convert, Input, Metric, SettleBy};

/// The provider's name.
const PROVIDER: &str = "aws";
