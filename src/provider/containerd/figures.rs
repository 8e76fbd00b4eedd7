//! What follows from a container's figures together with its machine: the same names whatever the version of the control
//! groups.

use std::collections::HashMap;
use std::fs;

use procfs::{Current, CurrentSI, KernelStats, Meminfo};

use super::message::Version;
use crate::provider::mapping::params::{Param, Params};

/// The machine that containers run on, where it is this one.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    /// Processors.
    pub(super) cores: Option<f64>,
    /// Memory in bytes.
    pub(super) memory: Option<u64>,
    /// Names of block devices by major and minor number.
    pub(super) devices: HashMap<String, String>,
}

impl Machine {
    /// As it is now; what cannot be read is not known.
    pub(super) fn read() -> Self {
        let cores = KernelStats::current().ok().map(|stat| stat.cpu_time.len() as f64);
        let memory = Meminfo::current().ok().map(|memory| memory.mem_total);
        Self { cores, memory, devices: devices(&fs::read_to_string("/proc/diskstats").unwrap_or_default()) }
    }

    /// The name of a device, or its numbers.
    fn device<'a>(&'a self, numbers: &'a str) -> &'a str {
        self.devices.get(numbers).map_or(numbers, String::as_str)
    }
}

fn devices(diskstats: &str) -> HashMap<String, String> {
    let lines = diskstats.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((format!("{}:{}", words.next()?, words.next()?), words.next()?.to_owned()))
    });
    lines.collect()
}

/// Adds figures under `derived.`, the names of devices beside their numbers, and what pressure there is.
pub(super) fn derive(version: Version, figures: &mut Params, machine: &Machine) {
    memory(version, figures, machine);
    // A limit that nobody can reach is none.
    let limit = figures.number("pids.limit").filter(|limit| (1..u64::from(u32::MAX)).contains(limit));
    if let Some(limit) = limit {
        put(figures, "processes_limit", limit as f64);
    }
    let groups: &[&str] = match version {
        Version::V1 => &[
            "blkio.io_service_bytes_recursive",
            "blkio.io_serviced_recursive",
            "blkio.io_service_time_recursive",
        ],
        Version::V2 => &["io.usage"],
    };
    for group in groups {
        let numbers: Vec<String> = figures.indexes(group).into_iter().map(str::to_owned).collect();
        for numbers in numbers {
            let name = machine.device(&numbers).to_owned();
            figures.insert(format!("{group}.{numbers}.name"), Param::Text(name));
        }
    }
    for resource in ["cpu", "memory", "io"] {
        for whose in ["some", "full"] {
            for part in ["avg10", "avg60", "avg300", "total"] {
                let figure = figures.float(&format!("{resource}.psi.{whose}.{part}"));
                if let Some(figure) = figure {
                    let param = match part {
                        "total" => Param::Unsigned(figure as u64),
                        _ => Param::Float(figure),
                    };
                    figures.insert(format!("derived.pressure.{resource}.{whose}.{part}"), param);
                }
            }
        }
    }
}

fn memory(version: Version, figures: &mut Params, machine: &Machine) {
    let (usage, inactive, limits): (_, _, &[&str]) = match version {
        Version::V1 => (
            "memory.usage.usage",
            "memory.total_inactive_file",
            &["memory.usage.limit", "memory.hierarchical_memory_limit"],
        ),
        Version::V2 => ("memory.usage", "memory.inactive_file", &["memory.usage_limit"]),
    };
    let Some(usage) = figures.number(usage) else { return };
    // What is needed to go on: files that were not used for long are given up when memory gets scarce.
    let used = usage.saturating_sub(figures.number(inactive).unwrap_or(0));
    // "No limit" is a huge number, and nobody has more than the machine.
    let limits = limits.iter().filter_map(|name| figures.number(name)).filter(|limit| *limit > 0);
    let limit = limits.chain(machine.memory).min().filter(|limit| *limit < 1 << 60);
    let swap = match version {
        // The figure is of memory and swap together.
        Version::V1 => figures
            .number("memory.swap.usage")
            .filter(|_| figures.number("memory.swap.limit").is_some_and(|limit| limit > 0))
            .map(|both| both.saturating_sub(usage)),
        Version::V2 => figures.number("memory.swap_usage"),
    };
    put(figures, "used_bytes", used as f64);
    if let Some(limit) = limit {
        put(figures, "limit_bytes", limit as f64);
        put(figures, "available_bytes", limit.saturating_sub(used) as f64);
        put(figures, "utilization", (used as f64 / limit as f64).min(1.0));
    }
    if let Some(swap) = swap {
        put(figures, "swap_used_bytes", swap as f64);
    }
}

fn put(figures: &mut Params, name: &str, value: f64) {
    figures.insert(format!("derived.{name}"), Param::Float(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            cores: Some(4.0),
            memory: Some(1 << 34),
            devices: devices("   8       0 sda 1 2 3\n 253 1 dm-1 4"),
        }
    }

    #[test]
    fn memory_is_the_working_set_and_a_limit_that_nobody_has_is_the_machines() {
        let mut v1 = Params::from_text(
            "memory.usage.usage=1000\nmemory.usage.limit=9223372036854771712\nmemory.total_inactive_file=300\n\
             memory.hierarchical_memory_limit=9223372036854771712\nmemory.swap.usage=1500\nmemory.swap.limit=1",
        );
        derive(Version::V1, &mut v1, &machine());
        let derived = |figures: &Params, name: &str| figures.float(&format!("derived.{name}"));
        assert_eq!(derived(&v1, "used_bytes"), Some(700.0));
        assert_eq!(derived(&v1, "limit_bytes"), Some((1_u64 << 34) as f64));
        assert_eq!(derived(&v1, "swap_used_bytes"), Some(500.0));
        let mut v2 = Params::from_text(
            "memory.usage=1000\nmemory.usage_limit=4000\nmemory.inactive_file=2000\npids.limit=18446744073709551615",
        );
        derive(Version::V2, &mut v2, &machine());
        assert_eq!((derived(&v2, "used_bytes"), derived(&v2, "available_bytes")), (Some(0.0), Some(4000.0)));
        assert_eq!(derived(&v2, "processes_limit"), None);
        let mut unknown = Params::from_text("memory.usage=1000\nmemory.usage_limit=18446744073709551615");
        derive(Version::V2, &mut unknown, &Machine::default());
        assert_eq!((derived(&unknown, "limit_bytes"), derived(&unknown, "utilization")), (None, None));
    }

    #[test]
    fn devices_have_their_names_and_pressure_one_place() {
        let mut v2 = Params::from_text(
            "io.usage.8:0.rbytes=1\nio.usage.7:7.rbytes=1\ncpu.psi.some.total=5\nmemory.psi.full.total=9",
        );
        derive(Version::V2, &mut v2, &machine());
        assert_eq!(v2.text("io.usage.8:0.name"), Some("sda"));
        assert_eq!(v2.text("io.usage.7:7.name"), Some("7:7"));
        assert_eq!(v2.indexes("derived.pressure"), ["cpu", "memory"]);
        assert_eq!(v2.number("derived.pressure.memory.full.total"), Some(9));
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::read();
        assert!(machine.cores.is_some_and(|cores| cores >= 1.0) && machine.memory.is_some());
    }
}
