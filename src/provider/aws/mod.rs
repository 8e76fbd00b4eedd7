//! AWS: instances and volumes of EC2, measured by CloudWatch and managed through EC2's own interface.

mod config;
mod connect;
mod cost;
mod error;
mod provider;
mod state;
mod telemetry;
mod wanted;

pub use config::{Account, Config, Endpoints, Role, WebIdentity};
pub use cost::{Assumed, BilledBy, Budget, Estimate, Line, Quotas};
pub use provider::AwsProvider;
pub use telemetry::{AwsCollector, Spent, estimate};
pub use wanted::{Convert, Input, Metric, SettleBy};

/// The provider's name.
const PROVIDER: &str = "aws";
