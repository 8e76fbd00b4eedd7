//! Deleting a guest with exactly what was agreed to.

use super::domain::Definition;
use super::error::{During, refused};
use super::link::{Guest, Link};
use super::surroundings::Surroundings;
use super::volumes::{self, users};
use crate::model::resource::ResourceId;
use crate::provider::{Consents, Done};
use crate::{Error, ErrorKind, Result};

const DELETE: &str = "delete";

/// What belongs to a guest.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    pub(super) name: String,
    pub(super) active: bool,
    /// Volumes that only it has and may write to.
    pub(super) volumes: Vec<ResourceId>,
    /// Volumes and files that it has beside, and why they stay.
    pub(super) others: Vec<(Option<ResourceId>, String)>,
    pub(super) snapshots: Vec<ResourceId>,
    pub(super) saved: bool,
    pub(super) nvram: Option<String>,
}

/// Looks at what belongs to a guest.
pub(super) fn belongings(link: &Link, guest: &Guest) -> Result<Belongings> {
    let definition = if guest.domain.is_persistent().during(DELETE, &guest.name)? {
        guest.next(DELETE)?
    } else {
        guest.now(DELETE)?
    };
    let mut mine = Belongings {
        name: guest.name.clone(),
        active: guest.is_active(),
        saved: guest.is_saved(),
        nvram: definition.nvram.clone(),
        ..Belongings::default()
    };
    mine.sort_disks(link, &definition)?;
    // A driver without snapshots has none.
    mine.snapshots = super::snapshots::of(link, &guest.domain)
        .map(|page| page.items.into_iter().map(|snapshot| snapshot.id).collect())
        .or_else(|error| if error.kind() == ErrorKind::Unsupported { Ok(Vec::new()) } else { Err(error) })?;
    Ok(mine)
}

impl Belongings {
    fn sort_disks(&mut self, link: &Link, definition: &Definition) -> Result<()> {
        let mut errors = Vec::new();
        let around = Surroundings::read(link, &mut errors);
        let guests = link.definitions(DELETE)?;
        for disk in &definition.disks {
            let shown = around.disk(link, disk);
            let Some(id) = shown.volume else {
                if let Some(source) = shown.source {
                    self.others.push((None, format!("{source}, which is in no pool")));
                }
                continue;
            };
            if disk.read_only || disk.device != "disk" {
                continue;
            }
            let other = link.volume(DELETE, &id).ok().and_then(|(_, behind)| {
                let others = users(&behind, &guests).find(|guest| guest.uuid != definition.uuid);
                others.map(|guest| guest.name.clone())
            });
            match other {
                _ if disk.shared => self.others.push((Some(id), "a shared volume".into())),
                Some(other) => {
                    self.others.push((Some(id), format!("a volume that the guest {other} has too")));
                }
                None => self.volumes.push(id),
            }
        }
        Ok(())
    }

    /// Refuses what was not agreed to and cannot be kept.
    pub(super) fn refuse_without(&self, consents: Consents) -> Result<()> {
        let refuse = |kind, reason: String| Err(refused(kind, DELETE, self.name.as_str(), reason));
        if self.active && !consents.running {
            return refuse(
                ErrorKind::Conflict,
                "the guest runs; stop it first, or agree to power it off (consent `running`)".into(),
            );
        }
        if self.saved && !consents.saved_state {
            return refuse(
                ErrorKind::Protected,
                "its memory is kept in a file, which would be lost; start it, or agree to that (consent `saved_state`)"
                    .into(),
            );
        }
        if !self.snapshots.is_empty() && !consents.snapshots {
            let count = self.snapshots.len();
            return refuse(
                ErrorKind::Protected,
                format!(
                    "it has {count} snapshots, which would be lost; delete them, or agree to that (consent `snapshots`)"
                ),
            );
        }
        Ok(())
    }
}

/// Deletes a guest. One that runs is powered off first, never left without a definition.
pub(super) fn delete(link: &Link, id: &ResourceId, consents: Consents) -> Result<Done> {
    let Some(mut guest) = link.guest_if_any(DELETE, id)? else {
        return Ok(Done::already());
    };
    let mine = belongings(link, &guest)?;
    mine.refuse_without(consents)?;
    let kept = guest.domain.is_persistent().during(DELETE, &guest.name)?;
    let mut powered_off = false;
    // A guest that was powered off and is there yet is not as it was.
    let after = |powered_off, error: Error| if powered_off { error.partly_done() } else { error };
    if guest.is_active() {
        match guest.domain.destroy().during(DELETE, &guest.name) {
            Ok(()) => powered_off = true,
            // It stopped by itself in the same moment.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
        if kept {
            guest.refresh(DELETE).map_err(|error| after(powered_off, error))?;
            if guest.is_active() {
                let reason = "the guest was started again meanwhile; nothing was deleted";
                let error = refused(ErrorKind::Conflict, DELETE, guest.name.as_str(), reason);
                return Err(after(powered_off, error));
            }
        }
    }
    if kept {
        undefine(&guest, &mine, consents).map_err(|error| after(powered_off, error))?;
    }
    let mut done = Done::changed();
    if consents.volumes {
        for volume in &mine.volumes {
            if let Err(error) = volumes::delete(link, volume) {
                let reason = format!("the guest is deleted, but not its volume {}", volume.native_id);
                let failed = refused(error.kind(), DELETE, guest.name.as_str(), reason);
                return Err(failed.with_source(error).partly_done());
            }
        }
    } else if !mine.volumes.is_empty() {
        let names: Vec<_> = mine.volumes.iter().map(|volume| volume.native_id.as_str()).collect();
        done = done.note(format!("its volumes are kept: {}", names.join(", ")));
    }
    Ok(done)
}

fn undefine(guest: &Guest, mine: &Belongings, consents: Consents) -> Result<()> {
    let mut flags = 0;
    if mine.saved {
        flags |= virt_sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE;
    }
    if !mine.snapshots.is_empty() {
        flags |= virt_sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    }
    if mine.nvram.is_some() {
        flags |= if consents.nvram {
            virt_sys::VIR_DOMAIN_UNDEFINE_NVRAM
        } else {
            virt_sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        };
    }
    match flags {
        // A driver that knows no flags knows nothing to ask for either.
        0 => guest.domain.undefine().during(DELETE, &guest.name),
        flags => guest.domain.undefine_flags(flags).during(DELETE, &guest.name),
    }
}
