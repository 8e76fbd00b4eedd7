//! AWS's errors as ours: its code decides the kind, the HTTP status only where there is no code.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_types::request_id::RequestId;

use super::PROVIDER;
use crate::{Error, ErrorKind, Result, Retry};

/// The answer of a call, or its error.
pub(super) trait Answered<T> {
    /// With what was tried on what.
    fn answered(self, operation: &str, resource: &str) -> Result<T>;
}

impl<T, E> Answered<T> for Result<T, SdkError<E, HttpResponse>>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn answered(self, operation: &str, resource: &str) -> Result<T> {
        self.map_err(|error| translated(operation, resource, error))
    }
}

/// What a call said, with what was tried on what.
pub(super) fn translated<E>(operation: &str, resource: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let status = error.raw_response().map(|response| response.status().as_u16());
    let (kind, hint) = match &error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => kind(code, status),
        SdkError::TimeoutError(_) => (ErrorKind::Unavailable, "AWS did not answer in time"),
        SdkError::ConstructionFailure(_) => (ErrorKind::Invalid, "the request cannot be made"),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(failure) if never_sent(failure) => unsent(failure),
            _ => UNREACHABLE,
        },
        _ => UNREACHABLE,
    };
    let message = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
    let request = error.request_id().unwrap_or_default();
    let mut details =
        [code, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    if details.is_empty() {
        details = causes(&error).last().map(ToString::to_string).unwrap_or_default();
    }
    let mut reason = hint.to_owned();
    if !details.is_empty() {
        reason = format!("{reason} ({details})");
    }
    if !request.is_empty() {
        reason = format!("{reason}, request {request}");
    }
    let after = error.raw_response().and_then(|response| response.headers().get("retry-after"));
    let after = after.and_then(|seconds| seconds.parse().ok()).map(std::time::Duration::from_secs);
    let translated = Error::new(kind, operation, reason).with_provider(PROVIDER).with_resource(resource);
    let never_sent = match &error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => failure.as_connector_error().is_some_and(never_sent),
        _ => false,
    };
    let translated = if never_sent { translated.nothing_done() } else { translated };
    match after {
        Some(after) if kind == ErrorKind::Throttled => translated.with_retry(Retry::After(after)),
        _ => translated,
    }
}

const UNREACHABLE: (ErrorKind, &str) =
    (ErrorKind::Unavailable, "AWS cannot be reached; check network, proxy and endpoint");

/// What an error comes from, the deepest cause last.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error| error.source())
}

/// Whether a request failed before it was on its way. A connection that breaks while an answer is waited for is of another
/// kind: there the SDK says what may be tried again.
fn never_sent(failure: &ConnectorError) -> bool {
    failure.is_user() || failure.is_other() && failure.as_other().is_none()
}

/// Why a request was not sent. Credentials that could not be asked for, because nobody answered, may be had later.
fn unsent(failure: &ConnectorError) -> (ErrorKind, &'static str) {
    let Some(credentials) = causes(failure).position(|cause| cause.is::<CredentialsError>()) else {
        let text = causes(failure).last().unwrap_or(failure).to_string();
        return match text.contains("auth") || text.contains("identity") {
            true => (ErrorKind::Auth, "no credentials could be had; check the sign-in of this account"),
            false => (ErrorKind::Invalid, "the request cannot be made; check the endpoint"),
        };
    };
    let mut below = causes(failure).skip(credentials);
    let unanswered = below.any(|cause| {
        cause.is::<ConnectorError>()
            || matches!(cause.downcast_ref(), Some(CredentialsError::ProviderTimedOut(_)))
    });
    match unanswered {
        true => (ErrorKind::Unavailable, "who gives the credentials of this account did not answer"),
        false => (ErrorKind::Auth, "no credentials could be had; check the sign-in of this account"),
    }
}

/// An error of our own.
pub(super) fn failed(kind: ErrorKind, operation: &str, resource: &str, reason: impl Into<String>) -> Error {
    Error::new(kind, operation, reason).with_provider(PROVIDER).with_resource(resource)
}

/// What AWS's code means and what to do about it.
pub(super) fn kind(code: &str, status: Option<u16>) -> (ErrorKind, &'static str) {
    match code {
        "AuthFailure"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired" => {
            (ErrorKind::Auth, "AWS did not accept the sign-in; check the credentials and the clock")
        }
        "OptInRequired" | "PendingVerification" | "Blocked" => {
            (ErrorKind::Denied, "the account may not use this; enable the region or service first")
        }
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "UnauthorizedAccess" => (
            ErrorKind::Denied,
            "the role or user may not do this; docs/providers/aws.md has the policy it needs",
        ),
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "EC2ThrottledException"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "SlowDown"
        | "BandwidthLimitExceeded"
        | "SnapshotCreationPerVolumeRateExceeded" => (ErrorKind::Throttled, "AWS was asked too often"),
        "VolumeModificationRateExceeded" => {
            (ErrorKind::Quota, "EBS changes a volume only a few times a day; try again after some hours")
        }
        "OperationNotPermitted" => (
            ErrorKind::Protected,
            "AWS does not permit it: a termination or stop protection, or what it is used for",
        ),
        "IncorrectInstanceState"
        | "IncorrectState"
        | "IncorrectModificationState"
        | "IncorrectSpotRequestState"
        | "DependencyViolation"
        | "IdempotentParameterMismatch"
        | "IdempotentInstanceTerminated"
        | "VolumeInUse"
        | "ResourceInUse"
        | "InvalidSnapshot.InUse"
        | "ConcurrentTagAccess"
        | "ConflictException" => {
            (ErrorKind::Conflict, "its state, or something that uses it, does not allow it now")
        }
        "UnsupportedOperation"
        | "Unsupported"
        | "UnsupportedInstanceAttribute"
        | "UnknownOperationException" => (ErrorKind::Unsupported, "AWS cannot do it in this combination"),
        "ServiceUnavailable"
        | "Unavailable"
        | "InternalError"
        | "InternalFailure"
        | "InternalServiceFault"
        | "InternalServiceError"
        | "RequestTimeout" => (ErrorKind::Unavailable, "AWS failed; it may pass"),
        code if code.starts_with("Insufficient") && code.contains("Capacity")
            || ["ReservationCapacityExceeded", "UnfulfillableCapacity"].contains(&code) =>
        {
            (ErrorKind::Capacity, "AWS has no room for it here now; try another zone or size")
        }
        "InsufficientFreeAddressesInSubnet" => {
            (ErrorKind::Capacity, "the subnet has no free addresses; choose another or a larger one")
        }
        code if code.ends_with("LimitExceeded")
            || code.ends_with("QuotaExceeded")
            || code == "ResourceCountExceeded" =>
        {
            (ErrorKind::Quota, "a limit of the account is reached; have it raised, or remove something")
        }
        code if code.ends_with(".NotFound") || code.ends_with("NotFoundException") => {
            (ErrorKind::NotFound, "it is not there")
        }
        code if code.ends_with(".Duplicate") || code.ends_with(".InUse") => {
            (ErrorKind::Conflict, "there is one already, or it is in use")
        }
        code if code.starts_with("Invalid")
            || code.starts_with("Missing")
            || code.starts_with("Malformed")
            || code.starts_with("Validation")
            || code.starts_with("Unknown") =>
        {
            (ErrorKind::Invalid, "AWS finds the request wrong; its message says what")
        }
        _ => match status {
            Some(401) => (ErrorKind::Auth, "AWS did not accept the sign-in"),
            Some(403) => (ErrorKind::Denied, "AWS forbids it"),
            Some(404) => (ErrorKind::NotFound, "it is not there; is the endpoint right?"),
            Some(429) => (ErrorKind::Throttled, "AWS was asked too often"),
            Some(400..=499) => (ErrorKind::Invalid, "AWS refused the request; its message says why"),
            _ => (ErrorKind::Unavailable, "AWS failed; it may pass"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_and_the_status_only_without_one() {
        for (code, status, expected) in [
            ("RequestLimitExceeded", 503, ErrorKind::Throttled),
            ("Throttling", 400, ErrorKind::Throttled),
            ("InsufficientInstanceCapacity", 500, ErrorKind::Capacity),
            ("InsufficientReservedInstanceCapacity", 500, ErrorKind::Capacity),
            ("UnfulfillableCapacity", 400, ErrorKind::Capacity),
            ("InvalidSignatureException", 400, ErrorKind::Auth),
            ("InstanceLimitExceeded", 400, ErrorKind::Quota),
            ("ResourceCountExceeded", 400, ErrorKind::Quota),
            ("VcpuLimitExceeded", 400, ErrorKind::Quota),
            ("InvalidInstanceID.NotFound", 400, ErrorKind::NotFound),
            ("InvalidInstanceID.Malformed", 400, ErrorKind::Invalid),
            ("VolumeModificationRateExceeded", 400, ErrorKind::Quota),
            ("InvalidParameterValue", 400, ErrorKind::Invalid),
            ("InvalidClientTokenId", 403, ErrorKind::Auth),
            ("UnauthorizedOperation", 403, ErrorKind::Denied),
            ("OperationNotPermitted", 400, ErrorKind::Protected),
            ("DependencyViolation", 400, ErrorKind::Conflict),
            ("InvalidVpc.InUse", 400, ErrorKind::Conflict),
            ("", 429, ErrorKind::Throttled),
            ("", 503, ErrorKind::Unavailable),
            ("SomethingNew", 400, ErrorKind::Invalid),
        ] {
            assert_eq!(kind(code, Some(status)).0, expected, "{code} {status}");
        }
    }

    type Failed = SdkError<aws_sdk_ec2::operation::run_instances::RunInstancesError, HttpResponse>;

    fn told(failure: ConnectorError) -> Error {
        translated("create", "web", Failed::dispatch_failure(failure))
    }

    #[test]
    fn a_connection_that_broke_is_no_matter_of_credentials() {
        let transient = aws_smithy_types::retry::ErrorKind::TransientError;
        let broken =
            told(ConnectorError::other("connection closed before message completed".into(), Some(transient)));
        assert_eq!(broken.kind(), ErrorKind::Unavailable);
        assert!(!broken.is_nothing_done(), "EC2 may have done it");
        assert!(broken.reason().contains("connection closed"), "{}", broken.reason());
    }

    #[test]
    fn credentials_that_nobody_gave_may_be_had_later() {
        let refused = CredentialsError::provider_error("the profile is missing");
        let refused = told(ConnectorError::other(refused.into(), None));
        assert_eq!((refused.kind(), refused.is_nothing_done()), (ErrorKind::Auth, true));
        assert!(refused.reason().contains("the profile is missing"), "{}", refused.reason());
        let silent = CredentialsError::provider_error(ConnectorError::io("connection refused".into()));
        let silent = told(ConnectorError::other(silent.into(), None));
        assert_eq!((silent.kind(), silent.is_nothing_done()), (ErrorKind::Unavailable, true));
    }
}
