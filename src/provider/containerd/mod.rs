//! containerd's containers, over its own gRPC interface: one namespace is one place.
//!
//! Every container has a process of its own at containerd's side, the shim, and a shim that hangs holds up every call
//! that needs it. So whatever is asked of a task has a deadline, and costs only its own container.

use std::time::Duration;

mod collector;
mod config;
mod connect;
mod container;
mod error;
mod images;
mod inventory;
mod process;
mod resources;
mod state;
mod tasks;

pub use collector::ContainerdCollector;
pub use config::{Config, bad_namespace};

/// The name in ids and errors.
const PROVIDER: &str = "containerd";
/// A healthy shim takes some milliseconds; below this a deadline finds only stuck ones.
const MIN_DEADLINE: Duration = Duration::from_millis(100);
