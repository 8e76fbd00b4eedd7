//! AWS: instances and volumes of EC2, measured by CloudWatch and managed through EC2's own interface.

mod collector;
mod config;
mod connect;
mod error;
mod provider;
mod state;

pub use collector::AwsCollector;
pub use config::{Account, Config, Endpoints, Role, WebIdentity};
pub use provider::AwsProvider;

/// The provider's name.
const PROVIDER: &str = "aws";
