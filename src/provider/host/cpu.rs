//! `cpu`: shares of processor time between two readings of `/proc/stat`, for the machine and for every core.

use procfs::{Current, CurrentSI, KernelStats, LoadAverage};

use super::{Measured, Moment, float, rows, unreadable};
use crate::Result;
use crate::model::{Identity, RowBuilder};

/// Keeps the previous reading.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    previous: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    total: Times,
    cores: Vec<Times>,
}

/// Processor time since boot in kernel ticks, in disjoint kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) idle: u64,
    pub(super) iowait: u64,
    pub(super) steal: u64,
}

/// The same as parts of the whole, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    pub(super) utilization: f64,
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) iowait: f64,
    pub(super) steal: f64,
}

impl Cpu {
    pub(super) fn measure(&mut self, at: Moment, identity: &Identity) -> Measured {
        let stat = KernelStats::current().map_err(|e| unreadable("/proc/stat", e))?;
        let load = LoadAverage::current().map_err(|e| unreadable("/proc/loadavg", e))?;
        let now = Reading {
            total: Times::from(&stat.total),
            cores: stat.cpu_time.iter().map(Times::from).collect(),
        };
        let previous = self.previous.as_ref();

        let mut batch = rows("cpu", identity)?;
        let mut row = batch.row(at.tick);
        row.set("cores", float(now.cores.len() as u64))?
            .set("load_1m", f64::from(load.one))?
            .set("load_5m", f64::from(load.five))?
            .set("load_15m", f64::from(load.fifteen))?;
        set_shares(&mut row, previous.and_then(|before| Shares::between(before.total, now.total)))?;
        drop(row);
        // A core that came or went shifts the numbers, so their shares start anew.
        let before = previous.filter(|before| before.cores.len() == now.cores.len());
        for (number, (before, core)) in
            before.iter().flat_map(|before| &before.cores).zip(&now.cores).enumerate()
        {
            if let Some(shares) = Shares::between(*before, *core) {
                let mut row = batch.row(at.tick);
                row.set("core", &number.to_string())?;
                set_shares(&mut row, Some(shares))?;
            }
        }
        self.previous = Some(now);
        batch.finish()
    }
}

fn set_shares(row: &mut RowBuilder<'_>, shares: Option<Shares>) -> Result<()> {
    if let Some(shares) = shares {
        row.set("utilization", shares.utilization)?
            .set("user", shares.user)?
            .set("system", shares.system)?
            .set("iowait", shares.iowait)?
            .set("steal", shares.steal)?;
    }
    Ok(())
}

impl From<&procfs::CpuTime> for Times {
    fn from(time: &procfs::CpuTime) -> Self {
        let or_zero = |ticks: Option<u64>| ticks.unwrap_or(0);
        // `user` and `nice` hold the guests' time already.
        Self {
            user: time.user + time.nice,
            system: time.system + or_zero(time.irq) + or_zero(time.softirq),
            idle: time.idle,
            iowait: or_zero(time.iowait),
            steal: or_zero(time.steal),
        }
    }
}

impl Shares {
    /// `None` when no time passed or a counter that must grow went down.
    pub(super) fn between(before: Times, now: Times) -> Option<Self> {
        let user = now.user.checked_sub(before.user)?;
        let system = now.system.checked_sub(before.system)?;
        let steal = now.steal.checked_sub(before.steal)?;
        // The kernel documents that these two may go back a little.
        let idle = now.idle.saturating_sub(before.idle);
        let iowait = now.iowait.saturating_sub(before.iowait);
        let whole = user + system + steal + idle + iowait;
        let share = |part: u64| float(part) / float(whole);
        (whole > 0).then(|| Self {
            utilization: share(user + system + steal),
            user: share(user),
            system: share(system),
            iowait: share(iowait),
            steal: share(steal),
        })
    }
}
