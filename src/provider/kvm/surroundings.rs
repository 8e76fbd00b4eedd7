//! What descriptions of guests refer to by name or path, read once for a whole list: pools, networks, given addresses.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::domain::{Disk, Interface, Source};
use super::error::During;
use super::link::Link;
use super::raw;
use super::xml::{parsed, text};
use crate::model::resource::{self, Kind, ResourceId};
use crate::{Error, Result};

/// What is around the guests.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Name of the pool by the folder that its volumes lie in.
    pools: BTreeMap<String, String>,
    /// UUID by name.
    networks: HashMap<String, String>,
    /// Addresses by hardware address.
    leases: HashMap<String, Vec<String>>,
}

impl Surroundings {
    /// What can be read; what cannot is told apart, and costs only what refers to it.
    pub(super) fn read(link: &Link, errors: &mut Vec<Error>) -> Self {
        let mut here = Self::default();
        here.read_pools(link, errors);
        here.read_networks(link, errors);
        here
    }

    fn read_pools(&mut self, link: &Link, errors: &mut Vec<Error>) {
        let active = virt_sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE;
        let pools = match link.connect.list_all_storage_pools(active).during("list pools of", &link.host) {
            Ok(pools) => pools,
            Err(error) => return errors.extend(unless_missing(error)),
        };
        for pool in &pools {
            let read = || -> Result<Option<(String, String)>> {
                let xml = pool.get_xml_desc(0).during("read a pool of", &link.host)?;
                let document = parsed(&xml, "pool")?;
                let root = document.root_element();
                let by_path =
                    matches!(root.attribute("type"), Some("dir" | "fs" | "netfs" | "logical" | "disk"));
                let found = text(root, &["target", "path"]).zip(text(root, &["name"]));
                Ok(found.filter(|_| by_path).map(|(path, name)| (path.to_owned(), name.to_owned())))
            };
            match read() {
                Ok(found) => self.pools.extend(found),
                Err(error) => errors.extend(unless_missing(error)),
            }
        }
    }

    fn read_networks(&mut self, link: &Link, errors: &mut Vec<Error>) {
        let networks = match link.connect.list_all_networks(0).during("list networks of", &link.host) {
            Ok(networks) => networks,
            Err(error) => return errors.extend(unless_missing(error)),
        };
        for network in &networks {
            let (Ok(name), Ok(uuid)) = (network.get_name(), network.get_uuid_string()) else { continue };
            self.networks.insert(name, uuid);
            // Only libvirt's own DHCP server keeps leases; every other network answers with an error.
            for (mac, address) in raw::leases(network).unwrap_or_default() {
                let addresses = self.leases.entry(mac).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
    }

    /// The volume behind a disk, where it is one.
    pub(super) fn volume(&self, link: &Link, source: &Source) -> Option<ResourceId> {
        match source {
            Source::Volume(pool, name) => Some(link.id(Kind::Volume, format!("{pool}/{name}"))),
            Source::Path(path) => {
                let path = Path::new(path);
                let (folder, name) = (path.parent()?.to_str()?, path.file_name()?.to_str()?);
                Some(link.id(Kind::Volume, format!("{}/{name}", self.pools.get(folder)?)))
            }
            Source::None | Source::Other(_) => None,
        }
    }

    /// A disk of a guest.
    pub(super) fn disk(&self, link: &Link, disk: &Disk) -> resource::Disk {
        let volume = self.volume(link, &disk.source);
        let source = match &disk.source {
            Source::Path(path) if volume.is_none() => Some(path.clone()),
            Source::Other(other) => Some(other.clone()),
            _ => None,
        };
        resource::Disk { device: disk.target.clone(), volume, source, read_only: disk.read_only }
    }

    /// An interface of a guest.
    pub(super) fn interface(&self, link: &Link, interface: &Interface) -> resource::Interface {
        let network = interface.network.as_ref().and_then(|name| self.networks.get(name));
        let addresses = interface.mac.as_ref().and_then(|mac| self.leases.get(mac));
        resource::Interface {
            name: interface.name.clone(),
            network: network.map(|uuid| link.id(Kind::Network, uuid)),
            mac: interface.mac.clone(),
            addresses: addresses.cloned().unwrap_or_default(),
        }
    }
}

/// What vanished while it was looked at, and what a driver does not have at all, is no fault.
pub(super) fn unless_missing(error: Error) -> Option<Error> {
    use crate::ErrorKind::{NotFound, Unsupported};
    (!matches!(error.kind(), NotFound | Unsupported)).then_some(error)
}
