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
pub use cost::{Assumed, Estimate, Line};
pub use provider::AwsProvider;
pub use telemetry::{AwsCollector, Spent, estimate};
pub use wanted::{BilledBy, Budget, Convert, Input, Metric, Quotas, SettleBy};

/// The provider's name.
const PROVIDER: &str = "aws";
