//! `status`: that the machine runs, and since when.

use procfs::{Current, LoadAverage, Uptime};

use super::{Measured, Moment, float, rows, unreadable};
use crate::model::Identity;

pub(super) fn measure(at: Moment, identity: &Identity) -> Measured {
    let uptime = Uptime::current().map_err(|e| unreadable("/proc/uptime", e))?;
    let load = LoadAverage::current().map_err(|e| unreadable("/proc/loadavg", e))?;
    let mut batch = rows("status", identity)?;
    batch
        .row(at.tick)
        .set("state", "Running")?
        .set("up", true)?
        .set("uptime_seconds", uptime.uptime)?
        .set("processes", float(u64::from(load.max)))?;
    batch.finish()
}
