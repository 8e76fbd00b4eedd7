//! libvirt's errors as ours: its code decides the kind.

use virt::error::{Error as Libvirt, ErrorDomain, ErrorNumber};

use crate::{Error, ErrorKind, Retry};

/// What a libvirt call said, with what was tried on what.
pub(super) fn translated(operation: &str, resource: &str, error: Libvirt) -> Error {
    let (kind, reason) = kind(error.code(), error.message());
    let translated = Error::new(kind, operation, reason);
    // A socket's permissions can be changed while Barograph waits.
    let translated = if kind == ErrorKind::Denied { translated.with_retry(Retry::Later) } else { translated };
    translated.with_provider("kvm").with_resource(resource).with_source(error)
}

/// Whether the connection itself is gone, so that only a new one can help.
pub(super) fn is_broken(error: &Libvirt) -> bool {
    matches!(error.domain(), ErrorDomain::Rpc | ErrorDomain::Remote)
        || matches!(
            error.code(),
            ErrorNumber::Rpc | ErrorNumber::InvalidConn | ErrorNumber::NoConnect | ErrorNumber::NoServer
        )
}

fn kind(code: ErrorNumber, message: &str) -> (ErrorKind, &'static str) {
    match code {
        ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable => {
            (ErrorKind::Auth, "libvirt did not accept the sign-in; check polkit or the socket's settings")
        }
        ErrorNumber::OperationDenied | ErrorNumber::AccessDenied => {
            (ErrorKind::Denied, "libvirt forbids it; read-only access to the guests is needed")
        }
        ErrorNumber::NoDomain => (ErrorKind::NotFound, "the guest is gone"),
        ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::ArgumentUnsupported => {
            (ErrorKind::Unsupported, "this hypervisor or its version cannot do it")
        }
        ErrorNumber::InvalidArg | ErrorNumber::ConfigUnsupported => {
            (ErrorKind::Invalid, "libvirt refused the request; check the connection URI")
        }
        ErrorNumber::NoConnect if message.contains("no connection driver") => {
            (ErrorKind::Invalid, "libvirt knows no such hypervisor; check the connection URI")
        }
        _ if message.contains("Permission denied") => {
            (ErrorKind::Denied, "may not use libvirt's socket; join the group libvirt or run as root")
        }
        _ => (ErrorKind::Unavailable, "libvirt does not answer; is its daemon running?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_and_a_missing_daemon_can_come_back() {
        let kind_of = |code, message| kind(code, message).0;
        assert_eq!(kind_of(ErrorNumber::AuthFailed, ""), ErrorKind::Auth);
        assert_eq!(kind_of(ErrorNumber::AccessDenied, ""), ErrorKind::Denied);
        assert_eq!(kind_of(ErrorNumber::NoDomain, ""), ErrorKind::NotFound);
        assert_eq!(kind_of(ErrorNumber::NoSupport, ""), ErrorKind::Unsupported);
        assert_eq!(kind_of(ErrorNumber::SystemError, "No such file or directory"), ErrorKind::Unavailable);
        assert_eq!(kind_of(ErrorNumber::SystemError, "x: Permission denied"), ErrorKind::Denied);
        assert_eq!(kind_of(ErrorNumber::NoConnect, "no connection driver available"), ErrorKind::Invalid);
    }
}
