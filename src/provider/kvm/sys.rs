//! The small part of libvirt's C interface that the crate `virt` lacks or gets wrong: bulk statistics that free what
//! they allocate, lifecycle events, the close callback, and the control state of a guest's monitor.
//!
//! Nearly all unsafe code of the project. Everything that leaves this file is plain owned data.

#![allow(unsafe_code, reason = "libvirt is a C library; each block says why it is sound")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error as Libvirt;

use super::change::Change;
use super::connect::unattended;
use super::mailbox::Mailbox;
use super::params::{Param, Params};
use super::raw::{self, Listed};

// `virt-sys` asks pkg-config for the library, and passes over its absence at build time in silence; this names the
// library whatever was installed when that build script ran.
#[link(name = "virt")]
unsafe extern "C" {}

/// The statistics that libvirt answers from its own memory, whatever state the guest's monitor is in.
pub(super) const FAST: u32 = virt_sys::VIR_DOMAIN_STATS_STATE | virt_sys::VIR_DOMAIN_STATS_INTERFACE;

/// The statistics for which libvirt asks the guest's monitor, and may wait for it.
pub(super) const SLOW: u32 = virt_sys::VIR_DOMAIN_STATS_CPU_TOTAL
    | virt_sys::VIR_DOMAIN_STATS_BALLOON
    | virt_sys::VIR_DOMAIN_STATS_VCPU
    | virt_sys::VIR_DOMAIN_STATS_BLOCK;

/// Seconds between keepalive messages, and how many may stay unanswered before the connection counts as dead.
const KEEPALIVE: (i32, u32) = (5, 3);

/// A guest as the connection names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// UUID, lowercase with hyphens.
    pub(super) uuid: String,
    /// Name.
    pub(super) name: String,
    /// Number of this run of the guest; `None` while it does not run.
    pub(super) run: Option<u32>,
}

/// What one bulk call said about one running guest.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Who it is.
    pub(super) guest: Named,
    /// The statistics.
    pub(super) params: Params,
    /// What the hypervisor knows without asking the guest's monitor, when that was asked for.
    pub(super) outside: Option<Outside>,
}

/// What the hypervisor knows about a running guest without asking the guest's monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outside {
    /// Processor time of the guest's process in nanoseconds.
    pub(super) cpu_time: Option<u64>,
    /// Processors allotted.
    pub(super) cores: Option<u32>,
    /// Memory that it has now, in KiB.
    pub(super) memory_kib: Option<u64>,
    /// For how many milliseconds the monitor has been busy with one command.
    pub(super) busy_ms: Option<u64>,
}

/// What the close callback of one connection tells: shared between libvirt's event thread and the owner.
#[derive(Debug, Default)]
struct Signals {
    closed: AtomicBool,
}

/// A read-only connection. Dropping it closes it.
pub(super) struct Connection {
    connect: Connect,
    signals: Arc<Signals>,
    /// Whether the close callback is registered.
    watched: bool,
    /// Numbers of the event subscriptions, if the driver has events.
    subscriptions: Vec<c_int>,
}

/// Prepares libvirt once per process: no printing to standard error, and an event loop on its own thread, without
/// which there are neither keepalive messages nor events. The thread lives as long as the process; it sleeps while
/// nothing happens.
pub(super) fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        virt::error::clear_error_callback();
        if let Err(error) = virt::event::event_register_default_impl() {
            tracing::warn!(%error, "libvirt's event loop is not available; guests are polled");
            return;
        }
        let loops = std::thread::Builder::new().name("libvirt-events".into()).spawn(|| {
            loop {
                if virt::event::event_run_default_impl().is_err() {
                    // Not expected; never spin.
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            }
        });
        if let Err(error) = loops {
            tracing::warn!(%error, "no thread for libvirt's event loop; guests are polled");
        }
    });
}

impl Connection {
    /// Opens `uri` for reading. `uri` must not hold a NUL byte. Blocks as long as the daemon does.
    pub(super) fn open(uri: &str) -> Result<Self, Libvirt> {
        prepare();
        let connect = Connect::open_read_only(Some(&unattended(uri)))?;
        // Drivers inside this process have nothing to keep alive and say so with an error.
        let _ = connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
        let mut connection =
            Self { connect, signals: Arc::default(), watched: false, subscriptions: Vec::new() };
        connection.watch();
        Ok(connection)
    }

    /// Subscribes to what happens to guests; it is put into `mailbox`.
    pub(super) fn subscribe(&mut self, mailbox: &Arc<Mailbox>) {
        let typed: LifecycleCallback = on_lifecycle;
        // SAFETY: libvirt takes every event callback as this generic type and calls it back with the signature that
        // belongs to the event id; `on_lifecycle` has the signature of VIR_DOMAIN_EVENT_ID_LIFECYCLE.
        let generic = unsafe { std::mem::transmute::<LifecycleCallback, GenericCallback>(typed) };
        self.subscribe_to(virt_sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, generic, mailbox);
        self.subscribe_to(virt_sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot, mailbox);
    }

    fn subscribe_to(&mut self, id: u32, callback: GenericCallback, mailbox: &Arc<Mailbox>) {
        let opaque = Arc::into_raw(Arc::clone(mailbox)).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open; `opaque` is a counted reference that libvirt gives to `release` exactly once
        // when the registration succeeded, and that we release ourselves when it failed.
        let number = unsafe {
            virt_sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                ptr::null_mut(),
                id as c_int,
                Some(callback),
                opaque,
                Some(release::<Mailbox>),
            )
        };
        if number < 0 {
            // SAFETY: the registration failed, so the reference is still ours.
            unsafe { release::<Mailbox>(opaque) };
        } else {
            self.subscriptions.push(number);
        }
    }

    fn watch(&mut self) {
        let opaque = Arc::into_raw(Arc::clone(&self.signals)).cast_mut().cast::<c_void>();
        // SAFETY: as above; `on_close` has the type that libvirt declares.
        let code = unsafe {
            virt_sys::virConnectRegisterCloseCallback(
                self.connect.as_ptr(),
                Some(on_close),
                opaque,
                Some(release::<Signals>),
            )
        };
        if code < 0 {
            // SAFETY: the registration failed, so the reference is still ours.
            unsafe { release::<Signals>(opaque) };
        } else {
            self.watched = true;
        }
    }

    /// Whether the connection still stands.
    pub(super) fn is_alive(&self) -> bool {
        !self.signals.closed.load(Ordering::Acquire) && self.connect.is_alive().unwrap_or(false)
    }

    /// The hypervisor's host name.
    pub(super) fn hostname(&self) -> Result<String, Libvirt> {
        self.connect.get_hostname()
    }

    /// The connection for calls that `virt` offers safely.
    pub(super) fn connect(&self) -> &Connect {
        &self.connect
    }

    /// All guests, running or not. One that vanishes meanwhile is left out.
    pub(super) fn list(&self) -> Result<Vec<Listed>, Libvirt> {
        raw::list(&self.connect)
    }

    /// Statistics of all running guests without waiting for a guest that is busy with another call. With `outside`,
    /// also what needs no monitor at all.
    pub(super) fn statistics(&self, groups: u32, outside: bool) -> Result<Vec<Record>, Libvirt> {
        let flags = virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
            | virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
        let mut records: *mut virt_sys::virDomainStatsRecordPtr = ptr::null_mut();
        // SAFETY: the connection is open and `records` is a place for the array.
        let count = unsafe {
            virt_sys::virConnectGetAllDomainStats(self.connect.as_ptr(), groups, &mut records, flags)
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(Libvirt::last_error());
        };
        if records.is_null() {
            return Ok(Vec::new());
        }
        let list = RecordList { records };
        // SAFETY: libvirt returned `count` pointers to records; they live until `list` is dropped.
        let slice = unsafe { std::slice::from_raw_parts(list.records, count) };
        let owned = slice.iter().filter_map(|record| {
            // SAFETY: each pointer of the array is a valid record.
            let record = unsafe { record.as_ref() }?;
            // SAFETY: the record's domain is valid; the reference taken here is the one that `Domain` gives back.
            let domain =
                unsafe { (virt_sys::virDomainRef(record.dom) == 0).then(|| Domain::from_ptr(record.dom)) }?;
            let guest = named(&domain).ok()?;
            let params = usize::try_from(record.nparams).ok().filter(|_| !record.params.is_null());
            // SAFETY: the record holds `nparams` parameters, alive until `list` is dropped.
            let params = params.map(|n| unsafe { std::slice::from_raw_parts(record.params, n) });
            let params = params.unwrap_or_default().iter().filter_map(param).collect();
            let outside = outside.then(|| look_outside(&domain));
            Some(Record { guest, params, outside })
        });
        Ok(owned.collect())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for id in self.subscriptions.drain(..) {
            // SAFETY: the connection is open and `id` came from it. A dead connection answers with an error, and
            // closing it releases the subscription all the same.
            unsafe { virt_sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), id) };
        }
        if self.watched {
            // SAFETY: the callback was registered on this connection.
            unsafe { virt_sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close)) };
        }
        if let Err(error) = self.connect.close() {
            tracing::debug!(%error, "closing a libvirt connection");
        }
    }
}

/// Frees the records when it goes, whatever happens in between.
struct RecordList {
    records: *mut virt_sys::virDomainStatsRecordPtr,
}

impl Drop for RecordList {
    fn drop(&mut self) {
        // SAFETY: the array came from libvirt and is freed once; this also frees parameters and domain references.
        unsafe { virt_sys::virDomainStatsRecordListFree(self.records) };
    }
}

/// Who a guest is.
pub(super) fn named(domain: &Domain) -> Result<Named, Libvirt> {
    Ok(Named { uuid: domain.get_uuid_string()?, name: domain.get_name()?, run: domain.get_id() })
}

fn look_outside(domain: &Domain) -> Outside {
    let info = domain.get_info().ok();
    let mut control = virt_sys::virDomainControlInfo { state: 0, details: 0, stateTime: 0 };
    // SAFETY: the domain is valid and `control` a place for the answer. Drivers without it answer with an error.
    let code = unsafe { virt_sys::virDomainGetControlInfo(domain.as_ptr(), &mut control, 0) };
    let occupied = code == 0 && control.state == virt_sys::VIR_DOMAIN_CONTROL_OCCUPIED;
    Outside {
        cpu_time: info.as_ref().map(|info| info.cpu_time),
        cores: info.as_ref().map(|info| info.nr_virt_cpu),
        memory_kib: info.as_ref().map(|info| info.memory),
        busy_ms: occupied.then_some(control.stateTime),
    }
}

pub(super) fn param(param: &virt_sys::virTypedParameter) -> Option<(String, Param)> {
    // SAFETY: the name is a C string inside the array: libvirt ends it with a NUL within its 80 bytes.
    let name = unsafe { CStr::from_ptr(param.field.as_ptr()) }.to_string_lossy().into_owned();
    let kind = u32::try_from(param.type_).ok()?;
    // SAFETY: `type_` says which member of the union libvirt has written; a string is valid and ends with a NUL.
    let value = unsafe {
        match kind {
            virt_sys::VIR_TYPED_PARAM_INT => Param::Signed(param.value.i.into()),
            virt_sys::VIR_TYPED_PARAM_UINT => Param::Unsigned(param.value.ui.into()),
            virt_sys::VIR_TYPED_PARAM_LLONG => Param::Signed(param.value.l),
            virt_sys::VIR_TYPED_PARAM_ULLONG => Param::Unsigned(param.value.ul),
            virt_sys::VIR_TYPED_PARAM_DOUBLE => Param::Float(param.value.d),
            virt_sys::VIR_TYPED_PARAM_BOOLEAN => Param::Unsigned(u64::from(param.value.b != 0)),
            virt_sys::VIR_TYPED_PARAM_STRING if !param.value.s.is_null() => {
                Param::Text(CStr::from_ptr(param.value.s).to_string_lossy().into_owned())
            }
            _ => return None,
        }
    };
    Some((name, value))
}

/// What every event callback is registered as.
type GenericCallback = unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, *mut c_void);
type LifecycleCallback =
    unsafe extern "C" fn(virt_sys::virConnectPtr, virt_sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

/// Called by libvirt's event thread.
unsafe extern "C" fn on_lifecycle(
    _connection: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    // SAFETY: libvirt calls with a valid domain and the reference made at registration.
    unsafe { put(domain, Change::Lifecycle(number(event), number(detail)), opaque) };
    0
}

/// Called by libvirt's event thread.
unsafe extern "C" fn on_reboot(
    _connection: virt_sys::virConnectPtr,
    domain: virt_sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt calls with a valid domain and the reference made at registration.
    unsafe { put(domain, Change::Rebooted, opaque) };
}

/// Puts an event into the mailbox behind `opaque`.
///
/// # Safety
/// `domain` is valid, and `opaque` the reference that was made at registration and that libvirt keeps until `release`.
unsafe fn put(domain: virt_sys::virDomainPtr, change: Change, opaque: *mut c_void) {
    let mut text = [0; virt_sys::VIR_UUID_STRING_BUFLEN as usize];
    // SAFETY: the domain is valid, and the buffer has the length that libvirt asks for.
    if unsafe { virt_sys::virDomainGetUUIDString(domain, text.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: libvirt filled the buffer and ended it with a NUL.
    let uuid = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: the domain is valid; its name is a C string that lives as long as it.
    let name = unsafe {
        let name = virt_sys::virDomainGetName(domain);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    // SAFETY: the caller vouches for `opaque`.
    if let Some(mailbox) = unsafe { opaque.cast::<Mailbox>().as_ref() } {
        mailbox.put(uuid, name.unwrap_or_default(), change);
    }
}

/// Called by libvirt's event thread when the daemon is gone.
unsafe extern "C" fn on_close(_connection: virt_sys::virConnectPtr, _reason: c_int, opaque: *mut c_void) {
    // SAFETY: `opaque` is the reference made at registration; libvirt keeps it until `release`.
    if let Some(signals) = unsafe { opaque.cast::<Signals>().as_ref() } {
        signals.closed.store(true, Ordering::Release);
    }
}

/// Gives back the reference that a registration holds.
///
/// # Safety
/// `opaque` came from `Arc::<T>::into_raw` at registration and is given back once.
unsafe extern "C" fn release<T>(opaque: *mut c_void) {
    // SAFETY: the caller vouches for `opaque`.
    drop(unsafe { Arc::from_raw(opaque.cast_const().cast::<T>()) });
}
