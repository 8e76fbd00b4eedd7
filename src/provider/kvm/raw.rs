//! What is asked about all guests at once, and two calls of libvirt's C interface that the crate `virt` gets wrong or
//! lacks: the states of all guests, and the leases of a network.

#![allow(unsafe_code, reason = "libvirt is a C library; each block says why it is sound")]

use std::collections::HashSet;
use std::ffi::{CStr, c_char};
use std::ptr;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error as Libvirt;
use virt::network::Network;

use super::state::Native;
use super::sys::{Named, named};

/// A guest in the list of all guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Who it is.
    pub(super) guest: Named,
    /// libvirt's state of it.
    pub(super) state: Native,
    /// Whether its memory is kept in a file (managed save).
    pub(super) saved: bool,
    /// Processors that it has, or will have.
    pub(super) vcpus: Option<u32>,
    /// Memory that it has, or will have, in KiB.
    pub(super) memory_kib: Option<u64>,
}

/// All guests, running or not. One that vanishes meanwhile is left out.
pub(super) fn list(connect: &Connect) -> Result<Vec<Listed>, Libvirt> {
    let domains = connect.list_all_domains(0)?;
    let saved = saved(connect);
    let listed = domains.iter().filter_map(|domain| {
        let state = domain.get_state().ok()?;
        let info = domain.get_info().ok();
        let guest = named(domain).ok()?;
        Some(Listed {
            saved: saved.contains(&guest.uuid),
            guest,
            state: state.into(),
            vcpus: info.as_ref().map(|info| info.nr_virt_cpu),
            memory_kib: info.as_ref().map(|info| info.memory),
        })
    });
    Ok(listed.collect())
}

/// All guests, running or not, with their states, in one call.
pub(super) fn states(connect: &Connect) -> Result<Vec<(Domain, Native)>, Libvirt> {
    let mut records: *mut virt_sys::virDomainStatsRecordPtr = ptr::null_mut();
    let (groups, flags) =
        (virt_sys::VIR_DOMAIN_STATS_STATE, virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
    // SAFETY: the connection is open and `records` is a place for the array.
    let count =
        unsafe { virt_sys::virConnectGetAllDomainStats(connect.as_ptr(), groups, &mut records, flags) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Libvirt::last_error());
    };
    if records.is_null() {
        return Ok(Vec::new());
    }
    let list = Records(records);
    // SAFETY: libvirt returned `count` pointers to records; they live until `list` is dropped.
    let slice = unsafe { std::slice::from_raw_parts(list.0, count) };
    let states = slice.iter().filter_map(|record| {
        // SAFETY: each pointer of the array is a valid record.
        let record = unsafe { record.as_ref() }?;
        // SAFETY: the record's domain is valid; the reference taken here is the one that `Domain` gives back.
        let domain =
            unsafe { (virt_sys::virDomainRef(record.dom) == 0).then(|| Domain::from_ptr(record.dom)) }?;
        let params = usize::try_from(record.nparams).ok().filter(|_| !record.params.is_null());
        // SAFETY: the record holds `nparams` parameters, alive until `list` is dropped.
        let params = params.map(|n| unsafe { std::slice::from_raw_parts(record.params, n) });
        let word = |name: &CStr| {
            params.unwrap_or_default().iter().find_map(|param| {
                // SAFETY: the name is a C string inside the array, and ends with a NUL within its 80 bytes.
                let matches = unsafe { CStr::from_ptr(param.field.as_ptr()) } == name;
                let is_int = param.type_ == virt_sys::VIR_TYPED_PARAM_INT as i32;
                if !matches || !is_int {
                    return None;
                }
                // SAFETY: `type_` says that libvirt wrote this member of the union.
                Some(unsafe { param.value.i })
            })
        };
        let state = word(c"state.state").and_then(|state| u32::try_from(state).ok());
        Some((domain, (state.unwrap_or(virt_sys::VIR_DOMAIN_NOSTATE), word(c"state.reason").unwrap_or(0))))
    });
    Ok(states.map(|(domain, native)| (domain, native.into())).collect())
}

/// UUIDs of the guests whose memory is kept in a file. A driver that keeps none has none.
pub(super) fn saved(connect: &Connect) -> HashSet<String> {
    let saved = connect.list_all_domains(virt_sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE);
    saved.unwrap_or_default().iter().filter_map(|domain| domain.get_uuid_string().ok()).collect()
}

/// The addresses that a network's DHCP server has given out, as (hardware address, address). A network without such a
/// server has none.
pub(super) fn leases(network: &Network) -> Result<Vec<(String, String)>, Libvirt> {
    let mut leases: *mut virt_sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is valid, a null address asks for all leases, and `leases` is a place for the array.
    let count = unsafe { virt_sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &mut leases, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Libvirt::last_error());
    };
    if leases.is_null() {
        return Ok(Vec::new());
    }
    let list = Leases { leases, count };
    // SAFETY: libvirt returned `count` pointers to leases; they live until `list` is dropped.
    let slice = unsafe { std::slice::from_raw_parts(list.leases, count) };
    let found = slice.iter().filter_map(|lease| {
        // SAFETY: each pointer of the array is a valid lease.
        let lease = unsafe { lease.as_ref() }?;
        Some((text(lease.mac)?.to_lowercase(), text(lease.ipaddr)?))
    });
    Ok(found.collect())
}

/// A C string of libvirt's, which stays libvirt's.
fn text(from: *const c_char) -> Option<String> {
    // SAFETY: libvirt's strings are null, or valid and end with a NUL, while the lease that holds them lives.
    (!from.is_null()).then(|| unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned())
}

/// Frees the records when it goes.
struct Records(*mut virt_sys::virDomainStatsRecordPtr);

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: the array came from libvirt and is freed once, with parameters and domain references.
        unsafe { virt_sys::virDomainStatsRecordListFree(self.0) };
    }
}

/// Frees the leases when it goes.
struct Leases {
    leases: *mut virt_sys::virNetworkDHCPLeasePtr,
    count: usize,
}

impl Drop for Leases {
    fn drop(&mut self) {
        for at in 0..self.count {
            // SAFETY: each lease came from libvirt and is freed once, before the array that holds its pointer.
            unsafe { virt_sys::virNetworkDHCPLeaseFree(*self.leases.add(at)) };
        }
        // SAFETY: libvirt allocated the array with malloc and leaves it to us.
        unsafe { libc::free(self.leases.cast()) };
    }
}
