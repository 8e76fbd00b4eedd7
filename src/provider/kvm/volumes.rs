//! Volumes of pools. The native id is `pool/name`.

use async_trait::async_trait;
use std::collections::BTreeMap;

use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;

use super::KvmProvider;
use super::attach::{attach, detach};
use super::domain::{Behind, Definition};
use super::error::{During, refused};
use super::link::{Link, absent};
use super::surroundings::unless_missing;
use super::xml::{at, bytes, child, escaped, name, parsed, text};
use crate::model::Size;
use crate::model::resource::{Kind, ResourceId, Volume};
use crate::provider::{Done, Page, Token, VolumeSpec, Volumes};
use crate::{ErrorKind, Result};

/// The formats that a volume can be made in. An overlay is a qcow2 file that keeps only what differs from the volume it
/// began as, which must stay as it is.
const FORMATS: [&str; 3] = ["qcow2", "raw", "overlay"];

/// A volume that takes no more than this has never been written to: an empty qcow2 file has some tables.
const EMPTY: u64 = 1 << 20;

#[async_trait]
impl Volumes for KvmProvider {
    async fn create(&self, spec: &VolumeSpec, token: Token) -> Result<Done> {
        let spec = spec.clone();
        self.once(token, "create volume", move |link| create(link, &spec, token)).await
    }

    async fn grow(&self, id: &ResourceId, size_bytes: u64, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call("grow", move |link| grow(link, &id, size_bytes)).await
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call("delete", move |link| delete(link, &id)).await
    }

    async fn attach(
        &self,
        id: &ResourceId,
        instance: &ResourceId,
        device: Option<&str>,
        _token: Token,
    ) -> Result<Done> {
        let (id, instance, device) = (id.clone(), instance.clone(), device.map(str::to_owned));
        self.call("attach", move |link| attach(link, &id, &instance, device.as_deref())).await
    }

    async fn detach(&self, id: &ResourceId, instance: &ResourceId, _token: Token) -> Result<Done> {
        detach(self, id, instance).await
    }
}

/// What libvirt says of a volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) path: String,
    /// Whether it is a device and no file.
    pub(super) block: bool,
    pub(super) format: Option<String>,
    pub(super) capacity: Option<u64>,
    pub(super) allocation: Option<u64>,
    /// The file that it keeps only the differences to.
    pub(super) backing: Option<String>,
    /// When it was made, in seconds since 1970, where the file system knows.
    pub(super) born: Option<f64>,
}

impl Described {
    /// From the volume itself.
    pub(super) fn of(volume: &StorageVol, operation: &str, resource: &str) -> Result<Self> {
        let xml = volume.get_xml_desc(0).during(operation, resource)?;
        let document = parsed(&xml, resource)?;
        let root = document.root_element();
        let owned = |way: &[&str]| text(root, way).map(str::to_owned);
        let format = at(root, &["target", "format"]).and_then(|format| format.attribute("type"));
        Ok(Self {
            name: owned(&["name"]).unwrap_or_default(),
            path: owned(&["target", "path"]).unwrap_or_default(),
            block: root.attribute("type") == Some("block"),
            format: format.map(str::to_owned),
            capacity: child(root, "capacity").and_then(|node| bytes(node, "bytes")),
            allocation: child(root, "allocation").and_then(|node| bytes(node, "bytes")),
            backing: owned(&["backingStore", "path"]),
            born: text(root, &["target", "timestamps", "btime"]).and_then(|time| time.parse().ok()),
        })
    }

    /// The format that the hypervisor's driver takes.
    pub(super) fn driver(&self) -> &str {
        self.format.as_deref().filter(|format| *format != "unknown").unwrap_or("raw")
    }
}

/// The active pools with their names.
fn pools(link: &Link) -> Result<Vec<(String, StoragePool)>> {
    let active = virt_sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE;
    let pools = link.connect.list_all_storage_pools(active).during("list pools of", &link.host)?;
    Ok(pools.into_iter().filter_map(|pool| Some((pool.get_name().ok()?, pool))).collect())
}

/// All volumes of all active pools.
pub(super) fn list(link: &Link) -> Result<Page<Volume>> {
    let mut page = Page { items: Vec::new(), errors: Vec::new() };
    let guests = match link.definitions("list volumes of") {
        Ok(guests) => guests,
        Err(error) => {
            page.errors.push(error);
            Vec::new()
        }
    };
    for (pool, handle) in pools(link)? {
        match handle.list_all_volumes(0).during("list the volumes of pool", &pool) {
            Ok(volumes) => {
                for volume in &volumes {
                    match Described::of(volume, "read a volume of pool", &pool) {
                        Ok(described) => page.items.push(self::volume(link, &pool, described, &guests)),
                        Err(error) => page.errors.extend(unless_missing(error)),
                    }
                }
            }
            Err(error) => page.errors.extend(unless_missing(error)),
        }
    }
    Ok(page)
}

fn volume(link: &Link, pool: &str, described: Described, guests: &[Definition]) -> Volume {
    let behind = Behind { pool: pool.to_owned(), name: described.name.clone(), path: described.path.clone() };
    let mut attached_to: Vec<_> =
        users(&behind, guests).map(|guest| link.id(Kind::Instance, &guest.uuid)).collect();
    attached_to.dedup();
    Volume {
        id: link.id(Kind::Volume, format!("{pool}/{}", described.name)),
        name: Some(described.name),
        class: Some(pool.to_owned()),
        format: described.format,
        size_bytes: described.capacity,
        allocated_bytes: described.allocation,
        iops: None,
        throughput_bytes: None,
        encrypted: None,
        zone: None,
        attached_to,
        provider_state: None,
        tags: BTreeMap::new(),
        created_at: None,
    }
}

/// The guests that have a volume.
pub(super) fn users<'a>(
    volume: &Behind,
    guests: &'a [Definition],
) -> impl Iterator<Item = &'a Definition> + use<'a> {
    let volume = volume.clone();
    guests.iter().filter(move |guest| guest.disk_of(&volume).is_some())
}

/// What is to be made, looked at as far as that goes without libvirt.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    label: &'a str,
    format: &'a str,
    /// Whether it keeps only what differs from its source.
    overlay: bool,
}

impl<'a> Wanted<'a> {
    fn new(spec: &'a VolumeSpec) -> Result<Self> {
        let label = name("create volume", "volume", &spec.name)?;
        let wrong = |reason: String| Err(refused(ErrorKind::Invalid, "create volume", label, reason));
        if !spec.tags.is_empty() {
            return wrong("libvirt's volumes have no tags; leave them out".into());
        }
        if spec.zone.is_some() || !spec.options.is_empty() {
            return wrong("libvirt's volumes have neither zones nor options; leave them out".into());
        }
        let format = spec.format.as_deref().unwrap_or("qcow2");
        if !FORMATS.contains(&format) {
            return wrong(format!("format {format:?} is not known; write {}", FORMATS.join(", ")));
        }
        let overlay = format == "overlay";
        match (&spec.from, spec.size_bytes) {
            (None, _) if overlay => return wrong("an overlay needs the volume that it begins as".into()),
            (None, None) => return wrong("the size is missing; only a copy has that of its source".into()),
            (_, Some(0)) => return wrong("the size is zero".into()),
            _ => {}
        }
        Ok(Self { label, format: if overlay { "qcow2" } else { format }, overlay })
    }

    fn xml(&self, capacity: u64, backing: Option<&Described>) -> String {
        let backing = backing.map(|source| {
            let (path, format) = (escaped(&source.path), escaped(source.driver()));
            format!("<backingStore><path>{path}</path><format type='{format}'/></backingStore>")
        });
        format!(
            "<volume><name>{}</name><capacity unit='bytes'>{capacity}</capacity>\
             <allocation unit='bytes'>0</allocation><target><format type='{}'/></target>{}</volume>",
            escaped(self.label),
            self.format,
            backing.unwrap_or_default()
        )
    }
}

fn create(link: &Link, spec: &VolumeSpec, token: Token) -> Result<Done> {
    const CREATE: &str = "create volume";
    link.here_or_none(spec.location.as_deref())?;
    let wanted = Wanted::new(spec)?;
    let label = wanted.label;
    let source = spec.from.as_ref().map(|from| source(link, from)).transpose()?;
    let (pool_name, pool) = match (&spec.class, &spec.from) {
        (Some(class), _) => (class.clone(), link.pool(CREATE, class)?),
        // A copy lies beside its source.
        (None, Some(from)) => {
            let name = from.native_id.split('/').next().unwrap_or_default();
            (name.to_owned(), link.pool(CREATE, name)?)
        }
        (None, None) => only_pool(link, label)?,
    };
    let id = link.id(Kind::Volume, format!("{pool_name}/{label}"));
    let smallest = source.as_ref().and_then(|(_, source)| source.capacity).unwrap_or(0);
    let capacity = spec.size_bytes.unwrap_or(smallest);
    if capacity < smallest {
        let reason = format!("a copy cannot be smaller than its source, which has {}", Size(smallest));
        return Err(refused(ErrorKind::Invalid, CREATE, label, reason));
    }
    let backing = source.as_ref().filter(|_| wanted.overlay).map(|(_, described)| described);
    if let Ok(found) = StorageVol::lookup_by_name(&pool, label) {
        let found = Described::of(&found, CREATE, label)?;
        let behind = Behind { pool: pool_name, name: label.into(), path: found.path.clone() };
        let same = found.capacity == Some(capacity)
            && found.driver() == wanted.format
            && found.backing == backing.map(|backing| backing.path.clone())
            && (wanted.overlay || spec.from.is_none())
            // Volumes have no place for a token. What is older than the attempt is somebody else's.
            && found.born.is_some_and(|born| born * 1e3 >= token.began() as f64)
            && found.allocation.is_some_and(|bytes| bytes <= EMPTY)
            && users(&behind, &link.definitions(CREATE)?).next().is_none();
        if same {
            // Nothing was ever written to it and nobody has it: it is what this attempt made before it was cut off.
            return Ok(Done::made(id));
        }
        let reason = "the pool has a volume of that name; choose another name";
        return Err(refused(ErrorKind::Conflict, CREATE, format!("{}/{label}", behind.pool), reason));
    }
    let xml = wanted.xml(capacity, backing);
    let made = match &source {
        Some((source, _)) if !wanted.overlay => StorageVol::create_xml_from(&pool, &xml, source, 0),
        _ => StorageVol::create_xml(&pool, &xml, 0),
    }
    .during(CREATE, label)?;
    // A full copy is as large as its source, whatever was asked for.
    let copied = Described::of(&made, CREATE, label)?;
    if copied.capacity.is_some_and(|now| now < capacity)
        && let Err(error) = made.resize(capacity, 0).during(CREATE, label)
    {
        return Err(if made.delete(0).is_ok() { error } else { error.partly_done() });
    }
    Ok(Done::made(id))
}

/// The volume that a new one begins as.
fn source(link: &Link, from: &ResourceId) -> Result<(StorageVol, Described)> {
    const COPY: &str = "copy";
    if from.kind == Kind::Snapshot {
        let reason = "libvirt's snapshots are of whole guests; go back to it, or copy the volume";
        return Err(refused(ErrorKind::Unsupported, COPY, from.to_string(), reason));
    }
    let (volume, behind) = link.volume(COPY, from)?;
    let guests = link.definitions(COPY)?;
    let active = users(&behind, &guests).find(|guest| {
        let found = virt::domain::Domain::lookup_by_uuid_string(&link.connect, &guest.uuid);
        found.is_ok_and(|domain| domain.is_active().unwrap_or(true))
    });
    if let Some(guest) = active {
        let reason = format!("the running guest {} writes to it; stop it first", guest.name);
        return Err(refused(ErrorKind::Conflict, COPY, &from.native_id, reason));
    }
    let described = Described::of(&volume, COPY, &from.native_id)?;
    Ok((volume, described))
}

/// The pool that is meant when none is named.
fn only_pool(link: &Link, label: &str) -> Result<(String, StoragePool)> {
    let mut pools = pools(link)?;
    let at = pools.iter().position(|(name, _)| name == "default").or((pools.len() == 1).then_some(0));
    at.map(|at| pools.swap_remove(at)).ok_or_else(|| {
        let names: Vec<_> = pools.iter().map(|(name, _)| name.as_str()).collect();
        let reason = format!("name the pool in `class`; there are: {}", names.join(", "));
        refused(ErrorKind::Invalid, "create volume", label, reason)
    })
}

fn grow(link: &Link, id: &ResourceId, size_bytes: u64) -> Result<Done> {
    const GROW: &str = "grow";
    let (volume, behind) = link.volume(GROW, id)?;
    let native = &id.native_id;
    let now = Described::of(&volume, GROW, native)?.capacity.unwrap_or(0);
    if size_bytes < now {
        let reason = format!("it has {} already, and a volume is never made smaller", Size(now));
        return Err(refused(ErrorKind::Invalid, GROW, native, reason));
    }
    if size_bytes == now {
        return Ok(Done::already());
    }
    let domains = link.connect.list_all_domains(virt_sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for domain in domains.during(GROW, native)? {
        let Ok(xml) = domain.get_xml_desc(0) else { continue };
        if let Some(disk) = Definition::read(&xml, native)?.disk_of(&behind) {
            let flags = virt_sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES;
            domain.block_resize(&disk.target, size_bytes, flags).during(GROW, native)?;
            // The pool finds out when it is asked.
            let _ = volume.get_info();
            return Ok(Done::changed().note("the file system in it stays as large as it was"));
        }
    }
    volume.resize(size_bytes, 0).during(GROW, native)?;
    Ok(Done::changed().note("the file system in it stays as large as it was"))
}

/// Deletes a volume that nobody has.
pub(super) fn delete(link: &Link, id: &ResourceId) -> Result<Done> {
    const DELETE: &str = "delete";
    let Some((volume, behind)) = absent(link.volume(DELETE, id))? else {
        return Ok(Done::already());
    };
    let native = &id.native_id;
    if let Some(guest) = users(&behind, &link.definitions(DELETE)?).next() {
        let reason = format!("the guest {} has it; detach it first", guest.name);
        return Err(refused(ErrorKind::Conflict, DELETE, native, reason));
    }
    for (pool, handle) in pools(link)? {
        for other in handle.list_all_volumes(0).unwrap_or_default() {
            if let Ok(other) = Described::of(&other, DELETE, native)
                && other.backing.as_ref() == Some(&behind.path)
            {
                let reason = format!("the volume {pool}/{} builds on it; delete that first", other.name);
                return Err(refused(ErrorKind::Conflict, DELETE, native, reason));
            }
        }
    }
    match absent(volume.delete(0).during(DELETE, native))? {
        Some(()) => Ok(Done::changed()),
        None => Ok(Done::already()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_volume_is_refused() {
        let base = VolumeSpec { name: "v".into(), size_bytes: Some(1), ..VolumeSpec::default() };
        assert_eq!(Wanted::new(&base).unwrap(), Wanted { label: "v", format: "qcow2", overlay: false });
        let refusal = |spec: VolumeSpec| Wanted::new(&spec).unwrap_err().to_string();
        assert!(refusal(VolumeSpec { size_bytes: None, ..base.clone() }).contains("size is missing"));
        assert!(refusal(VolumeSpec { size_bytes: Some(0), ..base.clone() }).contains("zero"));
        assert!(refusal(VolumeSpec { format: Some("vdi".into()), ..base.clone() }).contains("qcow2, raw"));
        assert!(refusal(VolumeSpec { format: Some("overlay".into()), ..base.clone() }).contains("begins as"));
        assert!(refusal(VolumeSpec { name: "a/b".into(), ..base.clone() }).contains("name of a volume"));
        let tags = [("a".to_owned(), "b".to_owned())].into();
        assert!(refusal(VolumeSpec { tags, ..base }).contains("no tags"));
    }

    #[test]
    fn an_overlay_names_what_it_builds_on() {
        let wanted = Wanted { label: "a&b", format: "qcow2", overlay: true };
        let base = Described { path: "/p/b'ase".into(), format: Some("raw".into()), ..Described::default() };
        let xml = wanted.xml(7, Some(&base));
        let document = parsed(&xml, "v").unwrap();
        let root = document.root_element();
        assert_eq!(text(root, &["backingStore", "path"]), Some("/p/b'ase"));
        assert_eq!(text(root, &["name"]), Some("a&b"));
        assert_eq!(text(root, &["capacity"]), Some("7"));
    }
}
