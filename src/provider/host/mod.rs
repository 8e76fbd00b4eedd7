//! This machine, from `/proc`.

mod config;

pub use config::Config;
