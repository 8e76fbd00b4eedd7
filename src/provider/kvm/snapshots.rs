//! Snapshots of guests: libvirt's own, with the memory of a guest that runs. The native id is `UUID/name`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;

use super::KvmProvider;
use super::error::{During, refused};
use super::link::{Link, absent};
use super::surroundings::unless_missing;
use super::xml::{escaped, name, parsed, plain, text};
use crate::model::Timestamp;
use crate::model::resource::{Kind, ResourceId, Snapshot};
use crate::provider::{Done, Page, SnapshotSpec, Snapshots, Token};
use crate::{ErrorKind, Result};

/// The line of a description that says which step made it.
const MARK: &str = "barograph:";

const REVERT: &str = "revert to";

/// The version from which libvirt can go back to a snapshot that lies in files of its own.
const EXTERNAL: u32 = 9_010_000;

#[async_trait]
impl Snapshots for KvmProvider {
    async fn create(&self, spec: &SnapshotSpec, token: Token) -> Result<Done> {
        let spec = spec.clone();
        self.once(token, "create snapshot", move |link| create(link, &spec, token)).await
    }

    async fn revert(&self, id: &ResourceId, token: Token) -> Result<Done> {
        let id = id.clone();
        // libvirt keeps no account of it: what was written since an earlier call went back would be lost.
        self.at_most_once(token, REVERT, id.native_id.clone(), move |link, begin| {
            let (_, snapshot) = find(link, REVERT, &id)?;
            begin();
            snapshot.revert(0).during(REVERT, &id.native_id)?;
            Ok(Done::changed())
        })
        .await
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call("delete", move |link| {
            let Some((_, snapshot)) = absent(find(link, "delete", &id))? else {
                return Ok(Done::already());
            };
            snapshot.delete(0).during("delete", &id.native_id)?;
            Ok(Done::changed())
        })
        .await
    }
}

fn create(link: &Link, spec: &SnapshotSpec, token: Token) -> Result<Done> {
    const CREATE: &str = "create snapshot";
    let label = name(CREATE, "snapshot", &spec.name)?;
    if spec.of.kind == Kind::Volume {
        let reason = "libvirt's snapshots are of whole guests; name the instance that has the volume";
        return Err(refused(ErrorKind::Unsupported, CREATE, label, reason));
    }
    if !spec.tags.is_empty() {
        let reason = "libvirt's snapshots have no tags; leave them out";
        return Err(refused(ErrorKind::Invalid, CREATE, label, reason));
    }
    let description = plain(CREATE, "description", spec.description.as_deref().unwrap_or_default())?;
    let guest = link.guest(CREATE, &spec.of)?;
    let id = link.id(Kind::Snapshot, format!("{}/{label}", spec.of.native_id));
    let mark = format!("{MARK}{token}");
    if let Ok(found) = DomainSnapshot::lookup_by_name(&guest.domain, label, 0) {
        let xml = found.get_xml_desc(0).during(CREATE, label)?;
        let document = parsed(&xml, label)?;
        let made = text(document.root_element(), &["description"]).unwrap_or_default();
        if made.lines().any(|line| line == mark) {
            return Ok(Done::made(id));
        }
        let reason = format!("{} has a snapshot of that name; choose another name", guest.name);
        return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
    }
    let outside = spec.disks_only && guest.is_active();
    if outside && !can_go_back(link) {
        let reason =
            "this version of libvirt could not go back to it; stop the guest, or keep its memory too";
        return Err(refused(ErrorKind::Unsupported, CREATE, label, reason));
    }
    if guest.is_active() && !outside && guest.now(CREATE)?.added_vcpus {
        // QEMU loads the memory before libvirt adds the processors again, and fails.
        let reason = "the guest got processors while it ran, so its memory could not be loaded again; \
                      stop and start it, then make the snapshot";
        return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
    }
    let xml = format!(
        "<domainsnapshot><name>{}</name><description>{}</description></domainsnapshot>",
        escaped(label),
        escaped(format!("{description}\n{mark}").trim_start())
    );
    let mut flags = virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
    if outside {
        flags |= virt_sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
    }
    DomainSnapshot::create_xml(&guest.domain, &xml, flags).during(CREATE, label)?;
    Ok(Done::made(id))
}

/// Whether snapshots of a running guest's disks alone, which lie in files of their own, can be gone back to.
fn can_go_back(link: &Link) -> bool {
    let qemu = link.connect.get_type().is_ok_and(|driver| driver == "QEMU");
    !qemu || link.connect.get_lib_version().is_ok_and(|version| version >= EXTERNAL)
}

/// The snapshot of an id, with its guest.
fn find(link: &Link, operation: &str, id: &ResourceId) -> Result<(Domain, DomainSnapshot)> {
    let native = link.own(operation, id, Kind::Snapshot)?;
    let Some((uuid, name)) = native.split_once('/') else {
        let reason = "a snapshot's id ends with the guest's UUID and the snapshot's name, as UUID/name";
        return Err(refused(ErrorKind::Invalid, operation, native, reason));
    };
    let domain = Domain::lookup_by_uuid_string(&link.connect, uuid).during(operation, native)?;
    let snapshot = DomainSnapshot::lookup_by_name(&domain, name, 0).during(operation, native)?;
    Ok((domain, snapshot))
}

/// The snapshots of all guests.
pub(super) fn list(link: &Link) -> Result<Page<Snapshot>> {
    const LIST: &str = "list snapshots of";
    let with = virt_sys::VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT;
    let mut page = Page { items: Vec::new(), errors: Vec::new() };
    for domain in link.connect.list_all_domains(with).during(LIST, &link.host)? {
        match of(link, &domain) {
            Ok(part) => {
                page.items.extend(part.items);
                page.errors.extend(part.errors);
            }
            Err(error) => page.errors.extend(unless_missing(error)),
        }
    }
    Ok(page)
}

/// The snapshots of one guest.
pub(super) fn of(link: &Link, domain: &Domain) -> Result<Page<Snapshot>> {
    const LIST: &str = "list snapshots of";
    let uuid = domain.get_uuid_string().during(LIST, &link.host)?;
    let mut page = Page { items: Vec::new(), errors: Vec::new() };
    for snapshot in domain.list_all_snapshots(0).during(LIST, &uuid)? {
        match snapshot.get_xml_desc(0).during("read a snapshot of", &uuid).and_then(|xml| {
            let current = snapshot.is_current(0).ok();
            described(link, &uuid, &xml, current)
        }) {
            Ok(snapshot) => page.items.push(snapshot),
            Err(error) => page.errors.extend(unless_missing(error)),
        }
    }
    Ok(page)
}

fn described(link: &Link, uuid: &str, xml: &str, current: Option<bool>) -> Result<Snapshot> {
    let document = parsed(xml, uuid)?;
    let root = document.root_element();
    let name = text(root, &["name"]).unwrap_or_default();
    let id = |name: &str| link.id(Kind::Snapshot, format!("{uuid}/{name}"));
    let seconds = text(root, &["creationTime"]).and_then(|time| time.parse().ok());
    Ok(Snapshot {
        id: id(name),
        name: Some(name.to_owned()),
        of: Some(link.id(Kind::Instance, uuid)),
        parent: text(root, &["parent", "name"]).map(id),
        size_bytes: None,
        provider_state: text(root, &["state"]).map(str::to_owned),
        current,
        tags: BTreeMap::new(),
        created_at: seconds.and_then(Timestamp::from_seconds),
    })
}
