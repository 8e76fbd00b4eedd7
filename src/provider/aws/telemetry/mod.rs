//! Telemetry by CloudWatch: what there is to ask for, in requests that fit the quotas and the budget, and its answers as rows.

mod answer;
mod billing;
mod budget;
mod calls;
mod collector;
mod estimate;
mod identity;
mod inventory;
mod job;
mod lag;
mod listed;
mod listing;
mod machine;
mod mapping;
mod own;
mod pace;
mod pack;
mod part;
mod place;
mod prepare;
mod query;
mod ranges;
mod read;
mod request;
mod rows;
mod settle;
mod shard;
mod status;
mod target;
mod targets;
mod types;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

pub use billing::Spent;
pub use collector::AwsCollector;
pub use estimate::estimate;
