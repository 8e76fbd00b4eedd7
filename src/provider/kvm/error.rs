//! libvirt's errors as ours: its code decides the kind.

use virt::error::{Error as Libvirt, ErrorDomain, ErrorNumber};

use crate::{Error, ErrorKind, Result, Retry};

/// What a libvirt call said, with what was tried on what.
pub(super) fn translated(operation: &str, resource: &str, error: Libvirt) -> Error {
    let (kind, hint) = kind(is_broken(&error), error.code(), error.message());
    explained(operation, resource, kind, hint, error)
}

/// What an attempt to connect said.
pub(super) fn unconnected(uri: &str, error: Libvirt) -> Error {
    let (kind, hint) = kind(true, error.code(), error.message());
    explained("connect", uri, kind, hint, error).nothing_done()
}

fn explained(
    operation: &str,
    resource: &str,
    kind: ErrorKind,
    hint: Option<&'static str>,
    error: Libvirt,
) -> Error {
    let translated = match hint {
        Some(hint) => Error::new(kind, operation, hint).with_source(error),
        None => Error::new(kind, operation, error.message()),
    };
    // A socket's permissions can be changed while Barograph waits.
    let translated = if kind == ErrorKind::Denied { translated.with_retry(Retry::Later) } else { translated };
    translated.with_provider("kvm").with_resource(resource)
}

/// Whether the connection itself is gone, so that only a new one can help.
pub(super) fn is_broken(error: &Libvirt) -> bool {
    matches!(error.domain(), ErrorDomain::Rpc | ErrorDomain::Remote)
        || matches!(
            error.code(),
            ErrorNumber::Rpc | ErrorNumber::InvalidConn | ErrorNumber::NoConnect | ErrorNumber::NoServer
        )
}

/// The kind, and what can be said better than libvirt's message does. `connecting` says that the trouble is with the
/// connection and not with what was asked for.
fn kind(connecting: bool, code: ErrorNumber, message: &str) -> (ErrorKind, Option<&'static str>) {
    let hint = match known(code, message) {
        Some((kind, hint)) => return (kind, Some(hint)),
        None if !connecting => None,
        None if message.contains("Permission denied") => {
            let hint = "may not use libvirt's socket; join the group libvirt or run as root";
            return (ErrorKind::Denied, Some(hint));
        }
        None if matches!(code, ErrorNumber::OperationFailed | ErrorNumber::InternalError) => None,
        None => Some("libvirt does not answer; is its daemon running?"),
    };
    (ErrorKind::Unavailable, hint)
}

/// What a code or a message stands for, whatever was tried.
fn known(code: ErrorNumber, message: &str) -> Option<(ErrorKind, &'static str)> {
    use ErrorNumber as N;
    Some(match code {
        N::AuthFailed | N::AuthCancelled | N::AuthUnavailable => {
            (ErrorKind::Auth, "libvirt did not accept the sign-in; check polkit or the socket's settings")
        }
        N::OperationDenied | N::AccessDenied => {
            (ErrorKind::Denied, "libvirt forbids it; check polkit, or the group that owns its socket")
        }
        N::NoDomain => (ErrorKind::NotFound, "the guest is gone"),
        N::NoNetwork => (ErrorKind::NotFound, "the network is gone"),
        N::NoStoragePool => (ErrorKind::NotFound, "there is no such pool; virsh pool-list --all shows them"),
        N::NoStorageVolume => (ErrorKind::NotFound, "the pool has no such volume; is the pool up to date?"),
        N::NoDomainSnapshot => (ErrorKind::NotFound, "the snapshot is gone"),
        N::NoNodeDevice | N::NoInterface | N::NoSecret | N::NoNwfilter | N::DeviceMissing => {
            (ErrorKind::NotFound, "the hypervisor has no such thing")
        }
        N::NoSupport
        | N::OperationUnsupported
        | N::ArgumentUnsupported
        | N::ConfigUnsupported
        | N::CpuIncompatible => (ErrorKind::Unsupported, "this hypervisor or its version cannot do it"),
        N::OperationInvalid => (ErrorKind::Conflict, "its state does not allow it now"),
        N::DomExist | N::NetworkExist | N::StorageVolExist | N::StoragePoolBuilt => {
            (ErrorKind::Conflict, "there is one of that name already; choose another name")
        }
        N::ResourceBusy | N::BlockCopyActive => {
            (ErrorKind::Conflict, "another operation is at work on it; wait until it is over")
        }
        N::SnapshotRevertRisky => {
            (ErrorKind::Conflict, "going back would put the running guest at risk; stop it first")
        }
        N::InvalidArg
        | N::InvalidDomain
        | N::InvalidNetwork
        | N::InvalidMac
        | N::InvalidStoragePool
        | N::InvalidStorageVol
        | N::InvalidDomainSnapshot
        | N::XmlError
        | N::XmlDetail
        | N::XmlInvalidSchema
        | N::ParseFailed
        | N::OsType
        | N::NoOs
        | N::NoName
        | N::NoRoot
        | N::NoSource
        | N::NoTarget
        | N::NoDevice
        | N::NoKernel
        | N::Overflow => (ErrorKind::Invalid, "libvirt finds the request wrong; its message says what"),
        N::NoConnect if message.contains("no connection driver") => {
            (ErrorKind::Invalid, "libvirt knows no such hypervisor; check the connection URI")
        }
        N::NoMemory => (ErrorKind::Capacity, NO_MEMORY),
        N::OperationTimeout => {
            (ErrorKind::Unavailable, "the guest's monitor is busy with another operation; try again")
        }
        N::AgentUnresponsive | N::AgentUnsynced | N::AgentCommandTimeout => {
            (ErrorKind::Unavailable, "the agent inside the guest does not answer")
        }
        _ if message.to_ascii_lowercase().contains("cannot allocate memory") => {
            (ErrorKind::Capacity, NO_MEMORY)
        }
        _ if message.contains("No space left") => {
            (ErrorKind::Capacity, "the hypervisor's disk or pool is full; free some space")
        }
        _ if message.contains("in $PATH") => (
            ErrorKind::Unsupported,
            "the hypervisor lacks a program for it; its message says which to install",
        ),
        _ => return None,
    })
}

const NO_MEMORY: &str = "the hypervisor has no memory for it; stop another guest or choose a smaller size";
/// What a call of management said.
pub(super) trait During<T> {
    /// With what was tried on what. One call of libvirt's that fails leaves nothing behind; a verb of several says itself
    /// what the earlier ones left.
    fn during(self, operation: &str, resource: &str) -> Result<T>;
}

impl<T> During<T> for Result<T, Libvirt> {
    fn during(self, operation: &str, resource: &str) -> Result<T> {
        self.map_err(|error| {
            let (broken, code) = (is_broken(&error), error.code());
            let error = translated(operation, resource, error);
            // What the daemon makes of a call whose connection broke is not known.
            let error = if broken { error.partly_done() } else { error };
            if may_pass(broken, code) { error } else { error.with_retry(Retry::Never).nothing_done() }
        })
    }
}

/// Whether a change that failed is worth another try at once: the connection was the trouble, or the guest was busy. What
/// libvirt tried and could not do it cannot do a moment later either.
fn may_pass(connecting: bool, code: ErrorNumber) -> bool {
    use ErrorNumber as N;
    connecting
        || matches!(
            code,
            N::OperationTimeout | N::AgentUnresponsive | N::AgentUnsynced | N::AgentCommandTimeout
        )
}

/// An error of our own about a guest or another resource.
pub(super) fn refused(
    kind: ErrorKind,
    operation: &str,
    resource: impl Into<String>,
    reason: impl Into<String>,
) -> Error {
    Error::new(kind, operation, reason).with_provider("kvm").with_resource(resource)
}

#[cfg(test)]
mod tests {
    use super::super::sys;
    use super::*;

    #[test]
    fn the_code_decides_and_a_missing_daemon_can_come_back() {
        let kind_of = |code, message| kind(true, code, message).0;
        assert_eq!(kind_of(ErrorNumber::AuthFailed, ""), ErrorKind::Auth);
        assert_eq!(kind_of(ErrorNumber::AccessDenied, ""), ErrorKind::Denied);
        assert_eq!(kind_of(ErrorNumber::NoDomain, ""), ErrorKind::NotFound);
        assert_eq!(kind_of(ErrorNumber::NoSupport, ""), ErrorKind::Unsupported);
        assert_eq!(kind_of(ErrorNumber::SystemError, "No such file or directory"), ErrorKind::Unavailable);
        let missing = "Unable to find 'dnsmasq' binary in $PATH: No such file or directory";
        assert_eq!(kind_of(ErrorNumber::SystemError, missing), ErrorKind::Unsupported);
        assert_eq!(kind_of(ErrorNumber::SystemError, "x: Permission denied"), ErrorKind::Denied);
        assert_eq!(kind_of(ErrorNumber::NoConnect, "no connection driver available"), ErrorKind::Invalid);
        for (code, wanted) in [
            (ErrorNumber::NoNetwork, ErrorKind::NotFound),
            (ErrorNumber::NoStorageVolume, ErrorKind::NotFound),
            (ErrorNumber::NoDomainSnapshot, ErrorKind::NotFound),
            (ErrorNumber::DomExist, ErrorKind::Conflict),
            (ErrorNumber::OperationInvalid, ErrorKind::Conflict),
            (ErrorNumber::ResourceBusy, ErrorKind::Conflict),
            (ErrorNumber::ConfigUnsupported, ErrorKind::Unsupported),
            (ErrorNumber::XmlError, ErrorKind::Invalid),
            (ErrorNumber::OperationTimeout, ErrorKind::Unavailable),
            (ErrorNumber::NoMemory, ErrorKind::Capacity),
        ] {
            assert_eq!(kind_of(code, ""), wanted, "{code:?}");
        }
        assert!(kind(true, ErrorNumber::SystemError, "gone").1.unwrap().contains("daemon"));
        let full = "cannot set up guest memory 'pc.ram': Cannot allocate memory";
        assert_eq!(kind_of(ErrorNumber::InternalError, full), ErrorKind::Capacity);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_not_said_of_the_socket() {
        for (code, message) in [
            (
                ErrorNumber::SystemError,
                "Cannot access storage file '/p/a' (as uid:64055): No such file or directory",
            ),
            (ErrorNumber::SystemError, "Cannot access storage file '/p/a' (as uid:64055): Permission denied"),
            (ErrorNumber::InternalError, "process exited: Could not open '/p/a': Permission denied"),
            (ErrorNumber::OperationFailed, "Failed to terminate process 7"),
        ] {
            assert_eq!(
                kind(false, code, message),
                (ErrorKind::Unavailable, None),
                "{message}: it speaks for itself"
            );
            assert!(!may_pass(false, code), "{message}: the same a moment later");
        }
        assert!(may_pass(true, ErrorNumber::SystemError));
        assert!(may_pass(false, ErrorNumber::OperationTimeout), "the guest is busy, and not for ever");
        assert!(!may_pass(false, ErrorNumber::AccessDenied));
    }

    #[test]
    fn libvirts_message_is_the_reason_where_there_is_no_better() {
        sys::prepare();
        let connect = virt::connect::Connect::open(Some("test:///default")).unwrap();
        let error = virt::domain::Domain::lookup_by_name(&connect, "nobody").unwrap_err();
        let message = error.message().to_owned();
        let told = explained("start", "nobody", ErrorKind::Unavailable, None, error.clone());
        assert_eq!(told.chain(), format!("kvm: cannot start nobody: {message}"));
        let told = Err::<(), _>(error).during("start", "nobody").unwrap_err();
        assert_eq!((told.kind(), told.retry()), (ErrorKind::NotFound, Retry::Never));
        assert!(told.chain().contains(&message), "{}", told.chain());
    }
}
