//! Long work on guests that goes on now: migrations, backups, saves, dumps.
//!
//! libvirt takes the guest's turn to answer, and asks its monitor if there is a job. So this question has a connection
//! of its own, is asked only for guests that have just answered, and is left alone when it hangs.

#![allow(
    unsafe_code,
    reason = "`virt` panics on parameters that it does not know; each block says why it is sound"
)]

use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

use virt::domain::Domain;
use virt::error::Error as Libvirt;

use super::connect::{Call, Session, Worker};
use super::params::Params;
use super::sys::param;
use crate::Result;

/// A job of a guest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    /// libvirt's `virDomainJobType`.
    kind: u32,
    params: Params,
}

impl Job {
    /// What is done.
    pub(super) fn operation(&self) -> &'static str {
        const WORDS: [&str; 11] = [
            "unknown",
            "start",
            "save",
            "restore",
            "migration_in",
            "migration_out",
            "snapshot",
            "snapshot_revert",
            "dump",
            "backup",
            "snapshot_delete",
        ];
        let number = self.params.number("operation").and_then(|number| usize::try_from(number).ok());
        number.and_then(|number| WORDS.get(number).copied()).unwrap_or("unknown")
    }

    /// How far it is.
    pub(super) fn state(&self) -> &'static str {
        match self.kind {
            virt_sys::VIR_DOMAIN_JOB_BOUNDED => "bounded",
            virt_sys::VIR_DOMAIN_JOB_UNBOUNDED => "unbounded",
            virt_sys::VIR_DOMAIN_JOB_COMPLETED => "completed",
            virt_sys::VIR_DOMAIN_JOB_FAILED => "failed",
            virt_sys::VIR_DOMAIN_JOB_CANCELLED => "cancelled",
            _ => "unknown",
        }
    }

    /// Seconds since it began.
    pub(super) fn elapsed(&self) -> Option<f64> {
        Some(self.params.float("time_elapsed")? / 1e3)
    }

    /// Bytes in all, done and left. Where libvirt gives no sums, memory and disks are added up.
    pub(super) fn bytes(&self) -> [Option<f64>; 3] {
        ["total", "processed", "remaining"].map(|part| {
            let of = |what: &str| self.params.float(&format!("{what}_{part}"));
            of("data").or_else(|| match (of("memory"), of("disk")) {
                (None, None) => None,
                (memory, disk) => Some(memory.unwrap_or(0.0) + disk.unwrap_or(0.0)),
            })
        })
    }

    /// The part that is done.
    pub(super) fn progress(&self) -> Option<f64> {
        let [total, processed, _] = self.bytes();
        total.zip(processed).filter(|(total, _)| *total > 0.0).map(|(total, done)| (done / total).min(1.0))
    }
}

/// The connection for jobs.
pub(super) struct Jobs {
    worker: Worker,
    hung: Option<Call<HashMap<String, Job>>>,
}

impl Jobs {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(uri: &Arc<str>) -> Result<Self> {
        Ok(Self { worker: Worker::start(uri, None)?, hung: None })
    }

    /// The jobs of these guests by UUID. None while an earlier call hangs, or when there is no answer by `until`; that answer
    /// comes with a later call.
    ///
    /// # Errors
    /// libvirt refused.
    pub(super) fn read(&mut self, guests: Vec<String>, until: Instant) -> Result<HashMap<String, Job>> {
        if let Some(hung) = self.hung.take() {
            return match hung.wait(Instant::now()) {
                // From many guests far away the answer takes longer than one collection may wait, and comes with the next.
                Some(answer) => answer,
                None => {
                    self.hung = Some(hung);
                    Ok(HashMap::new())
                }
            };
        }
        let call = self.worker.call(move |session| read(session, &guests));
        match call.wait(until) {
            Some(answer) => answer,
            None => {
                self.hung = Some(call);
                Ok(HashMap::new())
            }
        }
    }
}

/// A guest that is gone, or that cannot tell, is left out.
fn read(session: &mut Session, guests: &[String]) -> Result<HashMap<String, Job>> {
    session.with("read jobs", |connection| {
        let mut jobs = HashMap::new();
        for uuid in guests {
            let Ok(domain) = Domain::lookup_by_uuid_string(connection.connect(), uuid) else { continue };
            if let Ok(Some(job)) = job(&domain) {
                jobs.insert(uuid.clone(), job);
            }
        }
        Ok(jobs)
    })
}

fn job(domain: &Domain) -> Result<Option<Job>, Libvirt> {
    let (mut kind, mut count): (c_int, c_int) = (0, 0);
    let mut params: virt_sys::virTypedParameterPtr = ptr::null_mut();
    // SAFETY: the domain is valid, and the others are places for the answer.
    let code =
        unsafe { virt_sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut params, &mut count, 0) };
    if code < 0 {
        return Err(Libvirt::last_error());
    }
    let length = usize::try_from(count).ok().filter(|_| !params.is_null()).unwrap_or(0);
    let owned: Params = match length {
        0 => Params::default(),
        // SAFETY: libvirt returned `length` parameters, which live until they are freed below.
        length => unsafe { std::slice::from_raw_parts(params, length) }.iter().filter_map(param).collect(),
    };
    // SAFETY: the array came from libvirt and is freed once; null is allowed.
    unsafe { virt_sys::virTypedParamsFree(params, count) };
    let kind = u32::try_from(kind).unwrap_or(0);
    Ok((kind != virt_sys::VIR_DOMAIN_JOB_NONE).then_some(Job { kind, params: owned }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_in_words_and_figures() {
        let text = "operation=5\ntime_elapsed=2500\ndata_total=1000\ndata_processed=250\ndata_remaining=750";
        let job = Job { kind: 2, params: Params::from_text(text) };
        assert_eq!((job.operation(), job.state()), ("migration_out", "unbounded"));
        assert_eq!((job.elapsed(), job.progress()), (Some(2.5), Some(0.25)));
        assert_eq!(job.bytes(), [Some(1000.0), Some(250.0), Some(750.0)]);
        let backup =
            Job { kind: 1, params: Params::from_text("operation=9\ndisk_total=80\ndisk_processed=0") };
        assert_eq!(backup.bytes(), [Some(80.0), Some(0.0), None]);
        let unknown = Job { kind: 9, params: Params::from_text("operation=99") };
        assert_eq!((unknown.operation(), unknown.state(), unknown.progress()), ("unknown", "unknown", None));
    }

    #[test]
    fn a_driver_without_jobs_has_none() {
        let mut jobs = Jobs::start(&"test:///default".into()).unwrap();
        let guests = vec!["6695eb01-f6a4-8304-79aa-97f2502e193f".to_owned()];
        let until = Instant::now() + std::time::Duration::from_secs(5);
        assert!(jobs.read(guests, until).unwrap().is_empty());
    }
}
