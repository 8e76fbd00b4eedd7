//! A guest's description, read: what it may use, its disks and interfaces, and what we have written into it ourselves.

use std::collections::BTreeMap;

use roxmltree::Node;

use super::xml::{at, bytes, child, children, parsed, text};
use crate::Result;
use crate::model::resource::Size;
use crate::provider::flavours::name_of;

/// The name space of what we write into a guest's description.
pub(super) const NAMESPACE: &str = "https://barograph.dev/libvirt/1";

/// What a guest is described as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Definition {
    pub(super) uuid: String,
    pub(super) name: String,
    /// `kvm`, `qemu`, `test`, ...
    pub(super) kind: String,
    pub(super) vcpus: u32,
    pub(super) max_vcpus: u32,
    /// Whether processors were added after its process began.
    pub(super) added_vcpus: bool,
    pub(super) memory: u64,
    pub(super) max_memory: u64,
    pub(super) architecture: Option<String>,
    pub(super) machine: Option<String>,
    pub(super) disks: Vec<Disk>,
    pub(super) interfaces: Vec<Interface>,
    /// File with its firmware's variables.
    pub(super) nvram: Option<String>,
    pub(super) mark: Mark,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Disk {
    /// `vda`.
    pub(super) target: String,
    /// `virtio`.
    pub(super) bus: Option<String>,
    /// `disk`, `cdrom`, `floppy`, `lun`.
    pub(super) device: String,
    pub(super) source: Source,
    pub(super) read_only: bool,
    pub(super) shared: bool,
}

/// What is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Source {
    /// Nothing: an empty drive.
    #[default]
    None,
    /// A file or a device on the hypervisor.
    Path(String),
    /// A volume by the name of its pool and its own.
    Volume(String, String),
    /// Something beyond a network, by its protocol and name.
    Other(String),
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Interface {
    /// `vnet3`, while the guest runs.
    pub(super) name: Option<String>,
    pub(super) mac: Option<String>,
    /// Name of the network.
    pub(super) network: Option<String>,
    /// Name of the bridge, of an interface that is in no network of libvirt's.
    pub(super) bridge: Option<String>,
}

/// What we have written into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) tags: BTreeMap<String, String>,
    /// The volume that its first disk is a copy of.
    pub(super) image: Option<String>,
    /// When it was made, in RFC 3339.
    pub(super) created: Option<String>,
}

impl Definition {
    /// From what libvirt says; `resource` is named when it cannot be read.
    pub(super) fn read(xml: &str, resource: &str) -> Result<Self> {
        let document = parsed(xml, resource)?;
        let domain = document.root_element();
        let owned = |way: &[&str]| text(domain, way).map(str::to_owned);
        let max_memory = child(domain, "memory").and_then(|node| bytes(node, "KiB")).unwrap_or(0);
        let current = child(domain, "currentMemory").and_then(|node| bytes(node, "KiB"));
        let max_vcpus = text(domain, &["vcpu"]).and_then(|count| count.parse().ok()).unwrap_or(1);
        let vcpus = child(domain, "vcpu").and_then(|node| node.attribute("current")?.parse().ok());
        let kind = at(domain, &["os", "type"]);
        let attribute = |name| kind.and_then(|kind| kind.attribute(name)).map(str::to_owned);
        let devices = child(domain, "devices");
        let device = |name| devices.into_iter().flat_map(move |devices| children(devices, name));
        Ok(Self {
            uuid: owned(&["uuid"]).unwrap_or_default(),
            name: owned(&["name"]).unwrap_or_default(),
            kind: domain.attribute("type").unwrap_or_default().to_owned(),
            vcpus: vcpus.unwrap_or(max_vcpus),
            max_vcpus,
            added_vcpus: child(domain, "vcpus").is_some_and(|vcpus| {
                let yes = |vcpu: Node<'_, '_>, name| vcpu.attribute(name) == Some("yes");
                children(vcpus, "vcpu").any(|vcpu| yes(vcpu, "enabled") && yes(vcpu, "hotpluggable"))
            }),
            memory: current.unwrap_or(max_memory),
            max_memory,
            architecture: attribute("arch"),
            machine: attribute("machine"),
            disks: device("disk").filter_map(Disk::read).collect(),
            interfaces: device("interface").map(Interface::read).collect(),
            nvram: owned(&["os", "nvram"]),
            mark: child(domain, "metadata").map(Mark::read).unwrap_or_default(),
        })
    }

    /// What it may use; `sizes` are those that have names.
    pub(super) fn size(&self, sizes: &[Size]) -> Size {
        let (vcpus, memory) = (Some(self.vcpus.into()), Some(self.memory).filter(|bytes| *bytes > 0));
        Size {
            name: name_of(sizes, vcpus, memory),
            vcpus,
            memory_bytes: memory,
            max_vcpus: Some(self.max_vcpus.into()),
            max_memory_bytes: Some(self.max_memory).filter(|bytes| *bytes > 0),
            architecture: self.architecture.clone(),
            ..Size::default()
        }
    }

    /// The disk with this behind it.
    pub(super) fn disk_of(&self, volume: &Behind) -> Option<&Disk> {
        self.disks.iter().find(|disk| volume.is(&disk.source))
    }
}

/// A volume in both of its guises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) pool: String,
    pub(super) name: String,
    pub(super) path: String,
}

impl Behind {
    /// Whether this is what a disk has.
    pub(super) fn is(&self, source: &Source) -> bool {
        match source {
            Source::Path(path) => *path == self.path,
            Source::Volume(pool, name) => (pool, name) == (&self.pool, &self.name),
            Source::None | Source::Other(_) => false,
        }
    }
}

impl Disk {
    fn read(node: Node<'_, '_>) -> Option<Self> {
        let target = child(node, "target")?;
        let source = child(node, "source");
        let of = |name| source.and_then(|source| source.attribute(name)).map(str::to_owned);
        let source = match (of("file").or_else(|| of("dev")), of("pool"), of("volume")) {
            (Some(path), _, _) => Source::Path(path),
            (None, Some(pool), Some(volume)) => Source::Volume(pool, volume),
            _ => match (of("protocol"), of("name").or_else(|| of("dir"))) {
                (None, None) => Source::None,
                (protocol, name) => Source::Other(format!(
                    "{}:{}",
                    protocol.as_deref().unwrap_or("dir"),
                    name.unwrap_or_default()
                )),
            },
        };
        Some(Self {
            target: target.attribute("dev")?.to_owned(),
            bus: target.attribute("bus").map(str::to_owned),
            device: node.attribute("device").unwrap_or("disk").to_owned(),
            source,
            read_only: child(node, "readonly").is_some(),
            shared: child(node, "shareable").is_some(),
        })
    }
}

impl Interface {
    fn read(node: Node<'_, '_>) -> Self {
        let of = |element, name| child(node, element)?.attribute(name).map(str::to_owned);
        Self {
            name: of("target", "dev"),
            mac: of("mac", "address").map(|mac: String| mac.to_lowercase()),
            network: of("source", "network"),
            bridge: of("source", "bridge"),
        }
    }
}

impl Mark {
    fn read(metadata: Node<'_, '_>) -> Self {
        let ours = metadata.children().find(|node| node.has_tag_name((NAMESPACE, "instance")));
        let Some(ours) = ours else { return Self::default() };
        let named =
            |name: &'static str| ours.children().filter(move |node| node.has_tag_name((NAMESPACE, name)));
        let first = |name| named(name).find_map(|node| node.text().map(str::to_owned));
        let tag = |node: Node<'_, '_>| {
            Some((node.attribute("key")?.to_owned(), node.text().unwrap_or_default().to_owned()))
        };
        Self {
            tags: named("tag").filter_map(tag).collect(),
            image: first("image"),
            created: first("created"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libvirt_describes_is_read() {
        let xml = "<domain type='qemu' id='3'><name>web</name><uuid>u</uuid>
            <metadata><x:other xmlns:x='urn:other'><x:tag key='a'>no</x:tag></x:other>
            <b:instance xmlns:b='https://barograph.dev/libvirt/1'><b:tag key='team'>core</b:tag>
            <b:tag key='empty'/><b:image>default/base</b:image><b:created>2026-01-01T00:00:00Z</b:created>
            </b:instance></metadata>
            <memory unit='KiB'>262144</memory><currentMemory unit='KiB'>131072</currentMemory>
            <vcpu placement='static' current='2'>4</vcpu><vcpus>
            <vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='yes' hotpluggable='yes'/>
            <vcpu id='2' enabled='no' hotpluggable='yes'/></vcpus>
            <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><nvram>/n</nvram></os><devices>
            <disk type='file' device='disk'><source file='/p/a'/><target dev='vda' bus='virtio'/><shareable/></disk>
            <disk type='volume' device='disk'><source pool='p' volume='b'/><target dev='vdb'/></disk>
            <disk type='network' device='disk'><source protocol='rbd' name='x/y'/><target dev='vdc'/></disk>
            <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
            <interface type='network'><mac address='52:54:00:AA:00:01'/><source network='n'/>
            <target dev='vnet0'/></interface><interface type='bridge'><source bridge='br0'/></interface>
            </devices></domain>";
        let read = Definition::read(xml, "web").unwrap();
        assert_eq!((read.vcpus, read.max_vcpus, read.added_vcpus), (2, 4, true));
        assert_eq!((read.memory, read.max_memory), (128 << 20, 256 << 20));
        assert_eq!(read.machine.as_deref(), Some("pc-q35-7.2"));
        assert_eq!(read.nvram.as_deref(), Some("/n"));
        assert_eq!(read.mark.tags["team"], "core");
        assert_eq!(read.mark.tags.len(), 2);
        assert_eq!(read.mark.image.as_deref(), Some("default/base"));
        let sources: Vec<_> = read.disks.iter().map(|disk| disk.source.clone()).collect();
        let volume = Source::Volume("p".into(), "b".into());
        assert_eq!(
            sources,
            [Source::Path("/p/a".into()), volume, Source::Other("rbd:x/y".into()), Source::None]
        );
        assert!(read.disks[0].shared && read.disks[3].read_only);
        assert_eq!(read.interfaces[0].mac.as_deref(), Some("52:54:00:aa:00:01"));
        assert_eq!(read.interfaces[1].bridge.as_deref(), Some("br0"));
        let behind = Behind { pool: "p".into(), name: "b".into(), path: "/p/b".into() };
        assert_eq!(read.disk_of(&behind).unwrap().target, "vdb");
    }

    #[test]
    fn a_description_without_anything_is_no_panic() {
        let read = Definition::read("<domain/>", "x").unwrap();
        assert_eq!((read.vcpus, read.memory), (1, 0));
        assert!(Definition::read("<domain", "x").unwrap_err().to_string().contains("XML"));
    }
}
