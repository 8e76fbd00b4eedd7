//! A guest's description, written: from what people want to what libvirt takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

use super::domain::NAMESPACE;
use super::error::refused;
use super::host::Host;
use super::xml::{escaped, name, plain};
use crate::model::Timestamp;
use crate::model::resource::Size;
use crate::provider::{InstanceSpec, KernelSpec};
use crate::{ErrorKind, Result};

/// The words that [`InstanceSpec::options`] may have, each with what it does.
pub(super) const OPTIONS: [(&str, &str); 7] = [
    ("autostart", "`true` starts it with the hypervisor"),
    ("cpu", "`host-passthrough`, `host-model` or `maximum`"),
    ("firmware", "`efi` or `bios`"),
    ("image", "what its first disk is a copy of, for the record; the plan sets it"),
    ("machine", "`q35`, `pc`, ..."),
    ("serial", "file on the hypervisor that its serial console is written to"),
    ("type", "`kvm` or `qemu`"),
];

/// Empty slots that disks can be attached to while the guest runs; a machine of type q35 has none of its own.
const SPARE_PORTS: usize = 14;

/// A guest that can be written down: everything in the spec that can be wrong without asking libvirt has been looked at.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) uuid: Uuid,
    pub(super) name: String,
    pub(super) amount: Amount,
    pub(super) autostart: bool,
    pub(super) networks: Vec<String>,
    architecture: Option<String>,
    kernel: Option<KernelSpec>,
    tags: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
}

/// A disk for the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskXml {
    /// File or device on the hypervisor.
    pub(super) path: String,
    /// Whether it is a device.
    pub(super) block: bool,
    /// `qcow2`, `raw`.
    pub(super) format: String,
    /// `vda`.
    pub(super) target: String,
}

/// How much a guest gets, in libvirt's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) vcpus: u32,
    pub(super) max_vcpus: u32,
    pub(super) memory: u64,
    pub(super) max_memory: u64,
}

impl Amount {
    /// From a size whose parts are all known; the room to grow is none if it is not named.
    pub(super) fn of(size: &Size, resource: &str) -> Result<Self> {
        let missing = |what: &str| {
            let reason = format!("how much {what} it gets is missing; name a size, or vcpus and memory");
            refused(ErrorKind::Invalid, "size", resource, reason)
        };
        let vcpus = whole(size.vcpus.ok_or_else(|| missing("processors"))?, resource)?;
        let memory = kibibytes(size.memory_bytes.ok_or_else(|| missing("memory"))?, resource)?;
        let amount = Self {
            vcpus,
            memory,
            max_vcpus: size.max_vcpus.map_or(Ok(vcpus), |most| whole(most, resource))?,
            max_memory: size.max_memory_bytes.map_or(Ok(memory), |most| kibibytes(most, resource))?,
        };
        if amount.max_vcpus < amount.vcpus || amount.max_memory < amount.memory {
            let reason = "the most it can grow to is less than what it gets; raise max_vcpus or max_memory";
            return Err(refused(ErrorKind::Invalid, "size", resource, reason));
        }
        Ok(amount)
    }
}

/// A whole number of processors.
pub(super) fn whole(vcpus: Decimal, resource: &str) -> Result<u32> {
    let whole = vcpus.is_integer().then(|| vcpus.to_u32()).flatten().filter(|count| *count > 0);
    whole.ok_or_else(|| {
        let reason = format!("{vcpus} processors cannot be given to a guest; write a whole number from 1");
        refused(ErrorKind::Invalid, "size", resource, reason)
    })
}

/// Bytes that libvirt can express: it counts memory in KiB.
pub(super) fn kibibytes(bytes: u64, resource: &str) -> Result<u64> {
    if bytes == 0 || !bytes.is_multiple_of(1024) {
        let reason = format!("{bytes} bytes of memory are not a number of KiB above zero");
        return Err(refused(ErrorKind::Invalid, "size", resource, reason));
    }
    Ok(bytes)
}

impl Draft {
    /// Looks at a spec; `size` is its size with the name looked up.
    pub(super) fn new(spec: &InstanceSpec, size: &Size, uuid: Uuid) -> Result<Self> {
        let label = name("create", "guest", &spec.name)?;
        let wrong = |reason: String| refused(ErrorKind::Invalid, "create", label, reason);
        if !spec.command.is_empty() || !spec.environment.is_empty() {
            return Err(wrong(
                "command and environment are for containers; a guest runs what is on its disk".into(),
            ));
        }
        for (key, value) in &spec.options {
            if !OPTIONS.iter().any(|(known, _)| known == key) {
                let known = OPTIONS.map(|(known, _)| known);
                let hint = crate::suggest::closest(key, known);
                let hint = hint.map(|hint| format!("; did you mean {hint}?")).unwrap_or_default();
                return Err(wrong(format!(
                    "there is no option {key:?}{hint} (known are {})",
                    known.join(", ")
                )));
            }
            plain("create", "option", value)?;
        }
        let one_of = |option: &str, known: &[&str]| match spec.options.get(option) {
            Some(value) if !known.contains(&value.as_str()) => {
                Err(wrong(format!("option {option} is {value:?}; write {}", known.join(" or "))))
            }
            _ => Ok(()),
        };
        one_of("autostart", &["true", "false"])?;
        one_of("cpu", &["host-passthrough", "host-model", "maximum"])?;
        one_of("firmware", &["efi", "bios"])?;
        for (key, value) in &spec.tags {
            plain("create", "tag", key)?;
            plain("create", "tag", value)?;
        }
        let kernel = spec.kernel.iter();
        let kernel = kernel
            .flat_map(|kernel| [Some(&kernel.kernel), kernel.initrd.as_ref(), kernel.arguments.as_ref()]);
        for text in kernel.flatten() {
            plain("create", "kernel", text)?;
        }
        for network in &spec.networks {
            name("create", "network", network)?;
        }
        Ok(Self {
            uuid,
            name: label.to_owned(),
            amount: Amount::of(size, label)?,
            autostart: spec.options.get("autostart").is_some_and(|value| value == "true"),
            networks: spec.networks.clone(),
            architecture: spec.architecture.clone(),
            kernel: spec.kernel.clone(),
            tags: spec.tags.clone(),
            options: spec.options.clone(),
        })
    }

    /// The description for a hypervisor.
    pub(super) fn xml(&self, host: &Host, disks: &[DiskXml]) -> Result<String> {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let guest = host.guest(self.architecture.as_deref())?;
        let kind = guest.kind(option("type"))?;
        let machine = guest.machine(option("machine"))?;
        let Amount { vcpus, max_vcpus, memory, max_memory } = self.amount;
        let mut xml = String::with_capacity(4096);
        // Writing into a string never fails.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = xml.write_fmt(text);
        };
        line(format_args!("<domain type='{}'><name>{}</name>", escaped(kind), escaped(&self.name)));
        line(format_args!("<uuid>{}</uuid><metadata>{}</metadata>", self.uuid, self.mark()));
        line(format_args!("<memory unit='KiB'>{}</memory>", max_memory / 1024));
        line(format_args!("<currentMemory unit='KiB'>{}</currentMemory>", memory / 1024));
        line(format_args!("<vcpu current='{vcpus}'>{max_vcpus}</vcpu>"));
        line(format_args!("<os{}>", if option("firmware") == Some("efi") { " firmware='efi'" } else { "" }));
        line(format_args!("<type arch='{}'", escaped(&guest.architecture)));
        if let Some(machine) = machine {
            line(format_args!(" machine='{}'", escaped(machine)));
        }
        line(format_args!(">hvm</type>"));
        match &self.kernel {
            Some(kernel) => {
                line(format_args!("<kernel>{}</kernel>", escaped(&kernel.kernel)));
                if let Some(initrd) = &kernel.initrd {
                    line(format_args!("<initrd>{}</initrd>", escaped(initrd)));
                }
                if let Some(arguments) = &kernel.arguments {
                    line(format_args!("<cmdline>{}</cmdline>", escaped(arguments)));
                }
            }
            None => line(format_args!("<boot dev='hd'/>")),
        }
        line(format_args!("</os><features><acpi/></features>"));
        match option("cpu") {
            Some(cpu) => line(format_args!("<cpu mode='{}'/>", escaped(cpu))),
            None if kind == "kvm" => line(format_args!("<cpu mode='host-passthrough'/>")),
            None => {}
        }
        line(format_args!("<clock offset='utc'/><on_poweroff>destroy</on_poweroff>"));
        line(format_args!("<on_reboot>restart</on_reboot><on_crash>destroy</on_crash><devices>"));
        if machine == Some("q35") {
            line(format_args!("<controller type='pci' index='0' model='pcie-root'/>"));
            for _ in 0..SPARE_PORTS {
                line(format_args!("<controller type='pci' model='pcie-root-port'/>"));
            }
        }
        for disk in disks {
            line(format_args!("{}", disk.xml()));
        }
        for network in &self.networks {
            let network = escaped(network);
            line(format_args!(
                "<interface type='network'><source network='{network}'/><model type='virtio'/></interface>"
            ));
        }
        match option("serial") {
            Some(file) => {
                let file = escaped(file);
                line(format_args!("<serial type='file'><source path='{file}'/><target port='0'/></serial>"));
            }
            None => line(format_args!(
                "<serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial'/></console>"
            )),
        }
        line(format_args!("<memballoon model='virtio'><stats period='10'/></memballoon></devices></domain>"));
        Ok(xml)
    }

    /// What we write down for ourselves.
    fn mark(&self) -> String {
        let mut mark =
            format!("<b:instance xmlns:b='{NAMESPACE}'><b:created>{}</b:created>", Timestamp::now());
        if let Some(image) = self.options.get("image") {
            mark += &format!("<b:image>{}</b:image>", escaped(image));
        }
        for (key, value) in &self.tags {
            mark += &format!("<b:tag key='{}'>{}</b:tag>", escaped(key), escaped(value));
        }
        mark + "</b:instance>"
    }
}

impl DiskXml {
    /// The element of a disk.
    pub(super) fn xml(&self) -> String {
        let (kind, attribute) = if self.block { ("block", "dev") } else { ("file", "file") };
        format!(
            "<disk type='{kind}' device='disk'><driver name='qemu' type='{}'/><source {attribute}='{}'/>\
             <target dev='{}' bus='virtio'/></disk>",
            escaped(&self.format),
            escaped(&self.path),
            escaped(&self.target)
        )
    }
}

/// The first name of a virtio disk that is free: `vda` to `vdz`, then `vdaa`.
pub(super) fn free_target<'a>(taken: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let letters = || 'a'..='z';
    let short = letters().map(|letter| format!("vd{letter}"));
    let long = letters().flat_map(|first| letters().map(move |second| format!("vd{first}{second}")));
    short.chain(long).find(|name| !taken.clone().any(|taken| taken == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::kvm::domain::{Definition, Source};
    use crate::provider::kvm::host::Guest;

    fn host() -> Host {
        let guest = Guest {
            architecture: "x86_64".into(),
            types: vec!["qemu".into(), "kvm".into()],
            machines: vec!["q35".into()],
        };
        Host { architecture: "x86_64".into(), guests: vec![guest] }
    }

    fn size() -> Size {
        Size {
            vcpus: Some(2.into()),
            memory_bytes: Some(128 << 20),
            max_vcpus: Some(4.into()),
            max_memory_bytes: Some(256 << 20),
            ..Size::default()
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut spec =
            InstanceSpec { name: "w & b's".into(), networks: vec!["n<1>".into()], ..Default::default() };
        spec.tags.insert("te'am".into(), "<core>".into());
        spec.options.insert("image".into(), "default/base".into());
        let uuid = Uuid::from_u128(7);
        let disk =
            DiskXml { path: "/p/a&b".into(), block: false, format: "qcow2".into(), target: "vda".into() };
        let draft = Draft::new(&spec, &size(), uuid).unwrap();
        let xml = draft.xml(&host(), std::slice::from_ref(&disk)).unwrap();
        let read = Definition::read(&xml, "w").unwrap();
        assert_eq!((read.name.as_str(), read.uuid.as_str()), ("w & b's", uuid.to_string().as_str()));
        assert_eq!((read.vcpus, read.max_vcpus, read.memory, read.max_memory), (2, 4, 128 << 20, 256 << 20));
        assert_eq!((read.kind.as_str(), read.machine.as_deref()), ("kvm", Some("q35")));
        assert_eq!(read.mark.tags["te'am"], "<core>");
        assert_eq!(read.mark.image.as_deref(), Some("default/base"));
        assert!(read.mark.created.unwrap().parse::<Timestamp>().is_ok());
        assert_eq!(read.disks[0].source, Source::Path("/p/a&b".into()));
        assert_eq!(read.interfaces[0].network.as_deref(), Some("n<1>"));
        assert!(xml.contains("<stats period='10'/>") && xml.contains("host-passthrough"));
        spec.options.insert("type".into(), "qemu".into());
        let xml = Draft::new(&spec, &size(), uuid).unwrap().xml(&host(), &[]).unwrap();
        assert!(xml.contains("type='qemu'") && !xml.contains("host-passthrough"));
    }

    #[test]
    fn what_cannot_be_given_is_refused_and_says_what_could() {
        let base = InstanceSpec { name: "web".into(), ..Default::default() };
        let refusal = |change: &dyn Fn(&mut InstanceSpec)| {
            let mut spec = base.clone();
            change(&mut spec);
            Draft::new(&spec, &size(), Uuid::nil()).unwrap_err().to_string()
        };
        assert!(refusal(&|spec| spec.command = vec!["sh".into()]).contains("containers"));
        let unknown = refusal(&|spec| drop(spec.options.insert("machin".into(), "x".into())));
        assert!(unknown.contains("did you mean machine?") && unknown.contains("firmware"), "{unknown}");
        assert!(
            refusal(&|spec| drop(spec.options.insert("cpu".into(), "fast".into()))).contains("host-model")
        );
        assert!(refusal(&|spec| drop(spec.tags.insert("a".into(), "\u{1}".into()))).contains("U+0001"));
        let refusal = |size: Size| Amount::of(&size, "web").unwrap_err().to_string();
        assert!(refusal(Size { vcpus: None, ..size() }).contains("processors"));
        assert!(refusal(Size { vcpus: Some(Decimal::new(15, 1)), ..size() }).contains("whole number"));
        assert!(refusal(Size { memory_bytes: Some(1025), ..size() }).contains("KiB"));
        assert!(refusal(Size { max_vcpus: Some(1.into()), ..size() }).contains("raise"));
    }

    #[test]
    fn the_next_free_disk_is_found() {
        let taken = ["vda", "vdc"];
        assert_eq!(free_target(taken.into_iter()).as_deref(), Some("vdb"));
        let all: Vec<_> = ('a'..='z').map(|letter| format!("vd{letter}")).collect();
        assert_eq!(free_target(all.iter().map(String::as_str)).as_deref(), Some("vdaa"));
    }
}
