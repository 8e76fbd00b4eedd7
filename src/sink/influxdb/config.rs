//! What an `influxdb` sink takes in the pipeline file.

use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Secret, Size, Span};
use crate::sink::backlog;

/// InfluxDB 1.x, 2.x or 3.x, or what understands its line protocol over HTTP, as VictoriaMetrics does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server is: http or https, without credentials; a path is put before every path of the server's.
    pub url: String,
    /// Which way of writing the server understands. `auto` asks the server when the sink is opened.
    #[serde(default)]
    pub version: Version,
    /// Database, for v1 and v3.
    #[serde(default)]
    pub database: Option<String>,
    /// Retention policy, for v1; the database's default one if left out.
    #[serde(default)]
    pub retention_policy: Option<String>,
    /// User, for v1.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password, for v1.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Organisation, for v2.
    #[serde(default)]
    pub org: Option<String>,
    /// Bucket, for v2.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Token, for v2 and v3.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Makes the database or bucket if it is missing; the user or token must be allowed to.
    #[serde(default)]
    pub create: bool,
    /// Compresses requests with gzip.
    #[serde(default = "yes")]
    pub compress: bool,
    /// How much goes into one request, and how long few rows wait for more.
    #[serde(default)]
    pub batch: BatchLimits,
    /// Requests that may be on their way at once; rows of one series keep their order all the same.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// Where rows wait on disk until the server has acknowledged them.
    #[serde(default)]
    pub backlog: backlog::Config,
    /// Longest time for a request, its answer included.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Longest time for a connection to be made.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// HTTP proxy, with its credentials if it wants any: http://user:password@proxy:3128.
    #[serde(default)]
    pub proxy: Option<Secret>,
    /// PEM file of the certificates that alone are trusted; the system's if left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What the sink calls itself; barograph and its version if left out.
    #[serde(default)]
    pub user_agent: Option<String>,
}

/// Which way of writing a server understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// What the server says that it is.
    #[default]
    Auto,
    /// `/write` with a database.
    V1,
    /// `/api/v2/write` with a bucket.
    V2,
    /// `/api/v3/write_lp` with a database.
    V3,
}

/// How much goes into one request, whichever is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Rows.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rows: usize,
    /// Bytes of line protocol, before compression.
    pub bytes: Size,
    /// How long fewer rows wait for more; they are safe on disk meanwhile.
    pub age: Span,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { rows: 5_000, bytes: Size(5 << 20), age: Span::seconds(1) }
    }
}

impl Config {
    /// A server with every default; it still needs a database or a bucket.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            version: Version::Auto,
            database: None,
            retention_policy: None,
            username: None,
            password: None,
            org: None,
            bucket: None,
            token: None,
            create: false,
            compress: true,
            batch: BatchLimits::default(),
            in_flight: in_flight(),
            backlog: backlog::Config::default(),
            timeout: timeout(),
            connect_timeout: connect_timeout(),
            proxy: None,
            ca_file: None,
            user_agent: None,
        }
    }

    /// What is wrong with the keys that say where to write: the key, and what is wrong with it. At most one fault a key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |key, message: String| faults.push((key, message));
        if let Err(message) = server(&self.url) {
            fault("url", message.to_owned());
        }
        let texts = [
            ("database", self.database.as_deref()),
            ("retention_policy", self.retention_policy.as_deref()),
            ("username", self.username.as_deref()),
            ("org", self.org.as_deref()),
            ("bucket", self.bucket.as_deref()),
            ("password", self.password.as_ref().map(Secret::expose)),
            ("token", self.token.as_ref().map(Secret::expose)),
        ];
        // Another scheme would be no proxy at all, and rows would go around it.
        let scheme =
            self.proxy.as_ref().map(|proxy| Url::parse(proxy.expose()).map(|url| url.scheme().to_owned()));
        if scheme.is_some_and(|scheme| !matches!(scheme.as_deref(), Ok("http" | "https"))) {
            let message =
                "the proxy must begin with http:// or https://; write for example http://proxy:3128";
            fault("proxy", message.to_owned());
        }
        for (key, text) in texts {
            match text {
                Some("") => fault(key, format!("`{key}` is empty; leave it out, or say which")),
                Some(_) if self.refuses(key) => fault(key, self.refusal(key)),
                None if self.needs(key) => {
                    fault(key, format!("{} needs the key `{key}`", self.version_name()));
                }
                _ => {}
            }
        }
        if self.version == Version::Auto && self.database.is_some() && self.bucket.is_some() {
            let message = "`database` and `bucket` exclude each other; InfluxDB 1.x and 3.x have databases, 2.x has buckets";
            fault("bucket", message.to_owned());
        } else if self.version == Version::Auto && self.database.is_none() && self.bucket.is_none() {
            let message = "nothing says where rows go; write `database` for InfluxDB 1.x and 3.x, `org` and `bucket` for 2.x";
            fault("database", message.to_owned());
        } else if self.version == Version::Auto && self.bucket.is_some() && self.org.is_none() {
            fault("org", "a bucket needs the key `org`".to_owned());
        }
        if self.password.is_some() && self.username.is_none() && !self.refuses("password") {
            fault("username", "a password needs the key `username`".to_owned());
        }
        faults
    }

    fn needs(&self, key: &str) -> bool {
        matches!(
            (self.version, key),
            (Version::V1 | Version::V3, "database") | (Version::V2, "org" | "bucket")
        )
    }

    fn refuses(&self, key: &str) -> bool {
        match self.version {
            Version::Auto => false,
            Version::V1 => matches!(key, "org" | "bucket" | "token"),
            Version::V2 => matches!(key, "database" | "retention_policy" | "username" | "password"),
            Version::V3 => matches!(key, "org" | "bucket" | "retention_policy" | "username" | "password"),
        }
    }

    fn refusal(&self, key: &str) -> String {
        let instead = match (self.version, key) {
            (Version::V1, "bucket") | (Version::V3, "bucket") => "; write `database`",
            (Version::V1, "token") => "; write `username` and `password`",
            (Version::V2, "database") => "; write `org` and `bucket`",
            (Version::V2 | Version::V3, "username" | "password") => "; write `token`",
            _ => "; leave it out",
        };
        format!("{} has no `{key}`{instead}", self.version_name())
    }

    fn version_name(&self) -> &'static str {
        match self.version {
            Version::Auto => "`version: auto`",
            Version::V1 => "`version: v1`",
            Version::V2 => "`version: v2`",
            Version::V3 => "`version: v3`",
        }
    }
}

/// The server's address, if it can be one. The fault says what would be right behind a semicolon and does not repeat the
/// text.
pub(super) fn server(text: &str) -> Result<Url, &'static str> {
    let example = "the URL cannot be understood; write for example http://127.0.0.1:8086";
    let mut url = Url::parse(text).map_err(|_| example)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL must begin with http:// or https://; write for example http://127.0.0.1:8086");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds credentials, and it is shown in logs; write them under keys of their own");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "the URL has something behind its path; write database, bucket and the rest under their keys",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

const fn yes() -> bool {
    true
}

const fn in_flight() -> usize {
    2
}

const fn timeout() -> Span {
    Span::seconds(30)
}

const fn connect_timeout() -> Span {
    Span::seconds(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_url_has_a_default_and_unknown_keys_are_refused() {
        let config: Config = crate::yaml::from_str("url: http://a:8086").unwrap();
        assert_eq!(config, Config::new("http://a:8086"));
        assert_eq!((config.batch.rows, config.batch.bytes), (5_000, Size(5 << 20)));
        assert!(crate::yaml::from_str::<Config>("{url: http://a, precision: ns}").is_err());
        assert!(crate::yaml::from_str::<Config>("{url: http://a, batch: {lines: 1}}").is_err());
        let config: Config =
            crate::yaml::from_str("{url: http://a, token: s3cret, proxy: 's3cret'}").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_server_is_an_address_and_nothing_more() {
        assert_eq!(server("https://a.b/influx/").unwrap().as_str(), "https://a.b/influx");
        assert_eq!(server("http://[::1]:8086").unwrap().as_str(), "http://[::1]:8086/");
        for (text, words) in [
            ("", "cannot be understood"),
            ("localhost:8086", "http:// or https://"),
            ("udp://a:8089", "http:// or https://"),
            ("http://u:p@a", "credentials"),
            ("http://u@a", "credentials"),
            ("http://a/write?db=x", "behind its path"),
            ("http://a/#x", "behind its path"),
        ] {
            assert!(server(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn each_version_needs_and_refuses_its_keys() {
        let with = |version, keys: &[&str]| {
            let mut config = Config { version, ..Config::new("http://a") };
            for key in keys {
                let text = Some("x".to_owned());
                match *key {
                    "database" => config.database = text,
                    "retention_policy" => config.retention_policy = text,
                    "username" => config.username = text,
                    "password" => config.password = text.map(Secret::new),
                    "org" => config.org = text,
                    "bucket" => config.bucket = text,
                    _ => config.token = text.map(Secret::new),
                }
            }
            config.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(with(Version::Auto, &[]), ["database"]);
        assert_eq!(with(Version::Auto, &["database", "bucket"]), ["bucket"]);
        assert_eq!(with(Version::Auto, &["bucket"]), ["org"]);
        assert_eq!(with(Version::Auto, &["database", "password"]), ["username"]);
        assert_eq!(with(Version::V1, &["bucket", "org", "token"]), ["database", "org", "bucket", "token"]);
        assert_eq!(
            with(Version::V2, &["database", "username", "password"]),
            ["database", "username", "org", "bucket", "password"]
        );
        assert_eq!(with(Version::V3, &["bucket", "password"]), ["database", "bucket", "password"]);
        for (version, keys) in [
            (Version::V1, &["database", "retention_policy", "username", "password"][..]),
            (Version::V2, &["org", "bucket", "token"]),
            (Version::V3, &["database", "token"]),
            (Version::Auto, &["database", "token"]),
        ] {
            assert_eq!(with(version, keys), [""; 0]);
        }
        for proxy in ["htp://u:pw@h:3128", "socks9://h", "h:3128", ""] {
            let config = Config {
                database: Some("x".into()),
                proxy: Some(Secret::new(proxy)),
                ..Config::new("http://a")
            };
            assert_eq!(
                config.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
                ["proxy"],
                "{proxy}"
            );
        }
        let empty = Config { database: Some(String::new()), ..Config::new("http://a") };
        assert!(empty.faults()[0].1.contains("is empty"));
    }
}
