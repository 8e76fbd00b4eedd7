//! Barograph: telemetry of virtual machines and containers as an unbroken line.
//!
//! `ARCHITECTURE.md` shows the rooms and the way a measurement takes through them.

pub mod allocator;
pub mod analytics;
pub mod cli;
pub mod config;
pub mod error;
pub mod log;
pub mod manage;
pub mod model;
pub mod pipeline;
pub mod provider;
pub mod serve;
pub mod sink;
mod sql;
pub mod store;
mod suggest;
pub mod telemetry;
pub mod transform;
pub mod yaml;

pub use error::{Error, ErrorKind, Result, Retry};
