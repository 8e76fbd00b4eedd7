//! What a type of instance can, which decides what it publishes: EC2 says it; where it may not be asked, the name does.

use aws_sdk_ec2::types::{InstanceTypeHypervisor, InstanceTypeInfo};

/// What a type can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Facts {
    /// Built on the Nitro system, which counts for all volumes of an instance together.
    pub(super) nitro: bool,
    /// Has disks of its own.
    pub(super) instance_store: bool,
    /// Saves up processor credits.
    pub(super) burstable: bool,
    /// Can use its volumes above a baseline for a while.
    pub(super) ebs_burst: bool,
    /// Memory in bytes, where EC2 said it.
    pub(super) memory: Option<u64>,
    pub(super) vcpus: Option<u32>,
}

/// Families that are built on Xen.
const XEN: [&str; 24] = [
    "c1", "c3", "c4", "cc2", "cr1", "d2", "f1", "g2", "g3", "g3s", "h1", "hs1", "i2", "i3", "m1", "m2", "m3",
    "m4", "p2", "p3", "r3", "r4", "t1", "t2",
];
/// Families with disks of their own that have no `d` in their names.
const STORES: [&str; 19] = [
    "c1", "c3", "d2", "d3", "f1", "g2", "h1", "i2", "i3", "i3en", "i4g", "i4i", "i7i", "i7ie", "m1", "m2",
    "m3", "r3", "trn1",
];

impl Facts {
    /// As EC2 describes the type.
    pub(super) fn of_description(info: &InstanceTypeInfo) -> Self {
        let ebs = info.ebs_info().and_then(|ebs| ebs.ebs_optimized_info());
        let burst = ebs.and_then(|ebs| Some(ebs.baseline_iops()? < ebs.maximum_iops()?));
        Self {
            // Bare metal has no hypervisor, and is Nitro's.
            nitro: !matches!(info.hypervisor(), Some(InstanceTypeHypervisor::Xen)),
            instance_store: info.instance_storage_supported().unwrap_or(false),
            burstable: info.burstable_performance_supported().unwrap_or(false),
            ebs_burst: burst.unwrap_or(true),
            memory: info
                .memory_info()
                .and_then(|memory| memory.size_in_mib())
                .and_then(|mib| u64::try_from(mib).ok())
                .map(|mib| mib << 20),
            vcpus: info
                .v_cpu_info()
                .and_then(|cpus| cpus.default_v_cpus())
                .and_then(|count| u32::try_from(count).ok()),
        }
    }

    /// As far as the name tells.
    pub(super) fn of_name(size: &str) -> Self {
        let (family, rest) = size.split_once('.').unwrap_or((size, ""));
        let digit = family.find(|c: char| c.is_ascii_digit()).unwrap_or(family.len());
        let attributes = family[digit..].trim_start_matches(|c: char| c.is_ascii_digit());
        let store = attributes.contains('d') || STORES.contains(&family) || family.starts_with("x1");
        Self {
            nitro: !(XEN.contains(&family) || family.starts_with("x1")) || rest == "metal",
            instance_store: store,
            burstable: family.starts_with('t') && !family.starts_with("trn"),
            ebs_burst: true,
            memory: None,
            vcpus: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_there_is_to_measure() {
        for (name, nitro, store, burstable) in [
            ("t3.micro", true, false, true),
            ("t2.small", false, false, true),
            ("m5.large", true, false, false),
            ("m5d.large", true, true, false),
            ("m4.large", false, false, false),
            ("c6gd.metal", true, true, false),
            ("i3.metal", true, true, false),
            ("i3.large", false, true, false),
            ("trn1.2xlarge", true, true, false),
            ("", true, false, false),
        ] {
            let facts = Facts::of_name(name);
            assert_eq!(
                (facts.nitro, facts.instance_store, facts.burstable),
                (nitro, store, burstable),
                "{name}"
            );
        }
    }
}
