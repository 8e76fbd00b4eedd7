//! `memory`: `/proc/meminfo` as `free` reads it, and swapping from `/proc/vmstat`.

use procfs::{Current, Meminfo, VmStat};

use super::super::rates::Rates;
use super::{Measured, Moment, float, rows, unreadable};
use crate::model::Identity;

/// Keeps the previous swap counters.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rates: Rates<&'static str>,
}

impl Memory {
    pub(super) fn measure(&mut self, at: Moment, identity: &Identity) -> Measured {
        let info = Meminfo::current().map_err(|e| unreadable("/proc/meminfo", e))?;
        let vmstat = VmStat::current().map_err(|e| unreadable("/proc/vmstat", e))?;
        let page = procfs::page_size();
        let mut swapped = |counter: &'static str| {
            let pages = u64::try_from(vmstat.0.get(counter).copied()?).ok()?;
            self.rates.rate(counter, at.elapsed, pages.saturating_mul(page))
        };
        // Kernels before 3.14 do not name the available memory.
        let available = info.mem_available.unwrap_or(info.mem_free + info.buffers + info.cached);
        let used = info.mem_total.saturating_sub(available);
        let cached = info.buffers + info.cached + info.s_reclaimable.unwrap_or(0);

        let mut batch = rows("memory", identity)?;
        batch
            .row(at.tick)
            .set("used_bytes", float(used))?
            .set("limit_bytes", float(info.mem_total))?
            .set("available_bytes", float(available))?
            .set("utilization", float(used) / float(info.mem_total))?
            .set("cached_bytes", float(cached))?
            .set("swap_used_bytes", float(info.swap_total.saturating_sub(info.swap_free)))?
            .set("swap_limit_bytes", float(info.swap_total))?
            .set("swap_in_bytes_per_second", swapped("pswpin"))?
            .set("swap_out_bytes_per_second", swapped("pswpout"))?;
        batch.finish()
    }
}
