//! Making the database or bucket that is missing.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::client::{Body, Client};
use super::dialect::{Target, at};
use super::fault;
use crate::{ErrorKind, Result, Retry};

/// Makes what the target names unless it is there.
///
/// # Errors
/// There is no answer, or the server does not allow it.
pub(super) async fn create(client: &Client, target: &Target) -> Result<()> {
    match target {
        Target::V1 { database, .. } => {
            let statement = format!("CREATE DATABASE \"{}\"", quoted(database));
            let url = at(client.server(), "query", &[("q", statement.as_str())]);
            let answer = client.post(url, empty(), OPERATION).await?;
            // Also a statement that failed is answered with 200.
            let failed = body(&answer).pointer("/results/0/error").is_some();
            if answer.status.is_success() && !failed { Ok(()) } else { Err(refused(client, target, &answer)) }
        }
        Target::V2 { org, bucket } => {
            let id = organisation(client, target, org).await?;
            let url =
                at(client.server(), "api/v2/buckets", &[("orgID", id.as_str()), ("name", bucket.as_str())]);
            let known = client.get(url, OPERATION).await?;
            if known.status.is_success() && body(&known).pointer("/buckets/0").is_some() {
                return Ok(());
            }
            let wanted = json!({ "orgID": id, "name": bucket, "retentionRules": [] });
            let answer =
                client.post(at(client.server(), "api/v2/buckets", &[]), as_json(&wanted), OPERATION).await?;
            made(client, target, &answer)
        }
        Target::V3 { database } => {
            let url = at(client.server(), "api/v3/configure/database", &[]);
            let answer = client.post(url, as_json(&json!({ "db": database })), OPERATION).await?;
            made(client, target, &answer)
        }
    }
}

const OPERATION: &str = "make what is missing at";

async fn organisation(client: &Client, target: &Target, org: &str) -> Result<String> {
    let answer = client.get(at(client.server(), "api/v2/orgs", &[("org", org)]), OPERATION).await?;
    let id = body(&answer).pointer("/orgs/0/id").and_then(Value::as_str).map(str::to_owned);
    id.filter(|_| answer.status.is_success()).ok_or_else(|| refused(client, target, &answer))
}

/// Made now, or by somebody else just before.
fn made(client: &Client, target: &Target, answer: &Answer) -> Result<()> {
    let there = matches!(answer.status.as_u16(), 409 | 422) && answer.text.contains("already exists");
    // 3.x has no code of its own for it in every version.
    let there = there || answer.status.as_u16() == 409;
    if answer.status.is_success() || there { Ok(()) } else { Err(refused(client, target, answer)) }
}

fn refused(client: &Client, target: &Target, answer: &Answer) -> crate::Error {
    let (kind, retry, advice) = match answer.status.as_u16() {
        401 => (ErrorKind::Auth, Retry::Never, "it does not accept the credentials"),
        408 | 429 | 500.. => (ErrorKind::Unavailable, Retry::Later, "it cannot do it now"),
        404 => (ErrorKind::NotFound, Retry::Never, "the organisation or the path is not there"),
        _ => (
            ErrorKind::Denied,
            Retry::Never,
            "the credentials do not allow it; make it by hand, or leave `create` out",
        ),
    };
    let message = body(answer).pointer("/results/0/error").and_then(Value::as_str).map(super::answer::short);
    let said = message.map_or_else(|| answer.said(), |message| format!(": {message}"));
    let reason = format!("{advice} ({}{said})", answer.status);
    fault(kind, OPERATION, &format!("{} ({target})", client.server()), reason).with_retry(retry)
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text).unwrap_or_default()
}

/// A name within double quotes of InfluxQL.
fn quoted(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn empty() -> Body {
    Body { bytes: Bytes::new(), content_type: "application/x-www-form-urlencoded", gzip: false }
}

fn as_json(value: &Value) -> Body {
    Body { bytes: Bytes::from(value.to_string()), content_type: "application/json", gzip: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(quoted(r#"a" DURATION 1h \"#), r#"a\" DURATION 1h \\"#);
    }
}
