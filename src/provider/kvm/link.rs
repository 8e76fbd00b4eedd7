//! A connection that may write, with the look-ups that all verbs share.

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::network::Network;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use super::domain::{Behind, Definition};
use super::error::{During, refused};
use super::state::Native;
use super::{error, sys};
use crate::model::resource::{Kind, ResourceId};
use crate::provider::Scope;
use crate::{ErrorKind, Result};

/// Seconds between keepalive messages, and how many may stay unanswered before the connection counts as dead.
const KEEPALIVE: (i32, u32) = (5, 3);

/// An open connection.
pub(super) struct Link {
    pub(super) connect: Connect,
    /// The hypervisor's host name: the location of everything.
    pub(super) host: String,
    scope: Scope,
}

/// A guest with its present state.
pub(super) struct Guest {
    pub(super) domain: Domain,
    pub(super) native: Native,
    /// Its name, for people.
    pub(super) name: String,
}

impl Link {
    pub(super) fn open(uri: &str) -> Result<Self> {
        sys::prepare();
        let failed = |error| error::unconnected(uri, error);
        let connect = Connect::open(Some(&super::connect::unattended(uri))).map_err(failed)?;
        let mut link = Self { connect, host: String::new(), scope: super::scope(uri) };
        // Drivers inside this process have nothing to keep alive and say so with an error.
        let _ = link.connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
        link.host = link.connect.get_hostname().map_err(failed)?;
        Ok(link)
    }

    /// The id of a resource on this hypervisor.
    pub(super) fn id(&self, kind: Kind, native_id: impl Into<String>) -> ResourceId {
        self.scope.id(&self.host, kind, native_id)
    }

    /// Refuses a place that this hypervisor is not.
    pub(super) fn here(&self, location: &str) -> Result<()> {
        if location == self.host {
            return Ok(());
        }
        let reason = format!("this connection has only the host {}", self.host);
        Err(refused(ErrorKind::NotFound, "look at", location, reason))
    }

    /// Refuses a place in a spec that this hypervisor is not; none means here.
    pub(super) fn here_or_none(&self, location: Option<&str>) -> Result<()> {
        location.map_or(Ok(()), |location| self.here(location))
    }

    /// The native id of a resource of this kind on this hypervisor.
    pub(super) fn own<'a>(&self, operation: &str, id: &'a ResourceId, kind: Kind) -> Result<&'a str> {
        let wrong = |reason: String| Err(refused(ErrorKind::Invalid, operation, id.to_string(), reason));
        if !self.scope.has(id) {
            return wrong(format!("it does not belong to {}", self.scope.account));
        }
        if id.kind != kind {
            return wrong(format!("it is not of kind {kind}"));
        }
        self.here(&id.location)?;
        if id.native_id.contains('\0') {
            return wrong("the id holds a NUL byte".into());
        }
        Ok(&id.native_id)
    }

    /// The guest of an id.
    pub(super) fn guest(&self, operation: &str, id: &ResourceId) -> Result<Guest> {
        let uuid = self.own(operation, id, Kind::Instance)?;
        let domain = Domain::lookup_by_uuid_string(&self.connect, uuid).during(operation, uuid)?;
        let native = domain.get_state().during(operation, uuid)?;
        let name = domain.get_name().during(operation, uuid)?;
        Ok(Guest { domain, native: native.into(), name })
    }

    /// The guest of an id, or none if libvirt says that there is none.
    pub(super) fn guest_if_any(&self, operation: &str, id: &ResourceId) -> Result<Option<Guest>> {
        absent(self.guest(operation, id))
    }

    /// The volume of an id, with where it lies.
    pub(super) fn volume(&self, operation: &str, id: &ResourceId) -> Result<(StorageVol, Behind)> {
        let native = self.own(operation, id, Kind::Volume)?;
        let Some((pool, name)) = native.split_once('/') else {
            let reason = "a volume's id ends with pool/name";
            return Err(refused(ErrorKind::Invalid, operation, native, reason));
        };
        let volume = self.volume_in(operation, &self.pool(operation, pool)?, name)?;
        let path = volume.get_path().during(operation, native)?;
        Ok((volume, Behind { pool: pool.to_owned(), name: name.to_owned(), path }))
    }

    /// The volume of that name. A pool learns of files that others made when it is read again.
    fn volume_in(&self, operation: &str, pool: &StoragePool, name: &str) -> Result<StorageVol> {
        match StorageVol::lookup_by_name(pool, name) {
            Err(error) if error.code() == ErrorNumber::NoStorageVolume => {
                pool.refresh(0).during(operation, name)?;
                StorageVol::lookup_by_name(pool, name).during(operation, name)
            }
            answer => answer.during(operation, name),
        }
    }

    /// The pool of that name.
    pub(super) fn pool(&self, operation: &str, name: &str) -> Result<StoragePool> {
        super::xml::name(operation, "pool", name)?;
        StoragePool::lookup_by_name(&self.connect, name).during(operation, name)
    }

    /// The network of an id.
    pub(super) fn network(&self, operation: &str, id: &ResourceId) -> Result<Network> {
        let uuid = self.own(operation, id, Kind::Network)?;
        Network::lookup_by_uuid_string(&self.connect, uuid).during(operation, uuid)
    }

    /// All guests as they run and as they will run after their next start: one that runs may have two descriptions. A
    /// guest that vanishes meanwhile is left out.
    pub(super) fn definitions(&self, operation: &str) -> Result<Vec<Definition>> {
        let domains = self.connect.list_all_domains(0).during(operation, &self.host)?;
        let mut all = Vec::with_capacity(domains.len());
        for domain in domains {
            if let Some(guest) = absent(described(operation, &domain))? {
                all.extend(guest);
            }
        }
        Ok(all)
    }
}

impl Guest {
    /// Whether it has a process on the hypervisor.
    pub(super) fn is_active(&self) -> bool {
        self.native.is_active()
    }

    /// What it is now: while it runs how it runs, otherwise how it will.
    pub(super) fn now(&self, operation: &str) -> Result<Definition> {
        definition(operation, &self.domain, 0)
    }

    /// What it will be after its next start.
    pub(super) fn next(&self, operation: &str) -> Result<Definition> {
        definition(operation, &self.domain, virt_sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// Whether its memory is kept in a file.
    pub(super) fn is_saved(&self) -> bool {
        !self.is_active() && self.domain.has_managed_save(0).unwrap_or(false)
    }

    /// Looks at its state again.
    pub(super) fn refresh(&mut self, operation: &str) -> Result<()> {
        self.native = self.domain.get_state().during(operation, &self.name)?.into();
        Ok(())
    }

    /// Where a change goes: to what runs, to what is started next, or to both.
    pub(super) fn flags(&self) -> Result<u32> {
        let live = if self.is_active() { virt_sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
        let kept = self.domain.is_persistent().during("look at", &self.name)?;
        Ok(live | if kept { virt_sys::VIR_DOMAIN_AFFECT_CONFIG } else { 0 })
    }
}

fn definition(operation: &str, domain: &Domain, flags: u32) -> Result<Definition> {
    let uuid = domain.get_uuid_string().during(operation, "a guest")?;
    Definition::read(&domain.get_xml_desc(flags).during(operation, &uuid)?, &uuid)
}

fn described(operation: &str, domain: &Domain) -> Result<Vec<Definition>> {
    let mut all = vec![definition(operation, domain, 0)?];
    if domain.get_id().is_some() {
        let next = definition(operation, domain, virt_sys::VIR_DOMAIN_XML_INACTIVE)?;
        if next.disks != all[0].disks || next.interfaces.len() != all[0].interfaces.len() {
            all.push(next);
        }
    }
    Ok(all)
}

/// None for what is not there; other errors stay.
pub(super) fn absent<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = self.connect.close() {
            tracing::debug!(%error, "closing a libvirt connection");
        }
    }
}
