//! The life of guests: define, start, stop, suspend, resume, undefine.

use std::time::{Duration, Instant};

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
use crate::model::Span;
use crate::model::resource::{Kind, ResourceId, State};
use crate::provider::{
    Consents, DiskSpec, Done, InstanceSpec, Lifecycle, ResizePolicy, SizeSpec, Stop, Target, Token,
};
use crate::{ErrorKind, Result};

/// How often a guest that is to stop is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often it is asked: one that boots does not hear the first time.
const ASK_AGAIN: Duration = Duration::from_secs(10);

const CREATE: &str = "create";
const START: &str = "start";
const STOP: &str = "stop";
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
            return Err(refused(ErrorKind::Invalid, STOP, id.native_id.as_str(), reason));
        }
        self.stop_gently(id, how).await
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

fn wrong_state(operation: &str, guest: &Guest, state: State, hint: &str) -> crate::Error {
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
        return Ok(Done { made: Some(id), ..Done::already() });
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
    autostart(&domain, draft)?;
    Ok(Done::made(id))
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

impl KvmProvider {
    /// Asks the guest to stop, again and again within the grace time. No thread waits meanwhile.
    async fn stop_gently(&self, id: &ResourceId, how: &Stop) -> Result<Done> {
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            let over = begun.elapsed() >= how.grace.0;
            let due = asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
            let (target, force) = (id.clone(), how.force);
            let first = asked.is_none();
            let step =
                self.call(STOP, move |link| look(link, &target, first, due && !over, over && force)).await?;
            match step {
                Look::Stopped if first => return Ok(Done::already()),
                Look::Stopped => return Ok(Done::changed()),
                Look::Forced => return Ok(Done::changed().note("it was powered off")),
                Look::Running(name) if over => {
                    let grace = Span(how.grace.0);
                    let reason = format!(
                        "the guest did not stop within {grace} and still runs: it may have no ACPI, or still boot. \
                         Give it more time, or allow force"
                    );
                    return Err(refused(ErrorKind::Conflict, STOP, name, reason));
                }
                Look::Running(_) => {}
            }
            if due {
                asked = Some(Instant::now());
            }
            let left = how.grace.0.saturating_sub(begun.elapsed());
            tokio::time::sleep(LOOK_AGAIN.min(left).max(Duration::from_millis(10))).await;
        }
    }
}

/// What a look at a guest that is to stop has shown.
enum Look {
    Stopped,
    Forced,
    Running(String),
}

/// Looks at a guest that is to stop, and asks or forces it.
fn look(link: &Link, id: &ResourceId, first: bool, ask: bool, force: bool) -> Result<Look> {
    let found = if first { Some(link.guest(STOP, id)?) } else { link.guest_if_any(STOP, id)? };
    // One without a definition is gone when it has stopped.
    let Some(guest) = found else { return Ok(Look::Stopped) };
    if !guest.is_active() {
        return match (guest.is_saved(), force) {
            (false, _) => Ok(Look::Stopped),
            (true, true) => {
                guest.domain.managed_save_remove(0).during(STOP, &guest.name)?;
                Ok(Look::Forced)
            }
            (true, false) if first => {
                let hint =
                    "its memory is kept in a file: start it and stop it then, or allow force to give it up";
                Err(wrong_state(STOP, &guest, State::Suspended, hint))
            }
            (true, false) => Ok(Look::Stopped),
        };
    }
    if force {
        return match absent(guest.domain.destroy().during(STOP, &guest.name)) {
            Ok(_) => Ok(Look::Forced),
            // It stopped by itself in the same moment.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Look::Stopped),
            Err(error) => Err(error),
        };
    }
    if ask {
        request(&guest)?;
    }
    Ok(Look::Running(guest.name.clone()))
}

/// Asks a guest to stop. One that stands still cannot hear it: it goes on first.
fn request(guest: &Guest) -> Result<()> {
    match guest.native.state {
        virt_sys::VIR_DOMAIN_PAUSED => drop(guest.domain.resume().during(STOP, &guest.name)?),
        virt_sys::VIR_DOMAIN_PMSUSPENDED => drop(guest.domain.pm_wakeup(0).during(STOP, &guest.name)?),
        virt_sys::VIR_DOMAIN_SHUTDOWN => return Ok(()),
        _ => {}
    }
    match guest.domain.shutdown().during(STOP, &guest.name) {
        Ok(_) => Ok(()),
        // It stopped by itself in the same moment: the next look sees it.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}
