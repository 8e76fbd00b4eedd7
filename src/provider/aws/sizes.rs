//! Instance types: what each has, and which zones offer it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_ec2::types::{InstanceTypeInfo, LocationType};
use parking_lot::Mutex;
use rust_decimal::Decimal;

use super::AwsProvider;
use super::connect::filter;
use super::error::{Answered, failed};
use super::inventory::{Paged, page};
use crate::model::resource::Size;
use crate::provider::SizeSpec;
use crate::{ErrorKind, Result};

/// The most types that EC2 describes at once.
const AT_ONCE: usize = 100;

/// What EC2 said of types, by region and name; a type that it does not know any more is nothing.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<(String, String), Option<Type>>>);

/// A type with what decides whether an instance can become one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Type {
    pub(super) size: Size,
    /// Instruction sets, in EC2's words.
    pub(super) architectures: Vec<String>,
    /// Whether it can hibernate.
    pub(super) hibernates: bool,
    /// Whether it takes disks of EBS as its first one.
    pub(super) takes_ebs: bool,
    /// Whether it needs images with the driver of EC2's newer network (ENA).
    pub(super) needs_ena: bool,
    /// Virtualisations: `hvm`, `paravirtual`.
    pub(super) virtualizations: Vec<String>,
}

impl AwsProvider {
    /// What EC2 knows of these types, each asked for once.
    ///
    /// # Errors
    /// Those of `DescribeInstanceTypes`.
    pub(super) async fn types(
        &self,
        region: &str,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, Type>> {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let key = |name: &str| (region.to_owned(), name.to_owned());
        let unknown: Vec<&str> = {
            let known = self.sizes.0.lock();
            names.iter().copied().filter(|name| !known.contains_key(&key(name))).collect()
        };
        for some in unknown.chunks(AT_ONCE) {
            // A filter leaves out what is not known any more, where a list of names would fail as a whole.
            let wanted = filter("instance-type", some.iter().copied());
            let mut token = None;
            let mut found = BTreeMap::new();
            loop {
                let request = self.session.ec2(region).describe_instance_types().filters(wanted.clone());
                let request = request.max_results(100).set_next_token(token);
                let answer = request.send().await.answered("describe the sizes of", region)?;
                let types = answer.instance_types.unwrap_or_default();
                found.extend(types.iter().filter_map(|info| Some((type_name(info)?, type_of(info)))));
                token = answer.next_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
            let mut known = self.sizes.0.lock();
            for name in some {
                known.insert(key(name), found.remove(*name));
            }
        }
        let known = self.sizes.0.lock();
        let found =
            names.into_iter().filter_map(|name| Some((name.to_owned(), known.get(&key(name))?.clone()?)));
        Ok(found.collect())
    }

    /// The type that a size means, for the instance that is called `what`: one by its name, with what else is said of it
    /// fitting.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a size without a name, one that this region does not have, and one whose parts are other
    /// than what was said.
    pub(super) async fn resolved(
        &self,
        operation: &str,
        region: &str,
        what: &str,
        size: &SizeSpec,
    ) -> Result<(String, Type)> {
        let wrong = |reason: String| Err(failed(ErrorKind::Invalid, operation, what, reason));
        let Some(name) = &size.name else {
            let reason = "EC2's sizes have names: say which with its type, for example t3.micro; `barograph sizes list` \
                          has them all";
            return wrong(reason.into());
        };
        let Some(found) = self.types(region, [name.as_str()]).await?.remove(name) else {
            let reason = format!(
                "{region} has no instance type {name}; `barograph sizes list` has those that there are"
            );
            return wrong(reason);
        };
        if size.max_vcpus.is_some() || size.max_memory_bytes.is_some() {
            return wrong("EC2's instances do not grow while they run; leave the maximum out".into());
        }
        let others = (size.vcpus.is_some() && size.vcpus != found.size.vcpus)
            || (size.memory_bytes.is_some() && size.memory_bytes != found.size.memory_bytes);
        if others {
            let memory = found
                .size
                .memory_bytes
                .map_or_else(String::new, |bytes| format!(" and {} of memory", crate::model::Size(bytes)));
            let vcpus = found.size.vcpus.unwrap_or_default();
            let reason = format!(
                "{name} has {vcpus} processors{memory}, not what was said; leave that out or choose another"
            );
            return wrong(reason);
        }
        Ok((name.clone(), found))
    }

    pub(super) async fn sizes_page(&self, region: &str, token: Option<String>) -> Paged<Size> {
        let request = self.session.ec2(region).describe_instance_types().max_results(100);
        let answer = request.set_next_token(token).send().await.answered("list the sizes of", region)?;
        let names: Vec<String> = answer.instance_types.iter().flatten().filter_map(type_name).collect();
        let mut page =
            page(answer.instance_types, "size", region, |info| type_name(info).map(|_| type_of(info).size));
        match self.zones_of(region, &names).await {
            Ok(zones) => {
                for size in &mut page.items {
                    let zones = size.name.as_ref().and_then(|name| zones.get(name));
                    size.available_in = zones.into_iter().flatten().cloned().collect();
                }
            }
            // The sizes are known all the same.
            Err(error) => page.errors.push(error),
        }
        Ok((page, answer.next_token))
    }

    /// Which zones offer these types.
    async fn zones_of(&self, region: &str, names: &[String]) -> Result<HashMap<String, BTreeSet<String>>> {
        let mut zones: HashMap<String, BTreeSet<String>> = HashMap::new();
        if names.is_empty() {
            return Ok(zones);
        }
        let wanted = filter("instance-type", names);
        let mut token = None;
        loop {
            let request = self.session.ec2(region).describe_instance_type_offerings().max_results(1_000);
            let request = request.location_type(LocationType::AvailabilityZone).filters(wanted.clone());
            let answer = request.set_next_token(token).send().await;
            let answer = answer.answered("list the offerings of", region)?;
            for offering in answer.instance_type_offerings.unwrap_or_default() {
                if let Some((name, zone)) = offering.instance_type.zip(offering.location) {
                    zones.entry(name.as_str().to_owned()).or_default().insert(zone);
                }
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(zones);
            }
        }
    }
}

fn type_name(info: &InstanceTypeInfo) -> Option<String> {
    info.instance_type.as_ref().map(|name| name.as_str().to_owned())
}

/// EC2's word for an instruction set as ours.
pub(super) fn architecture(word: &str) -> &str {
    if word == "arm64" { "aarch64" } else { word }
}

fn type_of(info: &InstanceTypeInfo) -> Type {
    let processors = info.processor_info.as_ref();
    let architectures: Vec<String> = processors
        .and_then(|processors| processors.supported_architectures.as_ref())
        .map(|all| all.iter().map(|word| word.as_str().to_owned()).collect())
        .unwrap_or_default();
    // A type that also runs old 32-bit images is one of the wider set.
    let widest = architectures.iter().find(|word| *word != "i386").or(architectures.first());
    let vcpus = info.v_cpu_info.as_ref().and_then(|vcpus| vcpus.default_v_cpus);
    let memory = info.memory_info.as_ref().and_then(|memory| memory.size_in_mib);
    let disks = info.instance_storage_info.as_ref().and_then(|disks| disks.total_size_in_gb);
    let gpus = info.gpu_info.as_ref().and_then(|gpus| gpus.gpus.as_ref());
    let gpus: Option<i32> = gpus.map(|gpus| gpus.iter().filter_map(|gpu| gpu.count).sum());
    let words = |some: Option<Vec<String>>| some.unwrap_or_default();
    let roots = info.supported_root_device_types.as_ref();
    Type {
        size: Size {
            name: type_name(info),
            vcpus: vcpus.map(Decimal::from),
            memory_bytes: memory.and_then(|mib| u64::try_from(mib).ok()).map(|mib| mib << 20),
            architecture: widest.map(|word| architecture(word).to_owned()),
            gpus: gpus.and_then(|gpus| u32::try_from(gpus).ok()).filter(|gpus| *gpus > 0),
            local_disk_bytes: disks.and_then(|gb| u64::try_from(gb).ok()).map(|gb| gb * 1_000_000_000),
            ..Size::default()
        },
        architectures,
        hibernates: info.hibernation_supported == Some(true),
        takes_ebs: roots.is_none_or(|roots| roots.iter().any(|root| root.as_str() == "ebs")),
        needs_ena: info
            .network_info
            .as_ref()
            .and_then(|network| network.ena_support.as_ref())
            .is_some_and(|support| support.as_str() == "required"),
        virtualizations: words(
            info.supported_virtualization_types
                .as_ref()
                .map(|all| all.iter().map(|word| word.as_str().to_owned()).collect()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        ArchitectureType, GpuDeviceInfo, GpuInfo, InstanceStorageInfo, InstanceType, MemoryInfo,
        ProcessorInfo, VCpuInfo,
    };

    use super::*;

    #[test]
    fn a_type_says_what_it_has_and_nothing_it_does_not_know() {
        let processors = ProcessorInfo::builder()
            .supported_architectures(ArchitectureType::I386)
            .supported_architectures(ArchitectureType::X8664)
            .build();
        let info = InstanceTypeInfo::builder()
            .instance_type(InstanceType::from("x1.small"))
            .processor_info(processors)
            .v_cpu_info(VCpuInfo::builder().default_v_cpus(2).build())
            .memory_info(MemoryInfo::builder().size_in_mib(1024).build())
            .instance_storage_info(InstanceStorageInfo::builder().total_size_in_gb(100).build())
            .gpu_info(GpuInfo::builder().gpus(GpuDeviceInfo::builder().count(4).build()).build())
            .build();
        let size = type_of(&info).size;
        assert_eq!(size.name.as_deref(), Some("x1.small"));
        assert_eq!(size.vcpus, Some(2.into()));
        assert_eq!(size.memory_bytes, Some(1 << 30));
        assert_eq!(size.architecture.as_deref(), Some("x86_64"));
        assert_eq!((size.gpus, size.local_disk_bytes), (Some(4), Some(100_000_000_000)));
        let bare = type_of(&InstanceTypeInfo::builder().build());
        assert_eq!(bare.size, Size::default());
        assert!(bare.takes_ebs && !bare.hibernates);
        assert_eq!(architecture("arm64"), "aarch64");
    }
}
