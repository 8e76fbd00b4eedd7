//! The life of guests: define, start, stop, suspend, resume, undefine.

use async_trait::async_trait;
use virt::domain::Domain;
use virt::network::Network;

use super::KvmProvider;
use super::attach::disk_xml;
use super::definition::{Draft, free_target};
use super::error::{During, refused};
use super::host::Host;
use super::link::{Guest, Link, absent};
use super::state::Native;
use super::volumes::{Described, users};
use super::{remove, resize};
use crate::model::resource::{Kind, ResourceId, State};
use crate::provider::{
    Consents, DiskSpec, Done, InstanceSpec, Lifecycle, ResizePolicy, SizeSpec, Stop, Target, Token,
};
use crate::{ErrorKind, Result};

const CREATE: &str = "create";
const START: &str = "start";
const SUSPEND: &str = "suspend";
const RESUME: &str = "resume";

#[async_trait]
impl Lifecycle for KvmProvider {
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        let size = self.resolved(&spec.size)?;
        let draft = Draft::new(spec, &size, token.0)?;
        let (disks, location) = (existing(spec)?, spec.location.clone());
        self.call(CREATE, move |link| {
            link.here_or_none(location.as_deref())?;
            create(link, &draft, &disks)
        })
        .await
    }

    async fn start(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call(START, move |link| start(&link.guest(START, &id)?)).await
    }

    async fn stop(&self, id: &ResourceId, how: &Stop, _token: Token) -> Result<Done> {
        if how.signal.is_some() {
            let reason = "a guest takes no signals; leave the signal out";
            return Err(refused(ErrorKind::Invalid, "stop", id.native_id.as_str(), reason));
        }
        super::stop::stop(self, id, how).await
    }

    async fn suspend(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call(SUSPEND, move |link| {
            let guest = link.guest(SUSPEND, &id)?;
            match guest.native.state() {
                State::Suspended => return Ok(Done::already()),
                State::Running => {}
                _ if guest.is_saved() => return Ok(Done::already()),
                state => return Err(wrong_state(SUSPEND, &guest, state, "start it first")),
            }
            guest.domain.suspend().during(SUSPEND, &guest.name)?;
            Ok(Done::changed())
        })
        .await
    }

    async fn resume(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call(RESUME, move |link| {
            let guest = link.guest(RESUME, &id)?;
            if guest.is_active() || guest.is_saved() {
                return start(&guest);
            }
            Err(wrong_state(RESUME, &guest, State::Stopped, "start it"))
        })
        .await
    }

    async fn resize(
        &self,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
        token: Token,
    ) -> Result<Done> {
        let (id, size) = (id.clone(), self.resolved(size)?);
        // A balloon follows slowly: the same step must not ask twice.
        self.once(token, "resize", move |link| resize::resize(&link.guest("resize", &id)?, &size, policy))
            .await
    }

    async fn delete(&self, id: &ResourceId, consents: Consents, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call("delete", move |link| remove::delete(link, &id, consents)).await
    }
}

pub(super) fn wrong_state(operation: &str, guest: &Guest, state: State, hint: &str) -> crate::Error {
    let reason = format!("the guest is {state}; {hint}");
    refused(ErrorKind::Conflict, operation, guest.name.as_str(), reason)
}

/// The volumes of a spec. What is to be made for it is made by earlier steps of a plan.
fn existing(spec: &InstanceSpec) -> Result<Vec<ResourceId>> {
    let step = |what: &str| {
        let reason = format!("{what} is made by a step of its own; make a plan of it and carry that out");
        refused(ErrorKind::Invalid, CREATE, spec.name.as_str(), reason)
    };
    if spec.image.is_some() {
        return Err(step("the copy of an image"));
    }
    let disk = |disk: &DiskSpec| match disk {
        DiskSpec::Volume(Target::Id(id)) => Ok(id.clone()),
        DiskSpec::Volume(Target::Step(_)) | DiskSpec::New(_) => Err(step("a new volume")),
    };
    spec.disks.iter().map(disk).collect()
}

fn create(link: &Link, draft: &Draft, disks: &[ResourceId]) -> Result<Done> {
    let (label, uuid) = (draft.name.as_str(), draft.uuid.to_string());
    let id = link.id(Kind::Instance, &uuid);
    if let Ok(found) = Domain::lookup_by_uuid_string(&link.connect, &uuid) {
        let name = found.get_name().during(CREATE, label)?;
        if name != label {
            let reason = format!("the same step has made the guest {name} before; begin anew");
            return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
        }
        autostart(&found, draft)?;
        return Ok(Done::made(id));
    }
    let host = look_at(link, draft)?;
    let guests = if disks.is_empty() { Vec::new() } else { link.definitions(CREATE)? };
    let mut written = Vec::with_capacity(disks.len());
    for disk in disks {
        let (volume, behind) = link.volume(CREATE, disk)?;
        if let Some(guest) = users(&behind, &guests).next() {
            let reason =
                format!("the guest {} has the volume {}; detach it there", guest.name, disk.native_id);
            return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
        }
        let described = Described::of(&volume, CREATE, &disk.native_id)?;
        let target =
            free_target(written.iter().map(|disk: &super::definition::DiskXml| disk.target.as_str()));
        written.push(disk_xml(&described, target.unwrap_or_default()));
    }
    let xml = draft.xml(&host, &written)?;
    let domain = Domain::define_xml(&link.connect, &xml).during(CREATE, label)?;
    match autostart(&domain, draft) {
        Ok(()) => Ok(Done::made(id)),
        Err(error) => Err(if domain.undefine().is_ok() { error } else { error.partly_done() }),
    }
}

fn autostart(domain: &Domain, draft: &Draft) -> Result<()> {
    if draft.autostart {
        domain.set_autostart(true).during(CREATE, &draft.name)?;
    }
    Ok(())
}

/// Whether a draft could be made here, without making it; gives back what the hypervisor can run.
pub(super) fn look_at(link: &Link, draft: &Draft) -> Result<Host> {
    let label = draft.name.as_str();
    if Domain::lookup_by_name(&link.connect, label).is_ok() {
        let reason = "there is a guest of that name; choose another name";
        return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
    }
    for network in &draft.networks {
        if absent(Network::lookup_by_name(&link.connect, network).during(CREATE, network))?.is_none() {
            let reason = "there is no such network; make it first, or name another";
            return Err(refused(ErrorKind::NotFound, "use the network", network, reason));
        }
    }
    let host = Host::read(&link.connect.get_capabilities().during(CREATE, label)?)?;
    draft.xml(&host, &[])?;
    Ok(host)
}

/// Starts it from nothing, from its kept memory, or lets it go on.
fn start(guest: &Guest) -> Result<Done> {
    let started = match guest.native.state {
        virt_sys::VIR_DOMAIN_RUNNING | virt_sys::VIR_DOMAIN_BLOCKED => return Ok(Done::already()),
        virt_sys::VIR_DOMAIN_PAUSED => guest.domain.resume().map(drop),
        virt_sys::VIR_DOMAIN_PMSUSPENDED => guest.domain.pm_wakeup(0).map(drop),
        virt_sys::VIR_DOMAIN_SHUTDOWN => {
            return Err(wrong_state(START, guest, State::Stopping, "wait until it has stopped"));
        }
        _ => guest.domain.create().map(drop),
    };
    match started {
        Ok(()) => Ok(Done::changed()),
        Err(error) => match guest.domain.get_state() {
            // An earlier call, that nobody waited for any more, was still at it.
            Ok(state) if Native::from(state).state() == State::Running => Ok(Done::already()),
            _ => Err(error).during(START, &guest.name),
        },
    }
}
