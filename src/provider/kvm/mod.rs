//! libvirt guests.

mod config;

pub use config::Config;
