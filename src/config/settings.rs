//! How a pipeline runs.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::model::{Secret, Size, Span};

/// Settings of a pipeline; each has a default that serves well.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rows that may wait for one sink in memory; when they are that many, the sources wait.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub queue_rows: usize,
    /// Rows that are written to a sink together, if they come in smaller numbers.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub batch_rows: usize,
    /// The most that a source waits after a tick, so that not all ask at once; never above a tenth of its `every`.
    pub jitter: Span,
    /// How long a stop may take to bring the rows on their way to the sinks.
    pub drain: Span,
    /// The most that dead letters may take of the disk; then the oldest make room.
    pub dead_letters: Size,
    /// Where /healthz, /readyz and /metrics are served: ADDRESS:PORT, or none.
    pub listen: Listen,
    /// Token that /metrics demands; needed where other machines reach the address.
    pub token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_rows: 65_536,
            batch_rows: 16_384,
            jitter: Span::seconds(5),
            drain: Span::seconds(30),
            dead_letters: Size(1 << 30),
            listen: Listen::At(SocketAddr::from(([127, 0, 0, 1], 9273))),
            token: None,
        }
    }
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    None,
    /// Here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("{text:?} is not an address; write for example 127.0.0.1:9273, [::1]:9273 or none")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl serde::Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "listen", "examples": ["127.0.0.1:9273", "none"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_nonsense_says_what_is_allowed() {
        assert_eq!("none".parse(), Ok(Listen::None));
        let port = "127.0.0.1:0".parse::<Listen>().unwrap();
        assert_eq!(port, Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert_eq!(port.to_string().parse(), Ok(port));
        assert!("localhost".parse::<Listen>().unwrap_err().contains("or none"));
    }
}
