//! `network`: rates between two readings of `/proc/net/dev`.

use procfs::Current;
use procfs::net::InterfaceDeviceStatus;

use super::super::rates::{FORGET_AFTER, Rates};
use super::{Config, Measured, Moment, is_ignored, rows, unreadable};
use crate::model::Identity;

/// Keeps the previous counters of every interface.
#[derive(Debug)]
pub(super) struct Network {
    ignore: Vec<String>,
    rates: Rates<(String, &'static str)>,
}

impl Network {
    pub(super) fn new(config: &Config) -> Self {
        Self { ignore: config.ignore_interfaces.clone(), rates: Rates::new() }
    }

    pub(super) fn measure(&mut self, at: Moment, identity: &Identity) -> Measured {
        let interfaces = InterfaceDeviceStatus::current().map_err(|e| unreadable("/proc/net/dev", e))?;
        let mut interfaces: Vec<_> = interfaces.0.into_values().collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        let mut batch = rows("network", identity)?;
        for interface in interfaces.iter().filter(|interface| !is_ignored(&self.ignore, &interface.name)) {
            let counters = [
                ("receive_bytes_per_second", interface.recv_bytes),
                ("transmit_bytes_per_second", interface.sent_bytes),
                ("receive_packets_per_second", interface.recv_packets),
                ("transmit_packets_per_second", interface.sent_packets),
                ("receive_errors_per_second", interface.recv_errs),
                ("transmit_errors_per_second", interface.sent_errs),
                ("receive_drops_per_second", interface.recv_drop),
                ("transmit_drops_per_second", interface.sent_drop),
            ];
            let rates = counters.map(|(field, value)| {
                (field, self.rates.rate((interface.name.clone(), field), at.elapsed, value))
            });
            // The first sight of an interface says nothing yet.
            if rates.iter().all(|(_, rate)| rate.is_none()) {
                continue;
            }
            let mut row = batch.row(at.tick);
            row.set("interface", &interface.name)?;
            for (field, rate) in rates {
                row.set(field, rate)?;
            }
        }
        self.rates.sweep(at.elapsed.saturating_sub(FORGET_AFTER));
        batch.finish()
    }
}
