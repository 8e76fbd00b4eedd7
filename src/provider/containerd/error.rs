//! gRPC's errors as ours: the code decides the kind.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use tonic::{Code, Response, Status};

use crate::{Error, ErrorKind, Result, Retry};

/// The provider's name in errors.
const PROVIDER: &str = super::PROVIDER;

/// What a call said, with what was tried on what.
pub(super) fn translated(operation: &str, resource: &str, status: Status) -> Error {
    let io = io_error(&status).map(|error| socket_trouble(error.kind()));
    let (kind, hint) = io.unwrap_or_else(|| kind(status.code(), status.message()));
    let reason = match status.message() {
        "" => hint.to_owned(),
        message if io.is_none() => format!("{hint}: {}", shortened(message)),
        _ => hint.to_owned(),
    };
    let translated = Error::new(kind, operation, reason).with_provider(PROVIDER).with_resource(resource);
    retried(translated).with_source(status)
}

/// What a connection that could not be made said.
pub(super) fn unconnected(socket: &str, error: tonic::transport::Error) -> Error {
    let (kind, hint) = io_error(&error)
        .map_or((ErrorKind::Unavailable, "no connection to containerd"), |error| {
            socket_trouble(error.kind())
        });
    let translated = Error::new(kind, "connect to containerd", hint);
    retried(translated.with_provider(PROVIDER).with_resource(socket)).with_source(error).nothing_done()
}

/// An error of our own.
pub(super) fn failed(kind: ErrorKind, operation: &str, resource: &str, reason: impl Into<String>) -> Error {
    Error::new(kind, operation, reason).with_provider(PROVIDER).with_resource(resource)
}

/// The answer of a call, or its error.
pub(super) trait Answered<T> {
    /// With what was tried on what.
    fn answered(self, operation: &str, resource: &str) -> Result<T>;
}

impl<T> Answered<T> for Result<Response<T>, Status> {
    fn answered(self, operation: &str, resource: &str) -> Result<T> {
        self.map(Response::into_inner).map_err(|status| translated(operation, resource, status))
    }
}

/// The answer of a call that waits for a container's shim, which may never answer.
///
/// # Errors
/// Those of the call, and [`ErrorKind::Unavailable`] when the deadline has passed.
pub(super) async fn within<T>(
    deadline: Duration,
    operation: &str,
    resource: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.answered(operation, resource),
        Err(_) => Err(late(deadline, operation, resource)),
    }
}

/// The shim did not answer in time.
pub(super) fn late(deadline: Duration, operation: &str, resource: &str) -> Error {
    let after = humantime::format_duration(deadline);
    let reason =
        format!("its shim did not answer within {after}; look for a stopped or stuck containerd-shim");
    failed(ErrorKind::Unavailable, operation, resource, reason)
}

/// A socket's permissions can be changed while Barograph waits.
fn retried(error: Error) -> Error {
    if error.kind() == ErrorKind::Denied { error.with_retry(Retry::Later) } else { error }
}

fn kind(code: Code, message: &str) -> (ErrorKind, &'static str) {
    match code {
        Code::Unauthenticated => (ErrorKind::Auth, "containerd did not accept who is asking"),
        Code::PermissionDenied => (ErrorKind::Denied, "containerd forbids it"),
        Code::NotFound => (ErrorKind::NotFound, "it is not there"),
        Code::AlreadyExists => (ErrorKind::Conflict, "it is there already"),
        Code::FailedPrecondition => (ErrorKind::Conflict, "its state does not allow it now"),
        Code::Aborted => (ErrorKind::Conflict, "somebody else changed it at the same time"),
        Code::ResourceExhausted => (ErrorKind::Quota, "a limit is reached"),
        Code::InvalidArgument | Code::OutOfRange => (ErrorKind::Invalid, "containerd refused the request"),
        Code::Unimplemented => (ErrorKind::Unsupported, "this containerd or its version cannot do it"),
        // runc's and the shim's errors have no code, only their text.
        Code::Unknown | Code::Internal => match message {
            text if text.contains("no space left on device") => {
                (ErrorKind::Capacity, "the disk is full; free some space")
            }
            text if text.contains("permission denied") || text.contains("operation not permitted") => {
                (ErrorKind::Denied, "the system forbids it")
            }
            // The older control groups are frozen process by process, and new ones may always be faster.
            text if text.contains("unable to freeze") => (
                ErrorKind::Unavailable,
                "the kernel did not get all of its processes to stand still; try again",
            ),
            // containerd removes what a call that was cut off has begun, and takes a moment for it.
            text if text.contains("failed to start shim") && text.contains("file exists") => {
                (ErrorKind::Unavailable, "what an earlier call has begun is still being removed; try again")
            }
            text if text.contains("not found") || text.contains("no such file") => {
                (ErrorKind::Invalid, "something that it needs is not there")
            }
            _ => (ErrorKind::Invalid, "the runtime could not do it"),
        },
        Code::DeadlineExceeded | Code::Cancelled => {
            (ErrorKind::Unavailable, "no answer in time; look for a stuck containerd or containerd-shim")
        }
        _ => (ErrorKind::Unavailable, "containerd does not answer; is it running?"),
    }
}

fn socket_trouble(kind: io::ErrorKind) -> (ErrorKind, &'static str) {
    match kind {
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Denied, "may not use containerd's socket; run as root, or as a user that may open it")
        }
        io::ErrorKind::NotFound => (
            ErrorKind::Unavailable,
            "there is no such socket; start containerd, or write its path as `socket`",
        ),
        _ => (ErrorKind::Unavailable, "nobody answers at the socket; is containerd running?"),
    }
}

/// The input/output error below, where there is one.
fn io_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// runc may say a lot; the end says why.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 400;
    let message = message.trim().replace('\n', " ");
    match message.chars().count() {
        count if count <= LONGEST => message,
        count => format!("… {}", message.chars().skip(count - LONGEST).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides() {
        let kind_of = |code, message: &str| translated("read", "a", Status::new(code, message)).kind();
        assert_eq!(kind_of(Code::NotFound, ""), ErrorKind::NotFound);
        assert_eq!(kind_of(Code::AlreadyExists, ""), ErrorKind::Conflict);
        assert_eq!(kind_of(Code::FailedPrecondition, "permission denied"), ErrorKind::Conflict);
        assert_eq!(kind_of(Code::PermissionDenied, ""), ErrorKind::Denied);
        assert_eq!(kind_of(Code::Unauthenticated, ""), ErrorKind::Auth);
        assert_eq!(kind_of(Code::ResourceExhausted, ""), ErrorKind::Quota);
        assert_eq!(kind_of(Code::InvalidArgument, ""), ErrorKind::Invalid);
        assert_eq!(kind_of(Code::Unimplemented, ""), ErrorKind::Unsupported);
        assert_eq!(kind_of(Code::Unavailable, ""), ErrorKind::Unavailable);
        assert_eq!(kind_of(Code::DeadlineExceeded, ""), ErrorKind::Unavailable);
        assert_eq!(kind_of(Code::Unknown, "write: no space left on device"), ErrorKind::Capacity);
        assert_eq!(kind_of(Code::Unknown, "runc pause failed: unable to freeze"), ErrorKind::Unavailable);
        let cut_off = "failed to start shim: mkdir /run/x: file exists";
        assert_eq!(kind_of(Code::Unknown, cut_off), ErrorKind::Unavailable);
        assert_eq!(kind_of(Code::Unknown, "exec: \"x\": executable file not found"), ErrorKind::Invalid);
    }

    #[test]
    fn the_message_is_kept_and_a_missing_socket_can_come() {
        let error = translated("start", "web", Status::not_found("task web: not found"));
        assert_eq!(error.to_string(), "containerd: cannot start web: it is not there: task web: not found");
        let (kind, hint) = socket_trouble(io::ErrorKind::NotFound);
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(hint.contains("`socket`"));
        assert_eq!(socket_trouble(io::ErrorKind::PermissionDenied).0, ErrorKind::Denied);
        assert!(shortened(&"x".repeat(1000)).chars().count() < 410);
    }
}
