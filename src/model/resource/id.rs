//! Which resource: one line of text that is the same tomorrow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The nouns that providers have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A virtual machine, or a container.
    Instance,
    /// A named amount of processors and memory.
    Size,
    /// What an instance is made from.
    Image,
    /// A disk that outlives an instance.
    Volume,
    /// The content of a volume or an instance at one time.
    Snapshot,
    /// A network that instances are in.
    Network,
    /// A block of addresses in a network.
    Subnet,
    /// A place with instances of its own: a cloud's region, a hypervisor, a namespace.
    Region,
    /// A part of a region that fails on its own.
    Zone,
    /// What something costs.
    Price,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Instance,
        Self::Size,
        Self::Image,
        Self::Volume,
        Self::Snapshot,
        Self::Network,
        Self::Subnet,
        Self::Region,
        Self::Zone,
        Self::Price,
    ];

    /// The kind as a lowercase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Size => "size",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Snapshot => "snapshot",
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Price => "price",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no kind of resource"))
    }
}

/// A resource's name in the world: `provider/account/location/kind/native_id`, for example
/// `kvm/qemu:%2F%2F%2Fsystem/host-1/instance/6f1c…`.
///
/// All parts but the last have `/`, `%` and white space written as `%` and two hex digits, so that the text can be taken
/// apart again. The native id is what the provider keeps over restarts: a UUID, an ARN, a container's id in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// `kvm`, `containerd`, `aws`, ...
    pub provider: String,
    /// Account, subscription, project, connection URI or socket.
    pub account: String,
    /// Region, hypervisor or namespace; empty for what belongs to the whole account.
    pub location: String,
    /// What it is.
    pub kind: Kind,
    /// The provider's own id.
    pub native_id: String,
}

impl ResourceId {
    /// The same place, another resource.
    #[must_use]
    pub fn sibling(&self, kind: Kind, native_id: impl Into<String>) -> Self {
        Self { kind, native_id: native_id.into(), ..self.clone() }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.provider, &self.account, &self.location] {
            escape(part, f)?;
            f.write_str("/")?;
        }
        write!(f, "{}/{}", self.kind, self.native_id)
    }
}

impl FromStr for ResourceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no resource id; write provider/account/location/kind/native_id");
        let parts: Vec<&str> = text.splitn(5, '/').collect();
        let [provider, account, location, kind, native_id] = parts[..] else { return Err(wrong()) };
        if provider.is_empty() || native_id.is_empty() {
            return Err(wrong());
        }
        let part = |part: &str| unescape(part).ok_or_else(wrong);
        Ok(Self {
            provider: part(provider)?,
            account: part(account)?,
            location: part(location)?,
            kind: kind.parse().map_err(|_| wrong())?,
            native_id: native_id.to_owned(),
        })
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn escape(part: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in part.chars() {
        match byte {
            '/' | '%' | ' ' | '\t' | '\n' | '\r' => write!(f, "%{:02X}", u32::from(byte))?,
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_reads_like_a_path() {
        let id = ResourceId {
            provider: "kvm".into(),
            account: "qemu:///system".into(),
            location: "host 1".into(),
            kind: Kind::Volume,
            native_id: "/pool/disk.qcow2".into(),
        };
        assert_eq!(id.to_string(), "kvm/qemu:%2F%2F%2Fsystem/host%201/volume//pool/disk.qcow2");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in
            ["", "kvm", "kvm/a/b/instance/", "kvm/a/b/machine/x", "kvm/%zz/b/instance/x", "/a/b/instance/x"]
        {
            assert!(wrong.parse::<ResourceId>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_id_comes_back(
            provider in "[a-z]{1,8}", account in ".{0,20}", location in ".{0,12}", native_id in ".{1,30}", kind in 0..10_usize,
        ) {
            let id = ResourceId { provider, account, location, kind: Kind::ALL[kind], native_id };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
