//! `disk`: rates and latencies between two readings of `/proc/diskstats`, for whole devices.

use std::path::Path;

use super::super::rates::Rates;
use super::{Config, Measured, Moment, float, is_ignored, rows, unreadable};
use crate::model::Identity;

/// The kernel counts in sectors of this size whatever the device says.
const SECTOR: u64 = 512;

/// Keeps the previous counters of every device.
#[derive(Debug)]
pub(super) struct Disk {
    ignore: Vec<String>,
    rates: Rates<(String, &'static str)>,
}

impl Disk {
    pub(super) fn new(config: &Config) -> Self {
        Self { ignore: config.ignore_devices.clone(), rates: Rates::new() }
    }

    pub(super) fn measure(&mut self, at: Moment, identity: &Identity) -> Measured {
        let devices = procfs::diskstats().map_err(|e| unreadable("/proc/diskstats", e))?;
        let mut batch = rows("disk", identity)?;
        for device in devices {
            if is_ignored(&self.ignore, &device.name) || is_partition(&device.name) || never_used(&device) {
                continue;
            }
            let mut delta = |counter, value| {
                self.rates.delta((device.name.clone(), counter), at.elapsed, value).map(|(seconds, delta)| {
                    let delta = float(delta);
                    (seconds, delta)
                })
            };
            let per_second = |(seconds, delta): (f64, f64)| delta / seconds;
            let reads = delta("reads", device.reads);
            let writes = delta("writes", device.writes);
            let read_time = delta("read_ms", device.time_reading);
            let write_time = delta("write_ms", device.time_writing);
            let busy = delta("busy_ms", device.time_in_progress);
            let read = delta("read_bytes", device.sectors_read.saturating_mul(SECTOR));
            let written = delta("write_bytes", device.sectors_written.saturating_mul(SECTOR));
            let mut row = batch.row(at.tick);
            row.set("device", &device.name)?
                .set("limit_bytes", size(&device.name).map(float))?
                .set("read_bytes_per_second", read.map(per_second))?
                .set("write_bytes_per_second", written.map(per_second))?
                .set("read_ops_per_second", reads.map(per_second))?
                .set("write_ops_per_second", writes.map(per_second))?
                .set("read_latency_seconds", latency(read_time, reads))?
                .set("write_latency_seconds", latency(write_time, writes))?
                .set("utilization", busy.map(|(seconds, ms)| (ms / 1_000.0 / seconds).min(1.0)))?;
        }
        self.rates.sweep(at.elapsed.saturating_sub(super::super::rates::FORGET_AFTER));
        batch.finish()
    }
}

/// Mean seconds per operation; `None` when there was none.
fn latency(milliseconds: Option<(f64, f64)>, operations: Option<(f64, f64)>) -> Option<f64> {
    let ((_, milliseconds), (_, operations)) = (milliseconds?, operations?);
    (operations > 0.0).then(|| milliseconds / 1_000.0 / operations)
}

fn is_partition(device: &str) -> bool {
    Path::new("/sys/class/block").join(device).join("partition").exists()
}

/// Bytes of the device as the kernel sees it.
fn size(device: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/sys/class/block").join(device).join("size")).ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(SECTOR)
}

/// Devices that exist only as a place for one, such as an empty `zram0` or `loop7`.
fn never_used(device: &procfs::DiskStat) -> bool {
    device.reads == 0 && device.writes == 0
}
