//! Volumes into guests and out of them, running or not.

use std::time::{Duration, Instant};

use super::KvmProvider;
use super::definition::{DiskXml, free_target};
use super::domain::Disk;
use super::error::{During, refused};
use super::link::{Guest, Link};
use super::volumes::{Described, users};
use super::xml::{escaped, name};
use crate::model::resource::ResourceId;
use crate::provider::Done;
use crate::{ErrorKind, Result};

/// How long a guest may take to let go of a disk.
const LET_GO: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

const ATTACH: &str = "attach";
const DETACH: &str = "detach";

/// Gives a guest a volume.
pub(super) fn attach(
    link: &Link,
    volume: &ResourceId,
    instance: &ResourceId,
    device: Option<&str>,
) -> Result<Done> {
    let guest = link.guest(ATTACH, instance)?;
    let (handle, behind) = link.volume(ATTACH, volume)?;
    let native = &volume.native_id;
    let (now, next) = (guest.now(ATTACH)?, guest.next(ATTACH)?);
    let flags = guest.flags()?;
    let missing_now = now.disk_of(&behind).is_none() && flags & virt_sys::VIR_DOMAIN_AFFECT_LIVE != 0;
    let missing_next = next.disk_of(&behind).is_none() && flags & virt_sys::VIR_DOMAIN_AFFECT_CONFIG != 0;
    if !missing_now && !missing_next {
        return Ok(Done::already());
    }
    let guests = link.definitions(ATTACH)?;
    if let Some(other) = users(&behind, &guests).find(|other| other.uuid != now.uuid) {
        let reason = format!("the guest {} has it; detach it there first", other.name);
        return Err(refused(ErrorKind::Conflict, ATTACH, native, reason));
    }
    // Where it is attached in one of the two already, it has its name there.
    let named = now.disk_of(&behind).or(next.disk_of(&behind)).map(|disk| disk.target.clone());
    let taken = now.disks.iter().chain(&next.disks).map(|disk| disk.target.as_str());
    let target = match (named, device) {
        (Some(named), _) => named,
        (None, Some(device)) => {
            let device = name(ATTACH, "disk", device.trim_start_matches("/dev/"))?;
            if taken.clone().any(|taken| taken == device) {
                let reason =
                    format!("the guest has another disk {device}; leave the name out to get a free one");
                return Err(refused(ErrorKind::Conflict, ATTACH, native, reason));
            }
            if !device.starts_with("vd") {
                let reason = format!("{device:?} is no virtio disk; write vda, vdb, ...");
                return Err(refused(ErrorKind::Invalid, ATTACH, native, reason));
            }
            device.to_owned()
        }
        (None, None) => free_target(taken).ok_or_else(|| {
            refused(ErrorKind::Quota, ATTACH, native, "the guest has no name left for another disk")
        })?,
    };
    let xml = disk_xml(&Described::of(&handle, ATTACH, native)?, target.clone()).xml();
    let mut flags = 0;
    if missing_now {
        flags |= virt_sys::VIR_DOMAIN_AFFECT_LIVE;
    }
    if missing_next {
        flags |= virt_sys::VIR_DOMAIN_AFFECT_CONFIG;
    }
    guest.domain.attach_device_flags(&xml, flags).during(ATTACH, native)?;
    Ok(Done::changed().note(format!("it is {target}")))
}

/// A volume as a guest's disk.
pub(super) fn disk_xml(volume: &Described, target: String) -> DiskXml {
    DiskXml { path: volume.path.clone(), block: volume.block, format: volume.driver().to_owned(), target }
}

/// Takes a volume away from a guest. One that runs has to agree, and is waited for; only then its description changes too,
/// so that a guest that does not agree has what it had.
pub(super) async fn detach(
    provider: &KvmProvider,
    volume: &ResourceId,
    instance: &ResourceId,
) -> Result<Done> {
    let ids = (volume.clone(), instance.clone());
    let asked = provider.call(DETACH, move |link| ask(link, &ids.0, &ids.1)).await?;
    let until = Instant::now() + LET_GO;
    loop {
        let ids = (volume.clone(), instance.clone());
        let step = provider.call(DETACH, move |link| let_go(link, &ids.0, &ids.1)).await;
        match step {
            Ok(Some(changed)) if asked || changed => return Ok(Done::changed()),
            Ok(Some(_)) => return Ok(Done::already()),
            Ok(None) if Instant::now() >= until => {
                let reason = "the guest has not let go of it; it may be in use there, or the guest still boots. \
                              Try again, or stop the guest";
                // It was asked to, and may still do so.
                return Err(refused(ErrorKind::Conflict, DETACH, &volume.native_id, reason).partly_done());
            }
            Ok(None) => {}
            Err(error) => return Err(if asked { error.partly_done() } else { error }),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Asks a running guest to let go of a volume, if it has it.
fn ask(link: &Link, volume: &ResourceId, instance: &ResourceId) -> Result<bool> {
    let guest = link.guest(DETACH, instance)?;
    let (_, behind) = link.volume(DETACH, volume)?;
    if !guest.is_active() {
        return Ok(false);
    }
    let now = guest.now(DETACH)?;
    let Some(disk) = now.disk_of(&behind) else { return Ok(false) };
    match detach_one(&guest, disk, virt_sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(true),
        // Somebody asked before, and it has not come to it yet.
        Err(error) if error.message().contains("in the process of unplug") => Ok(true),
        Err(error) => Err(error).during(DETACH, &volume.native_id),
    }
}

/// Takes a volume out of the description of a guest that has let go of it, and says whether it was there; none while the
/// guest has not let go.
fn let_go(link: &Link, volume: &ResourceId, instance: &ResourceId) -> Result<Option<bool>> {
    let guest = link.guest(DETACH, instance)?;
    let (_, behind) = link.volume(DETACH, volume)?;
    if guest.is_active() && guest.now(DETACH)?.disk_of(&behind).is_some() {
        return Ok(None);
    }
    if guest.flags()? & virt_sys::VIR_DOMAIN_AFFECT_CONFIG == 0 {
        return Ok(Some(false));
    }
    let next = guest.next(DETACH)?;
    let Some(disk) = next.disk_of(&behind) else { return Ok(Some(false)) };
    detach_one(&guest, disk, virt_sys::VIR_DOMAIN_AFFECT_CONFIG).during(DETACH, &volume.native_id)?;
    Ok(Some(true))
}

fn detach_one(guest: &Guest, disk: &Disk, flag: u32) -> Result<u32, virt::error::Error> {
    // libvirt finds a disk by the name that it has in the guest.
    let bus = escaped(disk.bus.as_deref().unwrap_or("virtio"));
    let (device, target) = (escaped(&disk.device), escaped(&disk.target));
    let xml = format!("<disk type='file' device='{device}'><target dev='{target}' bus='{bus}'/></disk>");
    guest.domain.detach_device_flags(&xml, flag)
}
