//! The metrics messages of control groups of both versions, read straight into figures with dotted names.
//!
//! containerd's client has neither message. Their fields are written down here as tables and not as types, because every
//! one of them is also a name that a metric of the pipeline file may use.

use crate::provider::mapping::params::{Param, Params};

/// What the fields of a message are.
type Shape = &'static [Field];

#[derive(Debug)]
struct Field(u32, &'static str, Kind);

#[derive(Debug)]
enum Kind {
    /// A number; 0 where its message is there and it is not.
    Number,
    /// A number that older versions do not send; not known where it is not there.
    Newer,
    /// A floating point number; 0 as above.
    Double,
    /// A text.
    Text,
    /// Numbers, by their place.
    Numbers,
    /// A message in this one.
    One(Shape),
    /// Messages, by what the named field of each holds.
    Each(Shape, &'static str),
    /// Messages, by their place.
    Listed(Shape),
    /// Messages, by the device that each is about.
    Devices(Shape),
    /// Messages with one value each, by the device and the operation that it is of.
    Operations,
}

use Kind::{Devices, Double, Each, Listed, Newer, Number, Numbers, One, Operations, Text};

/// Which version of control groups a message is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `io.containerd.cgroups.v1.Metrics`.
    V1,
    /// `io.containerd.cgroups.v2.Metrics`.
    V2,
}

impl Version {
    /// Of a message with this type url, if it is one of them.
    pub(super) fn of(type_url: &str) -> Option<Self> {
        match type_url {
            url if url.ends_with("io.containerd.cgroups.v1.Metrics") => Some(Self::V1),
            url if url.ends_with("io.containerd.cgroups.v2.Metrics") => Some(Self::V2),
            _ => None,
        }
    }
}

/// The figures of a message, or `None` if it is not well-formed. Fields that are not known are passed over.
pub(super) fn figures(version: Version, message: &[u8]) -> Option<Params> {
    let mut figures = Params::default();
    let shape = match version {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    read(message, shape, "", &mut figures)?;
    Some(figures)
}

const V1: Shape = &[
    Field(1, "hugetlb", Each(V1_HUGETLB, "pagesize")),
    Field(2, "pids", One(PIDS)),
    Field(3, "cpu", One(&[Field(1, "usage", One(V1_USAGE)), Field(2, "throttling", One(V1_THROTTLING))])),
    Field(4, "memory", One(V1_MEMORY)),
    Field(5, "blkio", One(V1_BLKIO)),
    Field(6, "rdma", One(RDMA)),
    Field(7, "network", Listed(NETWORK)),
    Field(8, "cgroup_stats", One(V1_TASKS)),
    Field(9, "memory_oom_control", One(V1_OOM)),
];

const V1_HUGETLB: Shape = &[
    Field(1, "usage", Number),
    Field(2, "max", Number),
    Field(3, "failcnt", Number),
    Field(4, "pagesize", Text),
];
const PIDS: Shape = &[Field(1, "current", Number), Field(2, "limit", Number)];
const V1_USAGE: Shape = &[
    Field(1, "total", Number),
    Field(2, "kernel", Number),
    Field(3, "user", Number),
    Field(4, "per_cpu", Numbers),
];
const V1_THROTTLING: Shape =
    &[Field(1, "periods", Number), Field(2, "throttled_periods", Number), Field(3, "throttled_time", Number)];
const V1_ENTRY: Shape = &[
    Field(1, "limit", Number),
    Field(2, "usage", Number),
    Field(3, "max", Number),
    Field(4, "failcnt", Number),
];
const V1_OOM: Shape =
    &[Field(1, "oom_kill_disable", Number), Field(2, "under_oom", Number), Field(3, "oom_kill", Number)];
const V1_TASKS: Shape = &[
    Field(1, "nr_sleeping", Number),
    Field(2, "nr_running", Number),
    Field(3, "nr_stopped", Number),
    Field(4, "nr_uninterruptible", Number),
    Field(5, "nr_io_wait", Number),
];
const V1_BLKIO: Shape = &[
    Field(1, "io_service_bytes_recursive", Operations),
    Field(2, "io_serviced_recursive", Operations),
    Field(3, "io_queued_recursive", Operations),
    Field(4, "io_service_time_recursive", Operations),
    Field(5, "io_wait_time_recursive", Operations),
    Field(6, "io_merged_recursive", Operations),
    Field(7, "io_time_recursive", Operations),
    Field(8, "sectors_recursive", Operations),
];
/// What each of [`Operations`] is.
const V1_OPERATION: Shape = &[
    Field(1, "op", Text),
    Field(2, "device", Text),
    Field(3, "major", Number),
    Field(4, "minor", Number),
    Field(5, "value", Number),
];
const V1_MEMORY: Shape = &[
    Field(1, "cache", Number),
    Field(2, "rss", Number),
    Field(3, "rss_huge", Number),
    Field(4, "mapped_file", Number),
    Field(5, "dirty", Number),
    Field(6, "writeback", Number),
    Field(7, "pg_pg_in", Number),
    Field(8, "pg_pg_out", Number),
    Field(9, "pg_fault", Number),
    Field(10, "pg_maj_fault", Number),
    Field(11, "inactive_anon", Number),
    Field(12, "active_anon", Number),
    Field(13, "inactive_file", Number),
    Field(14, "active_file", Number),
    Field(15, "unevictable", Number),
    Field(16, "hierarchical_memory_limit", Number),
    Field(17, "hierarchical_swap_limit", Number),
    Field(18, "total_cache", Number),
    Field(19, "total_rss", Number),
    Field(20, "total_rss_huge", Number),
    Field(21, "total_mapped_file", Number),
    Field(22, "total_dirty", Number),
    Field(23, "total_writeback", Number),
    Field(24, "total_pg_pg_in", Number),
    Field(25, "total_pg_pg_out", Number),
    Field(26, "total_pg_fault", Number),
    Field(27, "total_pg_maj_fault", Number),
    Field(28, "total_inactive_anon", Number),
    Field(29, "total_active_anon", Number),
    Field(30, "total_inactive_file", Number),
    Field(31, "total_active_file", Number),
    Field(32, "total_unevictable", Number),
    Field(33, "usage", One(V1_ENTRY)),
    Field(34, "swap", One(V1_ENTRY)),
    Field(35, "kernel", One(V1_ENTRY)),
    Field(36, "kernel_tcp", One(V1_ENTRY)),
];
const RDMA: Shape =
    &[Field(1, "current", Each(RDMA_ENTRY, "device")), Field(2, "limit", Each(RDMA_ENTRY, "device"))];
const RDMA_ENTRY: Shape =
    &[Field(1, "device", Text), Field(2, "hca_handles", Number), Field(3, "hca_objects", Number)];
const NETWORK: Shape = &[
    Field(1, "name", Text),
    Field(2, "rx_bytes", Number),
    Field(3, "rx_packets", Number),
    Field(4, "rx_errors", Number),
    Field(5, "rx_dropped", Number),
    Field(6, "tx_bytes", Number),
    Field(7, "tx_packets", Number),
    Field(8, "tx_errors", Number),
    Field(9, "tx_dropped", Number),
];

const V2: Shape = &[
    Field(1, "pids", One(PIDS)),
    Field(2, "cpu", One(V2_CPU)),
    Field(4, "memory", One(V2_MEMORY)),
    Field(5, "rdma", One(RDMA)),
    Field(6, "io", One(&[Field(1, "usage", Devices(V2_IO)), Field(2, "psi", One(PSI))])),
    Field(7, "hugetlb", Each(V2_HUGETLB, "pagesize")),
    Field(8, "memory_events", One(V2_EVENTS)),
    Field(9, "network", Listed(NETWORK)),
];

const V2_CPU: Shape = &[
    Field(1, "usage_usec", Number),
    Field(2, "user_usec", Number),
    Field(3, "system_usec", Number),
    Field(4, "nr_periods", Number),
    Field(5, "nr_throttled", Number),
    Field(6, "throttled_usec", Number),
    Field(7, "psi", One(PSI)),
    Field(8, "nr_bursts", Newer),
    Field(9, "burst_usec", Newer),
];
const PSI: Shape = &[Field(1, "some", One(PSI_DATA)), Field(2, "full", One(PSI_DATA))];
const PSI_DATA: Shape = &[
    Field(1, "avg10", Double),
    Field(2, "avg60", Double),
    Field(3, "avg300", Double),
    Field(4, "total", Number),
];
const V2_MEMORY: Shape = &[
    Field(1, "anon", Number),
    Field(2, "file", Number),
    Field(3, "kernel_stack", Number),
    Field(4, "slab", Number),
    Field(5, "sock", Number),
    Field(6, "shmem", Number),
    Field(7, "file_mapped", Number),
    Field(8, "file_dirty", Number),
    Field(9, "file_writeback", Number),
    Field(10, "anon_thp", Number),
    Field(11, "inactive_anon", Number),
    Field(12, "active_anon", Number),
    Field(13, "inactive_file", Number),
    Field(14, "active_file", Number),
    Field(15, "unevictable", Number),
    Field(16, "slab_reclaimable", Number),
    Field(17, "slab_unreclaimable", Number),
    Field(18, "pgfault", Number),
    Field(19, "pgmajfault", Number),
    Field(20, "workingset_refault", Number),
    Field(21, "workingset_activate", Number),
    Field(22, "workingset_nodereclaim", Number),
    Field(23, "pgrefill", Number),
    Field(24, "pgscan", Number),
    Field(25, "pgsteal", Number),
    Field(26, "pgactivate", Number),
    Field(27, "pgdeactivate", Number),
    Field(28, "pglazyfree", Number),
    Field(29, "pglazyfreed", Number),
    Field(30, "thp_fault_alloc", Number),
    Field(31, "thp_collapse_alloc", Number),
    Field(32, "usage", Number),
    Field(33, "usage_limit", Number),
    Field(34, "swap_usage", Number),
    Field(35, "swap_limit", Number),
    Field(36, "max_usage", Newer),
    Field(37, "swap_max_usage", Newer),
    Field(38, "psi", One(PSI)),
];
const V2_IO: Shape = &[
    Field(1, "major", Number),
    Field(2, "minor", Number),
    Field(3, "rbytes", Number),
    Field(4, "wbytes", Number),
    Field(5, "rios", Number),
    Field(6, "wios", Number),
];
const V2_HUGETLB: Shape = &[Field(1, "current", Number), Field(2, "max", Number), Field(3, "pagesize", Text)];
const V2_EVENTS: Shape = &[
    Field(1, "low", Number),
    Field(2, "high", Number),
    Field(3, "max", Number),
    Field(4, "oom", Number),
    Field(5, "oom_kill", Number),
];

/// A value as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

fn read(mut message: &[u8], shape: Shape, prefix: &str, into: &mut Params) -> Option<()> {
    for Field(_, name, kind) in shape {
        match kind {
            Number => into.insert(format!("{prefix}{name}"), Param::Unsigned(0)),
            Double => into.insert(format!("{prefix}{name}"), Param::Float(0.0)),
            _ => {}
        }
    }
    let mut places = [0_usize; 16];
    while !message.is_empty() {
        let (tag, value) = field(&mut message)?;
        let Some(Field(_, name, kind)) = shape.iter().find(|field| field.0 == tag) else { continue };
        let name = format!("{prefix}{name}");
        let mut place = || {
            let place = &mut places[tag as usize % 16];
            *place += 1;
            *place - 1
        };
        match (kind, value) {
            (Number | Newer, Wire::Number(number)) => into.insert(name, Param::Unsigned(number)),
            (Double, Wire::Fixed(bits)) => into.insert(name, Param::Float(f64::from_bits(bits))),
            (Text, Wire::Bytes(text)) => {
                into.insert(name, Param::Text(String::from_utf8_lossy(text).into_owned()));
            }
            (Numbers, Wire::Number(number)) => {
                into.insert(format!("{name}.{}", place()), Param::Unsigned(number));
            }
            (Numbers, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let number = varint(&mut packed)?;
                    into.insert(format!("{name}.{}", place()), Param::Unsigned(number));
                }
            }
            (One(shape), Wire::Bytes(inner)) => read(inner, shape, &format!("{name}."), into)?,
            (Listed(shape), Wire::Bytes(inner)) => {
                read(inner, shape, &format!("{name}.{}.", place()), into)?;
            }
            (Each(shape, by), Wire::Bytes(inner)) => {
                let own = alone(inner, shape)?;
                let index = own.text(by).unwrap_or_default();
                read(inner, shape, &format!("{name}.{}.", index.replace('.', "_")), into)?;
            }
            (Devices(shape), Wire::Bytes(inner)) => {
                let own = alone(inner, shape)?;
                read(inner, shape, &format!("{name}.{}.", device(&own)), into)?;
            }
            (Operations, Wire::Bytes(inner)) => {
                let own = alone(inner, V1_OPERATION)?;
                let operation = own.text("op").unwrap_or("all").to_lowercase();
                let value = own.number("value").unwrap_or(0);
                into.insert(format!("{name}.{}.{operation}", device(&own)), Param::Unsigned(value));
            }
            // Of another type than we know: a field that was given a new meaning.
            _ => {}
        }
    }
    Some(())
}

fn alone(message: &[u8], shape: Shape) -> Option<Params> {
    let mut own = Params::default();
    read(message, shape, "", &mut own)?;
    Some(own)
}

fn device(entry: &Params) -> String {
    let number = |name| entry.number(name).unwrap_or(0);
    format!("{}:{}", number("major"), number("minor"))
}

/// The next field of a message.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let key = varint(message)?;
    let tag = u32::try_from(key >> 3).ok()?;
    let value = match key & 7 {
        0 => Wire::Number(varint(message)?),
        1 => Wire::Fixed(u64::from_le_bytes(bytes(message, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            Wire::Bytes(bytes(message, length)?)
        }
        5 => Wire::Fixed(u64::from(u32::from_le_bytes(bytes(message, 4)?.try_into().ok()?))),
        _ => return None,
    };
    Some((tag, value))
}

fn bytes<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
