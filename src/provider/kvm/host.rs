//! What the hypervisor can run: read from its capabilities, so that a definition asks for nothing that it lacks.

use super::error::refused;
use super::xml::{at, children, parsed, text};
use crate::{ErrorKind, Result};

/// One kind of guest that the hypervisor can run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Guest {
    /// `x86_64`.
    pub(super) architecture: String,
    /// `kvm`, `qemu`, `test`, in the hypervisor's order.
    pub(super) types: Vec<String>,
    /// `q35`, `pc`, `virt`, ...
    pub(super) machines: Vec<String>,
}

/// What the hypervisor can run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Host {
    /// Its own architecture.
    pub(super) architecture: String,
    /// Guests with full virtualization.
    pub(super) guests: Vec<Guest>,
}

impl Host {
    /// From `virsh capabilities`.
    pub(super) fn read(xml: &str) -> Result<Self> {
        let document = parsed(xml, "capabilities")?;
        let root = document.root_element();
        let hvm = children(root, "guest").filter(|guest| text(*guest, &["os_type"]) == Some("hvm"));
        let guests = hvm.filter_map(|guest| {
            let arch = at(guest, &["arch"])?;
            let words = |name| children(arch, name);
            let types = words("domain").filter_map(|domain| Some(domain.attribute("type")?.to_owned()));
            let machines = words("machine").filter_map(|machine| Some(machine.text()?.trim().to_owned()));
            Some(Guest {
                architecture: arch.attribute("name")?.to_owned(),
                types: types.collect(),
                machines: machines.collect(),
            })
        });
        let architecture = text(root, &["host", "cpu", "arch"]).unwrap_or_default().to_owned();
        Ok(Self { architecture, guests: guests.collect() })
    }

    /// The kind of guest for an architecture, the hypervisor's own where none is named.
    pub(super) fn guest(&self, architecture: Option<&str>) -> Result<&Guest> {
        let wanted = architecture.unwrap_or(&self.architecture);
        let found = self.guests.iter().find(|guest| guest.architecture == wanted);
        found.ok_or_else(|| {
            let known: Vec<_> = self.guests.iter().map(|guest| guest.architecture.as_str()).collect();
            let reason = format!("the hypervisor runs no such guests, only: {}", known.join(", "));
            refused(ErrorKind::Unsupported, "make an instance for", wanted, reason)
        })
    }
}

impl Guest {
    /// The type that is wanted; else the processor's own virtualization where it can be used.
    pub(super) fn kind(&self, wanted: Option<&str>) -> Result<&str> {
        let has = |kind: &str| self.types.iter().find(|known| *known == kind).map(String::as_str);
        let found = match wanted {
            Some(wanted) => has(wanted),
            None => has("kvm").or_else(|| has("qemu")).or_else(|| self.types.first().map(String::as_str)),
        };
        found.ok_or_else(|| {
            let reason = format!("the hypervisor offers only: {}", self.types.join(", "));
            refused(ErrorKind::Unsupported, "make an instance of type", wanted.unwrap_or("kvm"), reason)
        })
    }

    /// The machine that is wanted; else the modern one of the architecture where there is one.
    pub(super) fn machine(&self, wanted: Option<&str>) -> Result<Option<&str>> {
        let has = |name: &str| self.machines.iter().find(|known| *known == name).map(String::as_str);
        match wanted {
            None => Ok(has("q35").or_else(|| has("virt"))),
            Some(wanted) => has(wanted).map(Some).ok_or_else(|| {
                let known = self.machines.iter().map(String::as_str);
                let hint = crate::suggest::closest(wanted, known).unwrap_or("q35");
                let reason = format!("the hypervisor has no such machine; did you mean {hint}?");
                refused(ErrorKind::Unsupported, "make an instance on machine", wanted, reason)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
        <guest><os_type>hvm</os_type><arch name='x86_64'><machine canonical='pc-i440fx-7.2'>pc</machine>
        <machine canonical='pc-q35-7.2'>q35</machine><domain type='qemu'/><domain type='kvm'/></arch></guest>
        <guest><os_type>hvm</os_type><arch name='aarch64'><machine>virt</machine><domain type='qemu'/></arch></guest>
        <guest><os_type>xen</os_type><arch name='i686'><domain type='xen'/></arch></guest></capabilities>";

    #[test]
    fn the_best_that_there_is_is_chosen_and_what_is_not_there_is_refused() {
        let host = Host::read(XML).unwrap();
        let own = host.guest(None).unwrap();
        assert_eq!((own.kind(None).unwrap(), own.machine(None).unwrap()), ("kvm", Some("q35")));
        assert_eq!(own.kind(Some("qemu")).unwrap(), "qemu");
        let other = host.guest(Some("aarch64")).unwrap();
        assert_eq!((other.kind(None).unwrap(), other.machine(None).unwrap()), ("qemu", Some("virt")));
        assert!(other.kind(Some("kvm")).unwrap_err().to_string().contains("only: qemu"));
        assert!(host.guest(Some("i686")).unwrap_err().to_string().contains("x86_64, aarch64"));
        assert!(own.machine(Some("q53")).unwrap_err().to_string().contains("q35"));
    }
}
