//! `GET /ping`: what the server is.

use super::answer::Answer;
use super::client::Client;
use super::config::{Config, Version};
use super::dialect::at;
use super::fault;
use crate::{ErrorKind, Result};

/// What a server says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// InfluxDB of this version.
    Influx { major: u32, minor: u32 },
    /// It answers, and does not say what it is: VictoriaMetrics, InfluxDB Cloud, a proxy.
    Unnamed,
}

/// Asks the server. Where the version is set in the file any answer will do, because a proxy may let nothing but writes
/// pass.
///
/// # Errors
/// It cannot be reached, or refuses the credentials, or is no server that takes rows.
pub(super) async fn ask(client: &Client, config: &Config) -> Result<Server> {
    let answer = client.get(at(client.server(), "ping", &[]), "ask what the server is").await?;
    let server = read(&answer);
    if server != Server::Unnamed || answer.status.is_success() || config.version != Version::Auto {
        return Ok(server);
    }
    let (kind, reason) = match answer.status.as_u16() {
        401 => (
            ErrorKind::Auth,
            "it does not accept the credentials; check `token`, or `username` and `password`",
        ),
        403 => (ErrorKind::Denied, "the credentials may not ask; set `version` in the pipeline file"),
        408 | 429 | 500.. => (ErrorKind::Unavailable, "it cannot answer now"),
        _ => (
            ErrorKind::NotFound,
            "it does not answer /ping; check `url`, or set `version` in the pipeline file",
        ),
    };
    let reason = format!("{reason} ({}{})", answer.status, answer.said());
    Err(fault(kind, "ask what the server is", client.server().as_str(), reason))
}

/// From the header, or from the JSON of 3.x.
fn read(answer: &Answer) -> Server {
    let version = answer.version.clone().or_else(|| {
        let body: serde_json::Value = serde_json::from_str(&answer.text).ok()?;
        Some(body.get("version")?.as_str()?.to_owned())
    });
    version.as_deref().and_then(parse).unwrap_or(Server::Unnamed)
}

/// `1.6.7~rc0`, `v2.7.11`, `3.0.1`.
fn parse(version: &str) -> Option<Server> {
    let mut parts = version.trim().trim_start_matches(['v', 'V']).split('.');
    let major = parts.next()?.parse().ok().filter(|major| *major >= 1)?;
    let digits: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
    Some(Server::Influx { major, minor: digits.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_the_header_or_the_body() {
        let influx = |major, minor| Server::Influx { major, minor };
        let header = |version: &str| read(&Answer { version: Some(version.into()), ..Answer::of(204, "") });
        assert_eq!(header("1.6.7~rc0"), influx(1, 6));
        assert_eq!(header("1.12.2"), influx(1, 12));
        assert_eq!(header("v2.7.11"), influx(2, 7));
        assert_eq!(header("2.7.11"), influx(2, 7));
        assert_eq!(header("3.2.1-nightly"), influx(3, 2));
        for unknown in ["Cloud", "unknown", "", "dev", "0.9"] {
            assert_eq!(header(unknown), Server::Unnamed, "{unknown}");
        }
        let body = r#"{"version":"3.0.1","revision":"abc","process_id":"x"}"#;
        assert_eq!(read(&Answer::of(200, body)), influx(3, 0));
        assert_eq!(read(&Answer::of(204, "")), Server::Unnamed);
        assert_eq!(read(&Answer::of(200, "{}")), Server::Unnamed);
    }
}
