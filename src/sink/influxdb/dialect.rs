//! The three ways of writing: paths, parameters and credentials of each.

use std::fmt;

use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Url};

use super::config::{Config, Version};
use super::probe::Server;
use crate::model::Secret;
use crate::{Error, ErrorKind, Result};

/// A way of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/write`, InfluxDB 1.x and VictoriaMetrics.
    V1,
    /// `/api/v2/write`, InfluxDB 2.x and Cloud; 1.8 and later know it too.
    V2,
    /// `/api/v3/write_lp`, InfluxDB 3.x.
    V3,
}

/// Where rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A database of 1.x.
    V1 { database: String, retention_policy: Option<String> },
    /// A bucket of an organisation.
    V2 { org: String, bucket: String },
    /// A database of 3.x.
    V3 { database: String },
}

impl Target {
    /// The target that the keys name, in the dialect that they ask for or that the server speaks.
    ///
    /// # Errors
    /// The keys do not fit the server, or each other.
    pub(super) fn choose(config: &Config, server: Server) -> Result<Self> {
        if let Some((key, message)) = config.faults().into_iter().next() {
            return Err(misfit(config, format!("`{key}`: {message}")));
        }
        let dialect = match (config.version, server) {
            (Version::V1, _) => Dialect::V1,
            (Version::V2, Server::Influx { major: 1, minor }) if minor < 8 => {
                let reason = format!(
                    "the server is InfluxDB 1.{minor}, which has no /api/v2/write; write `version: v1` and `database`"
                );
                return Err(misfit(config, reason));
            }
            (Version::V2, _) => Dialect::V2,
            (Version::V3, Server::Influx { major: major @ 1..=2, .. }) => {
                let reason = format!(
                    "the server is InfluxDB {major}.x, which has no /api/v3; write `version: v{major}`"
                );
                return Err(misfit(config, reason));
            }
            (Version::V3, _) => Dialect::V3,
            (Version::Auto, Server::Influx { major: 1, minor }) if config.bucket.is_some() => {
                let reason = format!(
                    "the server is InfluxDB 1.{minor}, which has databases; write `database` instead of `bucket`"
                );
                return Err(misfit(config, reason));
            }
            (Version::Auto, Server::Influx { major: 1, .. }) if config.token.is_some() => {
                let reason =
                    "the server is InfluxDB 1.x, which takes no token; write `username` and `password`";
                return Err(misfit(config, reason));
            }
            (Version::Auto, Server::Influx { major: 2, .. }) if config.database.is_some() => {
                let reason = "the server is InfluxDB 2.x, which has buckets; write `org` and `bucket` instead of `database`, \
                              or `version: v1` for a database that is mapped to a bucket";
                return Err(misfit(config, reason));
            }
            (Version::Auto, Server::Influx { major: 3.., .. }) if config.bucket.is_some() => {
                let reason = "the server is InfluxDB 3.x, which has databases; write `database` instead of `org` and `bucket`";
                return Err(misfit(config, reason));
            }
            (Version::Auto, Server::Influx { major: 3.., .. }) if config.username.is_some() => {
                let reason =
                    "the server is InfluxDB 3.x, which takes a token; write `token` instead of `username`";
                return Err(misfit(config, reason));
            }
            (Version::Auto, Server::Influx { major: 3.., .. }) => Dialect::V3,
            (Version::Auto, _) if config.bucket.is_some() => Dialect::V2,
            (Version::Auto, Server::Unnamed) if config.token.is_some() => Dialect::V3,
            (Version::Auto, _) => Dialect::V1,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(match dialect {
            Dialect::V1 => Self::V1 {
                database: text(&config.database),
                retention_policy: config.retention_policy.clone(),
            },
            Dialect::V2 => Self::V2 { org: text(&config.org), bucket: text(&config.bucket) },
            Dialect::V3 => Self::V3 { database: text(&config.database) },
        })
    }

    /// Its way of writing.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::V1 { .. } => Dialect::V1,
            Self::V2 { .. } => Dialect::V2,
            Self::V3 { .. } => Dialect::V3,
        }
    }

    /// The URL that takes lines with times in nanoseconds. The word for them is always sent: without it 3.x guesses by the
    /// size of a number.
    pub(super) fn write_url(&self, server: &Url) -> Url {
        match self {
            Self::V1 { database, retention_policy } => {
                let mut parameters = vec![("db", database.as_str()), ("precision", "n")];
                parameters.extend(retention_policy.as_deref().map(|policy| ("rp", policy)));
                at(server, "write", &parameters)
            }
            Self::V2 { org, bucket } => {
                at(server, "api/v2/write", &[("org", org), ("bucket", bucket), ("precision", "ns")])
            }
            Self::V3 { database } => {
                at(server, "api/v3/write_lp", &[("db", database), ("precision", "nanosecond")])
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1 { database, retention_policy: Some(policy) } => {
                write!(f, "database {database}, retention policy {policy}")
            }
            Self::V1 { database, .. } | Self::V3 { database } => write!(f, "database {database}"),
            Self::V2 { org, bucket } => write!(f, "bucket {bucket} of {org}"),
        }
    }
}

/// A path of the server, behind its prefix.
pub(super) fn at(server: &Url, path: &str, parameters: &[(&str, &str)]) -> Url {
    let mut url = server.clone();
    url.set_path(&format!("{}/{path}", server.path().trim_end_matches('/')));
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    url
}

/// What a request shows of who sends it. Never part of a URL, because those are logged on the way.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    None,
    Login {
        username: String,
        password: Secret,
    },
    /// The whole header, marked as sensitive.
    Token(HeaderValue),
}

impl Credentials {
    /// The credentials in the file. A token is a `Bearer` for 3.x and a `Token` for 2.x, which knows no other word.
    ///
    /// # Errors
    /// The token has characters that a header cannot carry.
    pub(super) fn new(config: &Config, dialect: Dialect) -> Result<Self> {
        if let Some(token) = &config.token {
            let scheme = if dialect == Dialect::V2 { "Token" } else { "Bearer" };
            let header = HeaderValue::from_str(&format!("{scheme} {}", token.expose()));
            // The cause would not show the token, but it says nothing either.
            let mut header = header.map_err(|_| {
                misfit(config, "`token` has characters that no token has; look for a line break in it")
            })?;
            header.set_sensitive(true);
            return Ok(Self::Token(header));
        }
        Ok(match &config.username {
            Some(username) => Self::Login {
                username: username.clone(),
                password: config.password.clone().unwrap_or_else(|| Secret::new("")),
            },
            None => Self::None,
        })
    }

    /// Puts them into a request.
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Login { username, password } => request.basic_auth(username, Some(password.expose())),
            Self::Token(header) => request.header(reqwest::header::AUTHORIZATION, header),
        }
    }
}

fn misfit(config: &Config, reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, "open sink", reason)
        .with_provider("influxdb")
        // A URL that holds credentials is a fault, and must not show them.
        .with_resource(super::config::server(&config.url).map_or_else(|_| "its URL".into(), String::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Config {
        let text = |text: &str| Some(text.to_owned());
        Config {
            org: text("my lab"),
            bucket: text("a&b"),
            token: Some(Secret::new("t")),
            ..Config::new("http://h:1/pre/")
        }
    }

    fn database() -> Config {
        Config { database: Some("metrics".into()), ..Config::new("http://h:1") }
    }

    #[test]
    fn each_dialect_has_its_path_its_words_and_its_escapes() {
        let server = super::super::config::server("http://h:1/pre/").unwrap();
        let url = |target: Target| target.write_url(&server).to_string();
        let policy = Some("week".to_owned());
        assert_eq!(
            url(Target::V1 { database: "a b".into(), retention_policy: policy }),
            "http://h:1/pre/write?db=a+b&precision=n&rp=week"
        );
        assert_eq!(
            url(Target::choose(&bucket(), Server::Unnamed).unwrap()),
            "http://h:1/pre/api/v2/write?org=my+lab&bucket=a%26b&precision=ns"
        );
        assert_eq!(
            url(Target::V3 { database: "m".into() }),
            "http://h:1/pre/api/v3/write_lp?db=m&precision=nanosecond"
        );
        let plain = super::super::config::server("http://h:1").unwrap();
        assert_eq!(at(&plain, "ping", &[]).as_str(), "http://h:1/ping");
    }

    #[test]
    fn auto_follows_the_server_and_the_keys() {
        let dialect = |config: &Config, server| Target::choose(config, server).map(|target| target.dialect());
        let influx = |major, minor| Server::Influx { major, minor };
        assert_eq!(dialect(&database(), influx(1, 6)).unwrap(), Dialect::V1);
        assert_eq!(dialect(&database(), influx(3, 2)).unwrap(), Dialect::V3);
        assert_eq!(dialect(&bucket(), influx(2, 7)).unwrap(), Dialect::V2);
        assert_eq!(dialect(&database(), Server::Unnamed).unwrap(), Dialect::V1, "VictoriaMetrics");
        assert_eq!(dialect(&bucket(), Server::Unnamed).unwrap(), Dialect::V2);
        let token = Config { token: Some(Secret::new("t")), ..database() };
        assert_eq!(dialect(&token, Server::Unnamed).unwrap(), Dialect::V3);

        let login = Config { username: Some("u".into()), ..database() };
        let old = Config { version: Version::V2, ..bucket() };
        let new = Config { version: Version::V3, ..database() };
        for (config, server, words) in [
            (&bucket(), influx(1, 6), "1.6, which has databases"),
            (&token, influx(1, 8), "takes no token"),
            (&database(), influx(2, 7), "write `org` and `bucket`"),
            (&bucket(), influx(3, 0), "write `database`"),
            (&login, influx(3, 0), "write `token`"),
            (&old, influx(1, 6), "no /api/v2/write"),
            (&new, influx(2, 7), "write `version: v2`"),
            (&Config::new("http://u:hunter2@h"), influx(2, 7), "credentials"),
        ] {
            let error = dialect(config, server).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(dialect(&old, influx(1, 8)).unwrap(), Dialect::V2, "1.8 and later know it");
    }

    #[test]
    fn credentials_never_show_and_have_the_word_of_their_dialect() {
        let shown = |config: &Config, dialect| {
            let credentials = Credentials::new(config, dialect).unwrap();
            assert!(!format!("{credentials:?}").contains("hunter2"), "{credentials:?}");
            let request = reqwest::Client::new().get("http://h").build().unwrap();
            let client = reqwest::Client::new();
            let request = credentials.apply(RequestBuilder::from_parts(client, request)).build().unwrap();
            assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
            request.headers().get("authorization").map(|header| header.to_str().unwrap().to_owned())
        };
        let token = Config { token: Some(Secret::new("hunter2")), ..database() };
        assert_eq!(shown(&token, Dialect::V2).as_deref(), Some("Token hunter2"));
        assert_eq!(shown(&token, Dialect::V3).as_deref(), Some("Bearer hunter2"));
        let login =
            Config { username: Some("u".into()), password: Some(Secret::new("hunter2")), ..database() };
        assert_eq!(shown(&login, Dialect::V1).as_deref(), Some("Basic dTpodW50ZXIy"));
        assert_eq!(shown(&database(), Dialect::V1), None);
        let broken = Config { token: Some(Secret::new("hunter2\n")), ..database() };
        let error = Credentials::new(&broken, Dialect::V2).unwrap_err().to_string();
        assert!(error.contains("line break") && !error.contains("hunter2"), "{error}");
    }
}
