//! Smithy RPC v2 CBOR over HTTP: who asks, and what answers look like. The names are those that the crate
//! aws-sdk-cloudwatch 1.140 reads in `cbor_errors.rs` and `aws_query_compatible_errors.rs`.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::cbor::Writer;

/// Before the name of an operation in the path.
pub const OPERATIONS: &str = "/service/GraniteServiceVersion20100801/operation/";

/// Who asks, as far as the signature says it; it is not verified.
pub struct Signed {
    pub key: String,
    pub region: String,
}

/// Reads the credential scope of Signature Version 4: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
pub fn signed(headers: &HeaderMap) -> Option<Signed> {
    let header = headers.get("authorization")?.to_str().ok()?;
    let scope = header.split_once("Credential=")?.1.split(',').next()?;
    let mut parts = scope.trim().split('/');
    let (key, _date, region) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Signed { key: key.into(), region: region.into() })
}

/// The body, decompressed: the SDK compresses those of PutMetricData above 10 KiB.
pub fn plain(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    if headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
        return Some(body.to_vec());
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// A call that is not answered as it wants.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    /// Name of the shape in the body.
    shape: &'static str,
    /// Code of the older query protocol; the SDK takes this one.
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, shape: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, shape, code, message: message.into() }
    }

    /// `Throttling` is what CloudWatch says, and among the codes that the SDK takes for throttling.
    pub fn throttled() -> Self {
        Self::new(400, "ThrottlingException", "Throttling", "Rate exceeded")
    }

    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationException", "ValidationError", message)
    }

    pub fn value(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", "InvalidParameterValue", message)
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(400, "MissingRequiredParameterException", "MissingParameter", message)
    }

    pub fn token() -> Self {
        Self::new(400, "InvalidNextToken", "InvalidNextToken", "The next token specified is invalid.")
    }

    pub fn unreadable() -> Self {
        Self::new(
            400,
            "SerializationException",
            "SerializationException",
            "The body is no CBOR of this operation",
        )
    }

    pub fn unknown_key() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::new(403, "UnrecognizedClientException", "InvalidClientTokenId", message)
    }

    pub fn unsigned() -> Self {
        let message = "Request is missing Authentication Token";
        Self::new(403, "MissingAuthenticationTokenException", "MissingAuthenticationToken", message)
    }

    pub fn denied(account: &str, operation: &str) -> Self {
        let message = format!(
            "User: arn:aws:iam::{account}:user/test is not authorized to perform: cloudwatch:{operation}"
        );
        Self::new(403, "AccessDeniedException", "AccessDenied", message)
    }

    pub fn unknown_operation(name: &str) -> Self {
        Self::new(
            404,
            "UnknownOperationException",
            "InvalidAction",
            format!("Could not find operation {name}"),
        )
    }

    pub fn internal(status: u16) -> Self {
        let (shape, code) = match status {
            503 => ("ServiceUnavailableException", "ServiceUnavailable"),
            _ => ("InternalServiceFault", "InternalServiceError"),
        };
        Self::new(status, shape, code, "Injected")
    }

    pub fn response(&self, headers: &HeaderMap) -> Response {
        let mut body = Writer::with_capacity(200);
        let shape = format!("com.amazonaws.cloudwatch#{}", self.shape);
        body.map(2).text("__type").text(&shape).text("message").text(&self.message);
        let mut answer = response(self.status, body.finish());
        if headers.get("x-amzn-query-mode").is_some_and(|mode| mode == "true") {
            let fault = if self.status < 500 { "Sender" } else { "Receiver" };
            let error = format!("{};{fault}", self.code);
            answer.headers_mut().insert("x-amzn-query-error", error.parse().unwrap());
        }
        answer
    }
}

/// An answer with this body.
pub fn response(status: u16, body: Vec<u8>) -> Response {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let headers = [
        ("smithy-protocol", "rpc-v2-cbor".to_owned()),
        ("content-type", "application/cbor".to_owned()),
        ("x-amzn-requestid", format!("00000000-0000-4000-8000-{number:012x}")),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

/// An answer that breaks before its first byte, upon which the server closes the connection.
pub fn dropped() -> Response {
    let broken = stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("dropped")) });
    Body::from_stream(broken).into_response()
}
